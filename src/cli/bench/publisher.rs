//! A connection that publishes one event at a time.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::http::Head;
use super::subscriber::connect;

/// A longer answer is not read to its end.
const MAX_ANSWER: usize = 256 * 1024;

/// The fate of an event.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Published,
    /// The server rejected it: the event does not exist.
    Refused(String),
    /// No answer, or one that leaves open whether it was published.
    Unknown(String),
    /// It was not sent, because connecting failed.
    NotSent(String),
}

pub struct Publisher {
    /// Names the socket in epoll.
    token: u64,
    server: SocketAddr,
    socket: Option<OwnedFd>,
    /// Whether the socket took bytes: the connection had been accepted.
    is_connected: bool,
    /// Empty unless an answer is awaited.
    request: String,
    sent: usize,
    response: Vec<u8>,
}

impl Publisher {
    pub fn new(token: u64, server: SocketAddr) -> Self {
        let (request, response) = (String::new(), Vec::new());
        Self { token, server, socket: None, is_connected: false, request, sent: 0, response }
    }

    /// Connects, unless there is a connection.
    pub fn connect(&mut self, epoll: &OwnedFd) -> io::Result<()> {
        if self.socket.is_none() {
            let socket = connect(self.server, None)?;
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
            epoll::add(epoll, &socket, EventData::new_u64(self.token), flags)?;
            self.socket = Some(socket);
            self.is_connected = false;
        }
        Ok(())
    }

    /// Begins to send `request`. Returns the fate of the event if that failed.
    pub fn send(&mut self, request: String, epoll: &OwnedFd) -> Option<Answer> {
        (self.request, self.sent) = (request, 0);
        self.connect(epoll).and_then(|()| self.flush()).err().and_then(|error| self.fail(&error))
    }

    /// Serves the ready socket. Returns the fate of the event once it is known.
    pub fn ready(&mut self, buffer: &mut [u8]) -> Option<Answer> {
        match self.flush().and_then(|()| self.receive(buffer)) {
            Ok(answer) => answer.filter(|_| self.settle()),
            Err(error) => self.fail(&error),
        }
    }

    /// Sends what the socket did not take before.
    fn flush(&mut self) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        while self.sent < self.request.len() {
            match rustix::io::write(socket, &self.request.as_bytes()[self.sent..]) {
                Ok(length) => {
                    self.sent += length;
                    self.is_connected = true;
                }
                Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads what has arrived. Returns the answer once it is complete.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<Answer>> {
        let mut is_closed = false;
        while let Some(socket) = &self.socket {
            match rustix::io::read(socket, &mut *buffer) {
                Ok(length) => {
                    is_closed = length == 0;
                    self.response.extend_from_slice(&buffer[..length]);
                    if length < buffer.len() {
                        break;
                    }
                }
                Err(Errno::AGAIN | Errno::NOTCONN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        match self.answer(is_closed)? {
            None if is_closed => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
            answer => Ok(answer),
        }
    }

    fn answer(&mut self, is_closed: bool) -> io::Result<Option<Answer>> {
        let head = Head::parse(&self.response).map_err(|error| io::Error::other(format!("not HTTP: {error}")))?;
        let Some(head) = head else { return Ok(None) };
        let is_too_long = self.response.len() > MAX_ANSWER;
        if !head.content(is_closed).1 && !is_too_long {
            return Ok(None);
        }
        if is_closed || is_too_long || !head.keeps_alive() {
            self.socket = None;
        }
        Ok(Some(match head.status {
            200..300 => Answer::Published,
            300..500 => Answer::Refused(head.refusal()),
            _ => Answer::Unknown(head.refusal()),
        }))
    }

    fn fail(&mut self, error: &io::Error) -> Option<Answer> {
        self.socket = None;
        let answer = if self.is_connected { Answer::Unknown } else { Answer::NotSent };
        // A server may close an idle connection: the next event gets another.
        self.settle().then(|| answer(error.to_string()))
    }

    /// Ends the exchange. Returns whether there was one.
    fn settle(&mut self) -> bool {
        self.response.clear();
        !std::mem::take(&mut self.request).is_empty()
    }
}

//! A connection that publishes one event at a time.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::client::connect;
use super::http::{Head, Length, body_end};

/// An answer that is longer is not read to its end.
const LONGEST_ANSWER: usize = 256 * 1024;

/// Which event a publisher is sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    pub topic: u32,
    pub number: u32,
}

/// What became of an event.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Published,
    /// The server says no: the event does not exist.
    Refused(String),
    /// No answer, or one of which nobody knows what it means.
    Unknown(String),
    /// It was not sent: there is no connection to be had.
    NotSent(String),
}

pub struct Publisher {
    /// Its place among the publishers, which is how epoll names it.
    token: u64,
    server: SocketAddr,
    socket: Option<OwnedFd>,
    /// Something was sent or received on this connection: it had been accepted.
    is_connected: bool,
    pub request: Vec<u8>,
    sent: usize,
    response: Vec<u8>,
    sending: Option<Sending>,
}

impl Publisher {
    pub fn new(token: u64, server: SocketAddr) -> Self {
        Self {
            token,
            server,
            socket: None,
            is_connected: false,
            request: Vec::new(),
            sent: 0,
            response: Vec::new(),
            sending: None,
        }
    }

    /// Connects if there is no connection.
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

    /// Sends what is in `request`.
    pub fn send(&mut self, sending: Sending, epoll: &OwnedFd) -> Option<(Sending, Answer)> {
        self.sent = 0;
        self.response.clear();
        self.sending = Some(sending);
        if let Err(error) = self.connect(epoll) {
            return self.fail(&error);
        }
        match self.flush() {
            Ok(()) => None,
            Err(error) => self.fail(&error),
        }
    }

    /// Goes on after the socket got ready; gives what became of the event that was being sent.
    pub fn ready(&mut self, buffer: &mut [u8]) -> Option<(Sending, Answer)> {
        match self.flush().and_then(|()| self.receive(buffer)) {
            Ok(None) => None,
            Ok(Some(answer)) => self.sending.take().map(|sending| (sending, answer)),
            Err(error) => self.fail(&error),
        }
    }

    /// Sends what the socket did not take before.
    fn flush(&mut self) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        while self.sending.is_some() && self.sent < self.request.len() {
            match rustix::io::write(socket, &self.request[self.sent..]) {
                Ok(length) => {
                    self.sent += length;
                    self.is_connected = true;
                }
                Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads what is there; gives the answer once it is whole.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<Answer>> {
        let mut is_closed = false;
        loop {
            let Some(socket) = &self.socket else { return Ok(None) };
            match rustix::io::read(socket, &mut *buffer) {
                Ok(0) => {
                    is_closed = true;
                    break;
                }
                Ok(length) => {
                    self.response.extend_from_slice(&buffer[..length]);
                    if length < buffer.len() {
                        break;
                    }
                }
                Err(Errno::AGAIN | Errno::NOTCONN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let answer = self.answer(is_closed);
        if is_closed && answer.is_none() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        Ok(answer)
    }

    fn answer(&mut self, is_closed: bool) -> Option<Answer> {
        let head = Head::parse(&self.response)?;
        // `100 Continue` and the like come before the answer.
        if (100..200).contains(&head.status) {
            let end = head.end;
            self.response.drain(..end);
            return self.answer(is_closed);
        }
        let until_closed = head.length() == Length::UntilClosed;
        let end = body_end(&self.response, head.end, head.length());
        let is_too_long = self.response.len() > LONGEST_ANSWER;
        if end.is_none() && !is_too_long && !(is_closed && until_closed) {
            return None;
        }
        let body = &self.response[head.end..end.unwrap_or(self.response.len())];
        let answer = match head.status {
            200..300 => Answer::Published,
            300..500 => Answer::Refused(head.refusal(body)),
            _ => Answer::Unknown(head.refusal(body)),
        };
        if is_closed || is_too_long || !head.keeps_alive() {
            self.socket = None;
        }
        self.response.clear();
        Some(answer)
    }

    fn fail(&mut self, error: &io::Error) -> Option<(Sending, Answer)> {
        self.socket = None;
        // A server may close a connection that is idle: the next event gets another.
        let sending = self.sending.take()?;
        let answer = if self.is_connected { Answer::Unknown } else { Answer::NotSent };
        Some((sending, answer(error.to_string())))
    }
}

//! A subscriber's connection, from connect to the end of its stream.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::http::{Head, Length, body_end};
use super::stream::{Checker, GroupState, Stream};

/// A refusal's body is read to its end when it is not longer than this.
const LONGEST_REFUSAL: usize = 16 * 1024;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Connecting,
    AwaitingHead,
    Streaming,
    Closed,
}

/// What reading came to, when it came to something.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    None,
    /// The head of an event stream has arrived.
    Opened,
    /// A head has arrived, and it is none of an event stream.
    Refused(String),
    /// The stream, or the connection before there was one, came to its end.
    Ended(String),
}

pub struct Client {
    pub socket: Option<OwnedFd>,
    pub phase: Phase,
    pub stream: Stream,
    /// A response that is not complete as far as its head, or as a refusal.
    head: Vec<u8>,
}

/// A socket that is connecting.
pub fn connect(server: SocketAddr, source: Option<IpAddr>) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    // Closing resets. A run would else leave all its ports waiting for a minute, and the next one without.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&server.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

impl Client {
    pub fn new(socket: OwnedFd, lines: usize) -> Self {
        Self { socket: Some(socket), phase: Phase::Connecting, stream: Stream::new(lines), head: Vec::new() }
    }

    /// A subscriber without a connection, whose socket could not even be made.
    pub fn stillborn() -> Self {
        Self { socket: None, phase: Phase::Closed, stream: Stream::default(), head: Vec::new() }
    }

    /// Sends the request; `false` while the handshake is not done.
    pub fn send_request(&mut self, request: &str) -> io::Result<bool> {
        let Some(socket) = &self.socket else { return Ok(false) };
        match rustix::io::write(socket, request.as_bytes()) {
            Ok(length) if length == request.len() => {
                self.phase = Phase::AwaitingHead;
                Ok(true)
            }
            Ok(_) => Err(io::Error::other("the socket of a new connection took only a part of the request")),
            Err(Errno::AGAIN | Errno::NOTCONN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes in the result of a read behind what was restored.
    pub fn receive(&mut self, bytes: &[u8], now: u64, group: &mut GroupState, checker: &mut Checker) -> News {
        if self.phase == Phase::Streaming {
            self.stream.receive(bytes, now, group, checker);
            return if self.stream.ended { News::Ended("the server ended the stream".into()) } else { News::None };
        }
        self.head.extend_from_slice(bytes);
        let Some(head) = Head::parse(&self.head) else {
            if self.head.len() > Head::LONGEST {
                return News::Refused("the answer is no HTTP response".into());
            }
            return News::None;
        };
        let length = head.length();
        if head.status != 200 || !head.begins("content-type", "text/event-stream") {
            let end = body_end(&self.head, head.end, length);
            let is_whole = end.is_some() || self.head.len() > LONGEST_REFUSAL;
            return if is_whole { News::Refused(self.refusal()) } else { News::None };
        }
        if let Some(encoding) = head.header("content-encoding").filter(|encoding| *encoding != b"identity") {
            let encoding = String::from_utf8_lossy(encoding);
            return News::Refused(format!("the stream is compressed ({encoding}), which cannot be checked"));
        }
        let end = head.end;
        let received = std::mem::take(&mut self.head);
        self.phase = Phase::Streaming;
        self.stream.begin(length == Length::Chunked);
        self.stream.receive(&received[end..], now, group, checker);
        News::Opened
    }

    /// What the end of the connection means.
    pub fn end(&mut self, why: String) -> News {
        if self.phase == Phase::AwaitingHead && Head::parse(&self.head).is_some() {
            return News::Refused(self.refusal());
        }
        News::Ended(why)
    }

    fn refusal(&self) -> String {
        let Some(head) = Head::parse(&self.head) else { return "the answer is no HTTP response".into() };
        if head.status == 200 {
            let kind = String::from_utf8_lossy(head.header("content-type").unwrap_or(b"none")).into_owned();
            return format!("no event stream but a 200 with content type {kind}");
        }
        if let Some(location) = head.header("location") {
            let status = head.status;
            return format!("{status}: it points to {}, give that as --sse-url", String::from_utf8_lossy(location));
        }
        head.refusal(&self.head[head.end..])
    }
}

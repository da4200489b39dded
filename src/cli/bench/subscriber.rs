//! The connection of one subscriber, from connect to the end of its stream.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::http::{Head, body_content};
use super::stream::{Context, Stream};

/// A longer body of a refusal is not read to its end.
const MAX_REFUSAL: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Connecting,
    AwaitingHead,
    Streaming,
    Closed,
}

/// Why a connection is of no further use.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The response is not an event stream.
    Refused(String),
    /// The connection ended, before or after the response head.
    Closed(String),
}

pub struct Subscriber {
    pub socket: Option<OwnedFd>,
    pub phase: Phase,
    /// Index of its group.
    pub group: u32,
    /// Once the response head arrived.
    pub stream: Option<Stream>,
    /// A response whose head, or whose refusal, is incomplete.
    head: Vec<u8>,
}

/// Opens a socket that is connecting to `server`.
pub fn connect(server: SocketAddr, source: Option<IpAddr>) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    // Closing resets. Otherwise the ports of a run stay in TIME_WAIT and the next run has none.
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

impl Subscriber {
    /// A subscriber that is connecting, or without a socket one whose connection failed at once.
    pub fn new(socket: Option<OwnedFd>, group: u32) -> Self {
        let phase = if socket.is_some() { Phase::Connecting } else { Phase::Closed };
        Self { socket, phase, group, stream: None, head: Vec::new() }
    }

    /// Sends the request. Returns false while the socket is still connecting.
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

    /// Takes the next bytes of the response. `lines` is the number of lines of the group's ledgers.
    pub fn receive(&mut self, bytes: &[u8], lines: usize, cx: &mut Context<'_>) -> Result<(), End> {
        if self.phase != Phase::Streaming {
            self.head.extend_from_slice(bytes);
            let Some((stream, start)) = self.open(lines)? else { return Ok(()) };
            let received = std::mem::take(&mut self.head);
            self.stream.insert(stream).receive(&received[start..], cx);
            self.phase = Phase::Streaming;
        } else if let Some(stream) = &mut self.stream {
            stream.receive(bytes, cx);
        }
        match &self.stream {
            Some(stream) if stream.is_ended() => Err(End::Closed("the server ended the stream".into())),
            _ => Ok(()),
        }
    }

    /// The stream and the start of its body, once the response head is complete.
    fn open(&self, lines: usize) -> Result<Option<(Stream, usize)>, End> {
        let head = match Head::parse(&self.head) {
            Ok(Some(head)) => head,
            Ok(None) if self.head.len() <= Head::MAX_BYTES => return Ok(None),
            Ok(None) => return Err(End::Refused("the answer has no end of its HTTP head".into())),
            Err(error) => return Err(End::Refused(format!("the answer is not HTTP: {error}"))),
        };
        if head.status != 200 || !head.begins("content-type", "text/event-stream") {
            let (_, is_complete) = body_content(&self.head[head.end..], head.length());
            let is_enough = is_complete || self.head.len() > MAX_REFUSAL;
            return if is_enough { Err(End::Refused(self.refusal(&head))) } else { Ok(None) };
        }
        if let Some(encoding) = head.header("content-encoding").filter(|encoding| *encoding != b"identity") {
            let encoding = String::from_utf8_lossy(encoding);
            return Err(End::Refused(format!("the stream is compressed ({encoding}), which cannot be checked")));
        }
        Ok(Some((Stream::new(lines, head.length()), head.end)))
    }

    /// What the end of the connection means.
    pub fn end(&self, why: String) -> End {
        match Head::parse(&self.head) {
            Ok(Some(head)) => End::Refused(self.refusal(&head)),
            _ => End::Closed(why),
        }
    }

    fn refusal(&self, head: &Head<'_>) -> String {
        if head.status == 200 {
            let kind = String::from_utf8_lossy(head.header("content-type").unwrap_or(b"none")).into_owned();
            return format!("no event stream but a 200 with content type {kind}");
        }
        if let Some(location) = head.header("location") {
            let status = head.status;
            return format!("{status}: it points to {}, give that as --sse-url", String::from_utf8_lossy(location));
        }
        head.refusal(&body_content(&self.head[head.end..], head.length()).0)
    }
}

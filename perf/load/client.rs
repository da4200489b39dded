//! A subscriber's connection, from connect to the end of its stream.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::options::Options;
use crate::stream::{Checker, Stream};
use crate::wire::Head;

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Connecting,
    AwaitingHead,
    Streaming,
    Closed,
}

pub struct Client {
    pub socket: Option<OwnedFd>,
    pub phase: Phase,
    pub stream: Stream,
    head: Vec<u8>,
}

impl Client {
    /// Starts a connection, from `source` if there is one.
    pub fn connect(target: SocketAddr, source: Option<IpAddr>, receive_buffer: Option<usize>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        if let Some(size) = receive_buffer {
            // Before connect: the window scale is agreed upon in the handshake.
            socket.set_recv_buffer_size(size)?;
        }
        // Closing resets. A run would else leave all its ports waiting for a minute, and the next one without.
        socket.set_linger(Some(Duration::ZERO))?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        match socket.connect(&target.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        let socket = Some(socket.into());
        Ok(Self { socket, phase: Phase::Connecting, stream: Stream::default(), head: Vec::new() })
    }

    /// Sends the request; `false` while the handshake is not done.
    pub fn send_request(&mut self, path: &str, options: &Options) -> io::Result<bool> {
        let Some(socket) = &self.socket else { return Ok(false) };
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\naccept: text/event-stream\r\n\r\n", options.target);
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

    /// Takes in the response head; what follows it is the stream's.
    pub fn receive_head(&mut self, bytes: &[u8], now: u64, checker: &mut Checker) -> io::Result<bool> {
        self.head.extend_from_slice(bytes);
        let Some(head) = Head::parse(&self.head) else { return Ok(false) };
        let is = |name, value: &[u8]| head.header(name).is_some_and(|found| found.starts_with(value));
        if head.status != 200 || !is("content-type", b"text/event-stream") || !is("transfer-encoding", b"chunked") {
            let text = String::from_utf8_lossy(&self.head);
            return Err(io::Error::other(format!("no chunked event stream but: {}", text.trim_end())));
        }
        let end = head.end;
        let received = std::mem::take(&mut self.head);
        self.phase = Phase::Streaming;
        self.stream.receive(&received[end..], now, checker);
        Ok(true)
    }
}

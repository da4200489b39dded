//! One subscriber, and its connection if it has one of its own.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::http::Head;
use super::stream::{Context, Stream};
use super::syntax::Syntax;
use super::websocket;
use crate::cli::transport::Transport;

/// A longer body of a refusal is not read to its end.
const MAX_REFUSAL: usize = 16 * 1024;

/// Why a connection is of no further use.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The response is not an event stream, or does not complete the handshake of WebSocket.
    Refused(String),
    /// The connection ended, before or after the response head.
    Closed(String),
}

pub struct Subscriber {
    /// Index of its group.
    pub group: u32,
    transport: Transport,
    pub has_ended: bool,
    /// From connect to the end of the connection. Over HTTP/2, [`Connection`](super::http2::Connection) has it.
    pub socket: Option<OwnedFd>,
    pub is_requested: bool,
    /// A response whose head, or whose refusal, is incomplete.
    head: Vec<u8>,
    /// Once the response head arrived.
    pub stream: Option<Stream>,
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
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(socket.into()),
    }
}

impl Subscriber {
    pub fn new(group: u32, transport: Transport) -> Self {
        Self { group, transport, has_ended: false, socket: None, is_requested: false, head: Vec::new(), stream: None }
    }

    pub fn is_streaming(&self) -> bool {
        self.stream.is_some() && !self.has_ended
    }

    /// Takes the next bytes of the response.
    pub fn receive(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), End> {
        let closed = |why: Cow<'_, str>| End::Closed(why.into_owned());
        if let Some(stream) = &mut self.stream {
            return stream.receive(bytes, cx).map_err(closed);
        }
        self.head.extend_from_slice(bytes);
        let Some(head) = stream_head(&self.head, self.transport)? else { return Ok(()) };
        let ledger = cx.checker.ledger(cx.group.topics.len());
        let stream = Stream::new(head.body(), Syntax::of(self.transport), ledger).gunzip(head.is_gzip());
        let stream = self.stream.insert(stream);
        let received = stream.receive(head.rest, cx).map_err(closed);
        self.head = Vec::new();
        received
    }

    /// What the end of the connection means.
    pub fn end(&self, why: &str) -> End {
        match Head::parse(&self.head) {
            Ok(Some(head)) => refused(&head, self.transport),
            _ => End::Closed(why.to_owned()),
        }
    }
}

/// The head of a stream, once it is complete.
fn stream_head(received: &[u8], transport: Transport) -> Result<Option<Head<'_>>, End> {
    let head = match Head::parse(received) {
        Ok(Some(head)) => head,
        Ok(None) if received.len() <= Head::MAX_BYTES => return Ok(None),
        Ok(None) => return Err(End::Refused("the answer has no end of its HTTP head".into())),
        Err(error) => return Err(End::Refused(format!("the answer is not HTTP: {error}"))),
    };
    match transport {
        Transport::Sse => accept(head),
        Transport::Ws if websocket::is_accepted(&head) => Ok(Some(head)),
        Transport::Ws => until_complete(&head, transport),
    }
}

/// Accepts the head of an event stream. Returns `None` while the body of a refusal is incomplete.
pub fn accept(head: Head<'_>) -> Result<Option<Head<'_>>, End> {
    // An event stream of known length is a refusal: fanline sends those so that an `EventSource` reconnects.
    let is_stream = head.status == 200 && head.begins("content-type", "text/event-stream");
    if !is_stream || head.header("content-length").is_some() {
        return until_complete(&head, Transport::Sse);
    }
    match head.header("content-encoding") {
        Some(encoding) if encoding != b"identity" && !head.is_gzip() => {
            let encoding = String::from_utf8_lossy(encoding);
            Err(End::Refused(format!("the stream is compressed with {encoding}, and only gzip can be checked")))
        }
        _ => Ok(Some(head)),
    }
}

/// The refusal, once its body is complete.
fn until_complete<'a>(head: &Head<'_>, transport: Transport) -> Result<Option<Head<'a>>, End> {
    let is_enough = head.status == 101 || head.content(false).1 || head.rest.len() > MAX_REFUSAL;
    if is_enough { Err(refused(head, transport)) } else { Ok(None) }
}

/// Why a response is no stream of this transport.
pub fn refused(head: &Head<'_>, transport: Transport) -> End {
    let header = |name| head.header(name).map(String::from_utf8_lossy);
    let is_stream = head.begins("content-type", "text/event-stream");
    End::Refused(if transport == Transport::Ws && matches!(head.status, 101 | 200) {
        format!("no handshake of WebSocket but a {} (--sse-url is the address of subscribers)", head.status)
    } else if head.status == 200 && !is_stream {
        let kind = header("content-type").unwrap_or("none".into());
        format!("no event stream but a 200 with content type {kind}")
    } else if let Some(location) = header("location") {
        format!("{}: it points to {location}, give that as --sse-url", head.status)
    } else {
        head.refusal()
    })
}

//! An HTTP/2 connection with prior knowledge that several subscribers share.
//!
//! `h2` runs without a runtime: when the socket is ready, [`Connection::next`] polls the connection, then the streams that
//! it woke. The wakers only put the number of what they wake on a list.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use h2::RecvStream;
use h2::client::{self, ResponseFuture, SendRequest};
use hyper::http::response::Parts;
use hyper::{Request, Response};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::http::Head;
use super::subscriber::{End, accept, connect, refused};
use crate::cli::transport::Transport;

/// A stream's window: what a server may send to a subscriber that does not read.
const STREAM_WINDOW: u32 = 65_535;
/// The connection's window is the largest possible, so that a stream that is not read takes nothing from the others.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// Names the connection among the woken. Other numbers are those of streams.
const CONNECTION: usize = usize::MAX;

/// A stream of the connection, by the order of requests.
pub type StreamNumber = usize;

/// What arrived for a stream.
pub enum Received {
    /// The head of an event stream, and whether its body is compressed.
    Head {
        is_gzip: bool,
    },
    Data(Bytes),
    End(End),
}

pub struct Connection {
    state: State,
    /// Requests to send when the connection is established.
    requests: VecDeque<Request<()>>,
    streams: Vec<Stream>,
    woken: Arc<Woken>,
    waker: Waker,
    bytes: Rc<Cell<u64>>,
}

type Driver = client::Connection<Socket, Bytes>;
type Handshake = Pin<Box<dyn Future<Output = Result<(SendRequest<Bytes>, Driver), h2::Error>>>>;

enum State {
    Handshake(Handshake),
    Open(SendRequest<Bytes>, Box<Driver>),
}

struct Stream {
    state: StreamState,
    waker: Waker,
    is_stalled: bool,
}

enum StreamState {
    Requested,
    Sent(ResponseFuture),
    Open(RecvStream),
    /// A response that is not an event stream, and its body so far.
    Refusal(Box<Parts>, Vec<u8>, RecvStream),
    Ended,
}

impl Connection {
    /// Connects to `server`, and registers the socket at `epoll` with `token`.
    pub fn open(server: SocketAddr, source: Option<IpAddr>, epoll: &OwnedFd, token: u64) -> io::Result<Self> {
        let socket = connect(server, source)?;
        // Edge-triggered, because `h2` reads and writes until the socket blocks.
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(epoll, &socket, EventData::new_u64(token), flags)?;
        let mut builder = client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            // Requests wait for the server's settings, because a server refuses streams over its limit.
            .initial_max_send_streams(0)
            // The unread frames of a stalled stream are bounded by its window.
            .data_frame_budget(usize::MAX);
        let woken = Arc::<Woken>::default();
        let bytes = Rc::<Cell<u64>>::default();
        let socket = Socket { socket, received: bytes.clone() };
        Ok(Self {
            state: State::Handshake(Box::pin(async move { builder.handshake(socket).await })),
            requests: VecDeque::new(),
            streams: Vec::new(),
            waker: Woken::waker(&woken, CONNECTION),
            woken,
            bytes,
        })
    }

    /// Adds a request, which is sent when the connection is woken. A stalled stream is not read after its head.
    pub fn request(&mut self, request: Request<()>, is_stalled: bool) {
        let waker = Woken::waker(&self.woken, self.streams.len());
        self.streams.push(Stream { state: StreamState::Requested, waker, is_stalled });
        self.requests.push_back(request);
    }

    /// The server's limit of streams, if there are more requests. It is 0 until the server's settings arrive.
    pub fn exceeded_limit(&self) -> Option<usize> {
        let State::Open(sender, _) = &self.state else { return None };
        let limit = sender.current_max_send_streams();
        (1..self.streams.len()).contains(&limit).then_some(limit)
    }

    /// The number of requests.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Takes the count of bytes received since the last call.
    pub fn take_bytes(&self) -> u64 {
        self.bytes.take()
    }

    /// Notes that the socket may be ready, or that there is a request.
    pub fn wake(&self) {
        self.waker.wake_by_ref();
    }

    /// What arrived next, or `None` until the socket is ready again. The error ends the connection and all its streams.
    pub fn next(&mut self) -> Result<Option<(StreamNumber, Received)>, String> {
        loop {
            let Some(woken) = self.woken.list().pop_front() else { return Ok(None) };
            if woken == CONNECTION {
                self.drive()?;
            } else if let Some(received) = self.streams[woken].poll() {
                // More may have arrived.
                self.woken.list().push_back(woken);
                return Ok(Some((woken, received)));
            }
        }
    }

    /// Reads and writes until the socket blocks, and sends requests.
    fn drive(&mut self) -> Result<(), String> {
        let mut cx = Context::from_waker(&self.waker);
        if let State::Handshake(handshake) = &mut self.state {
            match handshake.as_mut().poll(&mut cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(reason(&error)),
                Poll::Ready(Ok((sender, driver))) => self.state = State::Open(sender, Box::new(driver)),
            }
        }
        let State::Open(sender, driver) = &mut self.state else { return Ok(()) };
        while !self.requests.is_empty() {
            match sender.poll_ready(&mut cx) {
                // The server's limit of streams is reached.
                Poll::Pending => break,
                Poll::Ready(Err(error)) => return Err(reason(&error)),
                Poll::Ready(Ok(())) => {}
            }
            let number = self.streams.len() - self.requests.len();
            let Some(request) = self.requests.pop_front() else { break };
            let (response, _) = sender.send_request(request, true).map_err(|error| reason(&error))?;
            self.streams[number].state = StreamState::Sent(response);
            self.streams[number].waker.wake_by_ref();
        }
        match Pin::new(&mut **driver).poll(&mut cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) => Err("the server closed the connection".into()),
            Poll::Ready(Err(error)) => Err(reason(&error)),
        }
    }
}

impl Stream {
    fn poll(&mut self) -> Option<Received> {
        let mut cx = Context::from_waker(&self.waker);
        match &mut self.state {
            StreamState::Sent(response) => match ready(Pin::new(response).poll(&mut cx))? {
                Ok(response) => self.open(response),
                Err(error) => self.end(End::Closed(reason(&error))),
            },
            StreamState::Open(_) if self.is_stalled => None,
            StreamState::Open(body) => match ready(poll_data(body, &mut cx))? {
                Some(Ok(data)) => Some(Received::Data(data)),
                Some(Err(error)) => self.end(End::Closed(reason(&error))),
                None => self.end(End::Closed("the server ended the stream".into())),
            },
            StreamState::Refusal(head, received, body) => {
                let data = ready(poll_data(body, &mut cx))?;
                let is_last = !matches!(data, Some(Ok(_)));
                received.extend_from_slice(&data.and_then(Result::ok).unwrap_or_default());
                let head = Head::of_http2(head, received);
                let end = if is_last { Some(refused(&head, Transport::Sse)) } else { accept(head).err() };
                if end.is_none() {
                    self.waker.wake_by_ref();
                }
                self.end(end?)
            }
            StreamState::Requested | StreamState::Ended => None,
        }
    }

    fn open(&mut self, response: Response<RecvStream>) -> Option<Received> {
        let (head, body) = response.into_parts();
        match accept(Head::of_http2(&head, b"")) {
            Ok(Some(head)) => {
                self.state = StreamState::Open(body);
                Some(Received::Head { is_gzip: head.is_gzip() })
            }
            Ok(None) => {
                self.state = StreamState::Refusal(Box::new(head), Vec::new(), body);
                self.waker.wake_by_ref();
                None
            }
            Err(end) => self.end(end),
        }
    }

    fn end(&mut self, end: End) -> Option<Received> {
        self.state = StreamState::Ended;
        Some(Received::End(end))
    }
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(ready) => Some(ready),
        Poll::Pending => None,
    }
}

/// The next data, whose part of the window is released.
fn poll_data(body: &mut RecvStream, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
    let data = body.poll_data(cx);
    if let Poll::Ready(Some(Ok(data))) = &data {
        // Fails only if more is released than was received.
        let _ = body.flow_control().release_capacity(data.len());
    }
    data
}

/// Why a connection or a stream ended.
fn reason(error: &h2::Error) -> String {
    match error.get_io() {
        Some(error) => error.to_string(),
        None => error.to_string(),
    }
}

/// The connection and the streams that can make progress, in the order in which they were woken.
#[derive(Default)]
struct Woken(Mutex<VecDeque<usize>>);

impl Woken {
    fn waker(woken: &Arc<Self>, number: usize) -> Waker {
        Arc::new(NumberedWaker { woken: woken.clone(), number }).into()
    }

    fn list(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct NumberedWaker {
    woken: Arc<Woken>,
    number: usize,
}

impl Wake for NumberedWaker {
    fn wake(self: Arc<Self>) {
        self.woken.list().push_back(self.number);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.list().push_back(self.number);
    }
}

/// A nonblocking socket whose readiness the engine waits for, so that no waker is kept.
struct Socket {
    socket: OwnedFd,
    received: Rc<Cell<u64>>,
}

impl Socket {
    fn poll<T>(result: rustix::io::Result<T>) -> Poll<io::Result<T>> {
        match result {
            Err(Errno::AGAIN | Errno::NOTCONN) => Poll::Pending,
            result => Poll::Ready(result.map_err(io::Error::from)),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = rustix::io::read(&self.socket, buf.initialize_unfilled());
        Self::poll(read).map_ok(|length| {
            self.received.set(self.received.get() + length as u64);
            buf.advance(length);
        })
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Self::poll(rustix::io::write(&self.socket, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

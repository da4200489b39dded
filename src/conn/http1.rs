//! An HTTP/1 connection, and the hand-over of a stream's socket from hyper.
//!
//! hyper parses requests and writes the ordinary responses. For a stream or a WebSocket the service stores its [`Reply`] in
//! the [`Exchange`] that it shares with the driver of the connection, and stays pending. The driver takes the connection apart
//! and hands the socket to a much smaller task.
//!
//! **Earlier responses are written first.** Responses to earlier requests on the same connection may still be in hyper's
//! buffer when the next request is parsed. hyper flushes its socket only when that buffer is empty. The socket is wrapped
//! in [`Watched`], which records whether the last operation was a flush; until then hyper continues.
//!
//! **Bytes after the request are counted.** No request can follow a stream, so the bytes that a client sends after it are
//! not parsed. The stream's task counts them together with later ones. After the handshake of a WebSocket they are its first
//! messages.
//!
//! **Upgrades of the application are hyper's.** A service that replies with 101 gets the socket through hyper's `OnUpgrade`. The
//! connection is counted until that socket is closed.

mod body;
mod exchange;
pub(super) mod output;
pub(super) mod stream_socket;
mod waker;
mod watched;

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use body::ResponseBody;
use bytes::{Bytes, BytesMut};
use exchange::InFlight;
use futures_util::future::BoxFuture;
use hyper::body::Incoming as HyperBody;
use hyper::http::response::Parts;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use output::SocketOutput;
use stream_socket::StreamSocket;
use tokio::time::Instant;
use waker::ConnectionWaker;
use watched::Watched;

use super::http::{Handler, Http};
use super::reply::{Reply, StreamReply, WebSocketReply};
use super::socket::Socket;
use super::stream::StreamTask;
use super::transport::{Layout, Sse};
use super::websocket::{WebSocket, WebSocketTask};
use super::{Incoming, linger};
use crate::limit::LimitExceeded;
use crate::metrics::ConnectionGuard;
use crate::peer::Peer;
use crate::sync::{Arc, Ordering, lock};

pub(super) use body::Http1Body;
pub(super) use exchange::Exchange;

/// The smallest buffer that hyper accepts.
const MIN_BUFFER: usize = 8 << 10;

/// hyper's own limit on header fields, which costs less than a limit that is set.
const DEFAULT_HEADERS: usize = 100;

/// The longest time that a connection over a limit stays after its error response.
pub(super) const REJECTED_LINGER: Duration = Duration::from_secs(1);

/// A reply that takes the socket over.
enum Takeover {
    Stream(Box<StreamReply>),
    WebSocket(Box<WebSocketReply>),
}

/// How hyper's part of a connection ended.
enum Outcome {
    Done,
    /// The head of a request did not arrive in time.
    HeadTimeout,
    Failed(hyper::Error),
    Taken(Takeover),
}

impl<H: Handler> Http<H> {
    /// Lets hyper serve requests until the connection ends or becomes a stream.
    pub(super) async fn serve_http1(
        &self,
        socket: Socket,
        peer: &Peer,
        guard: ConnectionGuard,
        exceeded: Option<&LimitExceeded>,
        exchange: &Arc<Exchange>,
        deadline: Instant,
    ) {
        let service = service_fn(|request: Request<HyperBody>| {
            let in_flight = exchange.begin_request();
            let request = request.map(|body| Incoming::Http1(Http1Body::new(body, exchange)));
            respond(self.handler.handle(request, peer, exceeded), exchange, in_flight)
        });
        let socket = TokioIo::new(Watched { socket, exchange: exchange.clone() });
        // During a drain a new connection gets one response: hyper's graceful shutdown would close a connection that has
        // received nothing yet.
        let is_draining = self.shard.drain.has_begun();
        let keeps_alive = !is_draining && exceeded.is_none();
        let mut connection = self.builder(keeps_alive).serve_connection(socket, service).with_upgrades();
        let outcome = self.drive(&mut connection, exchange, is_draining, deadline).await;
        let Some(http1::Parts { io, read_buf, .. }) = connection.into_parts() else {
            *lock(&exchange.guard) = Some(guard);
            return;
        };
        let (socket, unread) = (io.into_inner().socket, read_buf.len());
        match outcome {
            Outcome::Taken(Takeover::Stream(reply)) => return self.start_stream(socket, unread, *reply, guard),
            Outcome::Taken(Takeover::WebSocket(reply)) => {
                return self.start_websocket(socket, read_buf, *reply, guard);
            }
            Outcome::Done => {}
            Outcome::HeadTimeout => {
                tracing::debug!(remote = %peer, "closed: no request came in time");
                // An idle connection between two requests ends without an error.
                if unread > 0 || !exchange.has_request.load(Ordering::Relaxed) {
                    self.rejected("head_timeout", exceeded);
                }
                return;
            }
            Outcome::Failed(error) => {
                tracing::debug!(remote = %peer, %error, "connection failed");
                if let Some(reason) = rejection(&error) {
                    self.rejected(reason, exceeded);
                }
            }
        }
        // hyper's memory is freed before the connection lingers.
        drop(read_buf);
        match exceeded {
            Some(_) => linger::close(socket, tokio::time::sleep(REJECTED_LINGER)).await,
            None => linger::close(socket, self.shard.drain.begun()).await,
        }
    }

    fn builder(&self, keeps_alive: bool) -> http1::Builder {
        let mut builder = http1::Builder::new();
        builder
            .keep_alive(keeps_alive)
            // A client may close its sending side and still wait for the response: `nc -N` does.
            .half_close(true)
            // Most responses are small: copying the body behind the head costs less than a list of two buffers.
            .writev(false)
            // One timer for each request. `drive` has one for the connection.
            .header_read_timeout(None)
            // The buffer alone is no limit: a longer head that arrives in one piece would be accepted.
            .max_header_size(self.limits.max_head_bytes)
            .max_buf_size(self.limits.max_head_bytes.max(MIN_BUFFER));
        if self.limits.max_headers != DEFAULT_HEADERS {
            builder.max_headers(self.limits.max_headers);
        }
        builder
    }

    /// Polls hyper's connection until it ends or a stream can take its socket.
    async fn drive<S>(
        &self,
        connection: &mut http1::UpgradeableConnection<TokioIo<Watched>, S>,
        exchange: &Exchange,
        mut is_draining: bool,
        deadline: Instant,
    ) -> Outcome
    where
        S: HttpService<HyperBody, ResBody = ResponseBody, Error = Infallible> + Unpin,
    {
        let mut head_check = pin!(tokio::time::sleep_until(deadline));
        let mut drain = pin!(self.shard.drain.begun());
        // The first poll registers the task with both. They are polled again when they have something to say.
        let mut is_registered = false;
        let mut waker = ConnectionWaker::default();
        poll_fn(|cx| {
            let is_due = !is_registered || self.shard.drain.has_begun();
            if is_due && !is_draining && drain.as_mut().poll(cx).is_ready() {
                is_draining = true;
                Pin::new(&mut *connection).graceful_shutdown();
            }
            let polled = Pin::new(&mut *connection).poll(&mut Context::from_waker(waker.of(cx.waker())));
            if let Poll::Ready(result) = polled {
                return Poll::Ready(result.map_or_else(Outcome::Failed, |()| Outcome::Done));
            }
            while (!is_registered || head_check.is_elapsed()) && head_check.as_mut().poll(cx).is_ready() {
                let now = Instant::now();
                let due = exchange.head_wait().unwrap_or(now) + self.limits.head_timeout;
                if due <= now {
                    return Poll::Ready(Outcome::HeadTimeout);
                }
                head_check.as_mut().reset(due);
                is_registered = false;
            }
            is_registered = true;
            exchange.takeover().map_or(Poll::Pending, |taken| Poll::Ready(Outcome::Taken(taken)))
        })
        .await
    }

    /// Adds the stream to those that the shard polls. The connection's task ends, and its memory is freed.
    fn start_stream(&self, socket: Socket, early_bytes: usize, mut reply: StreamReply, mut guard: ConnectionGuard) {
        let client = reply.request.registration.client.key;
        let output = match StreamSocket::new(socket, early_bytes, &self.poller, client) {
            Ok(output) => output,
            Err(error) => return tracing::warn!(%error, "cannot register the socket of a stream"),
        };
        let is_chunked = reply.version >= Version::HTTP_11;
        let mut head = head(&reply.head, reply.version);
        // No request can follow: the connection ends with the stream (RFC 9112, section 9.6).
        head.extend_from_slice(b"connection: close\r\n");
        if is_chunked {
            head.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        head.extend_from_slice(b"\r\n");
        if let Some(permit) = reply.permit {
            guard.count_for(permit);
        }
        guard.streams();
        let shard = self.shard.clone();
        let key = reply.request.source.read_in_rounds();
        reply.request.registration.client.control.attach_to_rounds(&shard.group, key);
        let layout = Layout { format: reply.format, is_framed: is_chunked };
        let (sse, request) = (Sse::new(layout, reply.request.takes_heartbeats), reply.request);
        if reply.is_compressed {
            guard.compresses();
            let (gzip, request) = request.compressed(sse);
            self.shard.add_stream(key, StreamTask::new(output, gzip, shard, guard, head, request));
        } else {
            self.shard.add_stream(key, StreamTask::new(output, sse, shard, guard, head, request));
        }
    }

    /// Spawns the task of a WebSocket, whose client has sent `early` bytes after its request.
    fn start_websocket(&self, socket: Socket, early: Bytes, reply: WebSocketReply, mut guard: ConnectionGuard) {
        let mut head = head(&reply.head, Version::HTTP_11);
        head.extend_from_slice(b"\r\n");
        if let Some(permit) = reply.permit {
            guard.count_for(permit);
        }
        guard.converses();
        let shard = self.shard.clone();
        let takes_heartbeats = reply.request.takes_heartbeats;
        let transport = Box::new(WebSocket::new(reply.messages, reply.limits, early, takes_heartbeats));
        let output = SocketOutput::new(socket);
        let stream = StreamTask::new(output, transport, shard, guard, head, reply.request);
        tokio::spawn(WebSocketTask::Open(stream));
    }
}

/// Replies to a request. The reply of a stream is stored in `exchange`, and the future stays pending.
async fn respond(
    reply: BoxFuture<'_, Reply>,
    exchange: &Exchange,
    in_flight: InFlight,
) -> Result<Response<ResponseBody>, Infallible> {
    let takeover = match reply.await {
        Reply::Ordinary(response) => {
            let is_upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            exchange.is_upgraded.store(is_upgraded, Ordering::Relaxed);
            return Ok(response.map(|body| ResponseBody::new(body, in_flight)));
        }
        Reply::Stream(reply) => Takeover::Stream(reply),
        Reply::WebSocket(reply) => Takeover::WebSocket(reply),
    };
    exchange.take_over(takeover);
    pending().await
}

/// Why hyper rejected a request. `None` when the peer closed the connection.
fn rejection(error: &hyper::Error) -> Option<&'static str> {
    if error.is_parse_too_large() { Some("head_too_large") } else { error.is_parse().then_some("malformed") }
}

/// The status line and the fields of a response's head (RFC 9112, sections 4 and 5), without the empty line at the end.
fn head(parts: &Parts, version: Version) -> BytesMut {
    let mut head = BytesMut::with_capacity(512);
    let version = version.min(Version::HTTP_11);
    let date = httpdate::fmt_http_date(SystemTime::now());
    head.extend_from_slice(format!("{version:?} {}\r\ndate: {date}\r\n", parts.status).as_bytes());
    for (name, value) in &parts.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head
}

//! An HTTP/1 connection, and how a stream takes its socket over from hyper.
//!
//! hyper parses requests and answers the ordinary ones. When the service answers with a stream, it leaves that reply in a
//! cell that it shares with the driver of the connection, and stays pending: hyper waits. The driver sees the cell filled,
//! takes the connection apart, and hands the socket to a task of its own that is a fraction of the size.
//!
//! **Nothing that hyper was to write is lost.** Answers to earlier requests on the same connection may still stand in
//! hyper's buffer when the next request is parsed. hyper flushes its socket only when that buffer is empty, so the socket
//! is wrapped in [`Watched`], which notes whether the last thing that happened to it was a flush; until then the driver
//! lets hyper go on.
//!
//! **Nothing that the client sent is lost silently.** What it sent behind its request is counted by the connection's
//! task, as is what it sends later: there is no request that could follow a stream.

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::http::response::Parts;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Routes;
use crate::conn::{Connection, StreamRequest, linger};
use crate::limit::LimitExceeded;
use crate::metrics::ConnectionGuard;

/// The least that hyper has for a head or a piece of a body.
const LEAST_BUFFER: usize = 8 << 10;

/// What hyper takes as the number of fields of a head without being told, and at less cost.
const USUAL_HEADERS: usize = 100;

/// How long somebody may stay who is told that there is no room: in all, and after that was said.
const TURNED_AWAY_WITHIN: Duration = Duration::from_secs(5);
const LEAVES_WITHIN: Duration = Duration::from_secs(1);

/// What a handler answers.
pub(crate) enum Reply {
    Ordinary(Response<Full<Bytes>>),
    /// The head of the response, and the stream that is its body.
    Stream(Box<StreamReply>),
}

pub(crate) struct StreamReply {
    pub(crate) head: Parts,
    pub(crate) version: Version,
    pub(crate) request: StreamRequest,
}

/// Serves one connection until it ends or has become a stream. Who is `over` a limit is told so, if it asks soon.
pub(crate) async fn serve(
    socket: TcpStream,
    remote: SocketAddr,
    guard: ConnectionGuard,
    over: Option<Box<LimitExceeded>>,
    routes: Arc<Routes>,
) {
    let deadline = Instant::now() + routes.options.head_timeout;
    let has_asked = AtomicBool::new(false);
    // hyper has buffers of many times a stream's size: they are there while there is something to read into them.
    if let Some(over) = over {
        let told = async {
            if has_come(&socket, &routes, deadline).await {
                exchange(socket, remote, guard, Some(&over), deadline, &has_asked, &routes).await;
            }
        };
        let _ = tokio::time::timeout(TURNED_AWAY_WITHIN, Box::pin(told)).await;
        if !has_asked.load(Ordering::Relaxed) {
            routes.shard.metrics.rejected(over.reason.as_str());
        }
    } else if has_come(&socket, &routes, deadline).await {
        Box::pin(exchange(socket, remote, guard, None, deadline, &has_asked, &routes)).await;
    }
}

/// Waits for the first bytes. Answers whether they came, before the time for a head was over or the server began to drain.
async fn has_come(socket: &TcpStream, routes: &Routes, deadline: Instant) -> bool {
    let came = async {
        if routes.is_draining() {
            return socket.readable().await.is_ok();
        }
        tokio::select! {
            biased;
            readable = socket.readable() => readable.is_ok(),
            () = routes.draining() => false,
        }
    };
    tokio::time::timeout_at(deadline, came).await == Ok(true)
}

/// What became of a connection.
enum Taken {
    /// hyper is through with it.
    Done,
    /// The head of its first request did not come in time.
    Late,
    Stream(Box<StreamReply>),
}

/// Has hyper parse and answer requests, until the connection ends or has become a stream.
async fn exchange(
    socket: TcpStream,
    remote: SocketAddr,
    guard: ConnectionGuard,
    over: Option<&LimitExceeded>,
    deadline: Instant,
    has_asked: &AtomicBool,
    routes: &Arc<Routes>,
) {
    let cell: Arc<Mutex<Option<Box<StreamReply>>>> = Arc::default();
    let service = service_fn(|request: Request<Incoming>| {
        has_asked.store(true, Ordering::Relaxed);
        let (cell, routes) = (cell.clone(), routes.clone());
        // Boxed, because hyper wants a future that can be moved.
        Box::pin(async move {
            match routes.answer(request, remote, over).await {
                Reply::Ordinary(response) => Ok::<_, Infallible>(response),
                Reply::Stream(reply) => {
                    *cell.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply);
                    pending().await
                }
            }
        })
    });
    let (socket, is_flushed) = Watched::new(socket);
    // Who comes while the server drains gets one answer: hyper's own graceful shutdown would close a connection on which
    // nothing was received yet.
    let mut is_draining = routes.is_draining();
    let options = &routes.options;
    let mut builder = http1::Builder::new();
    builder
        .keep_alive(!is_draining && over.is_none())
        // A client may say that it sends no more, and still wait for its answer: `nc -N` does.
        .half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(options.head_timeout)
        // The buffer alone is no limit: a longer head that comes in one piece would be taken.
        .max_header_size(options.max_head_bytes)
        .max_buf_size(options.max_head_bytes.max(LEAST_BUFFER));
    if options.max_headers != USUAL_HEADERS {
        builder.max_headers(options.max_headers);
    }
    let mut connection = builder.serve_connection(socket, service);
    let taken = {
        let mut first_head = std::pin::pin!(tokio::time::sleep_until(deadline));
        let mut draining = std::pin::pin!(routes.draining());
        poll_fn(|cx| {
            if !is_draining && draining.as_mut().poll(cx).is_ready() {
                is_draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            if let Poll::Ready(result) = connection.poll_without_shutdown(cx) {
                return Poll::Ready(result.map(|()| Taken::Done));
            }
            // hyper's own time for a head begins with the first byte, and has been waited for already.
            if !has_asked.load(Ordering::Relaxed) && first_head.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(Taken::Late));
            }
            // Not yet flushed: the socket wakes hyper, and this, when it takes more.
            if !is_flushed.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
            let reply = cell.lock().unwrap_or_else(PoisonError::into_inner).take();
            reply.map_or(Poll::Pending, |reply| Poll::Ready(Ok(Taken::Stream(reply))))
        })
        .await
    };
    // Who is over a limit is counted for that.
    let reject = |reason| {
        if over.is_none() {
            routes.shard.metrics.rejected(reason);
        }
    };
    match taken {
        Ok(Taken::Stream(reply)) => {
            let parts = connection.into_parts();
            return take_over(parts.io.into_inner(), parts.read_buf.len(), *reply, guard, routes);
        }
        Ok(Taken::Done) => {}
        // It is owed no answer.
        Ok(Taken::Late) => return reject("head_timeout"),
        Err(error) => {
            tracing::debug!(%remote, %error, "connection failed");
            let parts = connection.into_parts();
            if let Some(reason) = rejection(&error, !parts.read_buf.is_empty()) {
                reject(reason);
            }
            // Who sent nothing in time is owed no answer.
            if !error.is_timeout() {
                linger::close(parts.io.into_inner(), routes.draining()).await;
            }
            return;
        }
    }
    // All that hyper needed goes first.
    let socket = connection.into_parts().io.into_inner();
    if over.is_some() {
        return linger::close(socket, tokio::time::sleep(LEAVES_WITHIN)).await;
    }
    linger::close(socket, routes.draining()).await;
}

/// In a word why hyper gave a connection up that had begun a request: what the peer itself broke off is no rejection.
fn rejection(error: &hyper::Error, has_begun: bool) -> Option<&'static str> {
    if error.is_parse_too_large() {
        Some("head_too_large")
    } else if error.is_parse() {
        Some("malformed")
    } else {
        (error.is_timeout() && has_begun).then_some("head_timeout")
    }
}

/// Spawns the stream's own task; this one, with all that hyper needed, ends.
fn take_over(socket: TcpStream, early_bytes: usize, reply: StreamReply, mut guard: ConnectionGuard, routes: &Routes) {
    if early_bytes > 0 {
        tracing::debug!(early_bytes, "a client sent more behind its request for a stream; it is not read");
    }
    let is_framed = reply.version >= Version::HTTP_11;
    let head = head(&reply.head, reply.version);
    guard.streams();
    let connection = Connection::new(socket, routes.shard.clone(), guard, head, is_framed, early_bytes, reply.request);
    tokio::spawn(connection);
}

/// A response's head as bytes (RFC 9112, sections 4 and 5). A body without chunks ends with the connection.
fn head(parts: &Parts, version: Version) -> BytesMut {
    let mut head = BytesMut::with_capacity(512);
    let is_framed = version >= Version::HTTP_11;
    let (version, status) = (version.min(Version::HTTP_11), parts.status);
    head.extend_from_slice(
        format!("{version:?} {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or("")).as_bytes(),
    );
    head.extend_from_slice(format!("date: {}\r\n", httpdate::fmt_http_date(SystemTime::now())).as_bytes());
    for (name, value) in &parts.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    // No request can follow: the connection ends with the stream (RFC 9112, section 9.6).
    head.extend_from_slice(b"connection: close\r\n");
    if is_framed {
        head.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// A socket that notes whether all that was written to it has been flushed.
struct Watched {
    socket: TokioIo<TcpStream>,
    is_flushed: Arc<AtomicBool>,
}

impl Watched {
    fn new(socket: TcpStream) -> (Self, Arc<AtomicBool>) {
        let is_flushed = Arc::new(AtomicBool::new(true));
        (Self { socket: TokioIo::new(socket), is_flushed: is_flushed.clone() }, is_flushed)
    }

    fn into_inner(self) -> TcpStream {
        self.socket.into_inner()
    }
}

impl Read for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl Write for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.is_flushed.store(false, Ordering::Relaxed);
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.is_flushed.store(flushed.is_ready(), Ordering::Relaxed);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_flushed.store(false, Ordering::Relaxed);
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }
}

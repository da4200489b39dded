//! The requests of one HTTP/2 connection, each in a task of its own.
//!
//! **Ends.** A request without a body is dropped when the client resets it. One with a body ends by itself: the body breaks off,
//! and what was read of an upload is published.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::{CONTENT_LENGTH, EXPECT, HeaderMap};
use hyper::{Method, Request, Response, StatusCode};

use super::output::Http2Output;
use super::response;
use crate::conn::Incoming;
use crate::conn::http::{Handler, Http};
use crate::conn::reply::{Reply, ReplyBody, StreamReply};
use crate::conn::stream::StreamTask;
use crate::conn::transport::{Layout, Sse};
use crate::limit::LimitExceeded;
use crate::metrics::ConnectionGuard;
use crate::peer::Peer;
use crate::sync::{Arc, AtomicU32, Ordering};

/// The requests of one connection, and what they share.
pub(super) struct Requests<H> {
    http: Arc<Http<H>>,
    pub(super) peer: Peer,
    /// The limit that the connection exceeds.
    pub(super) exceeded: Option<Box<LimitExceeded>>,
    _guard: ConnectionGuard,
    /// Requests that are handled and have not become a stream of events.
    open: AtomicU32,
}

/// A request that is handled, counted until this is dropped.
struct OpenRequest<H>(Arc<Requests<H>>);

impl<H> Drop for OpenRequest<H> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<H: Handler> Requests<H> {
    pub(super) fn new(
        http: Arc<Http<H>>,
        peer: Peer,
        exceeded: Option<Box<LimitExceeded>>,
        guard: ConnectionGuard,
    ) -> Arc<Self> {
        Arc::new(Self { http, peer, exceeded, _guard: guard, open: AtomicU32::new(0) })
    }

    /// The number of requests that are handled now.
    pub(super) fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Spawns the task of a request.
    pub(super) fn start(self: &Arc<Self>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        self.open.fetch_add(1, Ordering::Relaxed);
        let open = OpenRequest(self.clone());
        tokio::spawn(async move {
            if let Err(error) = open.0.serve(request, respond).await {
                tracing::debug!(remote = %open.0.peer, %error, "HTTP/2 response broke off");
            }
        });
    }

    async fn serve(&self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> io::Result<()> {
        if request.headers().len() > self.http.limits.max_headers {
            self.http.rejected("head_too_large", self.exceeded.as_deref());
            let mut response = Response::new(ReplyBody::Whole(Full::default()));
            *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return response::send(respond, response, false, self.write_timeout()).await;
        }
        let is_head = request.method() == Method::HEAD;
        let request = self.with_body(request);
        let is_upload = !request.body().is_end_stream();
        if is_upload && request.headers().get(EXPECT).is_some_and(|expected| expected == "100-continue") {
            let mut go_on = Response::new(());
            *go_on.status_mut() = StatusCode::CONTINUE;
            respond.send_informational(go_on).map_err(io::Error::other)?;
        }
        let reply = {
            let mut handling = pin!(self.http.handler.handle(request, &self.peer, self.exceeded.as_deref()));
            poll_fn(|cx| match handling.as_mut().poll(cx) {
                Poll::Pending if !is_upload && respond.poll_reset(cx).is_ready() => Poll::Ready(None),
                reply => reply.map(Some),
            })
            .await
        };
        match reply {
            Some(Reply::Ordinary(response)) => response::send(respond, response, is_head, self.write_timeout()).await,
            Some(Reply::Stream(reply)) => self.start_stream(respond, *reply),
            // The handler refuses the handshake: a stream of HTTP/2 cannot be upgraded.
            Some(Reply::WebSocket(_)) => Err(io::ErrorKind::Unsupported.into()),
            None => Ok(()),
        }
    }

    fn write_timeout(&self) -> Duration {
        self.http.shard.options.write_timeout
    }

    fn with_body(&self, request: Request<RecvStream>) -> Request<Incoming> {
        let length = |headers: &HeaderMap| headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        let length = length(request.headers());
        request.map(|stream| Incoming::http2(stream, length, self.http.shard.drain.clone()))
    }

    /// Spawns the stream's own task. The request's task ends, and its memory is freed.
    fn start_stream(&self, respond: SendResponse<Bytes>, reply: StreamReply) -> io::Result<()> {
        let StreamReply { head, request, format, is_compressed, permit, .. } = reply;
        let output = Http2Output::new(response::send_head(respond, head, false)?);
        let shard = self.http.shard.clone();
        let mut guard = ConnectionGuard::of_stream(shard.metrics.clone(), permit.unwrap_or_default(), shard.number);
        let layout = Layout { format, is_framed: false };
        let sse = Sse::new(layout, request.takes_heartbeats);
        if is_compressed {
            guard.compresses();
            let (gzip, request) = request.compressed(sse);
            tokio::spawn(StreamTask::new(output, gzip, shard, guard, BytesMut::new(), request));
        } else {
            tokio::spawn(StreamTask::new(output, sse, shard, guard, BytesMut::new(), request));
        }
        Ok(())
    }
}

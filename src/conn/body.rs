//! A stream as the body of a response that another server sends: hyper's own, or one above it.
//!
//! **Contract.** The body yields what `GET /stream` would have, in the same order: hello, gaps, events, keep-alives, farewells.
//! It is the same [task](super::stream), polled by the body's consumer instead of a runtime. It ends after a farewell, or with an
//! error if the client must not take it for complete.
//!
//! **One chunk at a time.** The task writes when the consumer asks for a chunk, and then not before the consumer asks again.
//! What a slow client has not been sent stays in the hub's history, as a position. A consumer that has a buffer of its own fills
//! that first.
//!
//! **Wake-ups.** A task sets its waker once, but the consumer of a body may change. [`Consumer`] passes the wake-ups on.
//!
//! **Ends.** A body cannot close the connection of a client that reads nothing: it is not polled then. It ends, lags or continues
//! when it is polled again.

mod output;
mod runtime_shard;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use hyper::body::{Body, Frame, SizeHint};
use output::BodyOutput;
pub(crate) use runtime_shard::RuntimeShard;

use super::StreamRequest;
use super::control::Request;
use super::end::EndReason;
use super::stream::StreamTask;
use super::transport::{Layout, Sse};
use crate::metrics::ConnectionGuard;
use crate::wire::Format;

/// The body of a response of [`stream_response`](crate::http::stream_response()): Server-Sent Events, or the reason why there are
/// none.
///
/// Dropping it ends the stream.
pub struct StreamBody(Content);

enum Content {
    Stream(Box<Stream>),
    /// A refusal that was not sent yet.
    Refusal(Bytes),
    /// A stream that breaks off at the next poll.
    Broken(StreamBodyError),
    End,
}

/// Why the body of a stream broke off, so that its server closes the connection instead of ending the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamBodyError {
    /// The client read too slowly: events that it had not read have left the history. It can resume with its last id.
    #[error("the client read too slowly: its next events have left the history")]
    Lagged,
}

/// A stream that is open.
struct Stream {
    task: StreamTask<BodyOutput, Sse>,
    consumer: Arc<Consumer>,
    /// Wakes the consumer.
    waker: Waker,
    shard: Arc<RuntimeShard>,
    /// Whether the stream ends because the hub is closed.
    is_closing: bool,
    has_ended: bool,
}

/// The task that polls a body, which may change.
struct Consumer(AtomicWaker);

impl Wake for Consumer {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake();
    }
}

impl StreamBody {
    /// A body that begins with the hello of `request`.
    pub(crate) fn stream(
        shard: Arc<RuntimeShard>,
        guard: ConnectionGuard,
        format: Format,
        request: StreamRequest,
    ) -> Self {
        let layout = Layout { format, is_framed: false };
        let transport = Sse::new(layout, request.takes_heartbeats);
        let output = BodyOutput::default();
        let task = StreamTask::new(output, transport, shard.shard().clone(), guard, BytesMut::new(), request);
        let consumer = Arc::new(Consumer(AtomicWaker::new()));
        let waker = Waker::from(consumer.clone());
        Self(Content::Stream(Box::new(Stream { task, consumer, waker, shard, is_closing: false, has_ended: false })))
    }

    /// The body of a refusal.
    pub(crate) fn refusal(body: Bytes) -> Self {
        Self(Content::Refusal(body))
    }
}

impl Stream {
    /// Returns the next chunk, or the reason why the stream has ended.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, EndReason>> {
        // Before the task looks for events, so that none is published in between without a wake-up.
        self.consumer.0.register(cx.waker());
        self.end_with_hub();
        let mut end = self.task.poll_end(&mut Context::from_waker(&self.waker));
        // Once more: a hub that was closed before the task set its waker has not woken it.
        if end.is_pending() && self.end_with_hub() {
            end = self.task.poll_end(&mut Context::from_waker(&self.waker));
        }
        match (self.task.output().take(), end) {
            (Some(chunk), Poll::Pending) => Poll::Ready(Ok(chunk)),
            (None, Poll::Pending) => Poll::Pending,
            // The task ends in a turn in which it writes nothing.
            (_, Poll::Ready(reason)) => {
                self.has_ended = true;
                Poll::Ready(Err(reason))
            }
        }
    }

    /// Begins to end the stream if the hub is closed. Returns whether it did now.
    fn end_with_hub(&mut self) -> bool {
        if self.is_closing || !self.shard.shard().hub.is_closed() {
            return false;
        }
        self.is_closing = true;
        self.shard.shard().drain.begin();
        self.task.raise(Request::Drain);
        true
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.has_ended {
            self.task.note_end(EndReason::Closed);
        }
    }
}

impl fmt::Debug for StreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Content::Stream(_) => "StreamBody(open)",
            Content::Refusal(_) => "StreamBody(refused)",
            Content::Broken(_) | Content::End => "StreamBody(ended)",
        })
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = StreamBodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamBodyError>>> {
        let content = &mut self.get_mut().0;
        let chunk = match content {
            Content::Stream(stream) => ready!(stream.poll_chunk(cx)),
            Content::Refusal(body) => {
                let body = std::mem::take(body);
                *content = Content::End;
                return Poll::Ready(Some(Ok(Frame::data(body))));
            }
            Content::Broken(error) => {
                let error = *error;
                *content = Content::End;
                return Poll::Ready(Some(Err(error)));
            }
            Content::End => return Poll::Ready(None),
        };
        match chunk {
            Ok(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
            // Replacing the content frees the memory of the stream.
            Err(EndReason::Lagged) => {
                // hyper drops what it has buffered when a body breaks off, and writes it when a body is pending.
                *content = Content::Broken(StreamBodyError::Lagged);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Err(_) => {
                *content = Content::End;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Content::End)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Stream(_) | Content::Broken(_) => SizeHint::default(),
            Content::Refusal(body) => SizeHint::with_exact(body.len() as u64),
            Content::End => SizeHint::with_exact(0),
        }
    }
}

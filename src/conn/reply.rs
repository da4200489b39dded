//! The replies of a handler.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, SizeHint};
use hyper::http::response::Parts;
use hyper::{Response, Version};

use super::StreamRequest;
use super::websocket::Messages;
use crate::hub::Feed;
use crate::limit::ConnectionPermit;
use crate::wire::Format;
use crate::wire::websocket::reader::MessageLimits;

/// A handler's reply.
pub(crate) enum Reply {
    Ordinary(Response<ReplyBody>),
    Stream(Box<StreamReply>),
    WebSocket(Box<WebSocketReply>),
}

/// The head of a response, and the stream that is its body.
pub(crate) struct StreamReply {
    pub(crate) head: Parts,
    pub(crate) version: Version,
    pub(crate) request: StreamRequest,
    pub(crate) format: Format,
    /// Whether the head says that the body is compressed.
    pub(crate) is_compressed: bool,
    /// The permit of a client whose connection has none for it, because other clients share it.
    pub(crate) permit: Option<ConnectionPermit>,
}

/// The response that accepts a WebSocket handshake, and what follows it.
pub(crate) struct WebSocketReply {
    pub(crate) head: Parts,
    pub(crate) request: StreamRequest<Feed>,
    pub(crate) messages: Box<dyn Messages>,
    pub(crate) limits: MessageLimits,
    /// The permit of a client whose connection has none for it, because other clients share it.
    pub(crate) permit: Option<ConnectionPermit>,
}

/// Any error of an application's service or of its bodies.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// The body of an ordinary response.
pub(crate) enum ReplyBody {
    /// In memory, as that of every endpoint of this crate.
    Whole(Full<Bytes>),
    /// From an application's service, as it comes. A panic ends it with an error.
    Streamed(UnsyncBoxBody<Bytes, BoxError>),
}

impl Reply {
    /// An ordinary response whose body is in memory.
    pub(crate) fn whole(response: Response<Full<Bytes>>) -> Self {
        Self::Ordinary(response.map(ReplyBody::Whole))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            // Unwind safe: the body is not polled again.
            Self::Streamed(body) => catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx)))
                .unwrap_or_else(|_| Poll::Ready(Some(Err("the body of the response panicked".into())))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Streamed(body) => body.size_hint(),
        }
    }
}

//! The body of a request as it arrives, over either protocol.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::http1::Http1Body;
use super::{Drain, linger};
use crate::sync::Arc;

/// The body of a request.
pub(crate) enum Incoming {
    Http1(Http1Body),
    Http2(Http2Body),
}

/// The body of an HTTP/2 request. What was read makes room for as many bytes in the windows of flow control.
///
/// The rest of a body that is not read is discarded for a while, because a client that is still sending may not have read its
/// response: the reset that follows would make some clients drop it.
pub(crate) struct Http2Body {
    /// `None` after the drop has begun.
    stream: Option<h2::RecvStream>,
    /// The rest of the declared length.
    remaining: Option<u64>,
    drain: Arc<Drain>,
}

/// Why the body of a request could not be read: the client broke it off, or its connection failed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RequestBodyError(#[from] BodyErrorKind);

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum BodyErrorKind {
    Http1(#[from] hyper::Error),
    Http2(#[from] h2::Error),
}

impl Incoming {
    /// The body of an HTTP/2 request that declares this length. h2 refuses a body of any other.
    pub(super) fn http2(stream: h2::RecvStream, length: Option<u64>, drain: Arc<Drain>) -> Self {
        Self::Http2(Http2Body { stream: Some(stream), remaining: length, drain })
    }
}

impl Http2Body {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        // A reset before the end is an error, whatever its code: the client has not sent all of the body.
        let Some(data) = ready!(stream.poll_data(cx)?) else {
            let trailers = ready!(stream.poll_trailers(cx)?);
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        };
        stream.flow_control().release_capacity(data.len())?;
        self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(data.len() as u64));
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

impl Drop for Http2Body {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take().filter(|stream| !stream.is_end_stream()) {
            let drain = self.drain.clone();
            tokio::spawn(async move { linger::discard_body(stream, drain.begun()).await });
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let frame = match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(BodyErrorKind::from),
            Self::Http2(body) => body.poll_frame(cx).map_err(BodyErrorKind::from),
        };
        frame.map_err(RequestBodyError)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.stream.as_ref().is_none_or(h2::RecvStream::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.remaining.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

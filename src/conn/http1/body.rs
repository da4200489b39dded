//! The bodies of a request and of its response, which keep the request in flight.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{self, Body, Frame, SizeHint};

use super::exchange::{Exchange, InFlight};
use super::waker;
use crate::conn::reply::{BoxError, ReplyBody};

/// The body of a request as it arrives.
pub(crate) struct Http1Body {
    incoming: body::Incoming,
    /// `None` if there is nothing more to read.
    in_flight: Option<InFlight>,
}

impl Http1Body {
    pub(super) fn new(incoming: body::Incoming, exchange: &Exchange) -> Self {
        let in_flight = (!incoming.is_end_stream()).then(|| exchange.begin_body());
        Self { incoming, in_flight }
    }
}

impl Body for Http1Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let frame = ready!(waker::take_frame(&mut self.incoming, cx));
        if !matches!(frame, Some(Ok(_))) {
            self.in_flight = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The largest frame of a response that hyper gets. It copies the response into one buffer, which costs less than several
/// buffers as long as responses are small, and keeps that buffer.
const MAX_FRAME: usize = 16 << 10;

/// The body of a response. hyper drops it when the last byte is in its buffer.
pub(super) struct ResponseBody {
    body: ReplyBody,
    /// The rest of a frame that is larger than [`MAX_FRAME`].
    rest: Bytes,
    _in_flight: InFlight,
}

impl ResponseBody {
    pub(super) fn new(body: ReplyBody, in_flight: InFlight) -> Self {
        Self { body, rest: Bytes::new(), _in_flight: in_flight }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.rest.is_empty() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx)?);
            let Some(frame) = frame else { return Poll::Ready(None) };
            if frame.data_ref().is_none_or(|data| data.len() <= MAX_FRAME) {
                return Poll::Ready(Some(Ok(frame)));
            }
            self.rest = frame.into_data().unwrap_or_default();
        }
        let length = self.rest.len().min(MAX_FRAME);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if rest > 0 {
            // The upper bound first: it is at least the lower one.
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper + rest);
            }
            hint.set_lower(hint.lower() + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[test]
    fn a_large_frame_arrives_in_parts() {
        let text: Bytes = (0..2 * MAX_FRAME + 7).map(|number| number as u8).collect();
        let mut body = ResponseBody::new(ReplyBody::Whole(Full::new(text.clone())), InFlight::default());
        let mut received = Vec::new();
        for length in [MAX_FRAME, MAX_FRAME, 7] {
            assert_eq!(body.size_hint().exact(), Some((text.len() - received.len()) as u64));
            assert!(!body.is_end_stream());
            let frame = body.frame().now_or_never().unwrap().unwrap().unwrap().into_data().unwrap();
            assert_eq!(frame.len(), length);
            received.extend_from_slice(&frame);
        }
        assert!(body.is_end_stream() && body.frame().now_or_never().unwrap().is_none());
        assert_eq!(received, text);
    }
}

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

/// The body of a response. hyper drops it when the last byte is in its buffer.
pub(super) struct ResponseBody {
    body: ReplyBody,
    _in_flight: InFlight,
}

impl ResponseBody {
    pub(super) fn new(body: ReplyBody, in_flight: InFlight) -> Self {
        Self { body, _in_flight: in_flight }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

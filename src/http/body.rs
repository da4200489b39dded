//! The body of a request, and whether the connection may carry another request after it.
//!
//! **Contract.** A connection is kept after a chunked body only if the body was read to its end and had no trailers.
//!
//! hyper finds the end of a trailer section by an empty line with CRLF, and parses the section with `httparse`, which also ends
//! at an empty line with a bare LF and leaves the rest unread. Bytes that one implementation takes for trailers are then a
//! request for another one, and the next bytes on the connection belong to either. A body that was not read may have such
//! trailers too: hyper discards them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::Version;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONNECTION, HeaderValue};

use crate::conn::reply::Reply;
use crate::conn::{Incoming, RequestBodyError};

/// The body of a request as it arrives, with its trailers. A client that sends more waits until its bytes are read.
pub struct RequestBody {
    incoming: Incoming,
    end: Option<Arc<AtomicBool>>,
    has_trailers: bool,
}

/// Tells whether the end of a body is certain. `None` if its length was declared: it is certain then.
#[derive(Default)]
pub(super) struct BodyEnd(Option<Arc<AtomicBool>>);

impl BodyEnd {
    /// Closes the connection after `reply`, unless the next request on it begins where the client meant it to.
    pub(super) fn close_if_uncertain(&self, reply: &mut Reply) {
        let is_certain = self.0.as_ref().is_none_or(|end| end.load(Ordering::Relaxed));
        if let (Reply::Ordinary(response), false) = (reply, is_certain) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// Watches for the end of the body of a request in this version.
pub(super) fn watch(version: Version, incoming: Incoming) -> (RequestBody, BodyEnd) {
    // hyper knows the exact size of every other one.
    let is_chunked = version <= Version::HTTP_11 && incoming.size_hint().exact().is_none();
    let end = is_chunked.then(Arc::<AtomicBool>::default);
    (RequestBody { incoming, end: end.clone(), has_trailers: false }, BodyEnd(end))
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        match (&frame, &self.end) {
            (Some(Ok(frame)), _) if frame.is_trailers() => self.has_trailers = true,
            (None, Some(end)) if !self.has_trailers => end.store(true, Ordering::Relaxed),
            _ => {}
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

//! Why a test did not get what it waited for.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use serde::Deserialize;

use super::{BoxError, TestEvent};

/// How many events an error shows: the last ones.
const SHOWN: usize = 20;

/// How much of a response's body an error shows, in bytes.
const SHOWN_OF_BODY: usize = 300;

/// Why a [`TestClient`](super::TestClient) or a [`TestStream`](super::TestStream) did not get what a test waits for.
///
/// `Debug` shows the same text as `Display`, so that `unwrap` explains the failure.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TestError {
    /// The request has an invalid target or header.
    #[error("the request is invalid: {0}")]
    Request(hyper::http::Error),
    /// There is no response.
    #[error("{request} has no response: {error}")]
    NoResponse {
        /// The method and target.
        request: String,
        /// What went wrong.
        error: BoxError,
    },
    /// The response to a subscription has another status than 200.
    #[error("{request}: {}", Answer(response))]
    Refused {
        /// The method and target.
        request: String,
        /// The response with its body.
        response: Box<Response<Bytes>>,
    },
    /// The response to a subscription is not an event stream.
    #[error("{request}: the response has content type {content_type:?} instead of text/event-stream")]
    NotAStream {
        /// The method and target.
        request: String,
        /// The response's content type.
        content_type: String,
    },
    /// What a test waits for did not come in time.
    #[error("no {wanted} within {timeout:?}; {}", Came("instead", received))]
    Timeout {
        /// What the test waits for.
        wanted: String,
        /// How long it has waited.
        timeout: Duration,
        /// What came instead.
        received: Vec<TestEvent>,
    },
    /// The stream ended, or something else came that cannot precede what a test waits for.
    #[error("{cause} instead of {wanted}; {}", Came("before that", received))]
    Instead {
        /// What came.
        cause: String,
        /// What the test waits for.
        wanted: String,
        /// The events that came before.
        received: Vec<TestEvent>,
    },
    /// The data of an event is not the expected JSON.
    #[error("the data of an event is not the expected JSON: {error}; the event is {event}")]
    Json {
        /// The event.
        event: Box<TestEvent>,
        /// What is wrong, and where.
        error: serde_json::Error,
    },
}

impl fmt::Debug for TestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The status of a response, with the detail of its problem (RFC 9457) or the beginning of its body.
struct Answer<'a>(&'a Response<Bytes>);

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[derive(Deserialize)]
        struct Problem {
            detail: String,
        }
        write!(f, "the response has status {}", self.0.status())?;
        let body = String::from_utf8_lossy(self.0.body());
        match serde_json::from_str(&body) {
            Ok(Problem { detail }) => write!(f, ": {detail}"),
            Err(_) if body.is_empty() => Ok(()),
            Err(_) => write!(f, ": {}", &body[..body.floor_char_boundary(SHOWN_OF_BODY)]),
        }
    }
}

/// When events came, and these, one on each line.
struct Came<'a>(&'a str, &'a [TestEvent]);

impl fmt::Display for Came<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(when, events) = self;
        if events.is_empty() {
            return write!(f, "{when} came nothing");
        }
        write!(f, "{when} came:")?;
        let left_out = events.len().saturating_sub(SHOWN);
        if left_out > 0 {
            write!(f, "\n  ({left_out} more)")?;
        }
        events[left_out..].iter().try_for_each(|event| write!(f, "\n  {event}"))
    }
}

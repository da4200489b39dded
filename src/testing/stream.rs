//! An open stream.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::http::response::Parts;
use sse_core::{SseDecoder, SseEvent};
use tokio::time::{Instant, timeout_at};

use super::{BoxError, TestError, TestEvent};

/// Bounds the memory for a response that is not an event stream.
const MAX_EVENT_BYTES: NonZeroUsize = NonZeroUsize::new(64 << 20).unwrap();

/// An open stream of a [`TestClient`](super::TestClient). Dropping it disconnects.
pub struct TestStream {
    head: Parts,
    body: UnsyncBoxBody<Bytes, BoxError>,
    /// What was received and not decoded yet.
    bytes: Bytes,
    decoder: SseDecoder,
    timeout: Duration,
}

impl TestStream {
    pub(super) fn new(head: Parts, body: UnsyncBoxBody<Bytes, BoxError>, timeout: Duration) -> Self {
        Self { head, body, bytes: Bytes::new(), decoder: SseDecoder::with_limit(MAX_EVENT_BYTES), timeout }
    }

    /// The response's status and headers.
    pub fn head(&self) -> &Parts {
        &self.head
    }

    /// The id to resume after: that of the last event that has one.
    pub fn last_id(&self) -> Option<&str> {
        self.decoder.last_event_id().map(|id| &**id)
    }

    /// Waits for the next published event. Heartbeats and messages of the server are skipped.
    ///
    /// # Errors
    /// [`TestError::Timeout`], and [`TestError::Instead`] when a gap or the end comes first.
    pub async fn event(&mut self) -> Result<TestEvent, TestError> {
        self.published("event", |_| true).await
    }

    /// Waits for the next published event with this name, and skips others.
    ///
    /// # Errors
    /// As [`TestStream::event`]. The error shows the events that were skipped.
    pub async fn event_named(&mut self, name: &str) -> Result<TestEvent, TestError> {
        self.published(&format!("event named {name:?}"), |event| event.name() == name).await
    }

    /// Waits for the next published event that satisfies `is_wanted`, and skips others.
    ///
    /// # Errors
    /// As [`TestStream::event`]. The error shows the events that were skipped.
    pub async fn event_where(&mut self, is_wanted: impl FnMut(&TestEvent) -> bool) -> Result<TestEvent, TestError> {
        self.published("event that satisfies the condition", is_wanted).await
    }

    /// Waits for the next gap.
    ///
    /// # Errors
    /// [`TestError::Timeout`], and [`TestError::Instead`] when a published event or the end comes first.
    pub async fn gap(&mut self) -> Result<TestEvent, TestError> {
        let mut wait = Wait::new("gap", self.timeout);
        loop {
            match wait.next(self).await? {
                Some(event) if event.is_gap() => return Ok(event),
                Some(event) if event.is_published() => return Err(wait.instead(format!("an event came ({event})"))),
                Some(event) => wait.received.push(event),
                None => return Err(wait.instead("the stream ended")),
            }
        }
    }

    /// Waits for the next event of any kind: published ones, gaps, heartbeats and messages of the server. `None` at the end of
    /// the stream.
    ///
    /// # Errors
    /// [`TestError::Timeout`], and [`TestError::Instead`] when the connection is lost.
    pub async fn next(&mut self) -> Result<Option<TestEvent>, TestError> {
        Wait::new("event or end of the stream", self.timeout).next(self).await
    }

    /// Waits for the end of the stream, and returns all events before it, of any kind.
    ///
    /// # Errors
    /// As [`TestStream::next`].
    pub async fn rest(mut self) -> Result<Vec<TestEvent>, TestError> {
        let mut wait = Wait::new("end of the stream", self.timeout);
        while let Some(event) = wait.next(&mut self).await? {
            wait.received.push(event);
        }
        Ok(wait.received)
    }

    async fn published(
        &mut self,
        wanted: &str,
        mut is_wanted: impl FnMut(&TestEvent) -> bool,
    ) -> Result<TestEvent, TestError> {
        let mut wait = Wait::new(wanted, self.timeout);
        loop {
            match wait.next(self).await? {
                Some(event) if event.is_gap() => return Err(wait.instead(format!("a gap came ({event})"))),
                Some(event) if event.is_published() && is_wanted(&event) => return Ok(event),
                Some(event) => wait.received.push(event),
                None => return Err(wait.instead("the stream ended")),
            }
        }
    }

    /// Decodes the next event, and reads as much as it takes. `None` at the end of the body.
    ///
    /// Cancel safe: what was read is kept.
    async fn decode(&mut self) -> Result<Option<TestEvent>, String> {
        loop {
            match self.decoder.next(&mut self.bytes) {
                Some(Ok(SseEvent::Message(message))) => return Ok(Some(TestEvent::new(message))),
                Some(Ok(SseEvent::Retry(_))) => {}
                Some(Err(_)) => return Err(format!("an event of more than {MAX_EVENT_BYTES} bytes came")),
                None => match self.body.frame().await {
                    Some(Ok(frame)) => self.bytes = frame.into_data().unwrap_or_default(),
                    Some(Err(error)) => return Err(format!("the connection was lost ({error})")),
                    None => return Ok(None),
                },
            }
        }
    }
}

impl fmt::Debug for TestStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.last_id();
        f.debug_struct("TestStream").field("head", &self.head).field("last_id", &id).finish_non_exhaustive()
    }
}

/// A wait for one thing, which others may precede.
struct Wait {
    wanted: String,
    timeout: Duration,
    deadline: Instant,
    received: Vec<TestEvent>,
}

impl Wait {
    fn new(wanted: &str, timeout: Duration) -> Self {
        Self { wanted: wanted.to_owned(), timeout, deadline: Instant::now() + timeout, received: Vec::new() }
    }

    async fn next(&mut self, stream: &mut TestStream) -> Result<Option<TestEvent>, TestError> {
        match timeout_at(self.deadline, stream.decode()).await {
            Ok(decoded) => decoded.map_err(|cause| self.instead(cause)),
            Err(_) => {
                let (wanted, received) = (self.wanted.clone(), std::mem::take(&mut self.received));
                Err(TestError::Timeout { wanted, timeout: self.timeout, received })
            }
        }
    }

    fn instead(&mut self, cause: impl Into<String>) -> TestError {
        let (wanted, received) = (self.wanted.clone(), std::mem::take(&mut self.received));
        TestError::Instead { cause: cause.into(), wanted, received }
    }
}

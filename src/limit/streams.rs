//! Limits on the streams of a hub that are bodies of responses.

use std::sync::Arc;

use super::connections::RETRY_AFTER;
use super::{ConnectionPermit, LimitExceeded, Permit, Reason, Semaphore};

/// Counts the open streams. Each request for a stream brings the limits that apply to it.
pub(crate) struct Streams {
    all: Arc<Semaphore>,
    firehose: Arc<Semaphore>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { all: Semaphore::new(usize::MAX), firehose: Semaphore::new(usize::MAX) }
    }
}

impl Streams {
    /// Admits a stream if fewer than `max` are open.
    pub(crate) fn admit(&self, max: usize) -> Result<ConnectionPermit, LimitExceeded> {
        let permit = self.all.acquire_below(max);
        let detail = || format!("the limit of {max} streams is reached (option max_streams)");
        permit.map(ConnectionPermit::of).ok_or_else(|| exceeded(Reason::Connections, detail()))
    }

    /// Admits a subscription to everything or to a pattern if fewer than `max` are open.
    pub(crate) fn admit_firehose(&self, max: usize) -> Result<Permit, LimitExceeded> {
        let detail = || {
            format!(
                "the limit of {max} subscriptions to everything or to a pattern is reached (option max_firehose); subscribe \
                 to topics by name"
            )
        };
        self.firehose.acquire_below(max).ok_or_else(|| exceeded(Reason::Firehose, detail()))
    }
}

/// Refuses a subscription to more than `max` topics without events.
pub(crate) fn too_many_silent_topics(max: usize) -> LimitExceeded {
    let detail = format!(
        "the limit of {max} topics with subscribers but no event is reached (option max_silent_topics); subscribe to topics \
         that have events, or to a pattern"
    );
    exceeded(Reason::SilentTopics, detail)
}

fn exceeded(reason: Reason, detail: String) -> LimitExceeded {
    LimitExceeded { reason, detail, retry_after: Some(RETRY_AFTER) }
}

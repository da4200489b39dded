//! The way of a publication: to the hub's own sequencer, or to the backbone that numbers the events.

use std::future::{Ready, ready};

use futures_util::future::{BoxFuture, Either};

use super::relay::Upstream;
use super::sequencer::Answer;
use super::{Hub, IdempotencyKey, PublishError};
use crate::event::Event;

/// A publication, which mostly is complete.
pub(crate) type Publishing<'a> = Either<Ready<Answer>, BoxFuture<'a, Answer>>;

impl Hub {
    /// Publishes `events`, at least one: at once if they do not have to wait. Most do not, and their future is small.
    /// `with_others` publishes them in one batch with what the other tasks of this thread have to publish now.
    pub(crate) fn publish_some(
        &self,
        events: impl AsRef<[Event]> + Into<Vec<Event>>,
        with_others: bool,
        key: Option<Box<IdempotencyKey>>,
    ) -> Publishing<'_> {
        let (history, sequencer) = (&self.0.history, &self.0.sequencer);
        match history.upstream() {
            None => match sequencer.publish_at_once(history, events.as_ref(), with_others, key.as_deref()) {
                Some(answer) => Either::Left(ready(answer)),
                None => Either::Right(Box::pin(sequencer.publish_queued(history, events.into(), with_others, key))),
            },
            Some(upstream) => Either::Right(Box::pin(self.publish_upstream(upstream, events.into(), key))),
        }
    }

    async fn publish_upstream(
        &self,
        upstream: &Upstream,
        events: Vec<Event>,
        key: Option<Box<IdempotencyKey>>,
    ) -> Answer {
        // The backbone has no limit. Events that are on their way to it are not counted, and may exceed this one.
        self.0.history.latest.admit(&events, &self.0.history.topics)?;
        if self.0.history.is_closed() {
            return Err(PublishError::Closed);
        }
        // The backbone's side forms batches while it waits.
        upstream.publish(events, key).await
    }
}

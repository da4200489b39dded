//! The way of a publication: to the hub's own sequencer, or to the backbone that numbers the events.

use std::future::{Ready, ready};

use futures_util::future::{BoxFuture, Either};

use super::relay::Upstream;
use super::sequencer::Answer;
use super::{Hub, IdempotencyKey, PublishError, Published};
use crate::event::Event;

impl Hub {
    /// Like [`Hub::publish_all`], in one batch with what the other tasks of this thread have to publish now.
    pub(crate) async fn publish_with_others(
        &self,
        events: impl AsRef<[Event]> + Into<Vec<Event>>,
    ) -> Result<Option<Published>, PublishError> {
        if events.as_ref().is_empty() {
            return Ok(None);
        }
        self.publish_some(events, true, None).await.map(|once| Some(once.published))
    }

    /// Publishes `events`, at least one: at once if they do not have to wait. Most do not, and their future is small.
    pub(super) fn publish_some(
        &self,
        events: impl AsRef<[Event]> + Into<Vec<Event>>,
        with_others: bool,
        key: Option<Box<IdempotencyKey>>,
    ) -> Either<Ready<Answer>, BoxFuture<'_, Answer>> {
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

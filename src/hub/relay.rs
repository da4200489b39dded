//! The backbone's end of a hub whose events are numbered elsewhere, in a stream that several servers share.
//!
//! **Contract.** Published events wait in a queue of [`PublishRequest`]s; readers get only what the relay appends. The
//! relay appends events in the backbone's order, each once, from the position of [`Relay::begin_after`]. Where it cannot
//! continue it begins again, and every reader gets a gap.
//!
//! **Resuming on a server that is behind.** A client may have the id of an event that this hub does not have yet, from
//! another server. [`Hub::resolve`] asks the archive whether the position was issued, and then waits for the event.

use std::fmt;
use std::pin::pin;
// Not those of `sync`: nothing is ordered by a count.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::archive::{Archive, ArchiveFuture, Page};
use super::encoder::{DerivedBytes, Encoder};
use super::gap::GapReason;
#[cfg(feature = "redis")]
use super::latest::Expired;
use super::{Hub, IdempotencyKey, PublishError, Published, PublishedOnce, Start, TryPublishError};
use crate::event::Event;
use crate::position::StreamPosition;
use crate::ring::Ring;
use crate::sync::Arc;

/// How many requests can wait for the backbone. A publisher that finds the queue full waits for room.
const QUEUE: usize = 4096;

/// Feeds a [`Hub`] with events that are numbered elsewhere; see [`Hub::relayed`].
#[derive(Clone, Debug)]
pub struct Relay(Hub);

/// Events that need consecutive positions, all or none.
pub struct PublishRequest {
    /// At least one.
    pub events: Vec<Event>,
    /// The publisher's key, if it has one: a backbone that ignores it publishes repetitions again.
    pub key: Option<Box<IdempotencyKey>>,
    reply: Reply,
}

/// Where the result goes.
enum Reply {
    Publisher(oneshot::Sender<Result<PublishedOnce, PublishError>>),
    /// The publisher does not wait.
    Unawaited(Unawaited),
}

/// An event whose publisher does not wait. It is counted as unacknowledged on drop, unless it was answered.
struct Unawaited(Option<Arc<Unacknowledged>>);

/// Counts the events without a waiting publisher that the backbone did not acknowledge.
#[derive(Default)]
struct Unacknowledged {
    events: AtomicU64,
    /// Whether the log says so. The next acknowledged event clears this.
    is_logged: AtomicBool,
}

impl fmt::Debug for PublishRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishRequest").field("events", &self.events).field("key", &self.key).finish_non_exhaustive()
    }
}

impl PublishRequest {
    /// Sends the result to the publisher.
    pub fn answer(self, answer: Result<Published, PublishError>) {
        self.answer_once(answer.map(PublishedOnce::from));
    }

    /// Sends the result of a publication with a key.
    pub fn answer_once(self, answer: Result<PublishedOnce, PublishError>) {
        match (self.reply, answer) {
            // The publisher may have given up waiting.
            (Reply::Publisher(reply), answer) => drop(reply.send(answer)),
            (Reply::Unawaited(event), Ok(_)) => event.acknowledge(),
            (Reply::Unawaited(event), Err(error)) => event.fail(error),
        }
    }

    /// Whether the publisher no longer waits for the result.
    pub fn is_abandoned(&self) -> bool {
        matches!(&self.reply, Reply::Publisher(reply) if reply.is_closed())
    }
}

impl Unawaited {
    fn acknowledge(mut self) {
        if let Some(unacknowledged) = self.0.take() {
            unacknowledged.is_logged.store(false, Ordering::Relaxed);
        }
    }

    fn fail(mut self, error: PublishError) {
        if let Some(unacknowledged) = self.0.take() {
            unacknowledged.note(error);
        }
    }
}

impl Drop for Unawaited {
    fn drop(&mut self) {
        if let Some(unacknowledged) = self.0.take() {
            unacknowledged.note(PublishError::Unknown);
        }
    }
}

impl Unacknowledged {
    fn note(&self, error: PublishError) {
        self.events.fetch_add(1, Ordering::Relaxed);
        if !self.is_logged.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "no acknowledgement of an event of try_publish; the next ones are only counted");
        }
    }
}

/// The hub does not have the events up to the position asked for, and the backbone did not supply them in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this server has not caught up with its backbone")]
pub struct NotCaughtUp;

/// The hub's end of the relay.
pub(super) struct Upstream {
    requests: mpsc::Sender<PublishRequest>,
    unacknowledged: Arc<Unacknowledged>,
    /// Notified whenever the relay has moved the head.
    progress: Notify,
    /// How long a publisher waits at most.
    patience: Duration,
    pub(super) archive: Option<Arc<dyn Archive>>,
}

impl Upstream {
    pub(super) fn new(patience: Duration, archive: Option<Arc<dyn Archive>>) -> (Self, mpsc::Receiver<PublishRequest>) {
        let (requests, receiver) = mpsc::channel(QUEUE);
        let (unacknowledged, progress) = (Arc::default(), Notify::new());
        (Self { requests, unacknowledged, progress, patience, archive }, receiver)
    }

    pub(super) async fn publish(
        &self,
        events: Vec<Event>,
        key: Option<Box<IdempotencyKey>>,
    ) -> Result<PublishedOnce, PublishError> {
        let permit = match timeout(self.patience, self.requests.reserve()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(PublishError::Closed),
            Err(_) => return Err(PublishError::Unavailable),
        };
        let (reply, answer) = oneshot::channel();
        permit.send(PublishRequest { events, key, reply: Reply::Publisher(reply) });
        // The relay may have ended after it had sent the events.
        answer.await.unwrap_or(Err(PublishError::Unknown))
    }

    pub(super) fn try_publish(&self, event: Event) -> Result<(), TryPublishError> {
        let permit = match self.requests.try_reserve() {
            Ok(permit) => permit,
            Err(TrySendError::Full(())) => return Err(TryPublishError::Full(event)),
            Err(TrySendError::Closed(())) => return Err(TryPublishError::Closed(event)),
        };
        let reply = Reply::Unawaited(Unawaited(Some(self.unacknowledged.clone())));
        permit.send(PublishRequest { events: vec![event], key: None, reply });
        Ok(())
    }

    /// The events without a waiting publisher that the backbone did not acknowledge.
    pub(super) fn unacknowledged(&self) -> u64 {
        self.unacknowledged.events.load(Ordering::Relaxed)
    }
}

impl Hub {
    /// Turns `start` into one that this hub can serve. On a hub without an [archive](Archive) that is `start` itself.
    /// With one:
    ///
    /// * [`Start::After`] a position that is not here yet is looked up in the archive. If it was issued, this waits until
    ///   the relay has caught up with it; otherwise the result is [`Start::UnknownId`].
    /// * [`Start::Earliest`] becomes the position before the oldest event of the archive.
    ///
    /// # Errors
    /// [`NotCaughtUp`] when that takes longer than `patience`.
    pub async fn resolve(&self, start: Start, patience: Duration) -> Result<Start, NotCaughtUp> {
        let Some((upstream, archive)) = self.0.history.upstream().zip(self.0.history.archive()) else {
            return Ok(start);
        };
        let deadline = Instant::now() + patience;
        match start {
            Start::Earliest => {
                let before_oldest = answer_of(archive.before_oldest(), deadline).await?;
                // The position may belong to an epoch that the relay has not come to.
                self.wait_for(upstream, before_oldest, deadline).await?;
                Ok(Start::After(before_oldest))
            }
            Start::After(position) if position != StreamPosition::UNKNOWN && !self.has_passed(position) => {
                if !answer_of(archive.has_issued(position), deadline).await? {
                    return Ok(Start::UnknownId);
                }
                self.wait_for(upstream, position, deadline).await?;
                Ok(start)
            }
            _ => Ok(start),
        }
    }

    async fn wait_for(
        &self,
        upstream: &Upstream,
        position: StreamPosition,
        deadline: Instant,
    ) -> Result<(), NotCaughtUp> {
        loop {
            // Enabled before the look at the head, so that progress between the two is not missed.
            let mut progress = pin!(upstream.progress.notified());
            progress.as_mut().enable();
            if self.has_passed(position) {
                return Ok(());
            }
            timeout_at(deadline, progress).await.map_err(|_| NotCaughtUp)?;
        }
    }

    /// Whether the hub has come to `position`, or to a later epoch.
    fn has_passed(&self, position: StreamPosition) -> bool {
        let head = self.position();
        (position.epoch, position.sequence) <= (head.epoch, head.sequence)
    }
}

impl Relay {
    pub(super) fn new(hub: Hub) -> Self {
        Self(hub)
    }

    /// Continues after `position`: the next appended event gets the position behind it. Everything appended before is
    /// evicted, and readers get a gap for `reason`.
    pub fn begin_after(&self, position: StreamPosition, reason: GapReason) {
        self.begin_with(position, reason, &[]);
    }

    /// Like [`Relay::begin_after`], with the latest values that the backbone has: events with keys in the order of their
    /// positions, of earlier epochs or not after `position`.
    pub fn begin_with(&self, position: StreamPosition, reason: GapReason, values: &[(StreamPosition, Event)]) {
        let inner = &self.0.0;
        inner.sequencer.break_off(&inner.history, position, reason, values);
        self.notify_progress();
    }

    /// Appends `events` behind the newest, each with the next sequence.
    pub fn append(&self, events: &[Event]) {
        let inner = &self.0.0;
        inner.sequencer.append_numbered(&inner.history, events);
        self.notify_progress();
    }

    /// The next values that are as old as [`HubOptions::latest_ttl`](super::HubOptions::latest_ttl), for the backbone to delete unless
    /// they were updated. The same ones until [`Relay::note_expired`].
    #[cfg(feature = "redis")]
    pub(crate) fn expired(&self) -> Vec<Expired> {
        self.0.expired()
    }

    /// Notes that the backbone has looked at `values`, and has deleted some of them.
    #[cfg(feature = "redis")]
    pub(crate) fn note_expired(&self, values: &[Expired], deleted: usize) {
        self.0.note_expired(values, deleted);
    }

    fn notify_progress(&self) {
        if let Some(upstream) = self.0.0.history.upstream() {
            upstream.progress.notify_waiters();
        }
    }

    /// The position of the newest appended event, or the one that the relay began after.
    pub fn position(&self) -> StreamPosition {
        self.0.position()
    }

    /// Encodes consecutive events for an [`Archive`], `first` being the position of the first. `None` when there are no
    /// events, or when they belong to another epoch than the newest.
    pub fn page(&self, first: StreamPosition, events: &[Event]) -> Option<Page> {
        let (_, last, _) = self.0.0.history.now();
        let sequence = last.numbering.sequence(first).filter(|_| !events.is_empty())?;
        let (ring, mut writer) = Ring::new(events.len());
        let (mut bytes, derived_bytes) = (0, DerivedBytes::default());
        let mut flush = |encoder: &mut Encoder| {
            for frame in encoder.finish(&derived_bytes).into_iter().flatten() {
                bytes += frame.weight();
                ring.push(&mut writer, frame);
            }
        };
        let mut encoder = Encoder::new(last.numbering, usize::MAX);
        for (sequence, event) in (sequence..).zip(events) {
            if !encoder.has_room_for(event) {
                flush(&mut encoder);
            }
            encoder.push(sequence, event);
        }
        flush(&mut encoder);
        Some(Page { frames: Arc::new(ring), bytes, derived_bytes })
    }
}

async fn answer_of<T>(answer: ArchiveFuture<T>, deadline: Instant) -> Result<T, NotCaughtUp> {
    timeout_at(deadline, answer).await.ok().flatten().ok_or(NotCaughtUp)
}

#[cfg(all(test, not(fanline_loom)))]
mod tests;

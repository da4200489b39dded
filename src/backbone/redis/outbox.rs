//! Publishing this server's events to the stream, and answering their publishers.
//!
//! One batch is on its way at a time, and the next one gathers meanwhile: a busy server sends few large batches. Each batch
//! has a number that the publishing script remembers. A batch whose answer was lost is sent again under the same number
//! when Redis is back, and is in the stream once.
//!
//! **Answers.** A position: the event is in the stream. `Unavailable`, `OutOfMemory`, `Refused`: the event was not published
//! and will not be. `Unknown`: at least one send got no answer, and it can no longer be found out whether the event was
//! published. A later send that certainly had no effect does not change that.
//!
//! **No acknowledgement from a deposed master.** With Sentinels, a batch is sent only if they have confirmed the master
//! within the last seconds ([`Confirmed`]).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::mem::{replace, take};
use std::sync::Arc;
use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::Context;
use super::confirmation::Confirmed;
use super::connection::Error;
use super::entry;
use super::replication::Unconfirmed;
use super::script::{Outcome, Part, PartResult, Publisher};
use super::wait_until;
use crate::event::Event;
use crate::hub::relay::PublishRequest;
use crate::hub::{PublishError, Published, PublishedOnce};
use crate::position::{Epoch, StreamPosition};

/// The most events in a batch, unless one publication has more.
const MAX_EVENTS: usize = 1024;

/// The most bytes in a batch, unless one publication has more.
const MAX_BYTES: usize = 1 << 20;

/// How many publications wait here while Redis is away. More of them wait in the hub's queue.
const MAX_WAITING: usize = 4096;

pub(super) struct Outbox {
    context: Arc<Context>,
    publications: mpsc::Receiver<PublishRequest>,
    /// For publications that wait for replicas.
    unconfirmed: mpsc::UnboundedSender<Unconfirmed>,
    /// Publications that arrived between sessions, and when they did.
    waiting: VecDeque<(PublishRequest, Instant)>,
    /// Whether the last attempt to begin a session failed. A lost connection alone refuses no publication yet.
    pub(super) is_away: bool,
    /// The batch that was sent and not answered, or that is sent next.
    batch: Option<Batch>,
    last_number: u64,
    /// The newest position that a publisher got.
    pub(super) acknowledged: Option<StreamPosition>,
    /// Whether the log already says that Redis refuses events.
    has_complained: bool,
}

struct Batch {
    number: u64,
    events: Vec<Event>,
    /// The publications with the number of their events, in order.
    publications: Vec<(PublishRequest, usize)>,
    deadline: Instant,
    /// The epoch in which the batch was sent without an answer.
    unanswered: Option<Epoch>,
}

impl Outbox {
    pub(super) fn new(
        context: Arc<Context>,
        publications: mpsc::Receiver<PublishRequest>,
        unconfirmed: mpsc::UnboundedSender<Unconfirmed>,
    ) -> Self {
        Self {
            context,
            publications,
            unconfirmed,
            waiting: VecDeque::new(),
            is_away: false,
            batch: None,
            last_number: 0,
            acknowledged: None,
            has_complained: false,
        }
    }

    /// Collects publications between sessions, and refuses those whose deadline passes.
    pub(super) async fn wait_for_session(&mut self) -> Infallible {
        loop {
            self.refuse_overdue(Instant::now());
            let batch = self.batch.as_ref().map(|batch| batch.deadline);
            let next =
                self.waiting.front().map(|(_, arrived)| *arrived + self.patience()).into_iter().chain(batch).min();
            let has_room = self.waiting.len() < MAX_WAITING;
            tokio::select! {
                arrived = self.receive(), if has_room => self.waiting.push_back(arrived),
                () = wait_until(next) => {}
            }
        }
    }

    async fn receive(&mut self) -> (PublishRequest, Instant) {
        match self.publications.recv().await {
            Some(publication) => (publication, Instant::now()),
            // The hub is gone.
            None => pending().await,
        }
    }

    /// How long a publication may wait for a session.
    fn patience(&self) -> Duration {
        if self.is_away { self.context.options.publish_timeout } else { self.longest_patience() }
    }

    fn longest_patience(&self) -> Duration {
        self.context.options.publish_timeout.max(self.context.options.timeout)
    }

    fn refuse_overdue(&mut self, now: Instant) {
        let patience = self.patience();
        while let Some((publication, _)) = self.waiting.pop_front_if(|(_, arrived)| *arrived + patience <= now) {
            publication.answer(Err(PublishError::Unavailable));
        }
        if self.batch.as_ref().is_some_and(|batch| batch.deadline <= now) {
            self.refuse_unsent(PublishError::Unavailable);
        }
    }

    /// Publishes until the connection is lost.
    pub(super) async fn publish(
        &mut self,
        publisher: &mut Publisher,
        mut followed: watch::Receiver<Epoch>,
        confirmed: &Confirmed,
    ) -> Result<Infallible, Error> {
        loop {
            if self.batch.is_none() {
                self.gather().await;
            }
            confirmed.fresh().await;
            let epoch = *followed.borrow();
            let Some(batch) = &mut self.batch else { continue };
            // Unanswered until the answer is here, also if this future is dropped while it waits.
            let before = batch.unanswered.replace(epoch);
            if before.is_some_and(|before| before != epoch) {
                // The stream of that epoch may have got the batch and lost it.
                self.refuse(PublishError::Unknown);
                continue;
            }
            let parts = parts(&batch.publications);
            let outcome = publisher.publish(&self.context, epoch, batch.number, &batch.events, &parts).await?;
            // Redis has answered: this send, at least, is not in doubt.
            batch.unanswered = before;
            match outcome {
                Outcome::Published(first, results) => self.published(first, results),
                // An earlier send, which the server gave up, may have been published.
                Outcome::Stale => self.refuse(PublishError::Unknown),
                Outcome::Gone => return Err(Error::unavailable("the stream is gone")),
                Outcome::OtherEpoch => {
                    // The tail reads the mark of that epoch soon.
                    let reached = followed.wait_for(|&reached| reached != epoch);
                    if timeout(self.context.options.timeout, reached).await.is_err() {
                        return Err(Error::unavailable("the stream is in another epoch"));
                    }
                }
                Outcome::Refused(error) if takes_no_writes(&error) => return Err(publisher.redis.error(&error)),
                Outcome::Refused(error) => self.refused(&error),
            }
        }
    }

    /// Makes the next batch: waits for a publication, then takes all that have arrived.
    async fn gather(&mut self) {
        if self.waiting.is_empty() {
            let arrived = self.receive().await;
            self.waiting.push_back(arrived);
        }
        let deadline = Instant::now() + self.longest_patience();
        let (mut events, mut publications, mut bytes) = (Vec::new(), Vec::new(), 0);
        while events.len() < MAX_EVENTS && bytes < MAX_BYTES {
            let next = self.waiting.pop_front().map(|(publication, _)| publication);
            let Some(mut publication) = next.or_else(|| self.publications.try_recv().ok()) else { break };
            let more = take(&mut publication.events);
            bytes += more.iter().map(entry::weight).sum::<usize>();
            publications.push((publication, more.len()));
            events.extend(more);
        }
        self.last_number += 1;
        self.batch = Some(Batch { number: self.last_number, events, publications, deadline, unanswered: None });
    }

    /// Answers the publishers of a batch whose new events are in the stream from `first` on. `results` are those of the
    /// publications with a key.
    fn published(&mut self, first: StreamPosition, results: Vec<PartResult>) {
        let Some(batch) = self.batch.take() else { return };
        self.has_complained = false;
        // Counted before the answers, so that a publisher with an answer finds its events in the metrics.
        let counts = &self.context.status.counts;
        counts.batches.add(1);
        let at = |sequence| StreamPosition::new(first.epoch, sequence);
        let (mut next, mut results) = (first.sequence, results.into_iter());
        for (publication, events) in batch.publications {
            let result = publication.key.as_ref().and_then(|_| results.next()).unwrap_or(PartResult::New);
            let once = match result {
                PartResult::New => {
                    counts.published.add(events as u64);
                    let published = Published { first: at(next), last: at(next + events as u64 - 1) };
                    next += events as u64;
                    PublishedOnce::from(published)
                }
                PartResult::Repeat(published) => PublishedOnce { published, is_repeat: true },
                PartResult::Reused => {
                    publication.answer(Err(PublishError::KeyReused));
                    continue;
                }
            };
            if self.context.options.wait == 0 {
                publication.answer_once(Ok(once));
            } else {
                // The replication lives as long as the outbox.
                let _ = self.unconfirmed.send((publication, once));
            }
        }
        if next > first.sequence {
            self.acknowledged = Some(at(next - 1));
        }
    }

    /// Answers the publishers of a batch that Redis refuses.
    fn refused(&mut self, error: &RedisError) {
        if !replace(&mut self.has_complained, true) {
            tracing::error!(%error, "Redis refuses to store events");
        }
        let is_full = error.code() == Some("OOM");
        self.refuse_unsent(if is_full { PublishError::OutOfMemory } else { PublishError::Refused });
    }

    /// Refuses a batch that the last send did not publish: with `error`, unless an earlier send is in doubt.
    fn refuse_unsent(&mut self, error: PublishError) {
        let is_in_doubt = self.batch.as_ref().is_some_and(|batch| batch.unanswered.is_some());
        self.refuse(if is_in_doubt { PublishError::Unknown } else { error });
    }

    fn refuse(&mut self, error: PublishError) {
        for (publication, _) in self.batch.take().into_iter().flat_map(|batch| batch.publications) {
            publication.answer(Err(error));
        }
    }
}

/// The parts of a batch: neighbours without a key are one.
fn parts(publications: &[(PublishRequest, usize)]) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    for (publication, events) in publications {
        match (publication.key.as_deref(), parts.last_mut()) {
            (None, Some(last)) if last.key.is_none() => last.events += events,
            (key, _) => parts.push(Part { events: *events, key }),
        }
    }
    parts
}

/// Whether this Redis takes no writes now. Another one may, or this one later.
fn takes_no_writes(error: &RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, Moved, ReadOnly, TryAgain};
    let ErrorKind::Server(kind) = error.kind() else { return false };
    matches!(kind, BusyLoading | ClusterDown | MasterDown | Moved | ReadOnly | TryAgain)
}

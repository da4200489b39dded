//! What this server's publishers want in the stream, and what becomes of it.
//!
//! One batch is on its way at a time: while it is, the next one gathers, so that a busy server sends few and large ones. A
//! batch bears a number that the publishing script remembers. One whose answer was lost is sent again under the same number
//! when Redis is back, and stands in the stream once.
//!
//! **What a publisher gets.** A position: the event is in the stream. `Unavailable`, `OutOfMemory`, `Refused`: it was not
//! published. `Unknown`: it was sent at least once without an answer, and whether it was published can no longer be found
//! out. A later send that certainly did nothing does not change that.
//!
//! **No acknowledgement from a deposed master.** Where Sentinels say which Redis is the master, a batch is sent only when
//! they have confirmed it within the last seconds ([`Confirmed`]).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, ServerErrorKind};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::Lost;
use super::confirmation::Confirmed;
use super::entry;
use super::keys::Keys;
use super::replication::Unconfirmed;
use super::script::{self, Outcome, Publisher};
use super::status::{Status, add};
use super::tail::Followed;
use crate::event::Event;
use crate::hub::relay::PublishRequest;
use crate::hub::{PublishError, Published};
use crate::position::{Epoch, StreamPosition};

/// How many events a batch has at most, unless one publication has more.
const MAX_EVENTS: usize = 1024;

/// How many bytes a batch has at most, unless one publication has more.
const MAX_BYTES: usize = 1 << 20;

/// How many publications wait here while Redis is away. More of them wait in the hub's queue.
const MAX_WAITING: usize = 4096;

/// How publishing is done.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) retained: usize,
    /// How long a publisher waits for a Redis that is away.
    pub(super) patience: Duration,
    /// How long Redis may take to answer.
    pub(super) timeout: Duration,
    /// Replicas that are to have an event before its publisher is told.
    pub(super) replicas: u32,
}

pub(super) struct Outbox {
    publications: mpsc::Receiver<PublishRequest>,
    terms: Terms,
    keys: Keys,
    status: Arc<Status>,
    /// Where publications go that replicas have to confirm.
    unconfirmed: Unconfirmed,
    /// What came while there was no session, and when.
    waiting: VecDeque<(PublishRequest, Instant)>,
    /// Whether Redis could not be reached again after the last session.
    is_away: bool,
    /// What was sent and not answered, or is to be sent next.
    batch: Option<Batch>,
    numbers: u64,
    /// The newest position that a publisher got.
    acknowledged: Option<StreamPosition>,
    /// Whether the log says already that Redis refuses.
    has_complained: bool,
}

struct Batch {
    number: u64,
    events: Vec<Event>,
    /// The publications, and how many of the events are theirs, in order.
    publications: Vec<(PublishRequest, usize)>,
    deadline: Instant,
    /// The epoch in which it was sent without getting an answer.
    unanswered: Option<Epoch>,
}

impl Outbox {
    pub(super) fn new(
        publications: mpsc::Receiver<PublishRequest>,
        terms: Terms,
        keys: Keys,
        status: Arc<Status>,
        unconfirmed: Unconfirmed,
    ) -> Self {
        Self {
            publications,
            terms,
            keys,
            status,
            unconfirmed,
            waiting: VecDeque::new(),
            is_away: false,
            batch: None,
            numbers: 0,
            acknowledged: None,
            has_complained: false,
        }
    }

    /// The newest position that a publisher got.
    pub(super) fn acknowledged(&self) -> Option<StreamPosition> {
        self.acknowledged
    }

    /// Notes whether the last attempt to begin a session failed. Until one has, a lost connection is no reason to refuse.
    pub(super) fn set_away(&mut self, is_away: bool) {
        self.is_away = is_away;
    }

    /// Keeps publications waiting while there is no session, each until its deadline. Never returns.
    pub(super) async fn wait_for_redis(&mut self) {
        loop {
            self.give_up(Instant::now());
            let batch = self.batch.as_ref().map(|batch| batch.deadline);
            let next = self.waiting.front().map(|(_, came)| *came + self.patience()).into_iter().chain(batch).min();
            let has_room = self.waiting.len() < MAX_WAITING;
            tokio::select! {
                publication = self.publications.recv(), if has_room => match publication {
                    Some(publication) => self.waiting.push_back((publication, Instant::now())),
                    None => pending().await,
                },
                () = async { sleep_until(next.expect("it is checked")).await }, if next.is_some() => {}
            }
        }
    }

    /// How long a publication may wait for a session.
    fn patience(&self) -> Duration {
        if self.is_away { self.terms.patience } else { self.terms.patience.max(self.terms.timeout) }
    }

    /// Answers the publications whose deadline has passed.
    fn give_up(&mut self, now: Instant) {
        let patience = self.patience();
        while let Some((publication, _)) = self.waiting.pop_front_if(|(_, came)| *came + patience <= now) {
            publication.answer(Err(PublishError::Unavailable));
        }
        if let Some(batch) = self.batch.take_if(|batch| batch.deadline <= now) {
            let error = batch.not_published(PublishError::Unavailable);
            batch.refuse(error);
        }
    }

    /// Publishes what comes, for as long as the connection lasts.
    pub(super) async fn publish(
        &mut self,
        redis: &mut MultiplexedConnection,
        publisher: &mut Publisher,
        followed: &Followed,
        confirmed: &Confirmed,
    ) -> Result<Infallible, Lost> {
        loop {
            if self.batch.is_none() {
                self.gather().await;
            }
            confirmed.is_fresh().await;
            let epoch = followed.epoch();
            let Some(batch) = &mut self.batch else { continue };
            let before = batch.unanswered.replace(epoch);
            if before.is_some_and(|before| before != epoch) {
                // The stream that it was sent to may have had it, and may have lost it.
                self.refuse(PublishError::Unknown);
                continue;
            }
            let script = script::Batch {
                stream: &self.keys.stream,
                last_batch: &self.keys.last_batch,
                epoch,
                retained: self.terms.retained,
                number: batch.number,
                events: &batch.events,
            };
            let outcome = timeout(self.terms.timeout, publisher.publish(redis, &script)).await;
            let outcome = outcome.map_err(|_| Lost::no_answer(self.terms.timeout))?;
            if outcome.as_ref().is_err_and(|error| !is_from_redis(error)) {
                return Err(outcome.err().map_or_else(|| unreachable!("it is an error"), Lost::from));
            }
            // Redis has answered: this send, at least, is not in doubt.
            batch.unanswered = before;
            match outcome {
                Ok(Outcome::Published(first)) => self.published(first),
                // It was given up before.
                Ok(Outcome::Stale) => self.refuse(PublishError::Unknown),
                Ok(Outcome::Gone) => return Err(Lost::Again("the stream is gone".to_owned())),
                Ok(Outcome::OtherEpoch) => followed.another_than(epoch, self.terms.timeout).await?,
                Err(error) if is_of_the_server(&error) => return Err(Lost::from(error)),
                Err(error) => {
                    if !std::mem::replace(&mut self.has_complained, true) {
                        tracing::error!(%error, "Redis refuses what is published");
                    }
                    let is_full = error.code() == Some("OOM");
                    let error = if is_full { PublishError::OutOfMemory } else { PublishError::Refused };
                    let error = batch.not_published(error);
                    self.refuse(error);
                }
            }
        }
    }

    /// Makes the next batch: waits for a publication, and takes what else is there.
    async fn gather(&mut self) {
        if self.waiting.is_empty() {
            match self.publications.recv().await {
                Some(publication) => self.waiting.push_back((publication, Instant::now())),
                None => pending().await,
            }
        }
        let deadline = Instant::now() + self.terms.patience.max(self.terms.timeout);
        let (mut events, mut publications, mut bytes) = (Vec::new(), Vec::new(), 0);
        while events.len() < MAX_EVENTS && bytes < MAX_BYTES {
            let next = self.waiting.pop_front().map(|(publication, _)| publication);
            let Some(mut publication) = next.or_else(|| self.publications.try_recv().ok()) else { break };
            let more = take(&mut publication.events);
            bytes += more.iter().map(entry::weight).sum::<usize>();
            publications.push((publication, more.len()));
            events.extend(more);
        }
        self.numbers += 1;
        self.batch = Some(Batch { number: self.numbers, events, publications, deadline, unanswered: None });
    }

    /// The batch stands in the stream from `first` on.
    fn published(&mut self, first: StreamPosition) {
        let Some(batch) = self.batch.take() else { return };
        let events = batch.events.len() as u64;
        add(&self.status.counts.batches, 1);
        add(&self.status.counts.published, events);
        self.acknowledged = Some(StreamPosition::new(first.epoch, first.sequence + events - 1));
        self.has_complained = false;
        let mut next = first.sequence;
        for (publication, events) in batch.publications {
            let at = |sequence| StreamPosition::new(first.epoch, sequence);
            let end = next + events as u64;
            let published = Published { first: at(next), last: at(end - 1) };
            next = end;
            if self.terms.replicas > 0 {
                self.unconfirmed.add(publication, published);
            } else {
                publication.answer(Ok(published));
            }
        }
    }

    fn refuse(&mut self, error: PublishError) {
        if let Some(batch) = self.batch.take() {
            batch.refuse(error);
        }
    }
}

impl Batch {
    /// The error for a batch that the last send did not publish: `error`, unless an earlier send is in doubt.
    fn not_published(&self, error: PublishError) -> PublishError {
        if self.unanswered.is_some() { PublishError::Unknown } else { error }
    }

    fn refuse(self, error: PublishError) {
        for (publication, _) in self.publications {
            publication.answer(Err(error));
        }
    }
}

/// Whether Redis itself says that it did not do what it was asked.
fn is_from_redis(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// Whether this Redis takes no writes now: another one may, or this one later.
fn is_of_the_server(error: &RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, Moved, ReadOnly, TryAgain};
    let ErrorKind::Server(kind) = error.kind() else { return false };
    matches!(kind, BusyLoading | ClusterDown | MasterDown | Moved | ReadOnly | TryAgain)
}

//! What this server's publishers want in the stream, and what becomes of it.
//!
//! One batch is on its way at a time: while it is, the next one gathers, so that a busy server sends few and large ones. A
//! batch bears a number that the publishing script remembers. One whose answer was lost is sent again under the same number
//! when Redis is back, and stands in the stream once.
//!
//! **Each publisher is told what is known.** A position: it is in the stream. `Unavailable`, `OutOfMemory`, `Refused`:
//! nothing was published. `Unknown`: it was sent, and no answer came in time, or the stream that it was sent to is no more.

use std::collections::VecDeque;
use std::future::pending;
use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, ServerErrorKind};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::Lost;
use super::entry;
use super::keys::Keys;
use super::script::{self, Outcome, Publisher};
use super::status::{Status, add};
use super::tail::Followed;
use crate::event::Event;
use crate::hub::relay::Publication;
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
    publications: mpsc::Receiver<Publication>,
    terms: Terms,
    keys: Keys,
    status: Arc<Status>,
    waiting: VecDeque<(Publication, Instant)>,
    /// What was sent and not answered, or is to be sent next.
    batch: Option<Batch>,
    numbers: u64,
    /// The newest position that a publisher was told.
    acknowledged: Option<StreamPosition>,
    /// Whether the log was told that Redis refuses.
    has_complained: bool,
}

struct Batch {
    number: u64,
    events: Vec<Event>,
    /// Who waits, for how many of the events, and until when.
    publishers: Vec<(Publication, usize, Instant)>,
    /// The epoch that it was sent to without an answer.
    sent_to: Option<Epoch>,
}

impl Outbox {
    pub(super) fn new(
        publications: mpsc::Receiver<Publication>,
        terms: Terms,
        keys: Keys,
        status: Arc<Status>,
    ) -> Self {
        let waiting = VecDeque::new();
        let (batch, numbers, acknowledged, has_complained) = (None, 0, None, false);
        Self { publications, terms, keys, status, waiting, batch, numbers, acknowledged, has_complained }
    }

    /// The newest position that a publisher was told.
    pub(super) fn acknowledged(&self) -> Option<StreamPosition> {
        self.acknowledged
    }

    /// Keeps publishers waiting while Redis is away, as long as they may; for ever.
    pub(super) async fn endure(&mut self) {
        loop {
            let now = Instant::now();
            self.give_up(now);
            let deadlines = self.waiting.iter().map(|(_, deadline)| *deadline);
            let sent = self.batch.iter().flat_map(|batch| batch.publishers.iter().map(|(.., deadline)| *deadline));
            let next = deadlines.chain(sent).min();
            let has_room = self.waiting.len() < MAX_WAITING;
            tokio::select! {
                publication = self.publications.recv(), if has_room => match publication {
                    Some(publication) => self.waiting.push_back((publication, Instant::now() + self.terms.patience)),
                    None => pending().await,
                },
                () = async { sleep_until(next.expect("it is checked")).await }, if next.is_some() => {}
            }
        }
    }

    /// Tells those whose time is over.
    fn give_up(&mut self, now: Instant) {
        while let Some((publication, _)) = self.waiting.pop_front_if(|(_, deadline)| *deadline <= now) {
            publication.answer(Err(PublishError::Unavailable));
        }
        let Some(batch) = &mut self.batch else { return };
        let error = if batch.sent_to.is_some() { PublishError::Unknown } else { PublishError::Unavailable };
        let (over, left): (Vec<_>, Vec<_>) =
            take(&mut batch.publishers).into_iter().partition(|(.., deadline)| *deadline <= now);
        batch.publishers = left;
        for (publication, ..) in over {
            publication.answer(Err(error));
        }
        // What was given up in part has to be sent whole: a batch is one.
        if batch.publishers.is_empty() {
            self.batch = None;
        }
    }

    /// Publishes what comes, for as long as the connection lasts.
    pub(super) async fn publish(
        &mut self,
        redis: &mut MultiplexedConnection,
        publisher: &mut Publisher,
        followed: &Followed,
    ) -> Result<(), Lost> {
        loop {
            if self.batch.is_none() {
                self.gather().await;
            }
            let epoch = followed.epoch();
            let Some(batch) = &mut self.batch else { continue };
            if batch.sent_to.is_some_and(|sent_to| sent_to != epoch) {
                // Whether the stream that it was sent to had it, nobody can say any more.
                self.answer(|_| Err(PublishError::Unknown));
                continue;
            }
            batch.sent_to = Some(epoch);
            let script = script::Batch {
                stream: &self.keys.stream,
                last_batch: &self.keys.last_batch,
                epoch,
                retained: self.terms.retained,
                number: batch.number,
                events: &batch.events,
            };
            let outcome = timeout(self.terms.timeout, publisher.publish(redis, &script)).await;
            match outcome.map_err(|_| Lost::no_answer(self.terms.timeout))? {
                Ok(Outcome::Published(first)) => {
                    let replicas = self.replicas(redis).await;
                    self.published(first, replicas);
                }
                // It was given up before, and nobody waits for it.
                Ok(Outcome::Stale) => self.answer(|_| Err(PublishError::Unknown)),
                Ok(Outcome::Elsewhere) => {
                    batch.sent_to = None;
                    followed.another_than(epoch, redis, &self.keys, self.terms.timeout).await?;
                }
                Err(error) if is_of_the_server(&error) => {
                    batch.sent_to = None;
                    return Err(Lost::from(error));
                }
                Err(error) => match refusal(&error) {
                    Some(refusal) => {
                        if !std::mem::replace(&mut self.has_complained, true) {
                            tracing::error!(%error, "Redis refuses what is published");
                        }
                        self.answer(|_| Err(refusal));
                    }
                    None => return Err(Lost::from(error)),
                },
            }
        }
    }

    /// Makes the next batch: waits for a publication, and takes what else is there.
    async fn gather(&mut self) {
        if self.waiting.is_empty() {
            let deadline = |terms: &Terms| Instant::now() + terms.patience.max(terms.timeout);
            match self.publications.recv().await {
                Some(publication) => self.waiting.push_back((publication, deadline(&self.terms))),
                None => pending().await,
            }
        }
        let now = Instant::now();
        let (mut events, mut publishers, mut bytes) = (Vec::new(), Vec::new(), 0);
        while events.len() < MAX_EVENTS && bytes < MAX_BYTES {
            let next = self.waiting.pop_front().map(|(publication, _)| publication);
            let Some(mut publication) = next.or_else(|| self.publications.try_recv().ok()) else { break };
            let more = take(&mut publication.events);
            bytes += more.iter().map(entry::weight).sum::<usize>();
            publishers.push((publication, more.len(), now + self.terms.patience.max(self.terms.timeout)));
            events.extend(more);
        }
        self.numbers += 1;
        self.batch = Some(Batch { number: self.numbers, events, publishers, sent_to: None });
    }

    async fn replicas(&self, redis: &mut MultiplexedConnection) -> u32 {
        if self.terms.replicas == 0 {
            return 0;
        }
        let milliseconds = self.terms.timeout.as_millis() as u64;
        let wait = script::wait(redis, self.terms.replicas, milliseconds);
        // A little longer than Redis takes itself; whatever fails here, the events are published.
        match timeout(self.terms.timeout + Duration::from_secs(1), wait).await {
            Ok(Ok(replicas)) => replicas,
            _ => 0,
        }
    }

    fn published(&mut self, first: StreamPosition, replicas: u32) {
        let Some(batch) = &self.batch else { return };
        let events = batch.events.len() as u64;
        add(&self.status.counts.batches, 1);
        add(&self.status.counts.published, events);
        self.acknowledged = Some(StreamPosition::new(first.epoch, first.sequence + events - 1));
        self.has_complained = false;
        let wanted = self.terms.replicas;
        self.answer(|range: std::ops::Range<u64>| {
            let at = |offset| StreamPosition::new(first.epoch, first.sequence + offset);
            let published = Published { first: at(range.start), last: at(range.end - 1) };
            if replicas < wanted {
                return Err(PublishError::NotReplicated { published, acknowledged: replicas, wanted });
            }
            Ok(published)
        });
    }

    /// Answers all who wait for the batch; `answer` gets which of its events are theirs.
    fn answer(&mut self, answer: impl Fn(std::ops::Range<u64>) -> Result<Published, PublishError>) {
        let Some(batch) = self.batch.take() else { return };
        let mut begin = 0;
        for (publication, events, _) in batch.publishers {
            let end = begin + events as u64;
            publication.answer(answer(begin..end));
            begin = end;
        }
    }
}

/// Whether this server takes no writes now, and nothing was done: another may, or this one later.
fn is_of_the_server(error: &RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, Moved, ReadOnly, TryAgain};
    let ErrorKind::Server(kind) = error.kind() else { return false };
    matches!(kind, BusyLoading | ClusterDown | MasterDown | Moved | ReadOnly | TryAgain)
}

/// What a publisher is told when Redis says no; none when it said nothing.
fn refusal(error: &RedisError) -> Option<PublishError> {
    match (error.code(), error.kind()) {
        (Some("OOM"), _) => Some(PublishError::OutOfMemory),
        (_, ErrorKind::Server(_) | ErrorKind::Extension) => Some(PublishError::Refused),
        _ => None,
    }
}

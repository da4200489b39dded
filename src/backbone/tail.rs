//! Reading the stream: from where this server was, for as long as the connection lasts.
//!
//! **The one order.** A stream's ids are positions: dense within an epoch. Each entry is appended to the hub under its id,
//! or the hub breaks off and begins again: at the mark of a new epoch, and where entries were dropped before this server
//! had read them.
//!
//! **A stream that went back.** A Redis that was flushed, replaced, or failed over to a replica that lacked the newest
//! entries goes on with positions that readers have seen already, for other events. So before this server goes on it looks
//! whether the entry at its last position is the one that it knows, and whether all that its publishers were told is
//! there. If not, it begins a new epoch, for all servers at once: the mark stands in the stream. What a stream lost that no
//! living server has seen cannot be noticed; who must not lose it waits for replicas.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value, cmd};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Lost;
use super::entry::{self, Entry};
use super::keys::Keys;
use super::script;
use super::status::{Status, add};
use crate::event::Event;
use crate::hub::GapReason;
use crate::hub::relay::Relay;
use crate::position::{Epoch, StreamPosition};

/// How many entries are read in one go.
const COUNT: usize = 1024;

/// How long a read waits for news before the stream is looked at.
const QUIET: Duration = Duration::from_secs(1);

pub(super) struct Tail {
    relay: Relay,
    keys: Keys,
    status: Arc<Status>,
    /// How this server is called in the marks that it makes.
    who: String,
    timeout: Duration,
    /// How many entries a server that starts reads again.
    warm: usize,
    /// The newest entry that was read. None before the first.
    newest: Option<Entry>,
    /// The life of the Redis process that it was read from.
    run: Option<String>,
    epoch: watch::Sender<Epoch>,
}

/// Which epoch the server has come to.
pub(super) struct Followed {
    epoch: watch::Receiver<Epoch>,
    who: String,
}

impl Tail {
    pub(super) fn new(
        relay: Relay,
        keys: Keys,
        status: Arc<Status>,
        who: String,
        timeout: Duration,
        warm: usize,
    ) -> Self {
        Self { relay, keys, status, who, timeout, warm, newest: None, run: None, epoch: watch::Sender::new(Epoch(0)) }
    }

    pub(super) fn followed(&self) -> Followed {
        Followed { epoch: self.epoch.subscribe(), who: self.who.clone() }
    }

    /// Finds the place in the stream from which this server goes on, and reads up to its end. `run` is the life of the
    /// Redis process that this connection leads to, `acknowledged` what this server's publishers were told.
    pub(super) async fn catch_up(
        &mut self,
        redis: &mut MultiplexedConnection,
        run: Option<&String>,
        acknowledged: Option<StreamPosition>,
    ) -> Result<(), Lost> {
        let end = loop {
            let (last, first) = self.open(redis).await?;
            let Some(known) = self.newest.as_ref().map(|newest| newest.position) else {
                let base = if first.epoch == last.epoch { first.sequence.saturating_sub(1) } else { 0 };
                let base = base.max(last.sequence.saturating_sub(self.warm as u64));
                self.begin_after(StreamPosition::new(last.epoch, base), GapReason::Epoch);
                break last;
            };
            let told = acknowledged.filter(|told| told.epoch == known.epoch).map_or(0, |told| told.sequence);
            let is_same = self.is_same_stream(redis, run, known).await?;
            if last.epoch > known.epoch {
                if !is_same {
                    // What stands behind the place that this server knows follows events that it has never seen.
                    self.begin_after(StreamPosition::new(last.epoch, 0), GapReason::Epoch);
                }
                break last;
            }
            if last.epoch == known.epoch && is_same && last.sequence >= known.sequence.max(told) {
                break last;
            }
            // Nothing happens when somebody else was faster: the stream is looked at again.
            let epoch = Epoch(Epoch::now().0.max(known.epoch.0.max(last.epoch.0) + 1));
            tracing::warn!(%known, stream = %last, epoch = epoch.0, "the stream went back: a new epoch begins");
            self.limit(script::begin(redis, &self.keys.stream, last, epoch, &self.who)).await?;
        };
        self.run = run.cloned();
        while self.is_before(end) {
            let from = self.place();
            let read =
                cmd("XRANGE").arg(&self.keys.stream).arg(format!("({from}")).arg("+").arg("COUNT").arg(COUNT).clone();
            let entries = entry::entries(self.limit(read.query_async(redis)).await?)?;
            if entries.is_empty() {
                break;
            }
            self.append(entries);
        }
        Ok(())
    }

    /// Reads what comes, until the connection is lost.
    pub(super) async fn follow(
        &mut self,
        redis: &mut MultiplexedConnection,
        control: &mut MultiplexedConnection,
    ) -> Result<(), Lost> {
        loop {
            let mut read = cmd("XREAD");
            read.arg("COUNT").arg(COUNT).arg("BLOCK").arg(QUIET.as_millis() as u64);
            read.arg("STREAMS").arg(&self.keys.stream).arg(self.place().to_string());
            let reply: RedisResult<Value> = match timeout(QUIET + self.timeout, read.query_async(redis)).await {
                Ok(reply) => reply,
                Err(_) => return Err(Lost::no_answer(self.timeout)),
            };
            let entries = entry::read_entries(reply?)?;
            if entries.is_empty() {
                // Nothing came: perhaps because there is nothing to read any more.
                let (last, _) = self.open(control).await?;
                if last.epoch < self.place().epoch || (last.epoch == self.place().epoch && self.is_beyond(last)) {
                    return Err(Lost::Again("the stream went back".to_owned()));
                }
            }
            self.append(entries);
        }
    }

    /// The stream's newest position and its oldest; it is made if there is none.
    async fn open(&self, redis: &mut MultiplexedConnection) -> Result<(StreamPosition, StreamPosition), Lost> {
        let known = self.newest.as_ref().map_or(0, |newest| newest.position.epoch.0 + 1);
        let epoch = Epoch(Epoch::now().0.max(known));
        self.limit(script::open(redis, &self.keys.stream, epoch, &self.who)).await
    }

    /// Whether the entry at `known` is the one that this server has read there.
    async fn is_same_stream(
        &self,
        redis: &mut MultiplexedConnection,
        run: Option<&String>,
        known: StreamPosition,
    ) -> Result<bool, Lost> {
        let id = known.to_string();
        let read = cmd("XRANGE").arg(&self.keys.stream).arg(&id).arg(&id).clone();
        let there = entry::entries(self.limit(read.query_async(redis)).await?)?;
        let known = self.newest.as_ref().and_then(|newest| newest.event.as_ref());
        Ok(match (there.first().map(|entry| entry.event.as_ref()), known) {
            (Some(there), Some(known)) => there == Some(known),
            // This server has not read the entry at its place: it began behind it.
            (_, None) => true,
            // It was dropped, because it is old or because this is another stream.
            (None, _) => run.is_some() && run == self.run.as_ref(),
        })
    }

    /// Appends entries that follow what was read last.
    fn append(&mut self, entries: Vec<Entry>) {
        let mut events: Vec<Event> = Vec::with_capacity(entries.len());
        let received = entries.len() as u64;
        let mut place = self.place();
        for entry in &entries {
            let at = entry.position;
            if at.epoch == place.epoch && at.sequence <= place.sequence {
                continue;
            }
            let follows = at.epoch == place.epoch && at.sequence == place.sequence + 1;
            match &entry.event {
                Some(event) if follows => events.push(event.clone()),
                event => {
                    self.relay.append(&events);
                    events.clear();
                    let reason = if at.epoch == place.epoch { GapReason::Evicted } else { GapReason::Epoch };
                    match event {
                        Some(event) => {
                            self.begin_after(StreamPosition::new(at.epoch, at.sequence - at.sequence.min(1)), reason);
                            if at.sequence > 0 {
                                events.push(event.clone());
                            }
                        }
                        // The mark of an epoch, or no event of ours: its place is taken all the same.
                        None => self.begin_after(at, reason),
                    }
                }
            }
            place = at;
        }
        self.relay.append(&events);
        add(&self.status.counts.received, received);
        if let Some(newest) = entries.into_iter().next_back() {
            self.newest = Some(newest);
        }
    }

    fn begin_after(&mut self, position: StreamPosition, reason: GapReason) {
        let is_first = self.newest.is_none();
        self.relay.begin_after(position, reason);
        self.epoch.send_replace(position.epoch);
        self.newest = Some(Entry { position, event: None });
        if !is_first {
            add(&self.status.counts.breaks, 1);
            tracing::warn!(%position, reason = reason.as_str(), "the order is broken: every subscriber is told");
        }
    }

    /// The newest position that was read.
    fn place(&self) -> StreamPosition {
        self.newest.as_ref().map_or(StreamPosition::new(Epoch(0), 0), |newest| newest.position)
    }

    /// Whether the server has not come to `end` yet.
    fn is_before(&self, end: StreamPosition) -> bool {
        let place = self.place();
        (place.epoch, place.sequence) < (end.epoch, end.sequence)
    }

    /// Whether the server has read beyond `last`.
    fn is_beyond(&self, last: StreamPosition) -> bool {
        self.place().sequence > last.sequence
    }

    async fn limit<T>(&self, command: impl Future<Output = RedisResult<T>>) -> Result<T, Lost> {
        match timeout(self.timeout, command).await {
            Ok(reply) => Ok(reply?),
            Err(_) => Err(Lost::no_answer(self.timeout)),
        }
    }
}

impl Followed {
    pub(super) fn epoch(&self) -> Epoch {
        *self.epoch.borrow()
    }

    /// Waits until the server has come to another epoch than `epoch`, which the stream is not in any more.
    pub(super) async fn another_than(
        &self,
        epoch: Epoch,
        redis: &mut MultiplexedConnection,
        keys: &Keys,
        limit: Duration,
    ) -> Result<(), Lost> {
        let next = Epoch(Epoch::now().0.max(epoch.0 + 1));
        let wait = async {
            let (last, _) = script::open(redis, &keys.stream, next, &self.who).await?;
            if last.epoch < epoch {
                return Err(Lost::Again("the stream went back".to_owned()));
            }
            // Nobody else sends: while this is here, the tail is.
            let _ = self.epoch.clone().wait_for(|&followed| followed != epoch).await;
            Ok(())
        };
        timeout(limit, wait).await.map_err(|_| Lost::no_answer(limit))?
    }
}

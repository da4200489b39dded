//! Reading the stream: from where this server was, for as long as the connection lasts.
//!
//! **The one order.** A stream's ids are positions. Each entry is appended to the hub under its id. Where the ids do not
//! follow each other, the hub breaks off and begins again: at a mark, and where entries were dropped before this server
//! had read them.
//!
//! **An id names one event.** A Redis that was restarted, replaced, or promoted may have lost its last writes, and would
//! give their ids to other events. So the stream's owner, the identity of the Redis process, is stored with the stream and
//! compared whenever a server connects, before it publishes anything ([`script`]). If it is another one, a mark is
//! appended far ahead of all ids that may have been given: a jump. The ids in between are never given, and each reader
//! that comes by gets a gap of unknown size. The distance is random, because a Redis that goes back twice does not know of
//! its first jump.
//!
//! An operator whose Redis loses nothing says so (`redis_lossless`). Then only evidence of a loss makes a jump: the stream
//! ends before what this server has read or acknowledged, or another entry stands at the last position that it read.
//!
//! A stream that is gone begins a new epoch.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value, cmd};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Lost;
use super::entry::{self, Entry};
use super::keys::Keys;
use super::link::LinkError;
use super::script::{self, Look, State};
use super::status::{Status, add};
use crate::event::Event;
use crate::hub::relay::Relay;
use crate::hub::{GapReason, JUMP};
use crate::position::{Epoch, Sequence, StreamPosition};

/// How many entries are read in one go.
const COUNT: usize = 1024;

/// How long a read waits for news before the stream is looked at.
const QUIET: Duration = Duration::from_secs(1);

/// A jump is this much at most longer than the least distance, at random. The sequences last for more than 2,000 jumps.
const SPREAD: Sequence = 1 << 52;

/// Beyond this sequence a new epoch begins in place of a jump.
const LAST_JUMP: Sequence = 1 << 63;

pub(super) struct Tail {
    relay: Relay,
    keys: Keys,
    status: Arc<Status>,
    /// How this server is called in the marks that it makes.
    maker: String,
    timeout: Duration,
    /// How many entries a server that starts reads again.
    warm: usize,
    /// Whether Redis was declared to lose nothing.
    is_lossless: bool,
    /// The newest entry that was read. None before the first.
    newest: Option<Entry>,
    lineage: watch::Sender<Lineage>,
}

/// Which part of the stream's history this server has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lineage {
    pub(super) epoch: Epoch,
    /// How many marks this server has come by. What was written before a mark may be lost.
    marks: u64,
}

/// The lineage that the server has come to.
pub(super) struct Followed(watch::Receiver<Lineage>);

impl Tail {
    pub(super) fn new(
        relay: Relay,
        keys: Keys,
        status: Arc<Status>,
        maker: String,
        timeout: Duration,
        warm: usize,
        is_lossless: bool,
    ) -> Self {
        let lineage = watch::Sender::new(Lineage { epoch: Epoch(0), marks: 0 });
        Self { relay, keys, status, maker, timeout, warm, is_lossless, newest: None, lineage }
    }

    pub(super) fn followed(&self) -> Followed {
        Followed(self.lineage.subscribe())
    }

    /// Finds the place in the stream from which this server goes on, and reads up to its end. `acknowledged` is the newest
    /// position that one of this server's publishers has.
    pub(super) async fn catch_up(
        &mut self,
        redis: &mut MultiplexedConnection,
        acknowledged: Option<StreamPosition>,
    ) -> Result<(), Lost> {
        let look = loop {
            let look = self.limit(script::look(redis, &self.keys)).await?;
            let (last, is_owner) = match look.state {
                State::Replica => {
                    let text = "this Redis is a replica, and the master is needed".to_owned();
                    return Err(Lost::Link(LinkError::Unreachable(text)));
                }
                State::Gone => {
                    let first = StreamPosition::new(self.next_epoch(None), 0);
                    self.limit(script::begin(redis, &self.keys, &look, Some(first), &self.maker)).await?;
                    continue;
                }
                State::Same(last) => (last, true),
                State::Changed(last) => (last, self.is_lossless),
            };
            let is_other = self.has_other_entry(redis).await?;
            if is_owner && !is_other && !self.is_beyond(last, acknowledged) {
                if look.state == State::Changed(last)
                    && !self.limit(script::begin(redis, &self.keys, &look, None, &self.maker)).await?
                {
                    continue;
                }
                break look;
            }
            let mark = self.next_mark(last, acknowledged);
            // Nothing happens when another server was faster: the stream is looked at again.
            if self.limit(script::begin(redis, &self.keys, &look, Some(mark), &self.maker)).await? {
                add(&self.status.counts.jumps, 1);
                tracing::warn!(stream = %last, %mark, "Redis may have lost its last writes: the ids jump ahead");
                if is_other {
                    // What stands between the last known position and the mark follows events that were never here.
                    self.begin_after(mark, GapReason::Lost);
                }
            }
        };
        if self.newest.is_none() {
            let base = self.first_base(redis, &look).await?;
            self.begin_after(base, GapReason::Epoch);
        }
        while look.state.newest().is_some_and(|end| self.is_before(end)) {
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

    /// Where a server that starts begins to read: as many events before the end as its rings hold, and none from before the
    /// last mark. Those are read as pages when a client wants them.
    async fn first_base(&self, redis: &mut MultiplexedConnection, look: &Look) -> Result<StreamPosition, Lost> {
        let Some((newest, oldest)) = self.limit(script::extent(redis, &self.keys.stream)).await? else {
            return Err(Lost::Again("the stream is gone".to_owned()));
        };
        let mark = look.mark.filter(|mark| mark.epoch == newest.epoch).map_or(0, |mark| mark.sequence);
        let base = mark.max(newest.sequence.saturating_sub(self.warm as u64));
        // The oldest may be of an older epoch only when nothing of this one is retained.
        let base = if oldest.epoch == newest.epoch { base.max(oldest.sequence) } else { newest.sequence };
        Ok(StreamPosition::new(newest.epoch, base))
    }

    /// An epoch after all that this server knows of.
    fn next_epoch(&self, last: Option<StreamPosition>) -> Epoch {
        let known = self.place().epoch.max(last.map_or(Epoch(0), |last| last.epoch));
        known.unique_after()
    }

    /// The position of a mark beyond all that may have been given behind `last`.
    fn next_mark(&self, last: StreamPosition, acknowledged: Option<StreamPosition>) -> StreamPosition {
        let place = self.place();
        let known = [Some(place), acknowledged].into_iter().flatten().filter(|known| known.epoch == last.epoch);
        let newest = known.map(|known| known.sequence).fold(last.sequence, Sequence::max);
        if last.epoch < place.epoch || newest > LAST_JUMP {
            return StreamPosition::new(self.next_epoch(Some(last)), 0);
        }
        let random = RandomState::new().hash_one(newest);
        StreamPosition::new(last.epoch, newest + JUMP + random % SPREAD)
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
                // Perhaps because there is nothing to read any more.
                match self.limit(script::look(control, &self.keys)).await?.state {
                    State::Same(last) if !self.is_beyond(last, None) => {}
                    State::Changed(last) if self.is_lossless && !self.is_beyond(last, None) => {}
                    state => return Err(Lost::Again(format!("the stream has changed: {state}"))),
                }
            }
            self.append(entries);
        }
    }

    /// Whether another entry stands at the last position that this server has read than the one that it has read.
    async fn has_other_entry(&self, redis: &mut MultiplexedConnection) -> Result<bool, Lost> {
        let Some(Entry { position, event: Some(event) }) = &self.newest else { return Ok(false) };
        let id = position.to_string();
        let read = cmd("XRANGE").arg(&self.keys.stream).arg(&id).arg(&id).clone();
        let there = entry::entries(self.limit(read.query_async(redis)).await?)?;
        Ok(there.first().is_some_and(|there| there.event.as_ref() != Some(event)))
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
                    let reason = match at.epoch == place.epoch {
                        true if at.sequence - place.sequence >= JUMP => GapReason::Lost,
                        true => GapReason::Evicted,
                        false => GapReason::Epoch,
                    };
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
        let is_mark = reason != GapReason::Evicted;
        self.lineage.send_modify(|lineage| {
            lineage.epoch = position.epoch;
            lineage.marks += u64::from(is_mark);
        });
        self.newest = Some(Entry { position, event: None });
        if !is_first {
            add(&self.status.counts.breaks, 1);
            tracing::warn!(%position, reason = reason.as_str(), "the order is broken: every subscriber gets a gap");
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

    /// Whether the server has read or acknowledged more than the stream has up to `last`.
    fn is_beyond(&self, last: StreamPosition, acknowledged: Option<StreamPosition>) -> bool {
        let place = self.place();
        let acknowledged = acknowledged.filter(|acknowledged| acknowledged.epoch == place.epoch);
        [Some(place), acknowledged]
            .into_iter()
            .flatten()
            .any(|known| (last.epoch, last.sequence) < (known.epoch, known.sequence))
    }

    async fn limit<T>(&self, command: impl Future<Output = RedisResult<T>>) -> Result<T, Lost> {
        match timeout(self.timeout, command).await {
            Ok(reply) => Ok(reply?),
            Err(_) => Err(Lost::no_answer(self.timeout)),
        }
    }
}

impl Followed {
    pub(super) fn lineage(&self) -> Lineage {
        *self.0.borrow()
    }

    /// Waits until the server has come to another epoch than `epoch`.
    pub(super) async fn another_than(&self, epoch: Epoch, limit: Duration) -> Result<(), Lost> {
        // While this is here, the sender is: both belong to one worker.
        let other = async { self.0.clone().wait_for(|lineage| lineage.epoch != epoch).await.is_ok() };
        match timeout(limit, other).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Lost::Again("the stream is in another epoch".to_owned())),
        }
    }
}

//! Reading the stream: from where this server was, for as long as the connection lasts.
//!
//! **The one order.** A stream's ids are positions. Each entry is appended to the hub under its id. Where the ids do not
//! follow each other, the hub breaks off and begins again: at a mark, and where entries were dropped before this server
//! had read them.
//!
//! **An id names one event.** A Redis that was restarted, replaced, or promoted may have lost its last writes, and would
//! give their ids to other events. So the stream's owner, the identity of the Redis process, is stored with the stream and
//! compared whenever a server connects, before it publishes anything ([`script`]). If it is another one, a new epoch
//! begins, and every reader gets a gap of unknown size. A new epoch, and no hole in the sequences: a Redis that goes back
//! twice knows nothing of its first loss, so the second one must not depend on it. Epochs are unique by themselves.
//!
//! An operator whose Redis loses nothing says so (`redis_lossless`). Then only evidence of a loss begins an epoch: the
//! stream ends before what this server has read or acknowledged, or another entry stands at the last position that it read.

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
use super::script::{self, State};
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
    maker: String,
    timeout: Duration,
    /// How many entries a server that starts reads again.
    warm: usize,
    /// Whether Redis was declared to lose nothing.
    is_lossless: bool,
    /// The newest entry that was read. None before the first.
    newest: Option<Entry>,
    epoch: watch::Sender<Epoch>,
}

/// The epoch that the server has come to. What was written in an earlier one may be lost.
pub(super) struct Followed(watch::Receiver<Epoch>);

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
        let epoch = watch::Sender::new(Epoch(0));
        Self { relay, keys, status, maker, timeout, warm, is_lossless, newest: None, epoch }
    }

    pub(super) fn followed(&self) -> Followed {
        Followed(self.epoch.subscribe())
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
                    let epoch = self.place().epoch.unique_after();
                    self.limit(script::begin(redis, &self.keys, &look, Some(epoch), &self.maker)).await?;
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
            let epoch = last.epoch.max(self.place().epoch).unique_after();
            // Nothing happens when another server was faster: the stream is looked at again.
            if self.limit(script::begin(redis, &self.keys, &look, Some(epoch), &self.maker)).await? {
                add(&self.status.counts.epochs, 1);
                tracing::warn!(stream = %last, epoch = epoch.0, "Redis may have lost its last writes: a new epoch begins");
                if is_other {
                    // What stands between the last known position and the mark follows events that were never here.
                    self.begin_after(StreamPosition::new(epoch, 0), GapReason::Epoch);
                }
            }
        };
        if self.newest.is_none() {
            let base = self.first_base(redis).await?;
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

    /// Where a server that starts begins to read: as many events before the end as its rings hold, all of the last epoch.
    async fn first_base(&self, redis: &mut MultiplexedConnection) -> Result<StreamPosition, Lost> {
        let Some((newest, oldest)) = self.limit(script::extent(redis, &self.keys.stream)).await? else {
            return Err(Lost::Again("the stream is gone".to_owned()));
        };
        let base = oldest.sequence.max(newest.sequence.saturating_sub(self.warm as u64));
        Ok(StreamPosition::new(newest.epoch, base))
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
    pub(super) fn epoch(&self) -> Epoch {
        *self.0.borrow()
    }

    /// Waits until the server has come to another epoch than `epoch`.
    pub(super) async fn another_than(&self, epoch: Epoch, limit: Duration) -> Result<(), Lost> {
        // While this is here, the sender is: both belong to one worker.
        let other = async { self.0.clone().wait_for(|&followed| followed != epoch).await.is_ok() };
        match timeout(limit, other).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Lost::Again("the stream is in another epoch".to_owned())),
        }
    }
}

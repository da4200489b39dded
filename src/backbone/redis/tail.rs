//! Reading the stream, from the position that this server has reached.
//!
//! **One order.** The ids of the stream's entries are positions, and the tail appends each entry to the hub under its id.
//! Where ids do not follow each other the hub begins again after a gap: at the mark of a new epoch, and where entries were
//! dropped before this server had read them.
//!
//! **An id names one event.** A Redis that was restarted, replaced, or promoted may have lost its last writes, and would
//! give their ids to other events. The stream's owner, the identity of the Redis process, is therefore stored with the
//! stream and compared whenever a server connects, before the server publishes anything ([`script`]). If the owner differs,
//! a new epoch begins and every reader gets a gap of unknown size. Skipping some sequences of the old epoch would not do: a
//! Redis that goes back twice has forgotten its first loss, and could skip to the same sequences again. Epochs are unique.
//!
//! **Latest values** are read before the place to begin after is left, up to that place: what is published afterwards is in the
//! stream. The hub gets them in the same step as the place.
//!
//! `redis_lossless` declares that Redis loses nothing. Then only evidence of a loss begins an epoch: the stream ends before
//! a position that this server has read or acknowledged, or it has another event at the last position that was read.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use redis::cmd;
use tokio::sync::watch;

use super::Context;
use super::connection::{Connection, Error};
use super::entry::{Entry, Streams};
use super::script::{self, Extent, Look, State};
use super::values;
use crate::event::Event;
use crate::hub::GapReason;
use crate::hub::relay::Relay;
use crate::position::{Epoch, StreamPosition};

/// How many entries one command reads.
const COUNT: usize = 1024;

/// How long a read waits for entries before the tail checks the stream itself.
const QUIET: Duration = Duration::from_secs(1);

pub(super) struct Tail {
    context: Arc<Context>,
    relay: Relay,
    /// How many entries a server reads again when it starts.
    warm: usize,
    /// The last entry that was read, or `None` before the first one.
    newest: Option<Entry>,
    epoch: watch::Sender<Epoch>,
}

impl Tail {
    pub(super) fn new(context: Arc<Context>, relay: Relay, warm: usize) -> Self {
        Self { context, relay, warm, newest: None, epoch: watch::Sender::new(Epoch(0)) }
    }

    /// The epoch that the tail has reached. Events published in an earlier one may be lost.
    pub(super) fn epoch(&self) -> watch::Receiver<Epoch> {
        self.epoch.subscribe()
    }

    /// Finds the place in the stream from which this server continues, and reads up to the stream's end. `acknowledged` is
    /// the newest position that this server has given to a publisher.
    pub(super) async fn catch_up(
        &mut self,
        redis: &mut Connection,
        acknowledged: Option<StreamPosition>,
    ) -> Result<(), Error> {
        let end = loop {
            if let Some(end) = self.claim(redis, acknowledged).await? {
                break end;
            }
        };
        if self.newest.is_none() {
            let base = self.first_base(redis).await?;
            self.begin_after(redis, base, GapReason::Epoch).await?;
        }
        while is_before(self.place(), end) && self.read(redis, None).await? {}
        Ok(())
    }

    /// Reads and appends the next entries, for which Redis waits up to `wait`. Returns whether there are any.
    async fn read(&mut self, redis: &mut Connection, wait: Option<Duration>) -> Result<bool, Error> {
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(COUNT);
        if let Some(wait) = wait {
            read.arg("BLOCK").arg(wait.as_millis() as u64);
        }
        read.arg("STREAMS").arg(&self.context.keys.stream).arg(self.place().to_string());
        let streams: Streams = redis.query_blocking(&read, wait.unwrap_or_default()).await?;
        let entries: Vec<Entry> = streams.into_iter().flat_map(|(_, entries)| entries).collect();
        let has_entries = !entries.is_empty();
        self.append(redis, entries).await?;
        Ok(has_entries)
    }

    /// Makes this Redis the stream's owner. If it may have lost writes, begins a new epoch. Returns the stream's end, or
    /// `None` when the stream has changed and must be looked at again.
    async fn claim(
        &mut self,
        redis: &mut Connection,
        acknowledged: Option<StreamPosition>,
    ) -> Result<Option<StreamPosition>, Error> {
        let look = script::look(redis, &self.context).await?;
        let (last, is_trusted) = match look.state {
            State::Replica => return Err(Error::unavailable("this Redis is a replica, and fanline needs the master")),
            State::Gone => {
                let epoch = self.place().epoch.unique_after();
                script::begin(redis, &self.context, &look, Some(epoch)).await?;
                return Ok(None);
            }
            State::Same(last) => (last, true),
            State::Changed(last) => (last, self.context.options.is_lossless),
        };
        let is_other = self.has_other_event(redis).await?;
        if !is_trusted || is_other || self.is_beyond(last, acknowledged) {
            self.begin_epoch(redis, &look, last, is_other).await?;
            return Ok(None);
        }
        let is_claimed = look.state == State::Same(last) || script::begin(redis, &self.context, &look, None).await?;
        Ok(is_claimed.then_some(last))
    }

    /// Begins a new epoch in a stream that ends at `last`, unless another server has just done so.
    async fn begin_epoch(
        &mut self,
        redis: &mut Connection,
        look: &Look,
        last: StreamPosition,
        is_other: bool,
    ) -> Result<(), Error> {
        let epoch = last.epoch.max(self.place().epoch).unique_after();
        if script::begin(redis, &self.context, look, Some(epoch)).await? {
            self.context.status.counts.epochs.add(1);
            tracing::warn!(stream = %last, epoch = epoch.0, "Redis may have lost its last writes: a new epoch begins");
            if is_other {
                // The entries from the last known position up to the mark continue a history that this server never had.
                self.begin_after(redis, StreamPosition::new(epoch, 0), GapReason::Epoch).await?;
            }
        }
        Ok(())
    }

    /// Returns the position after which a starting server reads: as many events before the end as its rings hold, all of
    /// the last epoch.
    async fn first_base(&self, redis: &mut Connection) -> Result<StreamPosition, Error> {
        let Extent { before_oldest, newest } = script::extent(redis, &self.context).await?;
        let base = before_oldest.sequence.max(newest.sequence.saturating_sub(self.warm as u64));
        Ok(StreamPosition::new(newest.epoch, base))
    }

    /// Reads new entries until the connection is lost or the stream has changed.
    pub(super) async fn follow(
        &mut self,
        redis: &mut Connection,
        control: &mut Connection,
    ) -> Result<Infallible, Error> {
        loop {
            if !self.read(redis, Some(QUIET)).await? {
                // Nothing is published, or the stream that this server follows is gone.
                match script::look(control, &self.context).await?.state {
                    State::Same(last) if !self.is_beyond(last, None) => {}
                    State::Changed(last) if self.context.options.is_lossless && !self.is_beyond(last, None) => {}
                    state => return Err(Error::Unavailable(format!("the stream has changed: {state:?}"))),
                }
            }
        }
    }

    /// Whether the stream has another event at the last position that this server has read.
    async fn has_other_event(&self, redis: &mut Connection) -> Result<bool, Error> {
        let Some(Entry { position, event: Some(event) }) = &self.newest else { return Ok(false) };
        let id = position.to_string();
        let there: Vec<Entry> = redis.query(cmd("XRANGE").arg(&self.context.keys.stream).arg(&id).arg(&id)).await?;
        Ok(there.first().is_some_and(|there| there.event.as_ref() != Some(event)))
    }

    /// Appends entries that come after the last one that was read.
    async fn append(&mut self, redis: &mut Connection, entries: Vec<Entry>) -> Result<(), Error> {
        let mut events: Vec<Event> = Vec::with_capacity(entries.len());
        let received = entries.len() as u64;
        let mut place = self.place();
        for Entry { position, event } in &entries {
            let (at, is_same_epoch) = (*position, position.epoch == place.epoch);
            if is_same_epoch && at.sequence <= place.sequence {
                continue;
            }
            if !is_same_epoch || at.sequence != place.sequence + 1 || event.is_none() {
                self.relay.append(&events);
                events.clear();
                self.newest = Some(Entry { position: place, event: None }).filter(|_| self.newest.is_some());
                let reason = if is_same_epoch { GapReason::Evicted } else { GapReason::Epoch };
                // An entry without an event, such as the mark of an epoch, still has its position.
                let before = if event.is_some() { at.sequence.saturating_sub(1) } else { at.sequence };
                self.begin_after(redis, StreamPosition::new(at.epoch, before), reason).await?;
            }
            // No event can have the sequence 0, which is before the first.
            events.extend(event.clone().filter(|_| at.sequence > 0));
            place = at;
        }
        // Before a client has the events.
        self.context.status.counts.received.add(received);
        self.relay.append(&events);
        if let Some(newest) = entries.into_iter().next_back() {
            self.newest = Some(newest);
        }
        Ok(())
    }

    /// Continues after `position`. Every subscriber gets a gap.
    async fn begin_after(
        &mut self,
        redis: &mut Connection,
        position: StreamPosition,
        reason: GapReason,
    ) -> Result<(), Error> {
        let values = values::read(redis, &self.context, position).await?;
        let is_first = self.newest.is_none();
        self.relay.begin_with(position, reason, &values);
        self.epoch.send_replace(position.epoch);
        self.newest = Some(Entry { position, event: None });
        if !is_first {
            self.context.status.counts.breaks.add(1);
            tracing::warn!(%position, reason = reason.as_str(), "the order is broken: every subscriber gets a gap");
        }
        Ok(())
    }

    /// The last position that was read.
    fn place(&self) -> StreamPosition {
        self.newest.as_ref().map_or(StreamPosition::new(Epoch(0), 0), |newest| newest.position)
    }

    /// Whether the server has read or acknowledged a position beyond `last`, the end of the stream. An acknowledgement of
    /// another epoch than the last read position proves nothing.
    fn is_beyond(&self, last: StreamPosition, acknowledged: Option<StreamPosition>) -> bool {
        let place = self.place();
        let acknowledged = acknowledged.filter(|acknowledged| acknowledged.epoch == place.epoch);
        is_before(last, place) || acknowledged.is_some_and(|acknowledged| is_before(last, acknowledged))
    }
}

/// Compares positions of one stream, whose epochs increase.
pub(super) fn is_before(a: StreamPosition, b: StreamPosition) -> bool {
    (a.epoch, a.sequence) < (b.epoch, b.sequence)
}

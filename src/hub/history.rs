//! What a hub retains: the channels with their rings, and the limits on them.
//!
//! Readers find channels here and load the head. Only the sequencer changes the history, one thread at a time.
//!
//! **Limits.** Each channel retains a number of events. Beyond the hub's bytes, one of the [heaviest](super::heaviest) channels
//! evicts its oldest events until there is room; an event counts in its topic's ring and in the firehose, so that the limit is
//! on the safe side. Envelopes count from when they are made until both rings have evicted their run. Beyond the number of
//! topics, the quietest without subscribers are dropped.
//!
//! **Memory of a topic.** What a topic costs besides its events, in bytes, with the allocator's rounding:
//!
//! | part | bytes |
//! |---|---|
//! | its name, if that has more than 23 bytes | 16 and the name |
//! | the [`Channel`] | 192 |
//! | a place in a table of [`Topics`] | 10 to 20 |
//! | a group with one subscriber ([`wake`](super::wake)) | 80 |
//! | from its first event on: a place in the queue | 45 |
//! | a place among the heaviest | 16 |
//! | slots, and a segment with one cell ([`ring`](crate::ring)) | 160 |
//!
//! `scripts/perf-crowd` measures it with a million topics, and `tests/it/many_topics.rs` has an upper bound.

use std::ops::RangeInclusive;

use super::HubOptions;
use super::archive::Archive;
use super::channel::Channel;
use super::compression::Compression;
use super::encoder::{DerivedBytes, Encoder};
use super::filter::SubscriptionFilter;
use super::frame::Frame;
use super::gap::GapReason;
use super::heaviest::{Heaviest, class_of};
use super::latest::Latest;
use super::ledger::{Ledger, LedgerKey};
use super::numbering::{Break, Breaks, Numbering};
use super::prefixes::Prefixes;
use super::relay::Upstream;
use super::sampler::Sampler;
use super::topics::Topics;
use crate::position::{Sequence, StreamPosition};
use crate::sync::{Arc, AtomicBool, AtomicU32, AtomicU64, Mutex, Ordering, RwLock, lock, read, write};
use crate::topic::Topic;

/// For how many events the topic is remembered, to count gaps: 8 bytes for each.
#[cfg(not(any(test, fuzzing, fanline_loom)))]
const LEDGER: usize = 1 << 20;
#[cfg(all(any(test, fuzzing), not(fanline_loom)))]
const LEDGER: usize = 1 << 16;
#[cfg(fanline_loom)]
const LEDGER: usize = 4;

pub(crate) struct History {
    /// The newest sequence that readers may take: it and all before it are in their rings.
    head: AtomicU64,
    /// Whether nothing is published any more.
    is_closed: AtomicBool,
    /// The number of breaks. A reader loads it after the head: one that sees a head beyond a break sees the break.
    break_count: AtomicU32,
    breaks: RwLock<Breaks>,
    /// Where events are numbered; `None` when this hub does.
    upstream: Option<Upstream>,
    /// The events of all topics that are not reserved.
    pub(crate) firehose: Arc<Channel>,
    /// The events of all reserved topics. Apart from the others, so that those cost nothing to readers of the firehose.
    pub(crate) reserved: Arc<Channel>,
    /// The prefixes that readers of the firehoses listen to.
    prefixes: [Prefixes; 2],
    /// The newest event of a reserved topic; 0 before the first.
    newest_reserved: AtomicU64,
    pub(crate) topics: Topics,
    /// Locked by the sequencer only.
    heaviest: Mutex<Heaviest>,
    pub(crate) ledger: Ledger,
    pub(crate) latest: Latest,
    pub(crate) sampler: Sampler,
    /// The bytes that all channels hold; written by the sequencer only.
    channel_bytes: AtomicU64,
    /// The bytes of the envelopes, WebSocket messages and compressed blocks that were made of their events.
    pub(crate) derived_bytes: DerivedBytes,
    /// The compressed blocks of the rings that have compressed readers.
    pub(crate) compression: Compression,
    /// The events that the topics' rings hold; written by the sequencer only.
    retained_events: AtomicU64,
    max_bytes: u64,
    /// How many topics with events there may be. Topics that only have subscribers are not counted.
    max_topics: usize,
    /// The clock of [`HubOptions::topic_ttl`], in seconds.
    tick: AtomicU32,
    ttl_ticks: u32,
}

/// Which rings have an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rings {
    /// That of its topic.
    pub(crate) topic: bool,
    pub(crate) firehose: bool,
}

impl History {
    pub(crate) fn new(options: &HubOptions, upstream: Option<Upstream>, key: LedgerKey) -> Self {
        let [firehose, reserved] =
            [false, true].map(|of_reserved| Arc::new(Channel::firehose(of_reserved, options.firehose_history, 0)));
        let history = Self {
            head: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            break_count: AtomicU32::new(1),
            breaks: RwLock::new(Breaks::new(options.epoch)),
            upstream,
            prefixes: [Prefixes::new(&firehose), Prefixes::new(&reserved)],
            firehose,
            reserved,
            newest_reserved: AtomicU64::new(0),
            topics: Topics::new(options.history),
            heaviest: Mutex::default(),
            ledger: Ledger::new(LEDGER, key),
            latest: Latest::new(options),
            sampler: Sampler::new(),
            channel_bytes: AtomicU64::new(0),
            derived_bytes: DerivedBytes::default(),
            compression: Compression::default(),
            retained_events: AtomicU64::new(0),
            max_bytes: options.history_bytes as u64,
            max_topics: options.history_topics,
            tick: AtomicU32::new(0),
            ttl_ticks: u32::try_from(options.topic_ttl.as_secs()).unwrap_or(u32::MAX),
        };
        if history.latest.expiry.is_some() {
            history.firehoses().into_iter().for_each(|firehose| _ = history.list_of(firehose));
        }
        history
    }

    /// The newest sequence that readers may take.
    pub(crate) fn head(&self) -> Sequence {
        self.head.load(Ordering::Acquire)
    }

    pub(crate) fn position(&self, sequence: Sequence) -> StreamPosition {
        read(&self.breaks).position(sequence)
    }

    pub(crate) fn upstream(&self) -> Option<&Upstream> {
        self.upstream.as_ref()
    }

    /// Where events that have left the rings are kept.
    pub(crate) fn archive(&self) -> Option<&dyn Archive> {
        self.upstream.as_ref().and_then(|upstream| upstream.archive.as_deref())
    }

    /// The number of breaks.
    pub(crate) fn break_count(&self) -> u32 {
        self.break_count.load(Ordering::Acquire)
    }

    /// The number of breaks, the last one, and the head, which is not before it.
    pub(crate) fn now(&self) -> (u32, Break, Sequence) {
        // `break_off` holds this lock from beginning to end.
        let breaks = read(&self.breaks);
        (breaks.count(), breaks.last(), self.head())
    }

    /// Breaks the order: evicts everything up to `base`, numbers what follows by `numbering`, and wakes all readers. Calls
    /// `restore` in between, which restores latest values. For the sequencer.
    pub(crate) fn break_off(&self, numbering: Numbering, base: Sequence, reason: GapReason, restore: impl FnOnce()) {
        let mut breaks = write(&self.breaks);
        breaks.push(Break { numbering, base, reason });
        // Release, and before anything is evicted: a reader whose events were evicted finds the break.
        self.break_count.store(breaks.count(), Ordering::Release);
        self.ledger.skip_to(base);
        let evict = |channel: &Arc<Channel>| {
            let freed = self.changing(channel, || channel.break_off(base));
            self.account(freed, 0);
        };
        self.topics.forget(base, evict);
        self.firehoses().into_iter().for_each(evict);
        self.clear_latest(base);
        restore();
        self.publish(base);
        self.notify_all();
    }

    pub(crate) fn firehoses(&self) -> [&Arc<Channel>; 2] {
        [&self.firehose, &self.reserved]
    }

    /// The firehose that has the events of `channel`.
    pub(crate) fn firehose_of(&self, channel: &Channel) -> &Arc<Channel> {
        if channel.is_reserved { &self.reserved } else { &self.firehose }
    }

    /// The prefixes that readers of a firehose listen to.
    pub(crate) fn prefixes_of(&self, firehose: &Channel) -> &Prefixes {
        &self.prefixes[usize::from(firehose.is_reserved)]
    }

    /// The number of events of a firehose that a subscription to `filter` has passed once it has read all that it may want.
    pub(crate) fn appended(&self, firehose: &Channel, filter: &SubscriptionFilter) -> u64 {
        let patterns = filter.patterns(firehose.is_reserved);
        let Some(end) = patterns.and_then(|patterns| self.prefixes_of(firehose).end(patterns)) else {
            return firehose.appended();
        };
        let named = filter.topics.iter().filter_map(|topic| self.topics.get(topic));
        let own = named.filter(|channel| channel.is_reserved == firehose.is_reserved);
        let ends = own.map(|channel| channel.newest()).map(|newest| firehose.end_of(newest));
        ends.fold(end, u64::max)
    }

    /// The number of events of the firehose after `after` and up to `to`. `None` when some of the sequences in between may
    /// belong to reserved topics. The topics of events that this hub never had are unknown: they count unless it has had
    /// one of a reserved topic.
    pub(crate) fn count_in_firehose(&self, after: Sequence, to: Sequence) -> Option<u64> {
        (self.newest_reserved() <= after).then(|| to - after)
    }

    /// The newest event of a reserved topic, retained or not; 0 before the first.
    pub(crate) fn newest_reserved(&self) -> Sequence {
        self.newest_reserved.load(Ordering::Acquire)
    }

    /// Notes an event of a reserved topic. For the sequencer.
    pub(crate) fn note_reserved(&self, sequence: Sequence) {
        self.newest_reserved.store(self.newest_reserved().max(sequence), Ordering::Release);
    }

    pub(crate) fn retained_bytes(&self) -> u64 {
        self.channel_bytes.load(Ordering::Relaxed) + self.derived_bytes.get() + self.latest.bytes()
    }

    /// Whether more bytes are held than allowed. Other formats are made at any time.
    pub(crate) fn is_too_large(&self) -> bool {
        self.retained_bytes() > self.max_bytes
    }

    pub(crate) fn retained_events(&self) -> u64 {
        self.retained_events.load(Ordering::Relaxed)
    }

    /// Puts the encoded events into their rings. Readers may take them after [`History::publish`], or when one of them is
    /// evicted before: a gap never ends beyond the head. For the sequencer.
    pub(crate) fn append(&self, encoder: &mut Encoder) -> Option<Arc<Channel>> {
        let frames = encoder.finish(&self.derived_bytes)?;
        let run = frames.as_slice()[0].run();
        let channel = self.channel(run.topic(), run.first());
        channel.touch(self.now_tick());
        if run.has_keys() {
            // Before the ring has the events: a new list begins with its newest.
            self.list_of(&channel);
        }
        let has_list = channel.latest.get().is_some() || self.firehose_of(&channel).latest.get().is_some();
        for frame in frames.as_slice() {
            self.ledger.record(frame.sequence(), channel.hash);
            if channel.is_reserved {
                self.note_reserved(frame.sequence());
            }
        }
        let values = if has_list { frames.as_slice().to_vec() } else { Vec::new() };
        let first = run.first();
        self.put(&channel, first, frames.as_slice().iter().cloned());
        self.put(self.firehose_of(&channel), first, frames);
        values.iter().for_each(|value| self.put_latest(&channel, value));
        Some(channel)
    }

    /// Puts the encoded events of a hub that this one continues into the rings that they were in. For the sequencer.
    pub(crate) fn restore(&self, encoder: &mut Encoder, rings: Rings) {
        let Some(frames) = encoder.finish(&self.derived_bytes) else { return };
        let run = frames.as_slice()[0].run();
        let first = run.first();
        let channel = rings.topic.then(|| self.channel(run.topic(), first));
        let hash = channel.as_ref().map_or_else(|| self.ledger.hash(run.topic()), |channel| channel.hash);
        let is_reserved = run.topic().is_reserved();
        let firehose = if is_reserved { &self.reserved } else { &self.firehose };
        for frame in frames.as_slice() {
            let sequence = frame.sequence();
            if is_reserved {
                self.note_reserved(sequence);
            }
            // The saved ledger has those before.
            if rings.firehose && sequence > *self.ledger.known().end() {
                self.ledger.record(sequence, hash);
            }
        }
        if let Some(channel) = &channel {
            self.put(channel, first, frames.as_slice().iter().cloned());
        }
        if rings.firehose {
            self.put(firehose, first, frames);
        }
        self.trim();
    }

    /// Puts the frames of a run, which begins with `first`, into the ring of `channel`. All earlier events are in their rings.
    fn put(&self, channel: &Arc<Channel>, first: Sequence, frames: impl ExactSizeIterator<Item = Frame>) {
        let end = first + frames.len() as u64;
        // A run is shorter than what a ring retains: what it evicts comes before its own first event.
        let before_evicting = |newer| {
            if end - newer > self.head() + 1 {
                self.publish(first - 1);
            }
        };
        let (before, now) = self.changing(channel, || channel.append(frames, before_evicting));
        self.account(before, now);
        if class_of(channel, now) > channel.class() {
            lock(&self.heaviest).put(channel, now);
        }
    }

    /// Lets readers take everything up to `head`. For the sequencer.
    pub(crate) fn publish(&self, head: Sequence) {
        // Release: a reader that sees this head sees the rings' heads that were stored before it.
        self.head.store(head, Ordering::Release);
    }

    /// Whether nothing is published any more. A reader that finds this sees the last head.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Lets readers end once they have read everything, and wakes all of them.
    pub(crate) fn close(&self) {
        // Release: a reader that sees this sees the head that was stored before.
        self.is_closed.store(true, Ordering::Release);
        self.notify_all();
    }

    /// Wakes the readers of `channels`, which have had events. Returns whether there are any. The head was stored before. For the
    /// sequencer.
    pub(crate) fn notify(&self, channels: &[Arc<Channel>]) -> bool {
        let notify = |channel: &Channel| {
            // After the head: see the invariants of the lists.
            channel.latest.get().inspect(|list| list.settle());
            channel.listeners.notify()
        };
        let (mut has_reserved, mut has_others, mut has_readers) = (false, false, false);
        for channel in channels {
            has_readers |= notify(channel);
            has_reserved |= channel.is_reserved;
            has_others |= !channel.is_reserved;
        }
        for (firehose, has_events) in self.firehoses().into_iter().zip([has_others, has_reserved]) {
            if has_events {
                has_readers |= notify(firehose);
                let own = channels.iter().filter(|channel| channel.is_reserved == firehose.is_reserved);
                has_readers |= self.prefixes_of(firehose).announce(own.filter_map(|channel| channel.topic.as_ref()));
            }
        }
        has_readers
    }

    /// Wakes all readers.
    fn notify_all(&self) {
        for channel in self.topics.slices().flatten().chain(self.firehoses().into_iter().cloned()) {
            channel.listeners.notify();
        }
        self.prefixes.iter().for_each(Prefixes::notify_all);
    }

    /// Accounts for a channel that held `before` bytes, and holds `now`.
    fn account(&self, before: usize, now: usize) {
        let bytes = self.channel_bytes.load(Ordering::Relaxed) + now as u64 - before as u64;
        self.channel_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Calls `change`, and accounts for the events that a topic's ring gains or loses.
    fn changing<T>(&self, channel: &Channel, change: impl FnOnce() -> T) -> T {
        if channel.topic.is_none() {
            return change();
        }
        let before = channel.retained();
        let changed = change();
        let events = self.retained_events.load(Ordering::Relaxed) + channel.retained() - before;
        self.retained_events.store(events, Ordering::Relaxed);
        changed
    }

    /// Accounts for a channel that was dropped.
    fn forget(&self, channel: &Channel) {
        self.remove_latest(channel);
        lock(&self.heaviest).remove(channel);
        self.account(channel.weight(), 0);
        let events = self.retained_events.load(Ordering::Relaxed) - channel.retained();
        self.retained_events.store(events, Ordering::Relaxed);
    }

    /// The channel of `topic`, which is about to get event `next`; it is created if there is none. All earlier events are in
    /// their rings. For the sequencer.
    fn channel(&self, topic: &Topic, next: Sequence) -> Arc<Channel> {
        if let Some(channel) = self.topics.get(topic).filter(|channel| channel.is_claimed()) {
            return channel;
        }
        if self.topics.used() >= self.max_topics {
            // Before anything is evicted: a gap never ends beyond the head.
            self.publish(next - 1);
            for channel in self.topics.make_room(self.max_topics - 1, next - 1) {
                self.forget(&channel);
            }
        }
        self.topics.claim(topic, next, &self.ledger)
    }

    /// Evicts events while more bytes are held than allowed. For the sequencer.
    pub(crate) fn trim(&self) {
        // More than needed, so that small events are evicted by segments, and large ones one by one: readers may be near them.
        let goal = usize::try_from(self.max_bytes / 64).unwrap_or(usize::MAX).max(1);
        while self.is_too_large() {
            let mut heaviest = lock(&self.heaviest);
            let Some(channel) = heaviest.pop() else { return };
            let freed = self.changing(&channel, || channel.evict_oldest(goal));
            self.account(freed, 0);
            self.compression.drop_evicted_of(&channel);
            heaviest.put(&channel, channel.weight());
        }
    }

    /// Advances the clock by a second, has the next event sampled, and drops what was compressed of evicted events.
    pub(crate) fn tick(&self) {
        let now = self.tick.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(expiry) = &self.latest.expiry {
            expiry.tick(now, self.head());
        }
        self.sampler.arm();
        self.compression.drop_evicted();
    }

    /// Looks at up to `looks` of the quietest topics, and drops those that have no subscribers and have outlived their time to
    /// live. Returns their channels, and whether there may be more. For the sequencer.
    pub(crate) fn drop_idle(&self, looks: usize) -> (Vec<Arc<Channel>>, bool) {
        let (dropped, may_have_more) = self.topics.drop_idle(looks, &self.recent(), self.head());
        dropped.iter().for_each(|channel| self.forget(channel));
        (dropped, may_have_more)
    }

    /// The time in seconds since the hub was created, as far as its clock was advanced.
    pub(crate) fn now_tick(&self) -> u32 {
        self.tick.load(Ordering::Relaxed)
    }

    /// The ticks in which a topic must have been used not to be idle.
    fn recent(&self) -> RangeInclusive<u32> {
        let tick = self.tick.load(Ordering::Relaxed);
        tick.saturating_sub(self.ttl_ticks)..=tick
    }
}

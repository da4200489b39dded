//! The prefixes of patterns, for readers that are woken only by events that they may want.
//!
//! A pattern's [prefix](TopicPattern::prefix) is its text before the first wildcard, as `user:17:` in `user:17:*`. Readers of
//! patterns listen to prefixes. An event wakes the readers of the prefixes that its topic begins with, which takes one look-up
//! for each separator of the topic, whatever the number of patterns. Where one pattern of a reader has no prefix, as `*:17`,
//! the reader listens to the firehose instead.
//!
//! **Contract.** A reader of prefixes is woken
//! * by each event of a topic that begins with one of them;
//! * at least once in [`SWEEP`] events of the firehose, whatever their topics. A firehose that evicts events and retains few wakes
//!   it more often: after a [`PART`]th of what it retains. So its cursor is never far behind: it scans few events, and is not near
//!   those that are evicted.
//!
//! **No wake-up is lost.** The publisher stores the head, takes and releases the lock of the firehose's listeners, looks whether
//! there are prefixes, and then locks the index to find those of its topics. A reader locks the index, notes that there are
//! prefixes, takes and releases the lock of the firehose's listeners, adds itself to the listeners of its prefixes, unlocks the
//! index, and then loads the head. Whichever takes the lock of the firehose's listeners first:
//! * the reader: the publisher finds that there are prefixes, waits for the index, and finds those of the reader;
//! * the publisher: the reader loads the head that was stored before.
//!
//! **What a reader may skip.** Each announcement is a range of the firehose's indices. A prefix has, of the newest announcement with an
//! event for it, the beginning (`first`) and the end, and the end of the one before (`before`). [`Prefixes::next`] concludes:
//! * an index at or behind the end: nothing up to `noted`, the end of the newest announcement, is wanted;
//! * an index from `before` on: nothing up to `first` is wanted.
//!
//! So a reader whose next event was evicted while it slept finds out that it did not want that event: it has no gap. A prefix
//! begins with the end of the firehose at that time: earlier events were not noted, and are never skipped.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use smallvec::SmallVec;

use super::channel::Channel;
use super::wake::{Listeners, SleeperKey, WakeGroup};
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, lock};
use crate::topic::{Topic, TopicPattern};

/// All readers are woken at least once in this many events of the firehose.
#[cfg(not(fanline_loom))]
const SWEEP: u64 = 256;
#[cfg(fanline_loom)]
const SWEEP: u64 = 4;

/// While the firehose evicts events, they are also woken whenever it has replaced one part in this many of what it retains.
#[cfg(not(fanline_loom))]
const PART: u64 = 8;
#[cfg(fanline_loom)]
const PART: u64 = 1;

/// The prefixes that readers of one firehose listen to.
pub(crate) struct Prefixes {
    firehose: Arc<Channel>,
    /// Whether there are any.
    are_any: AtomicBool,
    /// The end of the newest announcement that was noted.
    noted: AtomicU64,
    index: Mutex<Index>,
    /// All readers.
    all: Listeners,
    hasher: RandomState,
}

#[derive(Default)]
struct Index {
    table: HashTable<Arc<Prefix>>,
    /// The end of the announcement that woke all readers last.
    swept: u64,
}

/// A prefix that at least one reader listens to. What it has noted is written under the lock of the index.
pub(crate) struct Prefix {
    text: Box<str>,
    is_reserved: bool,
    listeners: Listeners,
    before: AtomicU64,
    first: AtomicU64,
    end: AtomicU64,
}

/// Those of one subscription.
pub(crate) type PrefixList = SmallVec<[Arc<Prefix>; 1]>;

impl Prefixes {
    pub(crate) fn new(firehose: &Arc<Channel>) -> Self {
        Self {
            firehose: firehose.clone(),
            are_any: AtomicBool::new(false),
            noted: AtomicU64::new(0),
            index: Mutex::default(),
            all: Listeners::default(),
            hasher: RandomState::new(),
        }
    }

    /// Adds a subscription to the listeners of its patterns' prefixes, and these to `list`. Its first read of the head comes
    /// after this. Returns false, and adds nothing, if a pattern has no prefix.
    pub(crate) fn enter(
        &self,
        patterns: &[TopicPattern],
        group: &Arc<WakeGroup>,
        key: SleeperKey,
        list: &mut PrefixList,
    ) -> bool {
        if patterns.iter().any(|pattern| pattern.prefix().is_empty()) {
            return false;
        }
        let mut index = lock(&self.index);
        self.are_any.store(true, Ordering::Relaxed);
        // See the module's documentation.
        self.firehose.listeners.take_and_release_lock();
        let end = self.firehose.appended();
        for pattern in patterns {
            let prefix = self.find_or_insert(&mut index, pattern.prefix(), end);
            if !list.iter().any(|other| Arc::ptr_eq(other, &prefix)) {
                prefix.listeners.add(group, key);
                list.push(prefix);
            }
        }
        self.all.add(group, key);
        true
    }

    fn find_or_insert(&self, index: &mut Index, text: &str, end: u64) -> Arc<Prefix> {
        let hash_of = |prefix: &Arc<Prefix>| self.hasher.hash_one(&*prefix.text);
        match index.table.entry(self.hasher.hash_one(text), |prefix| &*prefix.text == text, hash_of) {
            Entry::Occupied(entry) => entry.get().clone(),
            Entry::Vacant(entry) => {
                let prefix = Arc::new(Prefix::new(text, self.firehose.is_reserved, end));
                entry.insert(prefix.clone());
                prefix
            }
        }
    }

    /// Removes a subscription, if it listens to prefixes of this firehose. Returns whether it did.
    pub(crate) fn leave(&self, list: &[Arc<Prefix>], group: &Arc<WakeGroup>, key: SleeperKey) -> bool {
        if self.own(list).next().is_none() {
            return false;
        }
        let mut index = lock(&self.index);
        for prefix in self.own(list).filter(|prefix| prefix.listeners.remove(group, key)) {
            let hash = self.hasher.hash_one(&*prefix.text);
            let entry = index.table.find_entry(hash, |other| Arc::ptr_eq(other, prefix));
            _ = entry.map(|entry| entry.remove());
        }
        self.all.remove(group, key);
        self.are_any.store(!index.table.is_empty(), Ordering::Relaxed);
        true
    }

    fn own<'a>(&self, list: &'a [Arc<Prefix>]) -> impl Iterator<Item = &'a Arc<Prefix>> {
        let is_reserved = self.firehose.is_reserved;
        list.iter().filter(move |prefix| prefix.is_reserved == is_reserved)
    }

    /// Wakes the readers that may want events of `topics`, which were appended since the last call, and sometimes all. Returns
    /// whether some may want them. The head was stored, and the firehose's listeners notified, before. For the sequencer.
    pub(crate) fn announce<'a>(&self, topics: impl Iterator<Item = &'a Topic>) -> bool {
        if !self.are_any.load(Ordering::Relaxed) {
            return false;
        }
        let mut index = lock(&self.index);
        let (first, retained) = (self.noted.load(Ordering::Relaxed), self.firehose.ring.retained());
        let mut has_readers = false;
        for prefix in topics.flat_map(Topic::prefixes).filter_map(|text| self.get(&index, text)) {
            prefix.note(first, retained.end);
            has_readers |= prefix.listeners.notify();
        }
        // Release: a reader that sees this sees what the prefixes have noted.
        self.noted.store(retained.end, Ordering::Release);
        let pause = if retained.start > 0 { ((retained.end - retained.start) / PART).clamp(1, SWEEP) } else { SWEEP };
        if retained.end - index.swept >= pause {
            index.swept = retained.end;
            self.all.notify();
        }
        has_readers
    }

    fn get<'a>(&self, index: &'a Index, text: &str) -> Option<&'a Arc<Prefix>> {
        index.table.find(self.hasher.hash_one(text), |prefix| &*prefix.text == text)
    }

    /// Wakes all readers.
    pub(crate) fn notify_all(&self) {
        self.all.notify();
    }

    /// The first index of the firehose, from `index` on, that the reader of these prefixes may want.
    pub(crate) fn next(&self, list: &[Arc<Prefix>], index: u64) -> u64 {
        // Acquire, and first: the prefixes have noted all announcements up to it.
        let noted = self.noted.load(Ordering::Acquire);
        self.own(list).map(|prefix| prefix.next(index, noted)).min().unwrap_or(index)
    }

    /// The index of the firehose behind all events that a reader of these patterns may want, if the prefixes of all are known.
    pub(crate) fn end(&self, patterns: &[TopicPattern]) -> Option<u64> {
        let index = lock(&self.index);
        let end = |pattern: &TopicPattern| Some(self.get(&index, pattern.prefix())?.end.load(Ordering::Relaxed));
        patterns.iter().map(end).try_fold(0, |last, end| Some(end?.max(last)))
    }
}

impl Prefix {
    fn new(text: &str, is_reserved: bool, end: u64) -> Self {
        let (before, first, end) = (AtomicU64::new(end), AtomicU64::new(end), AtomicU64::new(end));
        Self { text: text.into(), is_reserved, listeners: Listeners::default(), before, first, end }
    }

    /// Notes that there may be wanted events from `first` up to `end`, once or more often.
    fn note(&self, first: u64, end: u64) {
        let before = self.end.load(Ordering::Relaxed);
        if before < end {
            // In this order: a reader that sees the new `first` sees the new `before`.
            self.before.store(before, Ordering::Relaxed);
            self.first.store(first, Ordering::Release);
            self.end.store(end, Ordering::Release);
        }
    }

    fn next(&self, index: u64, noted: u64) -> u64 {
        if self.end.load(Ordering::Acquire) <= index {
            return index.max(noted);
        }
        let first = self.first.load(Ordering::Acquire);
        if self.before.load(Ordering::Relaxed) <= index { index.max(first) } else { index }
    }
}

#[cfg(all(test, not(fanline_loom)))]
mod tests;

//! Latest values: for each topic and key the newest event, for readers that want the present state and then its changes.
//!
//! **Contract.** An event with a key is the value of its topic and key until the next one, or until an event deletes it. An
//! event without a key is its topic's single value. Readers find the values of a topic in the [`List`] of its channel, and those of all
//! topics in the lists of the firehoses. A reader is one sequence, so that a snapshot, the changes since a position, and what a
//! slow reader has left to read are the same read.
//!
//! **What is kept.** Values with keys, and deletions, outlive the rings and their channel: the table of [`topics`](super::topics)
//! keeps their lists.
//! A value without a key lasts as long as its topic. Its removal is no event: a reader that has not passed the value begins
//! again. Such values cost nothing where they are not read: a topic has a list from its first event with a key on, or from the
//! first reader of its latest value, which finds the newest event in the ring. A firehose has one from its first reader on;
//! publishers wait while that reader collects the values of all topics, once.
//!
//! **Time to live.** If keys are deleted that are no longer updated, the firehoses have their lists from the start: see
//! [`expiry`].
//!
//! **Bounds.** [`HubOptions::max_keys`](super::HubOptions::max_keys) limits the keys, and half of
//! [`HubOptions::history_bytes`](super::HubOptions::history_bytes) their memory. Beyond either a new key is refused; the
//! others continue. A deletion is kept for [`HubOptions::tombstone_ttl`](super::HubOptions::tombstone_ttl), or until there are
//! as many keys and deletions as allowed. A reader behind a forgotten deletion begins again, with a gap.
//!
//! Only the sequencer changes the lists.

mod expiry;
mod list;

use std::collections::{HashSet, VecDeque};
// Not those of `sync`: only the sequencer writes them, and others read them for statistics.
use std::sync::atomic::AtomicU64;

#[cfg(feature = "redis")]
pub(crate) use expiry::Expired;
pub(crate) use expiry::{Expiry, deletion_of};
use list::{Before, name_of};
pub(crate) use list::{List, Name};

use super::channel::Channel;
use super::encoder::Encoder;
use super::frame::Frame;
use super::history::History;
use super::topics::Topics;
use super::{HubOptions, PublishError};
use crate::event::Event;
use crate::position::Sequence;
use crate::ring::Read;
use crate::sync::{Arc, Mutex, Ordering, lock};

pub(crate) struct Latest {
    max_keys: usize,
    max_bytes: u64,
    ttl_ticks: u32,
    /// The number of keys with a value, and the memory of the values.
    keys: AtomicU64,
    bytes: AtomicU64,
    /// The oldest first. Some names have values again.
    deletions: Mutex<VecDeque<Deletion>>,
    /// The newest deletion or value that is forgotten: new lists do not know more.
    forgotten: AtomicU64,
    /// The events of publishers that do not wait which were refused.
    refused: AtomicU64,
    /// `None` if keys last until they are deleted.
    pub(crate) expiry: Option<Expiry>,
}

struct Deletion {
    name: Name,
    sequence: Sequence,
    /// When it was published.
    tick: u32,
}

impl Latest {
    pub(crate) fn new(options: &HubOptions) -> Self {
        Self {
            max_keys: options.max_keys,
            max_bytes: options.history_bytes as u64 / 2,
            ttl_ticks: u32::try_from(options.tombstone_ttl.as_secs()).unwrap_or(u32::MAX),
            keys: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            deletions: Mutex::default(),
            forgotten: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            expiry: Expiry::new(options),
        }
    }

    /// The number of keys that have a value.
    pub(crate) fn keys(&self) -> usize {
        self.keys.load(Ordering::Relaxed) as usize
    }

    /// The memory of their values.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The number of deletions that are remembered.
    pub(crate) fn deletions(&self) -> usize {
        lock(&self.deletions).len()
    }

    /// The number of keys that were deleted because they were no longer updated.
    pub(crate) fn expired(&self) -> u64 {
        self.expiry.as_ref().map_or(0, Expiry::expired)
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Notes that an event was refused whose publisher does not wait.
    pub(crate) fn note_refused(&self, events: usize) {
        self.refused.fetch_add(events as u64, Ordering::Relaxed);
    }

    /// Returns the error of `events` with more new keys than there is room for. For the sequencer.
    pub(crate) fn admit(&self, events: &[Event], topics: &Topics) -> Result<(), PublishError> {
        let values = || events.iter().filter(|event| !event.is_deletion() && event.key().is_some());
        let bytes: u64 = values().map(|event| event.payload().as_bytes().len() as u64).sum();
        let has_room = |new: usize| self.keys() + new <= self.max_keys;
        let count = values().count();
        if count == 0 || (has_room(count) && self.bytes() + bytes <= self.max_bytes) {
            return Ok(());
        }
        let names: HashSet<Name> = values().map(|event| (event.topic().clone(), event.key().cloned())).collect();
        let is_new =
            |name: &&Name| !topics.kept(&name.0).is_some_and(|list| matches!(list.find(name), Before::Value(_)));
        match names.iter().filter(is_new).count() {
            0 => Ok(()),
            new if !has_room(new) => Err(PublishError::TooManyValues { max_keys: self.max_keys }),
            _ if self.bytes() + bytes > self.max_bytes => {
                Err(PublishError::ValuesTooLarge { max_bytes: self.max_bytes })
            }
            _ => Ok(()),
        }
    }

    /// Accounts for the event of a key.
    fn account(&self, frame: &Frame, before: Before) {
        let (is_value, weight) = (!frame.is_deletion(), frame.value_weight());
        let (had_value, freed) = match before {
            Before::Value(weight) => (true, weight),
            Before::Nothing | Before::Deleted => (false, 0),
        };
        let keys = self.keys.load(Ordering::Relaxed) + u64::from(is_value) - u64::from(had_value);
        self.keys.store(keys, Ordering::Relaxed);
        let bytes = self.bytes() + if is_value { weight as u64 } else { 0 } - freed as u64;
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Takes the oldest deletion, if it was published before tick `before` or there are too many.
    fn next_to_forget(&self, before: u32) -> Option<Deletion> {
        let mut deletions = lock(&self.deletions);
        let is_full = deletions.len() + self.keys() > self.max_keys;
        deletions.pop_front_if(|oldest| is_full || oldest.tick < before)
    }
}

/// The lists of a hub's channels. For the sequencer.
impl History {
    /// The list of `channel`, which is created if there is none.
    pub(crate) fn list_of<'a>(&self, channel: &'a Channel) -> &'a Arc<List> {
        if channel.latest.get().is_none() {
            let values = self.values_of(channel);
            // After the values: what is no longer in a ring is noted there.
            let list = List::new(self.latest.forgotten.load(Ordering::Acquire));
            values.into_iter().for_each(|frame| _ = list.put(frame));
            let _ = channel.latest.set(Arc::new(list));
        }
        channel.latest.get().expect("it was set")
    }

    /// The values that a channel without a list has, in order.
    fn values_of(&self, channel: &Channel) -> Vec<Frame> {
        if channel.topic.is_some() {
            return self.newest_without_key(channel).into_iter().collect();
        }
        let mut frames = Vec::new();
        for other in self.topics.listed().flatten() {
            if other.topic().is_none_or(|topic| topic.is_reserved() != channel.is_reserved) {
                continue;
            }
            match (other.list(), other.channel()) {
                (Some(list), _) => frames.extend(list.frames()),
                (None, Some(other)) => frames.extend(self.newest_without_key(other)),
                (None, None) => {}
            }
        }
        frames.sort_unstable_by_key(Frame::sequence);
        frames
    }

    /// The newest event of a ring that has no key, unless it is a deletion.
    fn newest_without_key(&self, channel: &Channel) -> Option<Frame> {
        let indices = channel.ring.retained();
        let newest = indices.rev().find_map(|index| match channel.ring.read(index) {
            Read::Run(run) => Some(run.get(index).clone()).filter(|frame| frame.key().is_none()),
            _ => None,
        });
        if newest.is_none() {
            // There may have been one.
            self.latest.forgotten.fetch_max(channel.newest(), Ordering::AcqRel);
        }
        newest.filter(|frame| !frame.is_deletion())
    }

    /// Makes an event of `channel` the value of its name, in the lists that there are.
    pub(crate) fn put_latest(&self, channel: &Channel, frame: &Frame) {
        let name = name_of(frame);
        // A deletion of nothing changes nothing. Without a key there may have been something.
        let has_key = name.1.is_some();
        let put = |list: &Arc<List>| match has_key && frame.is_deletion() && list.find(&name) == Before::Nothing {
            true => None,
            false => Some(list.put(frame.clone())),
        };
        let before = channel.latest.get().and_then(put);
        let in_firehose = self.firehose_of(channel).latest.get().and_then(put);
        if let (Some(before), true) = (before, has_key) {
            self.latest.account(frame, before);
            if before == Before::Nothing
                && let Some(list) = channel.latest.get()
            {
                self.topics.keep(&name.0, list);
            }
        }
        if frame.is_deletion() && (before.is_some() || in_firehose.is_some()) {
            let deletion = Deletion { name, sequence: frame.sequence(), tick: self.now_tick() };
            lock(&self.latest.deletions).push_back(deletion);
        }
        while let Some(deletion) = self.latest.next_to_forget(0) {
            self.forget_deletion(&deletion);
        }
    }

    /// Puts a value that a hub which this one continues has saved into the list of its topic. Nothing up to `head` is known
    /// of deletions that were not saved.
    pub(crate) fn restore_latest(&self, encoder: &mut Encoder, head: Sequence) {
        self.latest.forgotten.fetch_max(head, Ordering::AcqRel);
        let Some(frames) = encoder.finish(&self.derived_bytes) else { return };
        let topic = frames.as_slice()[0].topic();
        // Readers may have opened it already.
        let of_channel = self.topics.get(topic).and_then(|channel| channel.latest.get().cloned());
        let list = self.topics.keep(topic, &of_channel.unwrap_or_else(|| Arc::new(List::new(head))));
        let firehose = if topic.is_reserved() { &self.reserved } else { &self.firehose };
        for frame in frames {
            let before = list.put(frame.clone());
            firehose.latest.get().inspect(|list| _ = list.put(frame.clone()));
            if frame.key().is_some() {
                self.latest.account(&frame, before);
            }
            if frame.is_deletion() {
                let deletion = Deletion { name: name_of(&frame), sequence: frame.sequence(), tick: self.now_tick() };
                lock(&self.latest.deletions).push_back(deletion);
            }
        }
        list.settle();
    }

    fn forget_deletion(&self, Deletion { name, sequence, .. }: &Deletion) {
        let topic = &name.0;
        let list = self.topics.kept(topic).or_else(|| self.topics.get(topic)?.latest.get().cloned());
        let firehose = if topic.is_reserved() { &self.reserved } else { &self.firehose };
        self.latest.forgotten.fetch_max(*sequence, Ordering::AcqRel);
        list.iter().chain(firehose.latest.get()).for_each(|list| list.forget(name, Some(*sequence)));
        if list.is_some_and(|list| list.len() == 0) {
            self.topics.forget_list(topic);
        }
    }

    /// Forgets up to `limit` deletions that have outlived their time. Returns whether there may be more.
    pub(crate) fn forget_deletions(&self, limit: usize) -> bool {
        let before = self.now_tick().saturating_sub(self.latest.ttl_ticks);
        for _ in 0..limit {
            let Some(deletion) = self.latest.next_to_forget(before) else { return false };
            self.forget_deletion(&deletion);
        }
        true
    }

    /// Removes the value without a key of a topic that was dropped.
    pub(crate) fn remove_latest(&self, channel: &Channel) {
        let Some(topic) = &channel.topic else { return };
        // A list of this topic that is created later does not have it.
        self.latest.forgotten.fetch_max(channel.newest(), Ordering::AcqRel);
        let name = (topic.clone(), None);
        let lists = channel.latest.get().into_iter().chain(self.firehose_of(channel).latest.get());
        lists.for_each(|list| list.forget(&name, None));
    }

    /// Removes all values: the order was broken at `base`.
    pub(crate) fn clear_latest(&self, base: Sequence) {
        let latest = &self.latest;
        latest.forgotten.fetch_max(base, Ordering::AcqRel);
        self.topics.forget_lists(|list| list.clear(base));
        self.topics.slices().flatten().filter_map(|channel| channel.latest.get().cloned()).for_each(|l| l.clear(base));
        self.firehoses().into_iter().filter_map(|firehose| firehose.latest.get()).for_each(|list| list.clear(base));
        lock(&latest.deletions).clear();
        latest.keys.store(0, Ordering::Relaxed);
        latest.bytes.store(0, Ordering::Relaxed);
    }
}

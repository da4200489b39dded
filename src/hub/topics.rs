//! The channels of a hub by topic, and what is remembered of dropped topics.
//!
//! **Shards.** There may be a million topics. A hash of the name assigns each to a shard with a lock and a table of its own:
//! a table that grows, or a list of all topics, keeps publishers and subscribers of only one shard waiting. The page of a
//! list is put together from [`Topics::listed`], each slice under a short lock.
//!
//! **Lifetime.** A channel is created, found by subscribers, claimed for its first event and dropped under the lock of its
//! shard, so a channel is never dropped before a subscriber that has found it is among its listeners. A topic without events
//! is dropped with its last subscriber. One with events is dropped by the sequencer only: to make room, or when it is idle.
//!
//! **The queue.** Topics with events are queued by their newest sequence at the last look. A look takes the first of the queue.
//! If it was used since, it is queued again; if it has subscribers, it is queued as if it was used now. Nothing iterates over
//! all topics:
//! * Beyond the limit each new topic drops the quietest one without subscribers, after a bounded number of looks. Where most
//!   topics are in constant use the limit is exceeded by a sixteenth; then the topics looked at the longest ago are dropped.
//! * Idle topics are dropped from the front of the queue, up to the first one that is not idle.

mod queue;
mod values;

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::ops::RangeInclusive;
use std::sync::atomic::AtomicUsize;

use hashbrown::HashTable;

use super::channel::Channel;
use super::ledger::Ledger;
use crate::position::Sequence;
use crate::sync::{Arc, Mutex, Ordering, RwLock, lock, read, write};
use crate::topic::Topic;
use queue::Queue;
use values::Kept;
pub(crate) use values::Listed;

/// The number of shards.
#[cfg(not(any(test, fanline_loom)))]
const SHARDS: usize = 1024;
#[cfg(all(test, not(fanline_loom)))]
const SHARDS: usize = 2;
// A hash is random, and loom repeats what a model does.
#[cfg(fanline_loom)]
const SHARDS: usize = 1;

/// The number of dropped topics of a shard that are remembered by name.
#[cfg(not(test))]
const MAX_GONE: usize = 64;
#[cfg(test)]
const MAX_GONE: usize = 2;

/// How many topics are looked at to make room for one: more than 16, so that a queue of topics that are all in use is
/// passed once before a sixteenth too many has come.
const LOOKS: usize = 32;

pub(crate) struct Topics {
    shards: Box<[RwLock<Shard>]>,
    hasher: RandomState,
    /// The channels that have had events.
    queue: Mutex<Queue>,
    /// Their number.
    used: AtomicUsize,
    /// The number of the others, and of those that subscribers are about to create.
    silent: AtomicUsize,
    /// The number of topics of which only latest values are left.
    alone: AtomicUsize,
    capacity: usize,
}

/// A subscription would create more topics without events than are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyTopics;

#[derive(Default)]
struct Shard {
    channels: HashTable<Arc<Channel>>,
    kept: HashTable<Kept>,
    gone: Gone,
}

/// Dropped topics, to find out what a subscriber that resumes has missed.
#[derive(Default)]
struct Gone {
    /// The newest sequence of each.
    newest: HashMap<Topic, Sequence>,
    /// The same, in the order in which they were dropped. Some exist again.
    order: VecDeque<(Topic, Sequence)>,
    /// The newest sequence of the dropped topics that are no longer remembered.
    forgotten: Sequence,
}

impl Gone {
    fn remember(&mut self, topic: &Topic, newest: Sequence) {
        if newest <= self.forgotten {
            return;
        }
        if self.order.len() == MAX_GONE
            && let Some((oldest, newest)) = self.order.pop_front()
            && self.newest.get(&oldest) == Some(&newest)
        {
            self.newest.remove(&oldest);
            self.forgotten = self.forgotten.max(newest);
        }
        self.newest.insert(topic.clone(), newest);
        self.order.push_back((topic.clone(), newest));
    }

    /// The newest sequence that the topic may have had.
    fn take(&mut self, topic: &Topic) -> Sequence {
        self.newest.remove(topic).unwrap_or(self.forgotten)
    }

    /// Those that are remembered by name.
    fn dropped(&self) -> impl Iterator<Item = (Topic, Sequence)> {
        // Some exist again.
        self.order.iter().filter(|(topic, newest)| self.newest.get(topic) == Some(newest)).cloned()
    }
}

/// Room for topics without events, given back on drop.
struct Reservation<'a> {
    silent: &'a AtomicUsize,
    left: usize,
}

impl Reservation<'_> {
    /// Counts a new topic, out of this room.
    fn take_one(&mut self) {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            // It was dropped after the room was reserved.
            None => _ = self.silent.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.silent.fetch_sub(self.left, Ordering::Relaxed);
    }
}

impl Topics {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            queue: Mutex::default(),
            used: AtomicUsize::new(0),
            silent: AtomicUsize::new(0),
            alone: AtomicUsize::new(0),
            capacity,
        }
    }

    /// The hash of a topic in the tables.
    fn hash(&self, topic: &Topic) -> u64 {
        self.hasher.hash_one(topic)
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        // The lowest and the highest bits choose the place in the shard's table.
        &self.shards[(hash >> 32) as usize % SHARDS]
    }

    pub(crate) fn get(&self, topic: &Topic) -> Option<Arc<Channel>> {
        let hash = self.hash(topic);
        read(self.shard(hash)).get(hash, topic).cloned()
    }

    /// All channels in slices, each with a short lock of its own.
    pub(crate) fn slices(&self) -> impl Iterator<Item = Vec<Arc<Channel>>> {
        self.shards.iter().map(|shard| read(shard).channels.iter().cloned().collect())
    }

    /// The number of topics.
    pub(crate) fn len(&self) -> usize {
        self.used() + self.silent.load(Ordering::Relaxed) + self.alone.load(Ordering::Relaxed)
    }

    /// The number of topics that have had events.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Calls `enter` with the channel of each of `wanted`, and creates those that are missing. No channel is dropped before
    /// `enter` has added its listener.
    ///
    /// # Errors
    /// When a channel would have to be created, and more than `max_silent` would have no events. `enter` is not called.
    pub(crate) fn enter(
        &self,
        wanted: &[Topic],
        max_silent: usize,
        ledger: &Ledger,
        mut enter: impl FnMut(&Arc<Channel>),
    ) -> Result<(), TooManyTopics> {
        let mut room: Option<Reservation> = None;
        if !wanted.iter().all(|topic| self.get(topic).is_some()) {
            let new = wanted.iter().filter(|topic| self.get(topic).is_none()).count();
            room = Some(self.reserve(new, max_silent)?);
        }
        for topic in wanted {
            let hash = self.hash(topic);
            if let Some(channel) = read(self.shard(hash)).get(hash, topic) {
                enter(channel);
                continue;
            }
            self.create(hash, topic, ledger, |channel, is_new| {
                if is_new {
                    room.get_or_insert(Reservation { silent: &self.silent, left: 0 }).take_one();
                }
                enter(channel);
            });
        }
        Ok(())
    }

    fn reserve(&self, count: usize, max_silent: usize) -> Result<Reservation<'_>, TooManyTopics> {
        let more = |silent: usize| silent.checked_add(count).filter(|&silent| count == 0 || silent <= max_silent);
        match self.silent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Reservation { silent: &self.silent, left: count }),
            Err(_) => Err(TooManyTopics),
        }
    }

    /// Calls `found` with the channel of `topic`, which is created if there is none, and whether it was. The shard is locked
    /// meanwhile.
    fn create<R>(&self, hash: u64, topic: &Topic, ledger: &Ledger, found: impl FnOnce(&Arc<Channel>, bool) -> R) -> R {
        let mut shard = write(self.shard(hash));
        if let Some(channel) = shard.get(hash, topic) {
            return found(channel, false);
        }
        let evicted = shard.gone.take(topic);
        let channel = Arc::new(Channel::new(ledger.hash(topic), topic.clone(), self.capacity, evicted));
        shard
            .channels
            .insert_unique(hash, channel.clone(), |other| other.topic.as_ref().map_or(0, |topic| self.hash(topic)));
        self.attach(&mut shard, hash, topic, &channel);
        found(&channel, true)
    }

    /// The channel of `topic`, which is about to get its first event, `sequence`. For the sequencer.
    pub(crate) fn claim(&self, topic: &Topic, sequence: Sequence, ledger: &Ledger) -> Arc<Channel> {
        let channel = self.create(self.hash(topic), topic, ledger, |channel, is_new| {
            if !is_new {
                self.silent.fetch_sub(1, Ordering::Relaxed);
            }
            channel.claim();
            channel.clone()
        });
        let mut queue = lock(&self.queue);
        queue.push(sequence, channel.clone());
        self.used.store(queue.len(), Ordering::Relaxed);
        channel
    }

    /// Forgets all dropped topics: any of them may have had events up to `sequence`. Calls `each` with all channels.
    pub(crate) fn forget(&self, sequence: Sequence, mut each: impl FnMut(&Arc<Channel>)) {
        for shard in &self.shards {
            let mut shard = write(shard);
            shard.gone = Gone { forgotten: sequence, ..Gone::default() };
            shard.channels.iter().for_each(&mut each);
        }
    }

    /// The dropped topics that are remembered by name, with the newest sequence of each.
    pub(crate) fn dropped(&self) -> impl Iterator<Item = (Topic, Sequence)> {
        self.shards.iter().flat_map(|shard| read(shard).gone.dropped().collect::<Vec<_>>())
    }

    /// The newest sequence of the dropped topics that are no longer remembered.
    pub(crate) fn forgotten(&self) -> Sequence {
        self.shards.iter().map(|shard| read(shard).gone.forgotten).max().unwrap_or(0)
    }

    /// Remembers a topic that was dropped after its event `newest`.
    pub(crate) fn remember_dropped(&self, topic: &Topic, newest: Sequence) {
        write(self.shard(self.hash(topic))).gone.remember(topic, newest);
    }

    /// Drops the topic of `channel` if it has neither events nor subscribers.
    pub(crate) fn drop_unused(&self, channel: &Arc<Channel>) {
        if !channel.is_claimed() && self.remove(channel, |channel| !channel.is_claimed()) {
            self.silent.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Drops topics until `goal` with events are left, or after [`LOOKS`] looks, and returns their channels. `head` is the
    /// newest sequence. For the sequencer.
    pub(crate) fn make_room(&self, goal: usize, head: Sequence) -> Vec<Arc<Channel>> {
        let mut queue = lock(&self.queue);
        let mut dropped = Vec::new();
        for _ in 0..LOOKS {
            if queue.len() <= goal {
                break;
            }
            let Some((queued, channel)) = queue.pop() else { break };
            let newest = channel.newest();
            if newest > queued && channel.listeners.is_empty() && queue.len() <= goal + goal / 16 {
                queue.push(newest, channel);
            } else {
                self.drop_or_requeue(channel, &mut queue, head, &mut dropped);
            }
        }
        self.used.store(queue.len(), Ordering::Relaxed);
        dropped
    }

    /// Looks at up to `looks` of the quietest topics, and drops those without subscribers and without events in the ticks
    /// `recent`. Returns their channels, and whether there may be more. `head` is the newest sequence. For the sequencer.
    pub(crate) fn drop_idle(
        &self,
        looks: usize,
        recent: &RangeInclusive<u32>,
        head: Sequence,
    ) -> (Vec<Arc<Channel>>, bool) {
        let mut queue = lock(&self.queue);
        // A topic that was used lately, and not since it was queued: those behind it were used later.
        let is_done = |queue: &Queue| {
            let first = queue.first();
            first.is_none_or(|(queued, channel)| channel.was_used_in(recent) && channel.newest() <= queued)
        };
        let mut dropped = Vec::new();
        for _ in 0..looks {
            if is_done(&queue) {
                break;
            }
            let Some((queued, channel)) = queue.pop() else { break };
            let newest = channel.newest();
            if newest > queued {
                queue.push(newest, channel);
            } else {
                self.drop_or_requeue(channel, &mut queue, head, &mut dropped);
            }
        }
        self.used.store(queue.len(), Ordering::Relaxed);
        let may_have_more = !is_done(&queue);
        (dropped, may_have_more)
    }

    /// Drops a topic that was taken from the queue. One with subscribers is queued as if it was used now.
    fn drop_or_requeue(
        &self,
        channel: Arc<Channel>,
        queue: &mut Queue,
        head: Sequence,
        dropped: &mut Vec<Arc<Channel>>,
    ) {
        if self.remove(&channel, |_| true) {
            dropped.push(channel);
        } else {
            queue.push(head, channel);
        }
    }

    /// Removes `channel` from its table if it has no subscribers and `is_unused`. Returns whether it did.
    fn remove(&self, channel: &Arc<Channel>, is_unused: impl FnOnce(&Channel) -> bool) -> bool {
        let Some(topic) = &channel.topic else { return false };
        let hash = self.hash(topic);
        let mut shard = write(self.shard(hash));
        if !channel.listeners.is_empty() || !is_unused(channel) {
            return false;
        }
        // Another thread may have removed it, and its topic may have a new channel.
        let Ok(entry) = shard.channels.find_entry(hash, |other| Arc::ptr_eq(other, channel)) else { return false };
        entry.remove();
        self.detach(&mut shard, hash, topic);
        shard.gone.remember(topic, channel.newest());
        true
    }
}

impl Shard {
    fn get(&self, hash: u64, topic: &Topic) -> Option<&Arc<Channel>> {
        self.channels.find(hash, |channel| channel.topic.as_ref() == Some(topic))
    }
}

#[cfg(all(test, not(fanline_loom)))]
mod tests;

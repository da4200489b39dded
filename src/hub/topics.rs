//! The channels of a hub by topic, and what is remembered of dropped topics.
//!
//! **Making room.** Beyond the limit each new topic drops the quietest one without subscribers. Topics that have had events
//! are queued by their newest sequence at the last look. The first of the queue is dropped if it was not used since, or
//! else queued again; a topic with subscribers is queued as if it was used now. A new topic costs a bounded number of
//! looks, so that nothing iterates over all topics. Where most topics are in constant use the limit is exceeded by a
//! sixteenth; then the topics looked at the longest ago are dropped. Topics with subscribers are never dropped.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::RangeInclusive;

use slab::Slab;

use super::channel::Channel;
use super::ledger::Ledger;
use crate::position::Sequence;
use crate::sync::Arc;
use crate::topic::Topic;

/// The number of dropped topics that are remembered by name.
#[cfg(not(test))]
const MAX_GONE: usize = 65_536;
#[cfg(test)]
const MAX_GONE: usize = 2;

/// How many topics are looked at to make room for one: more than 16, so that a queue of topics that are all in use is
/// passed once before a sixteenth too many has come.
const LOOKS: usize = 32;

pub(crate) struct Topics {
    channels: HashMap<Topic, Arc<Channel>>,
    /// The same channels at fixed places, to iterate over a part at a time.
    places: Slab<Place>,
    /// The places of those that have had events, by the sequence they are queued with.
    queue: BTreeSet<(Sequence, usize)>,
    gone: Gone,
    capacity: usize,
    /// The place that [`Topics::drop_unused`] looks at next.
    hand: usize,
}

struct Place {
    channel: Arc<Channel>,
    /// `None` when the topic has had no event.
    queued: Option<Sequence>,
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
}

impl Topics {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            channels: HashMap::new(),
            places: Slab::new(),
            queue: BTreeSet::new(),
            gone: Gone::default(),
            capacity,
            hand: 0,
        }
    }

    pub(crate) fn get(&self, topic: &Topic) -> Option<&Arc<Channel>> {
        self.channels.get(topic)
    }

    pub(crate) fn named(&self) -> impl Iterator<Item = (&Topic, &Arc<Channel>)> {
        self.channels.iter()
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Channel>> {
        self.channels.values()
    }

    /// The channel of `topic`, which is created if there is none.
    pub(crate) fn get_or_create(&mut self, topic: &Topic, ledger: &Ledger) -> &Arc<Channel> {
        // Not `entry`: it takes the key by value, and most calls find the channel.
        if !self.channels.contains_key(topic) {
            let evicted = self.gone.take(topic);
            let place = self.places.vacant_entry();
            let channel = Channel::new(place.key(), ledger.hash(topic), topic.clone(), self.capacity, evicted);
            let channel = Arc::new(channel);
            place.insert(Place { channel: channel.clone(), queued: None });
            self.channels.insert(topic.clone(), channel);
        }
        &self.channels[topic]
    }

    /// The channel of `topic`, which is about to get its first event, `sequence`. For the sequencer.
    pub(crate) fn use_first(&mut self, topic: &Topic, sequence: Sequence, ledger: &Ledger) -> &Arc<Channel> {
        let place = self.get_or_create(topic, ledger).place;
        self.enqueue(place, sequence);
        &self.channels[topic]
    }

    fn enqueue(&mut self, place: usize, sequence: Sequence) {
        self.places[place].queued = Some(sequence);
        self.queue.insert((sequence, place));
    }

    /// The number of topics that have had events.
    pub(crate) fn used(&self) -> usize {
        self.queue.len()
    }

    /// Forgets all dropped topics: any of them may have had events up to `sequence`.
    pub(crate) fn forget(&mut self, sequence: Sequence) {
        self.gone = Gone { forgotten: sequence, ..Gone::default() };
    }

    /// The dropped topics that are remembered by name, with the newest sequence of each.
    pub(crate) fn dropped(&self) -> impl Iterator<Item = (&Topic, Sequence)> {
        let Gone { newest, order, .. } = &self.gone;
        // Some exist again.
        order
            .iter()
            .filter(|(topic, sequence)| newest.get(topic) == Some(sequence))
            .map(|(topic, newest)| (topic, *newest))
    }

    /// The newest sequence of the dropped topics that are no longer remembered.
    pub(crate) fn forgotten(&self) -> Sequence {
        self.gone.forgotten
    }

    /// Remembers a topic that was dropped after its event `newest`.
    pub(crate) fn remember_dropped(&mut self, topic: &Topic, newest: Sequence) {
        self.gone.remember(topic, newest);
    }

    /// Returns the idle topics at the `count` places from `begin` on, and the next place; see [`Channel::is_idle`].
    pub(crate) fn idle(&self, begin: usize, count: usize, recent: &RangeInclusive<u32>) -> (Vec<Topic>, Option<usize>) {
        let end = begin.saturating_add(count);
        let channels = (begin..end).filter_map(|place| self.places.get(place)).map(|place| &place.channel);
        let idle = channels.filter(|channel| channel.is_idle(recent)).filter_map(|channel| channel.topic.clone());
        (idle.collect(), (end < self.places.capacity()).then_some(end))
    }

    /// Drops `topic` if it is still idle, and returns its channel. For the sequencer.
    pub(crate) fn drop_if_idle(&mut self, topic: &Topic, recent: &RangeInclusive<u32>) -> Option<Arc<Channel>> {
        let channel = self.channels.get(topic).filter(|channel| channel.is_idle(recent))?;
        Some(self.remove(channel.place))
    }

    /// Looks at the next `count` places, and drops topics that have neither events nor subscribers.
    pub(crate) fn drop_unused(&mut self, count: usize) {
        for _ in 0..count.min(self.places.capacity()) {
            self.hand = if self.hand + 1 < self.places.capacity() { self.hand + 1 } else { 0 };
            let place = self.places.get(self.hand);
            if place.is_some_and(|place| place.queued.is_none() && place.channel.listeners.is_empty()) {
                self.remove(self.hand);
            }
        }
    }

    /// Drops topics until `goal` with events are left, or after [`LOOKS`] looks, and returns their channels. `head` is the
    /// newest sequence. For the sequencer.
    pub(crate) fn make_room(&mut self, goal: usize, head: Sequence) -> Vec<Arc<Channel>> {
        let mut dropped = Vec::new();
        for _ in 0..LOOKS {
            if self.used() <= goal {
                break;
            }
            let Some((queued, place)) = self.queue.pop_first() else { break };
            let channel = &self.places[place].channel;
            let newest = channel.newest();
            if !channel.listeners.is_empty() {
                self.enqueue(place, head);
            } else if newest > queued && self.used() <= goal + goal / 16 {
                self.enqueue(place, newest);
            } else {
                dropped.push(self.remove(place));
            }
        }
        dropped
    }

    fn remove(&mut self, place: usize) -> Arc<Channel> {
        let Place { channel, queued } = self.places.remove(place);
        if let Some(sequence) = queued {
            self.queue.remove(&(sequence, place));
        }
        if let Some(topic) = &channel.topic {
            self.channels.remove(topic);
            self.gone.remember(topic, channel.newest());
        }
        channel
    }
}

#[cfg(all(test, not(fanline_loom)))]
mod tests;

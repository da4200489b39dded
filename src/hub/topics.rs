//! The channels of a hub by topic, and what is remembered of topics whose channel was dropped.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::channel::Channel;
use super::ledger::Ledger;
use crate::position::Sequence;
use crate::sync::Arc;
use crate::topic::Topic;

/// How many dropped topics are remembered by name.
#[cfg(not(test))]
const MAX_GONE: usize = 65_536;
#[cfg(test)]
const MAX_GONE: usize = 2;

pub(crate) struct Topics {
    channels: HashMap<Topic, Arc<Channel>>,
    /// How many of them have had events.
    used: usize,
    /// The newest sequence of each dropped topic: a subscriber that comes back to it is told whether it missed any.
    gone: HashMap<Topic, Sequence>,
    /// No topic that was dropped and is remembered no longer had an event after this.
    forgotten: Sequence,
    capacity: usize,
}

impl Topics {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { channels: HashMap::new(), used: 0, gone: HashMap::new(), forgotten: 0, capacity }
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

    /// The channel of `topic`, which is made if need be.
    pub(crate) fn get_or_create(&mut self, topic: &Topic, ledger: &Ledger) -> &Arc<Channel> {
        // Not `entry`: it wants the key by value, and most calls find the channel.
        if !self.channels.contains_key(topic) {
            let evicted = self.gone.remove(topic).unwrap_or(self.forgotten);
            let channel = Channel::new(ledger.hash(topic), Some(topic.clone()), self.capacity, evicted);
            self.channels.insert(topic.clone(), Arc::new(channel));
        }
        &self.channels[topic]
    }

    /// The channel of `topic`, which is about to get its first event. For the sequencer.
    pub(crate) fn use_first(&mut self, topic: &Topic, ledger: &Ledger) -> &Arc<Channel> {
        self.used += 1;
        self.get_or_create(topic, ledger)
    }

    /// How many topics have had events.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Takes every topic for one that may have had events up to `sequence`, and remembers none.
    pub(crate) fn forget(&mut self, sequence: Sequence) {
        self.gone.clear();
        self.forgotten = sequence;
    }

    /// The topics that nobody subscribes to and that nobody published to in the ticks `recent`, or ever.
    pub(crate) fn idle(&self, recent: &RangeInclusive<u32>) -> Vec<Topic> {
        let idle = self.channels.iter().filter(|(_, channel)| channel.is_idle(recent));
        idle.map(|(topic, _)| topic.clone()).collect()
    }

    /// Drops `topic` if it is idle still, and answers its channel. For the sequencer.
    pub(crate) fn drop_if_idle(&mut self, topic: &Topic, recent: &RangeInclusive<u32>) -> Option<Arc<Channel>> {
        if !self.channels.get(topic)?.is_idle(recent) {
            return None;
        }
        self.remove(topic)
    }

    /// Drops topics that have had events and that nobody subscribes to until `goal` with events are left, those first that
    /// have been quiet for the longest time, and answers their channels. For the sequencer.
    pub(crate) fn drop_quietest(&mut self, goal: usize) -> Vec<Arc<Channel>> {
        let idle = self.channels.iter().filter(|(_, channel)| channel.is_used() && channel.listeners.is_empty());
        let mut idle: Vec<_> = idle.map(|(topic, channel)| (channel.newest(), topic.clone())).collect();
        let count = self.used.saturating_sub(goal);
        if count < idle.len() {
            idle.select_nth_unstable_by_key(count, |(newest, _)| *newest);
            idle.truncate(count);
        }
        idle.iter().filter_map(|(_, topic)| self.remove(topic)).collect()
    }

    fn remove(&mut self, topic: &Topic) -> Option<Arc<Channel>> {
        let channel = self.channels.remove(topic)?;
        self.used -= usize::from(channel.is_used());
        let newest = channel.newest();
        if newest > self.forgotten {
            if self.gone.len() == MAX_GONE {
                self.forgotten = self.gone.drain().map(|(_, newest)| newest).max().unwrap_or(self.forgotten);
            }
            self.gone.insert(topic.clone(), newest);
        }
        Some(channel)
    }
}

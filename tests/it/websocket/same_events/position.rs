use std::collections::BTreeMap;

use super::log::Log;

/// What one client has received, and what it must receive next.
///
/// The events of one topic are always in order. Those of several topics are in order too, except that a replay precedes what
/// the other topics have had since: a topic that is being replayed has a position of its own until an event of another one
/// shows that the replay is over.
#[derive(Default)]
pub struct Position {
    /// The subscribed topics, each with the last sequence of which it has everything.
    cursors: BTreeMap<usize, u64>,
    /// Those that may be behind or ahead of `last`.
    replaying: Vec<usize>,
    /// The sequence up to which the other topics have everything.
    pub last: u64,
}

impl Position {
    pub fn topics(&self) -> impl Iterator<Item = usize> {
        self.cursors.keys().copied()
    }

    /// Removes the topics that are being replayed. Returns each with the sequence up to which it has everything.
    pub fn take_replaying(&mut self) -> Vec<(usize, u64)> {
        let topics = std::mem::take(&mut self.replaying);
        topics.into_iter().filter_map(|topic| Some((topic, self.cursors.remove(&topic)?))).collect()
    }

    /// Begins with these topics after a sequence.
    pub fn begin(&mut self, topics: impl IntoIterator<Item = usize>, after: u64) {
        self.cursors = topics.into_iter().map(|topic| (topic, after)).collect();
        self.last = after;
    }

    /// Adds a topic with its events after a sequence. It may be behind what the other topics have had, or ahead of it.
    pub fn add(&mut self, topic: usize, after: u64) {
        if self.cursors.is_empty() {
            self.last = after;
        }
        if self.cursors.insert(topic, after).is_none() && after != self.last {
            self.replaying.push(topic);
        }
    }

    pub fn has(&self, topic: usize) -> bool {
        self.cursors.contains_key(&topic)
    }

    /// Removes a topic, and returns the sequence up to which it has everything.
    pub fn remove(&mut self, topic: usize) -> Option<u64> {
        self.replaying.retain(|&other| other != topic);
        self.cursors.remove(&topic)
    }

    /// Checks that the event with this sequence is the next of its topic.
    pub fn receive(&mut self, log: &Log, sequence: u64) {
        let topic = log.topic(sequence);
        let cursor =
            self.cursors.get_mut(&topic).unwrap_or_else(|| panic!("{sequence} is of topic {topic}, which was left"));
        assert_eq!(log.next(topic, *cursor), Some(sequence), "topic {topic} was at {cursor}");
        *cursor = sequence;
        if !self.replaying.contains(&topic) {
            assert!(sequence > self.last, "{sequence} of topic {topic} follows {}", self.last);
            self.last = sequence;
            // A topic that was subscribed from a later sequence is still ahead.
            let cursors = &self.cursors;
            self.replaying.retain(|topic| cursors[topic] > sequence);
        }
    }

    /// Whether every topic has its last event.
    pub fn is_complete(&self, log: &Log) -> bool {
        self.cursors.iter().all(|(&topic, &cursor)| log.next(topic, cursor).is_none())
    }
}

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

    /// The topics that have everything up to `last`.
    pub fn steady(&self) -> impl Iterator<Item = usize> {
        self.topics().filter(|topic| !self.replaying.contains(topic))
    }

    /// The topics that are being replayed, each with the sequence up to which it has everything.
    pub fn replaying(&self) -> impl Iterator<Item = (usize, u64)> {
        self.replaying.iter().map(|&topic| (topic, self.cursors[&topic]))
    }

    /// Begins with these topics after a sequence.
    pub fn begin(&mut self, topics: impl IntoIterator<Item = usize>, after: u64) {
        self.cursors = topics.into_iter().map(|topic| (topic, after)).collect();
        self.last = after;
    }

    /// Adds a topic with its events after a sequence. The other topics have everything up to there, unless this is a replay.
    pub fn add(&mut self, topic: usize, after: u64, is_replay: bool) {
        if self.cursors.contains_key(&topic) {
            return;
        }
        self.cursors.insert(topic, after);
        if is_replay {
            self.replaying.push(topic);
        } else {
            assert!(after >= self.last, "a topic begins after {after}, but the others have had {}", self.last);
            self.last = after;
        }
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

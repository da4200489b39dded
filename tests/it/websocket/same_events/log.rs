use fanline::event::Event;
use serde_json::{Value, json};

use crate::process::Random;
use crate::support::event;

pub const TOPICS: usize = 8;

/// What is published: event `n` has the sequence `n`, and each block of [`TOPICS`] events has one of each topic.
pub struct Log {
    /// The topic of each event, from sequence 1.
    topics: Vec<usize>,
}

impl Log {
    pub fn new(events: u64) -> Self {
        let mut random = Random::new(0);
        let mut topics = Vec::new();
        while (topics.len() as u64) < events {
            let mut block: Vec<usize> = (0..TOPICS).collect();
            while !block.is_empty() {
                topics.push(block.swap_remove(random.below(block.len() as u64) as usize));
            }
        }
        Self { topics }
    }

    /// The last sequence.
    pub fn end(&self) -> u64 {
        self.topics.len() as u64
    }

    pub fn topic(&self, sequence: u64) -> usize {
        self.topics[sequence as usize - 1]
    }

    /// The first event of a topic after a sequence.
    pub fn next(&self, topic: usize, after: u64) -> Option<u64> {
        (after + 1..=self.end()).find(|&sequence| self.topic(sequence) == topic)
    }

    pub fn event(&self, sequence: u64) -> Event {
        event(&name(self.topic(sequence)), &Self::data(sequence).to_string())
    }

    pub fn data(sequence: u64) -> Value {
        json!({"n": sequence})
    }
}

/// The name of a topic.
pub fn name(topic: usize) -> String {
    format!("log:{topic}")
}

//! Making room: its cost, and which topics are dropped.

use super::*;
use crate::event::{Event, Payload};
use crate::hub::encoder::Encoder;
use crate::hub::frame::Frame;
use crate::hub::ledger::LedgerKey;
use crate::hub::numbering::Numbering;
use crate::position::Epoch;

/// A frame, which is all that a topic needs to be in use.
fn frame(topic: &Topic, sequence: Sequence) -> Frame {
    let mut run = Encoder::new(Numbering { epoch: Epoch(1), offset: 0 }, 1);
    run.push(sequence, &Event::new(topic.clone(), Payload::text("x")));
    run.finish(&Default::default()).unwrap().1.next().unwrap()
}

fn topic(number: usize) -> Topic {
    Topic::new(&format!("t{number}")).unwrap()
}

struct World {
    topics: Topics,
    ledger: Ledger,
    newest: Sequence,
}

impl World {
    fn new() -> Self {
        Self { topics: Topics::new(1), ledger: Ledger::new(8, LedgerKey::new()), newest: 0 }
    }

    /// Publishes to a topic, and returns the topics that were dropped to make room.
    fn publish(&mut self, number: usize, max: usize) -> Vec<Topic> {
        self.newest += 1;
        let (topic, mut dropped) = (topic(number), Vec::new());
        if self.topics.get(&topic).is_none() {
            dropped = self.topics.make_room(max - 1, self.newest - 1);
            self.topics.use_first(&topic, self.newest, &self.ledger);
        }
        self.topics.get(&topic).unwrap().append(frame(&topic, self.newest), |_| {});
        dropped.iter().filter_map(|channel| channel.topic.clone()).collect()
    }
}

#[test]
fn least_recently_used_topic_is_dropped() {
    let mut world = World::new();
    for number in [0, 1, 2, 3, 0, 2] {
        assert_eq!(world.publish(number, 4), []);
    }
    assert_eq!(world.publish(4, 4), [topic(1)]);
    assert_eq!(world.publish(5, 4), [topic(3)]);
    assert_eq!(world.publish(6, 4), [topic(0)]);
    assert_eq!(world.topics.used(), 4);
}

#[test]
fn limit_is_exceeded_by_at_most_a_sixteenth_when_all_topics_are_in_use() {
    const MAX: usize = 1600;
    let mut world = World::new();
    for number in 0..MAX {
        world.publish(number, MAX);
    }
    for new in MAX..2 * MAX {
        let dropped = world.publish(new, MAX);
        assert!(dropped.len() <= LOOKS);
        assert!(world.topics.used() <= MAX + MAX / 16, "{}", world.topics.used());
        // All remaining topics are used before the next one is created.
        for channel in world.topics.iter().cloned().collect::<Vec<_>>() {
            world.newest += 1;
            channel.append(frame(channel.topic.as_ref().unwrap(), world.newest), |_| {});
        }
    }
}

#[test]
fn dropped_topic_leaves_nothing_in_the_queue() {
    let mut world = World::new();
    for round in 0..10 {
        for number in 0..20 {
            world.publish(number, 100);
        }
        for number in 0..20 {
            assert!(world.topics.drop_if_idle(&topic(number), &(1..=1)).is_some(), "in round {round}");
        }
        assert_eq!((world.topics.used(), world.topics.queue.len(), world.topics.places.len()), (0, 0, 0));
        assert!(world.topics.gone.order.len() <= MAX_GONE && world.topics.gone.newest.len() <= MAX_GONE);
    }
}

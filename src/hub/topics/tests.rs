//! Making room: its cost, and which topics are dropped.

use super::*;
use crate::event::{Event, Payload};
use crate::hub::encoder::Encoder;
use crate::hub::frame::Frame;
use crate::hub::ledger::LedgerKey;
use crate::hub::numbering::Numbering;
use crate::hub::wake::WakeGroup;
use crate::position::Epoch;

/// A frame, which is all that a topic needs to be in use.
fn frame(topic: &Topic, sequence: Sequence) -> Frame {
    let mut run = Encoder::new(Numbering { epoch: Epoch(1), offset: 0 }, 1);
    run.push(sequence, &Event::new(topic.clone(), Payload::text("x")));
    run.finish(&Default::default()).unwrap().next().unwrap()
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
        let known = self.topics.get(&topic).filter(|channel| channel.is_claimed());
        let channel = known.unwrap_or_else(|| {
            dropped = self.topics.make_room(max - 1, self.newest - 1);
            self.topics.claim(&topic, self.newest, &self.ledger)
        });
        self.append(&channel, 0);
        names(dropped)
    }

    fn append(&self, channel: &Channel, tick: u32) {
        channel.touch(tick);
        channel.append([frame(channel.topic.as_ref().unwrap(), self.newest)].into_iter(), |_| {});
    }

    fn subscribe(&self, number: usize, max_silent: usize) -> Result<(Arc<Channel>, Arc<WakeGroup>), TooManyTopics> {
        let (group, mut entered) = (WakeGroup::inline(), None);
        let key = group.enter();
        self.topics.enter(&[topic(number)], max_silent, &self.ledger, |channel| {
            channel.listeners.add(&group, key);
            entered = Some(channel.clone());
        })?;
        Ok((entered.unwrap(), group))
    }

    fn leave(&self, (channel, group): (Arc<Channel>, Arc<WakeGroup>)) {
        if channel.listeners.remove(&group, 0) {
            self.topics.drop_unused(&channel);
        }
    }

    fn counts(&self) -> (usize, usize) {
        (self.topics.used(), self.topics.len())
    }
}

fn names(channels: Vec<Arc<Channel>>) -> Vec<Topic> {
    channels.iter().filter_map(|channel| channel.topic.clone()).collect()
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
    assert_eq!(world.counts(), (4, 4));
}

#[test]
fn limit_is_exceeded_by_at_most_a_sixteenth_when_all_topics_are_in_use() {
    const MAX: usize = 480;
    let mut world = World::new();
    for number in 0..MAX {
        world.publish(number, MAX);
    }
    for new in MAX..2 * MAX {
        let dropped = world.publish(new, MAX);
        assert!(dropped.len() <= LOOKS);
        assert!(world.topics.used() <= MAX + MAX / 16, "{}", world.topics.used());
        // All remaining topics are used before the next one is created.
        for channel in world.topics.slices().flatten() {
            world.newest += 1;
            world.append(&channel, 0);
        }
    }
}

#[test]
fn idle_topics_are_dropped_from_the_front_of_the_queue() {
    let mut world = World::new();
    for number in 0..6 {
        world.publish(number, 100);
    }
    let subscriber = world.subscribe(1, 0).unwrap();
    for (number, tick) in [(2, 7), (0, 8)] {
        world.newest += 1;
        world.append(&world.topics.get(&topic(number)).unwrap(), tick);
    }
    let dropped = |world: &World, looks, recent| {
        let (dropped, may_have_more) = world.topics.drop_idle(looks, &recent, world.newest);
        (names(dropped), may_have_more)
    };
    assert_eq!(dropped(&world, 4, 5..=8), (vec![topic(3)], true), "0 and 2 were used since, and 1 has a subscriber");
    assert_eq!(dropped(&world, 9, 5..=8), (vec![topic(4), topic(5)], false), "up to the first that is not idle");
    assert_eq!(dropped(&world, 9, 8..=11), (vec![topic(2)], false));
    world.leave(subscriber);
    assert_eq!(dropped(&world, 9, 9..=12), (vec![topic(0), topic(1)], false));
    assert_eq!(world.counts(), (0, 0));
}

#[test]
fn dropped_topic_leaves_nothing() {
    let mut world = World::new();
    for round in 0..10 {
        for number in 0..20 {
            world.publish(number, 100);
        }
        assert_eq!(world.topics.drop_idle(20, &(1..=1), world.newest).0.len(), 20, "in round {round}");
        assert_eq!((world.counts(), world.topics.slices().flatten().count()), ((0, 0), 0));
        for shard in &world.topics.shards {
            let Shard { gone, .. } = &*read(shard);
            assert!(gone.order.len() <= MAX_GONE && gone.newest.len() <= MAX_GONE);
        }
    }
}

#[test]
fn topic_without_events_is_dropped_with_its_last_subscriber() {
    let mut world = World::new();
    let subscribers = [world.subscribe(0, 1).unwrap(), world.subscribe(0, 1).unwrap()];
    assert_eq!(world.subscribe(1, 1).err(), Some(TooManyTopics));
    assert_eq!(world.counts(), (0, 1));
    let [first, second] = subscribers;
    world.leave(first);
    assert_eq!(world.counts(), (0, 1));
    world.leave(second);
    assert_eq!((world.counts(), world.topics.slices().flatten().count()), ((0, 0), 0));
    let subscriber = world.subscribe(1, 1).unwrap();
    world.publish(1, 100);
    assert_eq!(world.counts(), (1, 1), "its first event makes room");
    let other = world.subscribe(0, 1).unwrap();
    world.leave(subscriber);
    assert_eq!(world.counts(), (1, 2), "one with events stays");
    world.leave(other);
    assert_eq!(world.counts(), (1, 1));
}

//! The channels of a hub by the bytes that they hold.
//!
//! **Contract.** [`Heaviest::pop`] returns a channel of the heaviest class: it holds at most a fifth less than the heaviest. Of
//! channels in the same class it returns the one that has been there the longest. No operation takes longer with more channels,
//! but for the depth of a tree: there may be a million.
//!
//! **How.** A class has the weights between two quarters of a power of two: 4, 5, 6 or 7 times 2^n to the next. A channel
//! that becomes heavier moves to its class at once. One that becomes lighter stays until it is the first of the heaviest class,
//! and moves then: rings that shrink and grow again cost nothing. A firehose is one class above its weight, so that it evicts
//! before a topic that holds the same events: readers of the topic still have them.

use std::collections::BTreeMap;

use super::channel::Channel;
use crate::sync::Arc;

/// A class of weights. The first one is that of empty channels, which are not listed.
pub(super) type Class = u8;

/// A place in the list, kept by its channel: the class, and a number that grows with each entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) class: Class,
    pub(super) number: u32,
}

/// See the module's documentation. For the sequencer.
#[derive(Default)]
pub(super) struct Heaviest {
    channels: BTreeMap<Place, Arc<Channel>>,
    last: u32,
}

/// The class of `channel` when it holds `weight` bytes.
pub(super) fn class_of(channel: &Channel, weight: usize) -> Class {
    let class = class_of_weight(weight);
    if channel.topic.is_none() && class > 0 { class.saturating_add(1) } else { class }
}

fn class_of_weight(weight: usize) -> Class {
    match weight.checked_ilog2() {
        // A frame weighs more.
        None | Some(0 | 1) => weight as Class,
        Some(power) => 4 * power as Class + (weight >> (power - 2) & 3) as Class,
    }
}

impl Heaviest {
    /// Lists `channel`, which holds `weight` bytes, behind the others of its class, and nowhere if it is empty.
    pub(super) fn put(&mut self, channel: &Arc<Channel>, weight: usize) {
        self.remove(channel);
        let class = class_of(channel, weight);
        if class == 0 {
            return;
        }
        let place = loop {
            self.last = self.last.wrapping_add(1);
            let place = Place { class, number: self.last };
            // The numbers begin again after 2^32 entries.
            if !self.channels.contains_key(&place) {
                break place;
            }
        };
        self.channels.insert(place, channel.clone());
        channel.set_place(place);
    }

    /// Removes a channel that holds almost as much as the heaviest.
    pub(super) fn pop(&mut self) -> Option<Arc<Channel>> {
        loop {
            let heaviest = self.channels.last_key_value()?.0.class;
            let first = Place { class: heaviest, number: 0 };
            let channel = self.channels.range(first..).next()?.1.clone();
            let weight = channel.weight();
            if class_of(&channel, weight) == heaviest {
                self.remove(&channel);
                return Some(channel);
            }
            self.put(&channel, weight);
        }
    }

    pub(super) fn remove(&mut self, channel: &Channel) {
        let place = channel.place();
        if place.class != 0 {
            self.channels.remove(&place);
            channel.set_place(Place::default());
        }
    }
}

#[cfg(all(test, not(fanline_loom)))]
mod tests {
    use super::*;
    use crate::event::{Event, Payload};
    use crate::hub::encoder::Encoder;
    use crate::hub::numbering::Numbering;
    use crate::position::Epoch;
    use crate::topic::Topic;

    /// A channel with one event for each size.
    fn channel(name: &str, sizes: &[usize]) -> Arc<Channel> {
        let topic = Topic::new(name).unwrap();
        let channel = Arc::new(Channel::new(0, topic.clone(), 100, 0));
        for (sequence, &size) in (1..).zip(sizes) {
            let mut run = Encoder::new(Numbering { epoch: Epoch(1), offset: 0 }, 1);
            run.push(sequence, &Event::new(topic.clone(), Payload::text("x".repeat(size))));
            channel.append(run.finish(&Default::default()).unwrap().1.next().unwrap(), |_| {});
        }
        channel
    }

    fn name(channel: Option<Arc<Channel>>) -> Option<String> {
        channel.map(|channel| channel.topic.as_ref().unwrap().to_string())
    }

    #[test]
    fn weights_of_one_class_differ_by_less_than_a_quarter() {
        assert_eq!((class_of_weight(0), class_of_weight(usize::MAX)), (0, Class::MAX));
        for weight in (1..10_000).chain((14..63).map(|power| (1 << power) - 1)) {
            let class = class_of_weight(weight);
            assert!((class..=class + 1).contains(&class_of_weight(weight + 1)) || weight < 4, "{weight}");
            assert!(class_of_weight(weight + weight.div_ceil(4)) > class, "{weight}");
        }
    }

    #[test]
    fn heaviest_class_comes_first_and_in_it_the_earliest() {
        let mut heaviest = Heaviest::default();
        for (name, size) in [("light", 100), ("one", 50_000), ("two", 50_000), ("empty", 0), ("middle", 10_000)] {
            let channel = channel(name, if size == 0 { &[] } else { std::slice::from_ref(&size) });
            heaviest.put(&channel, channel.weight());
        }
        let names: Vec<_> = std::iter::from_fn(|| name(heaviest.pop())).collect();
        assert_eq!(names, ["one", "two", "middle", "light"]);
    }

    #[test]
    fn firehose_with_the_events_of_a_topic_comes_before_it() {
        let (topic, firehose) = (channel("topic", &[100_000]), Arc::new(Channel::firehose(false, 100, 0)));
        let mut heaviest = Heaviest::default();
        for (channel, weight) in [(&topic, topic.weight()), (&firehose, 0)] {
            heaviest.put(channel, weight);
        }
        assert_eq!(firehose.class(), 0, "an empty one is not listed");
        assert_eq!(class_of(&firehose, topic.weight()), topic.class() + 1);
        assert_eq!(class_of(&firehose, usize::MAX), Class::MAX);
    }

    #[test]
    fn channel_that_became_lighter_is_found_where_it_belongs() {
        let mut heaviest = Heaviest::default();
        let (was_heavy, heavy) = (channel("was-heavy", &[100_000]), channel("heavy", &[20_000]));
        let light = channel("light", &[100]);
        for channel in [&was_heavy, &heavy, &light] {
            heaviest.put(channel, channel.weight());
        }
        was_heavy.evict_oldest(usize::MAX);
        heaviest.remove(&light);
        assert_eq!(name(heaviest.pop()).as_deref(), Some("heavy"));
        assert_eq!(name(heaviest.pop()), None, "an empty channel is not listed");
        assert_eq!(was_heavy.place(), Place::default());
    }

    #[test]
    fn channel_is_listed_once() {
        let mut heaviest = Heaviest::default();
        let channel = channel("a", &[100]);
        for _ in 0..3 {
            heaviest.put(&channel, channel.weight());
        }
        assert!(heaviest.pop().is_some() && heaviest.pop().is_none());
    }
}

//! The channels of a hub by the bytes that they hold.
//!
//! **Contract.** [`Heaviest::pop`] returns a channel of the heaviest class: it holds at most a fifth less than the heaviest, or
//! all hold less than [`LIGHT`]. Of channels in the same class it returns the one that has been there the longest. No operation
//! takes longer with more channels: there may be a million.
//!
//! **How.** A class has the weights between two quarters of a power of two: 4, 5, 6 or 7 times 2^n to the next. All light
//! weights are one class, so that the first events of a topic do not move it: in a hub with very many topics its neighbours
//! are seldom in the processor's cache. A channel
//! that becomes heavier moves to its class at once. One that becomes lighter stays until it is the first of the heaviest class,
//! and moves then: rings that shrink and grow again cost nothing. A firehose is one class above its weight, so that it evicts
//! before a topic that holds the same events: readers of the topic still have them.
//!
//! Each class is a linked list. Its nodes are in a table of chunks, which grows without moving them; a channel keeps the number
//! of its node. So a move touches no memory of other channels but that of two neighbours.

use std::collections::BTreeMap;

use super::channel::Channel;
use crate::sync::Arc;

/// A class of weights. The first one is that of empty channels, which are not listed.
pub(super) type Class = u8;

/// Where a channel is listed, kept by the channel: its class, and the number of its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) class: Class,
    pub(super) number: u32,
}

/// See the module's documentation. For the sequencer.
#[derive(Default)]
pub(super) struct Heaviest {
    /// The classes with channels.
    lists: BTreeMap<Class, List>,
    nodes: Nodes,
}

/// The ends of a list with at least one node.
struct List {
    first: u32,
    last: u32,
}

/// The nodes of all lists by their numbers.
#[derive(Default)]
struct Nodes {
    chunks: Vec<Vec<Node>>,
    /// The numbers that are free.
    free: Vec<u32>,
}

struct Node {
    /// `None` in a free node.
    channel: Option<Arc<Channel>>,
    /// The neighbours in the list, or [`NONE`].
    before: u32,
    after: u32,
}

/// The weight below which there is one class: that of a few small events.
const LIGHT: usize = 1 << 10;

/// No node.
const NONE: u32 = u32::MAX;

/// The number of nodes in a chunk.
const CHUNK: usize = 1024;

/// The class of `channel` when it holds `weight` bytes.
pub(super) fn class_of(channel: &Channel, weight: usize) -> Class {
    let class = class_of_weight(weight);
    if channel.topic.is_none() && class > 0 { class.saturating_add(1) } else { class }
}

fn class_of_weight(weight: usize) -> Class {
    if weight == 0 {
        return 0;
    }
    let weight = weight.max(LIGHT - 1);
    let power = weight.ilog2();
    4 * power as Class + (weight >> (power - 2) & 3) as Class
}

impl Heaviest {
    /// Lists `channel`, which holds `weight` bytes, behind the others of its class, and nowhere if it is empty.
    pub(super) fn put(&mut self, channel: &Arc<Channel>, weight: usize) {
        self.remove(channel);
        let class = class_of(channel, weight);
        if class == 0 {
            return;
        }
        let list = self.lists.entry(class).or_insert(List { first: NONE, last: NONE });
        let number = self.nodes.add(Node { channel: Some(channel.clone()), before: list.last, after: NONE });
        match self.nodes.get(list.last) {
            Some(last) => last.after = number,
            None => list.first = number,
        }
        list.last = number;
        channel.set_place(Place { class, number });
    }

    /// Removes a channel that holds almost as much as the heaviest.
    pub(super) fn pop(&mut self) -> Option<Arc<Channel>> {
        loop {
            let (&heaviest, list) = self.lists.last_key_value()?;
            let channel = self.nodes.get(list.first)?.channel.clone()?;
            let weight = channel.weight();
            if class_of(&channel, weight) == heaviest {
                self.remove(&channel);
                return Some(channel);
            }
            self.put(&channel, weight);
        }
    }

    pub(super) fn remove(&mut self, channel: &Channel) {
        let Place { class, number } = channel.place();
        if class == 0 {
            return;
        }
        let Node { before, after, .. } = self.nodes.take(number);
        if let Some(node) = self.nodes.get(before) {
            node.after = after;
        }
        if let Some(node) = self.nodes.get(after) {
            node.before = before;
        }
        if let Some(list) = self.lists.get_mut(&class) {
            list.first = if before == NONE { after } else { list.first };
            list.last = if after == NONE { before } else { list.last };
            if list.first == NONE {
                self.lists.remove(&class);
            }
        }
        channel.set_place(Place::default());
    }
}

impl Nodes {
    /// The node `number`, unless that is [`NONE`].
    fn get(&mut self, number: u32) -> Option<&mut Node> {
        self.chunks.get_mut(number as usize / CHUNK)?.get_mut(number as usize % CHUNK)
    }

    /// Returns the number of the new node.
    fn add(&mut self, node: Node) -> u32 {
        if let Some(number) = self.free.pop() {
            self.chunks[number as usize / CHUNK][number as usize % CHUNK] = node;
            return number;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let place = self.chunks.len() - 1;
        let chunk = &mut self.chunks[place];
        chunk.push(node);
        (place * CHUNK + chunk.len() - 1) as u32
    }

    /// Frees the node `number`.
    fn take(&mut self, number: u32) -> Node {
        self.free.push(number);
        let node = &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK];
        std::mem::replace(node, Node { channel: None, before: NONE, after: NONE })
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
            channel.append(run.finish(&Default::default()).unwrap(), |_| {});
        }
        channel
    }

    fn name(channel: Option<Arc<Channel>>) -> Option<String> {
        channel.map(|channel| channel.topic.as_ref().unwrap().to_string())
    }

    #[test]
    fn weights_of_one_class_differ_by_less_than_a_quarter() {
        assert_eq!((class_of_weight(0), class_of_weight(usize::MAX)), (0, Class::MAX));
        assert!((1..LIGHT).all(|weight| class_of_weight(weight) == class_of_weight(1)));
        for weight in (LIGHT - 1..10_000).chain((14..63).map(|power| (1 << power) - 1)) {
            let class = class_of_weight(weight);
            assert!((class..=class + 1).contains(&class_of_weight(weight + 1)), "{weight}");
            assert!(class_of_weight(weight + weight.div_ceil(4)) > class, "{weight}");
        }
    }

    #[test]
    fn heaviest_class_comes_first_and_in_it_the_earliest() {
        let mut heaviest = Heaviest::default();
        for (name, size) in
            [("light", 100), ("one", 50_000), ("two", 50_000), ("empty", 0), ("middle", 10_000), ("lighter", 10)]
        {
            let channel = channel(name, if size == 0 { &[] } else { std::slice::from_ref(&size) });
            heaviest.put(&channel, channel.weight());
        }
        let names: Vec<_> = std::iter::from_fn(|| name(heaviest.pop())).collect();
        assert_eq!(names, ["one", "two", "middle", "light", "lighter"]);
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
    fn channels_leave_a_class_at_any_place() {
        let channels: Vec<_> = ["a", "b", "c", "d", "e"].map(|name| channel(name, &[100])).into();
        // First, in the middle, last, and all but one.
        for (gone, rest) in [("a", "bcde"), ("c", "abde"), ("e", "abcd"), ("abde", "c"), ("abcde", "")] {
            let mut heaviest = Heaviest::default();
            for channel in &channels {
                channel.set_place(Place::default());
                heaviest.put(channel, channel.weight());
            }
            let is_gone = |channel: &&Arc<Channel>| gone.contains(&name(Some((*channel).clone())).unwrap());
            channels.iter().filter(is_gone).for_each(|channel| heaviest.remove(channel));
            heaviest.put(&channel("last", &[100]), channels[0].weight());
            let names: Vec<_> = std::iter::from_fn(|| name(heaviest.pop())).collect();
            assert_eq!(names.concat(), format!("{rest}last"));
            assert_eq!(heaviest.nodes.free.len(), heaviest.nodes.chunks[0].len(), "all nodes are free");
        }
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

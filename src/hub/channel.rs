//! A channel: the ring of a topic, or a firehose: one has every event of reserved topics, the other has all other events of the
//! hub.
//!
//! The ring numbers a channel's events 0, 1, 2 …; each frame has its sequence in the hub's order. The [`Tail`] joins the
//! two: it has the sequence of the last frame that left the ring. So it is known exactly whether the channel has evicted
//! anything after a position, or was merely quiet. An evicted frame is read when its segment is freed, together with the
//! others: most of them are no longer in the processor's cache.

use std::ops::RangeInclusive;
use std::sync::OnceLock;

use super::frame::Frame;
use super::heaviest;
use super::latest::List;
use super::ledger::TopicHash;
use super::wake::Listeners;
use crate::position::Sequence;
use crate::ring::{Read, Ring, Writer};
use crate::sync::{Arc, AtomicBool, AtomicU8, AtomicU32, Mutex, Ordering, lock};
use crate::topic::Topic;

pub(crate) struct Channel {
    /// The topic's name in the ledger; 0 for a firehose.
    pub(crate) hash: TopicHash,
    /// `None` for a firehose.
    pub(crate) topic: Option<Topic>,
    /// Whether its events are those of reserved topics.
    pub(crate) is_reserved: bool,
    /// Whether it has had events, or is about to have its first. Set under the lock of its table.
    is_claimed: AtomicBool,
    pub(crate) ring: Ring<Frame>,
    pub(crate) listeners: Listeners,
    /// The latest values, if there are readers of these or keys. The lock is the real one, also under loom: it is set before a
    /// model begins.
    pub(crate) latest: OnceLock<Arc<List>>,
    /// The hub's tick at which something was last published here.
    last_used: AtomicU32,
    /// Its place among the [`Heaviest`](heaviest::Heaviest). In parts, because a whole one would take more room.
    class: AtomicU8,
    number: AtomicU32,
    tail: Mutex<Tail>,
}

/// What changes together with the ring's ends.
struct Tail {
    writer: Writer<Frame>,
    /// The sequence of the newest event of this channel that is no longer in memory; 0 when all are. A later sequence where that
    /// is not known: the ledger has the events up to there.
    freed: Sequence,
    /// The bytes held by the frames that are in memory.
    weight: usize,
}

/// Where a reader starts in a channel.
pub(crate) struct Place {
    /// The index of the first frame that it reads.
    pub(crate) index: u64,
    /// The newest event after the position asked for that is not retained.
    pub(crate) evicted: Option<Sequence>,
}

impl Channel {
    /// A channel whose events up to `evicted`, if any, are not retained.
    pub(crate) fn new(hash: TopicHash, topic: Topic, capacity: usize, evicted: Sequence) -> Self {
        let is_reserved = topic.is_reserved();
        Self { hash, topic: Some(topic), ..Self::firehose(is_reserved, capacity, evicted) }
    }

    /// The firehose of reserved topics, or that of all others.
    pub(crate) fn firehose(is_reserved: bool, capacity: usize, evicted: Sequence) -> Self {
        let (ring, writer) = Ring::new(capacity);
        let tail = Mutex::new(Tail { writer, freed: evicted, weight: 0 });
        let (is_claimed, last_used) = (AtomicBool::new(false), AtomicU32::new(0));
        let (listeners, class, number) = (Listeners::default(), AtomicU8::new(0), AtomicU32::new(0));
        Self {
            hash: 0,
            topic: None,
            is_reserved,
            is_claimed,
            ring,
            listeners,
            latest: OnceLock::new(),
            last_used,
            class,
            number,
            tail,
        }
    }

    /// Appends the frames of a run, no more than the ring retains, and returns how many bytes the channel held before, and holds
    /// now. Before some have to make room, `before_evicting` is called with the number of events that are newer than all of
    /// these once the run is appended. For the sequencer.
    pub(crate) fn append(
        &self,
        frames: impl ExactSizeIterator<Item = Frame>,
        before_evicting: impl FnOnce(u64),
    ) -> (usize, usize) {
        let mut tail = lock(&self.tail);
        let before = tail.weight;
        let oldest = tail.writer.oldest_after(frames.len() as u64);
        if oldest > tail.writer.oldest() {
            before_evicting(tail.writer.capacity());
            self.evict(&mut tail, oldest);
        }
        for frame in frames {
            tail.weight += frame.weight();
            self.ring.push(&mut tail.writer, frame);
        }
        (before, tail.weight)
    }

    /// Evicts the oldest events until `goal` bytes are free, or to the end of their segment. Returns the bytes freed: 0 when there
    /// is nothing left. For the sequencer.
    pub(crate) fn evict_oldest(&self, goal: usize) -> usize {
        let mut tail = lock(&self.tail);
        let oldest = tail.writer.oldest();
        let Read::Run(run) = self.ring.read(oldest) else { return 0 };
        let mut freed = 0;
        let end = run.indices().find(|&index| {
            freed += run.get(index).weight();
            freed >= goal
        });
        self.evict(&mut tail, end.map_or(run.indices().end, |last| last + 1))
    }

    /// Evicts the events before index `oldest`, and returns the bytes freed.
    fn evict(&self, tail: &mut Tail, oldest: u64) -> usize {
        let Tail { writer, freed, weight } = tail;
        let before = *weight;
        self.ring.evict(writer, oldest, |frame| {
            *weight -= frame.weight();
            *freed = frame.sequence();
        });
        before - *weight
    }

    /// The newest event that is not retained; 0 when all are.
    fn evicted(&self, tail: &Tail) -> Sequence {
        let in_memory = tail.writer.oldest().checked_sub(1).and_then(|index| self.ring.with(index, Frame::sequence));
        in_memory.map_or(tail.freed, |evicted| evicted.max(tail.freed))
    }

    /// Evicts everything up to `base`, and returns the bytes freed. For the sequencer.
    pub(crate) fn break_off(&self, base: Sequence) -> usize {
        let mut tail = lock(&self.tail);
        let head = tail.writer.head();
        let freed = if tail.writer.oldest() == head { 0 } else { self.evict(&mut tail, head) };
        tail.freed = base;
        freed
    }

    /// The bytes held by this channel.
    pub(crate) fn weight(&self) -> usize {
        lock(&self.tail).weight
    }

    /// Its place among the heaviest.
    pub(super) fn place(&self) -> heaviest::Place {
        heaviest::Place { class: self.class(), number: self.number.load(Ordering::Relaxed) }
    }

    /// The class in which it is listed among the heaviest.
    pub(super) fn class(&self) -> heaviest::Class {
        self.class.load(Ordering::Relaxed)
    }

    pub(super) fn set_place(&self, place: heaviest::Place) {
        self.class.store(place.class, Ordering::Relaxed);
        self.number.store(place.number, Ordering::Relaxed);
    }

    /// The number of events that can be read.
    pub(crate) fn retained(&self) -> u64 {
        let indices = self.ring.retained();
        indices.end - indices.start
    }

    /// The number of events appended since it was created.
    pub(crate) fn appended(&self) -> u64 {
        self.ring.retained().end
    }

    /// The newest event of this channel, retained or not.
    pub(crate) fn newest(&self) -> Sequence {
        let tail = lock(&self.tail);
        match tail.writer.head().checked_sub(1).map(|index| self.ring.read(index)) {
            Some(Read::Run(run)) => run.get(run.indices().start).sequence(),
            _ => self.evicted(&tail),
        }
    }

    /// Where a reader starts that has seen everything up to `sequence`.
    pub(crate) fn place_after(&self, sequence: Sequence) -> Place {
        // While the tail is locked nothing is evicted, so that index and `evicted` belong together.
        let tail = lock(&self.tail);
        Place { index: self.end_of(sequence), evicted: Some(self.evicted(&tail)).filter(|evicted| *evicted > sequence) }
    }

    /// The index behind the events up to `sequence`; that of the oldest retained one if they were evicted.
    pub(crate) fn end_of(&self, sequence: Sequence) -> u64 {
        self.ring.partition_point(|frame| frame.sequence() <= sequence)
    }

    /// Where a reader continues whose index was evicted: at the oldest frame, and behind which sequence.
    pub(crate) fn oldest_place(&self) -> (u64, Sequence) {
        let tail = lock(&self.tail);
        (tail.writer.oldest(), self.evicted(&tail))
    }

    /// Whether events of `topic` are appended here.
    pub(crate) fn matches(&self, topic: &Topic) -> bool {
        match &self.topic {
            Some(own) => own == topic,
            None => self.is_reserved == topic.is_reserved(),
        }
    }

    pub(crate) fn touch(&self, tick: u32) {
        self.last_used.store(tick, Ordering::Relaxed);
    }

    /// Notes that it is about to have its first event. Under the lock of its table.
    pub(crate) fn claim(&self) {
        self.is_claimed.store(true, Ordering::Relaxed);
    }

    /// Whether it has had events, or is about to have its first.
    pub(crate) fn is_claimed(&self) -> bool {
        self.is_claimed.load(Ordering::Relaxed)
    }

    /// Whether its newest event was published in one of the ticks `recent`.
    pub(crate) fn was_used_in(&self, recent: &RangeInclusive<u32>) -> bool {
        recent.contains(&self.last_used.load(Ordering::Relaxed))
    }
}

#[cfg(all(test, not(fanline_loom)))]
mod tests {
    use super::*;

    #[test]
    fn channel_takes_three_cache_lines() {
        let counts = size_of::<[usize; 2]>();
        assert!(counts + size_of::<Channel>() <= 192, "a hub may have a million of them");
    }
}

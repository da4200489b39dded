//! One channel: the ring of a topic, or the firehose that takes every event of the hub.
//!
//! The ring numbers a channel's own events 0, 1, 2 …; each frame bears its sequence in the hub's order. What joins the two
//! is the [`Tail`], which the sequencer keeps: the sequence of the last frame that left the ring. With it the question
//! "has this channel evicted anything after position p?" has an exact answer, for a topic that was merely quiet too.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use super::frame::Frame;
use super::ledger::TopicHash;
use super::wake::Listeners;
use crate::position::Sequence;
use crate::ring::{Read, Ring, SEGMENT, Writer};
use crate::sync::{AtomicU32, Mutex, Ordering, lock};
use crate::topic::Topic;

pub(crate) struct Channel {
    /// Where it stands among the channels of its hub.
    pub(crate) place: usize,
    /// The topic's name in the ledger; 0 for the firehose.
    pub(crate) hash: TopicHash,
    /// None for the firehose.
    pub(crate) topic: Option<Topic>,
    pub(crate) ring: Ring<Frame>,
    pub(crate) listeners: Listeners,
    /// The hub's tick at which something was last published here.
    last_used: AtomicU32,
    tail: Mutex<Tail>,
}

/// What only changes together with the ring's ends.
struct Tail {
    writer: Writer<Frame>,
    /// The sequence of the newest event of this channel that is not retained; 0 when all are. Where it is not known which
    /// that is, a later one: the ledger tells whether there was any.
    evicted: Sequence,
    /// The weight of each segment that is in memory, the oldest first.
    weights: VecDeque<usize>,
}

/// Where a reader begins in a channel.
pub(crate) struct Place {
    /// The index of the first frame that it reads.
    pub(crate) index: u64,
    /// The newest event after the position asked for that is not retained.
    pub(crate) evicted: Option<Sequence>,
}

impl Channel {
    /// A channel whose events up to `evicted` are gone, if there were any.
    pub(crate) fn new(place: usize, hash: TopicHash, topic: Option<Topic>, capacity: usize, evicted: Sequence) -> Self {
        let (ring, writer) = Ring::new(capacity);
        let tail = Mutex::new(Tail { writer, evicted, weights: VecDeque::new() });
        Self { place, hash, topic, ring, listeners: Listeners::default(), last_used: AtomicU32::new(0), tail }
    }

    /// Appends a frame and answers by how much the memory held for this channel grew and shrank. Calls `before_evicting`
    /// with the sequence of a frame that has to make room. For the sequencer.
    pub(crate) fn append(&self, frame: Frame, before_evicting: impl FnOnce(Sequence)) -> (usize, usize) {
        let mut tail = lock(&self.tail);
        let freed = if tail.writer.is_full() {
            let oldest = tail.writer.oldest();
            if let Read::Run(run) = self.ring.read(oldest) {
                before_evicting(run.get(oldest).sequence());
            }
            self.evict(&mut tail, oldest + 1)
        } else {
            0
        };
        let weight = frame.weight();
        if tail.writer.head().is_multiple_of(SEGMENT as u64) || tail.weights.is_empty() {
            tail.weights.push_back(0);
        }
        *tail.weights.back_mut().expect("there is an open segment") += weight;
        self.ring.push(&mut tail.writer, frame);
        (weight, freed)
    }

    /// Drops the oldest segment, and answers how much memory that freed: 0 when there is nothing left. For the
    /// sequencer.
    pub(crate) fn evict_segment(&self) -> usize {
        let mut tail = lock(&self.tail);
        let (oldest, head) = (tail.writer.oldest(), tail.writer.head());
        let end = (oldest - oldest % SEGMENT as u64 + SEGMENT as u64).min(head);
        if end == oldest { 0 } else { self.evict(&mut tail, end) }
    }

    fn evict(&self, tail: &mut Tail, to: u64) -> usize {
        let from = tail.writer.oldest();
        if let Read::Run(run) = self.ring.read(to - 1) {
            tail.evicted = run.get(to - 1).sequence();
        }
        self.ring.evict(&mut tail.writer, to);
        let is_empty = to == tail.writer.head();
        let segments = to / SEGMENT as u64 - from / SEGMENT as u64;
        let leaving = if is_empty { tail.weights.len() } else { segments as usize };
        tail.weights.drain(..leaving).sum()
    }

    /// Drops everything, and takes all up to `base` for gone. Answers how much memory that freed. For the sequencer.
    pub(crate) fn break_off(&self, base: Sequence) -> usize {
        let mut tail = lock(&self.tail);
        let head = tail.writer.head();
        let freed = if tail.writer.oldest() == head { 0 } else { self.evict(&mut tail, head) };
        tail.evicted = base;
        freed
    }

    /// The memory that is held for this channel.
    pub(crate) fn weight(&self) -> usize {
        lock(&self.tail).weights.iter().sum()
    }

    /// How many events can be read.
    pub(crate) fn retained(&self) -> u64 {
        let indices = self.ring.retained();
        indices.end - indices.start
    }

    /// How many events it has had, since it was made.
    pub(crate) fn appended(&self) -> u64 {
        self.ring.retained().end
    }

    /// The newest event that this channel has had, retained or not.
    pub(crate) fn newest(&self) -> Sequence {
        let tail = lock(&self.tail);
        match tail.writer.head().checked_sub(1).map(|index| self.ring.read(index)) {
            Some(Read::Run(run)) => run.get(run.indices().start).sequence(),
            _ => tail.evicted,
        }
    }

    /// Where a reader begins that has seen everything up to `sequence`.
    pub(crate) fn place_after(&self, sequence: Sequence) -> Place {
        // While the tail is locked nothing is evicted, so that index and `evicted` belong together.
        let tail = lock(&self.tail);
        Place {
            index: self.ring.partition_point(|frame| frame.sequence() <= sequence),
            evicted: (tail.evicted > sequence).then_some(tail.evicted),
        }
    }

    /// Where a reader goes on whose index is no longer retained: the oldest frame, and the sequence before it.
    pub(crate) fn oldest_place(&self) -> (u64, Sequence) {
        let tail = lock(&self.tail);
        (tail.writer.oldest(), tail.evicted)
    }

    /// Whether events of `topic` stand here.
    pub(crate) fn matches(&self, topic: &Topic) -> bool {
        self.topic.as_ref().is_none_or(|own| own == topic)
    }

    pub(crate) fn touch(&self, tick: u32) {
        self.last_used.store(tick, Ordering::Relaxed);
    }

    /// Whether it has had events, since it was made.
    pub(crate) fn is_used(&self) -> bool {
        self.appended() > 0
    }

    /// Whether nobody reads this channel, and nobody published to it in the ticks `recent`, or since it was made: what it
    /// was made with is known of its topic without it.
    pub(crate) fn is_idle(&self, recent: &RangeInclusive<u32>) -> bool {
        let is_quiet = !self.is_used() || !recent.contains(&self.last_used.load(Ordering::Relaxed));
        is_quiet && self.listeners.is_empty()
    }
}

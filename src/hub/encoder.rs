//! Encodes runs: consecutive events of one topic, in one block of memory.
//!
//! A reader of the topic's ring or of the firehose writes a run as one slice. In return the block is freed only when its
//! last event has left both rings, and is counted until then; so runs are short compared to what a ring retains.

use super::numbering::Numbering;
use crate::event::Event;
use crate::position::Sequence;
use crate::topic::Topic;
use crate::wire::chunk::{self, Chunk};
use crate::wire::sse;

/// The size in bytes at which a run ends.
const MAX_BYTES: usize = 16 << 10;

/// A run has at most this fraction of the events that a ring retains.
const SHARE: usize = 8;

pub(crate) struct Encoder {
    pub(crate) numbering: Numbering,
    max_events: usize,
    topic: Option<Topic>,
    /// The sequence of the first event.
    first: Sequence,
    chunks: chunk::Builder,
}

impl Encoder {
    /// An encoder for rings that retain `history` events.
    pub(crate) fn new(numbering: Numbering, history: usize) -> Self {
        let max_events = (history / SHARE).max(1);
        Self { numbering, max_events, topic: None, first: 0, chunks: chunk::Builder::default() }
    }

    /// Whether `event` can be added to the run.
    pub(crate) fn has_room_for(&self, event: &Event) -> bool {
        let is_open = || self.chunks.count() < self.max_events && self.chunks.len() < MAX_BYTES;
        self.topic.as_ref().is_none_or(|topic| topic == event.topic() && is_open())
    }

    /// Adds `event` as `sequence`, the one after the last.
    pub(crate) fn push(&mut self, sequence: Sequence, event: &Event) {
        if self.topic.is_none() {
            self.topic = Some(event.topic().clone());
            self.first = sequence;
        }
        debug_assert_eq!(sequence, self.first + self.chunks.count() as u64, "sequences are consecutive");
        sse::encode(self.numbering.position(sequence), event, &mut self.chunks);
    }

    /// Ends the run and returns its topic; [`Encoder::drain`] comes next. `None` when the run is empty.
    pub(crate) fn take_topic(&mut self) -> Option<Topic> {
        self.topic.take()
    }

    /// The sequence of the run's first event.
    pub(crate) fn first(&self) -> Sequence {
        self.first
    }

    /// Returns the encoded events, and begins a new run.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (Sequence, Chunk)> + '_ {
        (self.first..).zip(self.chunks.finish())
    }
}

//! Events of one topic that follow each other in the hub's order, encoded side by side.
//!
//! Whoever reads them in their order, in the topic's ring or in the firehose, writes all of them as one slice. In return
//! the memory of a run is free when the last of it has left both rings, and is counted until then. So a run is kept short
//! next to what a ring retains.

use super::numbering::Numbering;
use crate::event::Event;
use crate::position::Sequence;
use crate::topic::Topic;
use crate::wire::chunk::{self, Chunk};
use crate::wire::sse;

/// How many bytes a run takes before another one is begun.
const MAX_BYTES: usize = 16 << 10;

/// Of a ring's events a run has one in so many at most.
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
    /// An empty run for rings that retain `history` events.
    pub(crate) fn new(numbering: Numbering, history: usize) -> Self {
        let max_events = (history / SHARE).max(1);
        Self { numbering, max_events, topic: None, first: 0, chunks: chunk::Builder::default() }
    }

    /// Whether `event` can be added to what is there.
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
        debug_assert_eq!(sequence, self.first + self.chunks.count() as u64, "they follow each other");
        sse::encode(self.numbering.position(sequence), event, &mut self.chunks);
    }

    /// The topic of the events, which are drained next. None when there are none.
    pub(crate) fn take_topic(&mut self) -> Option<Topic> {
        self.topic.take()
    }

    /// The sequence of the first of the events that are there.
    pub(crate) fn first(&self) -> Sequence {
        self.first
    }

    /// The events, encoded. The run is empty again.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (Sequence, Chunk)> + '_ {
        (self.first..).zip(self.chunks.finish())
    }
}

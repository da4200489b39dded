//! An event in a ring: encoded, numbered, shared.

use crate::position::Sequence;
use crate::topic::Topic;
use crate::wire::chunk::Chunk;

/// What the rings hold and connections write. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct Frame {
    sequence: Sequence,
    topic: Topic,
    chunk: Chunk,
}

impl Frame {
    pub(crate) fn new(sequence: Sequence, topic: Topic, chunk: Chunk) -> Self {
        Self { sequence, topic, chunk }
    }

    /// Its number in the hub's one order.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// What it is about.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The event in the format of Server-Sent Events: whole lines, the empty line at the end included.
    pub fn sse(&self) -> &[u8] {
        self.chunk.body()
    }

    pub(crate) fn chunk(&self) -> &Chunk {
        &self.chunk
    }

    /// What the frame adds to the memory that history takes, about: its place in a segment, and the bytes that leave with
    /// it.
    pub(crate) fn weight(&self) -> usize {
        self.chunk.weight() + size_of::<Self>()
    }
}

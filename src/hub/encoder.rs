//! Encodes runs: consecutive events of one topic, in one block of memory.
//!
//! A reader of the topic's ring or of the firehose writes a run as one slice. In return the block is freed only when its
//! last event has left both rings, and is counted until then; so runs are short compared to what a ring retains.
//!
//! **Other formats.** A run is encoded in the plain format. The first reader that wants one of its envelopes, or one of its
//! WebSocket messages, makes all of them, in a block of their own, for every ring and page that holds the run. Later readers
//! find them. Those that come meanwhile wait, for the time that it takes to encode 16 KiB or one event. Readers of the plain
//! format never look there.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::vec::Drain;

use bytes::Bytes;

use super::frame::Frame;
use super::numbering::Numbering;
use crate::event::{Event, Key};
use crate::position::Sequence;
use crate::sync::Arc;
use crate::topic::Topic;
use crate::wire::chunk::{self, Chunk};
use crate::wire::{envelope, sse};

/// The size in bytes at which a run ends.
const MAX_BYTES: usize = 16 << 10;

/// A run has at most this fraction of the events that a ring retains.
const SHARE: usize = 8;

pub(crate) struct Encoder {
    pub(crate) numbering: Numbering,
    max_events: usize,
    /// The topic of the run, whether its payloads are JSON, and the sequence of its first event.
    run: Option<(Topic, bool, Sequence)>,
    chunks: chunk::Builder,
    /// Empty: the room for the frames of a run.
    frames: Vec<Frame>,
    /// What the run's events are for the latest values; empty while none has a key or is a deletion.
    keyings: Vec<Keying>,
}

/// What an event is for the latest values of its topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keying {
    pub(super) key: Option<Key>,
    pub(super) is_deletion: bool,
}

impl Encoder {
    /// An encoder for rings that retain `history` events.
    pub(crate) fn new(numbering: Numbering, history: usize) -> Self {
        let max_events = (history / SHARE).max(1);
        let chunks = chunk::Builder::default();
        Self { numbering, max_events, run: None, chunks, frames: Vec::new(), keyings: Vec::new() }
    }

    /// Whether `event` can be added to the run.
    pub(crate) fn has_room_for(&self, event: &Event) -> bool {
        self.run.as_ref().is_none_or(|(topic, is_json, _)| {
            let is_open = self.chunks.count() < self.max_events && self.chunks.len() < MAX_BYTES;
            is_open && *is_json == event.payload().is_json() && topic == event.topic()
        })
    }

    /// Adds `event` as `sequence`, the one after the last.
    pub(crate) fn push(&mut self, sequence: Sequence, event: &Event) {
        let new = || (event.topic().clone(), event.payload().is_json(), sequence);
        let (_, _, first) = self.run.get_or_insert_with(new);
        debug_assert_eq!(sequence, *first + self.chunks.count() as u64, "sequences are consecutive");
        if event.key().is_some() || event.is_deletion() || !self.keyings.is_empty() {
            self.keyings.resize_with(self.chunks.count(), Keying::default);
            self.keyings.push(Keying { key: event.key().cloned(), is_deletion: event.is_deletion() });
        }
        sse::encode(self.numbering.position(sequence), event, &mut self.chunks);
    }

    /// Ends the run, and returns its frames, at least one. `None` when it is empty.
    pub(crate) fn finish(&mut self, derived_bytes: &DerivedBytes) -> Option<Drain<'_, Frame>> {
        let (topic, is_json, first) = self.run.take()?;
        let (derived, derived_bytes) = (OnceLock::new(), derived_bytes.clone());
        let keyings = std::mem::take(&mut self.keyings).into_boxed_slice();
        let (block, places) = self.chunks.finish_block();
        let run = Arc::new(EncodedRun { topic, is_json, first, block, keyings, derived, derived_bytes });
        // The last frame gets the run itself: counting another reference costs as much as encoding a field.
        let runs = std::iter::repeat_n(run, places.len());
        let frames = (first..).zip(places).zip(runs);
        self.frames.extend(frames.map(|((sequence, place), run)| Frame::new(sequence, place, run)));
        Some(self.frames.drain(..))
    }
}

/// What the frames of a run share.
#[derive(Debug)]
pub(crate) struct EncodedRun {
    topic: Topic,
    /// Whether its payloads are JSON, or else text.
    is_json: bool,
    first: Sequence,
    /// The events in the plain format. The run keeps it for all of them: a frame in a ring is only a place in it.
    block: Bytes,
    /// What each event is for the latest values; empty when none has a key or is a deletion.
    keyings: Box<[Keying]>,
    /// Boxed: most runs have none. The lock is the real one, also under loom: no model reads other formats.
    derived: OnceLock<Box<Derived>>,
    derived_bytes: DerivedBytes,
}

/// The encodings of a run apart from the plain one.
#[derive(Debug, Default)]
struct Derived {
    envelopes: OnceLock<Box<[Chunk]>>,
    messages: OnceLock<Box<[Chunk]>>,
}

impl Derived {
    fn weight(&self) -> u64 {
        let made = [&self.envelopes, &self.messages].into_iter().filter_map(OnceLock::get);
        size_of::<Self>() as u64 + made.map(|chunks| weight(chunks)).sum::<u64>()
    }
}

/// The memory of all envelopes, WebSocket messages and compressed blocks that were made and are still held, in bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct DerivedBytes(std::sync::Arc<AtomicU64>);

impl DerivedBytes {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl EncodedRun {
    pub(crate) fn topic(&self) -> &Topic {
        &self.topic
    }

    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    pub(crate) fn first(&self) -> Sequence {
        self.first
    }

    /// Whether an event of the run has a key or is a deletion.
    pub(super) fn has_keys(&self) -> bool {
        !self.keyings.is_empty()
    }

    /// The events in the plain format.
    pub(super) fn block(&self) -> &Bytes {
        &self.block
    }

    /// A run of event `sequence` alone, which is encoded as `block`.
    pub(super) fn alone(&self, sequence: Sequence, block: Bytes) -> Self {
        Self {
            topic: self.topic.clone(),
            is_json: self.is_json,
            first: sequence,
            block,
            keyings: self.keying(sequence).cloned().into_iter().collect(),
            derived: OnceLock::new(),
            derived_bytes: self.derived_bytes.clone(),
        }
    }

    /// What event `sequence` is for the latest values.
    pub(super) fn keying(&self, sequence: Sequence) -> Option<&Keying> {
        self.keyings.get((sequence - self.first) as usize)
    }

    /// The envelope of event `sequence`.
    pub(super) fn envelope(&self, sequence: Sequence) -> &Chunk {
        self.derive(&self.derived().envelopes, envelope::encode, sequence)
    }

    /// The WebSocket message of event `sequence`.
    pub(super) fn message(&self, sequence: Sequence) -> &Chunk {
        self.derive(&self.derived().messages, envelope::encode_message, sequence)
    }

    fn derived(&self) -> &Derived {
        self.derived.get_or_init(|| {
            let derived = Box::<Derived>::default();
            self.derived_bytes.add(derived.weight());
            derived
        })
    }

    /// Returns the chunk of event `sequence`. The first call encodes the whole run.
    fn derive<'a>(
        &self,
        chunks: &'a OnceLock<Box<[Chunk]>>,
        encode: fn(&[u8], &Topic, bool, &mut chunk::Builder),
        sequence: Sequence,
    ) -> &'a Chunk {
        let chunks = chunks.get_or_init(|| {
            let mut block = chunk::Builder::default();
            for body in chunk::bodies_of(&self.block) {
                encode(body, &self.topic, self.is_json, &mut block);
            }
            let chunks: Box<[Chunk]> = block.finish().collect();
            self.derived_bytes.add(weight(&chunks));
            chunks
        });
        &chunks[(sequence - self.first) as usize]
    }
}

impl Drop for EncodedRun {
    fn drop(&mut self) {
        if let Some(derived) = self.derived.get() {
            self.derived_bytes.subtract(derived.weight());
        }
    }
}

fn weight(chunks: &[Chunk]) -> u64 {
    chunks.iter().map(|chunk| chunk.as_ref().weight() + size_of::<Chunk>()).sum::<usize>() as u64
}

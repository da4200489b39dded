//! Encodes runs: consecutive events of one topic, in one block of memory.
//!
//! A reader of the topic's ring or of the firehose writes a run as one slice. In return the block is freed only when its
//! last event has left both rings, and is counted until then; so runs are short compared to what a ring retains.
//!
//! **Envelopes.** A run is encoded in the plain format. The first reader that wants one of its envelopes makes all of them, in
//! a block of their own, for every ring and page that holds the run. Later readers of envelopes find them with one load.
//! Those that come meanwhile wait, for the time that it takes to encode 16 KiB or one event. Readers of the plain format never
//! look there.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::frame::Frame;
use super::numbering::Numbering;
use crate::event::Event;
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
}

impl Encoder {
    /// An encoder for rings that retain `history` events.
    pub(crate) fn new(numbering: Numbering, history: usize) -> Self {
        let max_events = (history / SHARE).max(1);
        Self { numbering, max_events, run: None, chunks: chunk::Builder::default() }
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
        sse::encode(self.numbering.position(sequence), event, &mut self.chunks);
    }

    /// Ends the run, and returns it with its frames. `None` when it is empty.
    pub(crate) fn finish(
        &mut self,
        envelope_bytes: &EnvelopeBytes,
    ) -> Option<(Arc<EncodedRun>, impl Iterator<Item = Frame> + '_)> {
        let (topic, is_json, first) = self.run.take()?;
        let (envelopes, envelope_bytes) = (OnceLock::new(), envelope_bytes.clone());
        let run = Arc::new(EncodedRun { topic, is_json, first, envelopes, envelope_bytes });
        let chunks = (first..).zip(self.chunks.finish());
        let of_run = run.clone();
        Some((run, chunks.map(move |(sequence, chunk)| Frame::new(sequence, chunk, of_run.clone()))))
    }
}

/// What the frames of a run share.
#[derive(Debug)]
pub(crate) struct EncodedRun {
    topic: Topic,
    /// Whether its payloads are JSON, or else text.
    is_json: bool,
    first: Sequence,
    /// The real one, also under loom: no model reads envelopes.
    envelopes: OnceLock<Box<[Chunk]>>,
    envelope_bytes: EnvelopeBytes,
}

/// The memory of all envelopes that were made and are still held, in bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct EnvelopeBytes(std::sync::Arc<AtomicU64>);

impl EnvelopeBytes {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
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

    /// The envelope of event `sequence`. `plain` is any chunk of the run.
    pub(super) fn envelope(&self, sequence: Sequence, plain: &Chunk) -> &Chunk {
        let envelopes = self.envelopes.get_or_init(|| {
            let mut block = chunk::Builder::default();
            for body in plain.bodies_of_block() {
                envelope::encode(body, &self.topic, self.is_json, &mut block);
            }
            let envelopes: Box<[Chunk]> = block.finish().collect();
            self.envelope_bytes.0.fetch_add(weight(&envelopes), Ordering::Relaxed);
            envelopes
        });
        &envelopes[(sequence - self.first) as usize]
    }
}

impl Drop for EncodedRun {
    fn drop(&mut self) {
        if let Some(envelopes) = self.envelopes.get() {
            self.envelope_bytes.0.fetch_sub(weight(envelopes), Ordering::Relaxed);
        }
    }
}

fn weight(envelopes: &[Chunk]) -> u64 {
    envelopes.iter().map(|chunk| chunk.weight() + size_of::<Chunk>()).sum::<usize>() as u64
}

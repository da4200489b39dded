//! Events of a ring that are compressed together.
//!
//! A group is up to [`EVENTS`] consecutive events, in blocks of one or more. Its first block refers to nothing before it, the others
//! to earlier events of the group only. So a reader can begin with any group, and must then take its blocks one after the other.
//!
//! Groups end at multiples of [`EVENTS`], where all readers begin the next one together. A reader that comes in between begins a
//! group of its own if no other reader is in one, and otherwise waits for the next.
//!
//! The first reader that wants a block makes it, of all events that it has ready: those of one publication are compressed
//! together, and flushed once. Readers that come meanwhile wait, for the time that it takes to compress the events of one batch.
//! Later readers find it without a lock.

use std::ops::Range;

use super::blocks::{Block, Blocks};
use super::compressor::{Compressors, Place};
use crate::hub::channel::Channel;
use crate::hub::encoder::DerivedBytes;
use crate::hub::frame::Frame;
use crate::ring::Read;
use crate::sync::{Arc, Mutex, lock};
use crate::wire::Format;
use crate::wire::gzip::Checksum;

/// The most events in a group. More of them are compressed better, and a reader that joins waits longer for a group to begin.
pub(crate) const EVENTS: u64 = 64;

/// The number of bytes from which on a block gets no further event.
const MAX_BLOCK: usize = 16 << 10;

/// The number of bytes before a place that a compressor gets to know which has not compressed them.
const DICTIONARY: usize = 4 << 10;

pub(super) struct Group {
    name: u64,
    /// The indices of its events in the ring.
    indices: Range<u64>,
    blocks: Blocks,
    made: Mutex<Made>,
    compressors: Arc<Compressors>,
    derived_bytes: DerivedBytes,
}

/// What the blocks have that were made.
#[derive(Default)]
struct Made {
    blocks: usize,
    events: u64,
    checksum: Checksum,
    /// The memory that they take.
    bytes: u64,
}

/// The end of the group that has the event at `index`.
pub(super) fn end_of(index: u64) -> u64 {
    index - index % EVENTS + EVENTS
}

impl Group {
    pub(super) fn new(indices: Range<u64>, compressors: &Arc<Compressors>, derived_bytes: &DerivedBytes) -> Self {
        let made = Made { bytes: size_of::<Self>() as u64, ..Made::default() };
        derived_bytes.add(made.bytes);
        let (name, blocks, made) = (compressors.name(), Blocks::default(), Mutex::new(made));
        Self { name, indices, blocks, made, compressors: compressors.clone(), derived_bytes: derived_bytes.clone() }
    }

    #[cfg(all(test, not(fanline_loom)))]
    pub(super) fn name(&self) -> u64 {
        self.name
    }

    /// The indices of its events in the ring.
    pub(super) fn indices(&self) -> Range<u64> {
        self.indices.clone()
    }

    /// The block of this number, if it was made.
    pub(super) fn block(&self, number: usize) -> Option<&Block> {
        self.blocks.get(number)
    }

    /// Makes the blocks of the events before `end`. `frames` are events of `channel` from index `start` on, up to `end` at
    /// least, and the blocks before `start` were made.
    pub(super) fn make<'a>(
        &self,
        Range { start, end }: Range<u64>,
        frames: impl Iterator<Item = &'a Frame>,
        channel: &Channel,
        format: Format,
    ) {
        let mut made = lock(&self.made);
        let next = self.indices.start + made.events;
        debug_assert!(start <= next, "a reader takes one block after the other");
        if end <= next {
            return;
        }
        let place = Place { group: self.name, events: made.events };
        let mut compressor = self.compressors.take(place, || self.before(next, channel, format));
        let mut frames = frames.take((end - start) as usize).skip((next - start) as usize).peekable();
        let mut text = Vec::new();
        while frames.peek().is_some() {
            text.clear();
            while text.len() < MAX_BLOCK
                && let Some(frame) = frames.next()
            {
                text.extend_from_slice(frame.chunk(format).body());
                made.events += 1;
            }
            made.checksum.add(&text);
            let block = Block::new(&compressor.compress(&text, made.events), made.events, made.checksum);
            let bytes = self.blocks.set(made.blocks, block);
            self.derived_bytes.add(bytes);
            made.bytes += bytes;
            made.blocks += 1;
        }
        // Before the lock is released: the next reader looks for it.
        self.compressors.put_back(compressor, self.indices.start + made.events == self.indices.end);
    }

    /// The last bytes of the group before the event at `index`, as far as the ring still has them.
    fn before(&self, index: u64, channel: &Channel, format: Format) -> Vec<u8> {
        let (mut events, mut length) = (Vec::new(), 0);
        for index in (self.indices.start..index).rev() {
            let Read::Run(run) = channel.ring.read(index) else { break };
            let event = run.get(index).chunk(format).to_body();
            length += event.len();
            events.push(event);
            if length >= DICTIONARY {
                break;
            }
        }
        events.reverse();
        events.concat()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.compressors.leave(self.name);
        self.derived_bytes.subtract(lock(&self.made).bytes);
    }
}

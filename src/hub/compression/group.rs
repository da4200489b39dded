//! Events of a ring that are compressed together.
//!
//! A group is [`EVENTS`] consecutive events. The blocks of its first event refer to nothing before it, those of the others to
//! earlier events of the group only. So a reader can begin with any group, and must then take its blocks one after the other.
//!
//! The first reader that wants a block makes it, and those before it that are missing. Readers that come meanwhile wait, for the
//! time that it takes to compress the events of one batch. Later readers find it without a lock. The blocks are set in real locks,
//! also under loom: no model reads them.

use std::ops::Range;
use std::sync::OnceLock;

use super::compressor::{Compressors, Place};
use crate::hub::channel::Channel;
use crate::hub::encoder::DerivedBytes;
use crate::hub::frame::Frame;
use crate::ring::Read;
use crate::sync::{Arc, Mutex, lock};
use crate::wire::Format;
use crate::wire::chunk;
use crate::wire::gzip::Checksum;

/// The number of events in a group. More of them are compressed better, and a reader that joins waits longer for a group to
/// begin.
pub(crate) const EVENTS: u64 = 64;

/// The number of bytes before a place that a compressor gets to know which has not compressed them.
const DICTIONARY: usize = 4 << 10;

pub(super) struct Group {
    name: u64,
    /// The index of its first event in the ring.
    first: u64,
    blocks: Box<[OnceLock<Block>]>,
    /// The number of blocks that were made.
    made: Mutex<usize>,
    compressors: Arc<Compressors>,
    derived_bytes: DerivedBytes,
}

/// One event, compressed.
pub(super) struct Block {
    /// With the framing of a chunk.
    framed: Box<[u8]>,
    /// The length of the framing before the block.
    head: u8,
    /// Of the events of the group up to this one.
    pub(super) checksum: Checksum,
}

impl Block {
    pub(super) fn bytes(&self, is_framed: bool) -> &[u8] {
        if is_framed {
            &self.framed
        } else {
            &self.framed[usize::from(self.head)..self.framed.len() - chunk::END.len()]
        }
    }
}

impl Group {
    pub(super) fn new(first: u64, compressors: &Arc<Compressors>, derived_bytes: &DerivedBytes) -> Self {
        let blocks: Box<[_]> = (0..EVENTS).map(|_| OnceLock::new()).collect();
        derived_bytes.add(size_of_val(&*blocks) as u64);
        let name = compressors.name();
        Self {
            name,
            first,
            blocks,
            made: Mutex::default(),
            compressors: compressors.clone(),
            derived_bytes: derived_bytes.clone(),
        }
    }

    #[cfg(all(test, not(fanline_loom)))]
    pub(super) fn name(&self) -> u64 {
        self.name
    }

    /// The indices of its events in the ring.
    pub(super) fn indices(&self) -> Range<u64> {
        self.first..self.first + EVENTS
    }

    /// The blocks from `number` on that were made.
    pub(super) fn blocks(&self, number: usize) -> impl Iterator<Item = &Block> {
        self.blocks[number..].iter().map_while(OnceLock::get)
    }

    /// Makes the blocks of the events before `end`. `frames` are events of `channel` from index `start` on, up to `end` at
    /// least, and the blocks before `start` were made.
    pub(super) fn make<'a>(
        &self,
        (start, end): (u64, u64),
        frames: impl Iterator<Item = &'a Frame>,
        channel: &Channel,
        format: Format,
    ) {
        let (from, to) = ((start - self.first) as usize, (end - self.first) as usize);
        if self.blocks[to - 1].get().is_some() {
            return;
        }
        let mut made = lock(&self.made);
        debug_assert!(from <= *made, "a reader takes one block after the other");
        if to <= *made {
            return;
        }
        let next = self.first + *made as u64;
        let place = Place { group: self.name, events: *made };
        let mut compressor = self.compressors.take(place, || self.before(next, channel, format));
        let mut checksum = made
            .checked_sub(1)
            .and_then(|last| self.blocks(last).next())
            .map_or_else(Checksum::default, |last| last.checksum);
        let mut bytes = Vec::new();
        for frame in frames.take(to - from).skip(*made - from) {
            let event = frame.chunk(format).body();
            bytes.clear();
            compressor.compress(event, &mut bytes);
            checksum.add(event);
            self.set(*made, &bytes, checksum);
            *made += 1;
        }
        // Before the lock is released: the next reader looks for it.
        self.compressors.put_back(compressor, *made == self.blocks.len());
    }

    fn set(&self, number: usize, bytes: &[u8], checksum: Checksum) {
        let mut framed = Vec::with_capacity(chunk::framed_length(bytes.len()));
        chunk::frame(bytes.len(), &mut framed, |out| out.extend_from_slice(bytes));
        let head = (framed.len() - bytes.len() - chunk::END.len()) as u8;
        self.derived_bytes.add(framed.len() as u64);
        let is_new = self.blocks[number].set(Block { framed: framed.into(), head, checksum }).is_ok();
        debug_assert!(is_new, "a block is made once");
    }

    /// The last bytes of the group before the event at `index`, as far as the ring still has them.
    fn before(&self, index: u64, channel: &Channel, format: Format) -> Vec<u8> {
        let (mut events, mut length) = (Vec::new(), 0);
        for index in (self.first..index).rev() {
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
        let blocks: usize = self.blocks.iter().filter_map(OnceLock::get).map(|block| block.framed.len()).sum();
        self.derived_bytes.subtract((size_of_val(&*self.blocks) + blocks) as u64);
    }
}

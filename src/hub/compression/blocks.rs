//! The compressed blocks of a group.
//!
//! They are appended under the lock of the group, and read without one. The list takes memory as it grows: a ring with a
//! single event has a single block. The blocks are set in real locks, also under loom: no model reads them.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::wire::chunk;
use crate::wire::gzip::Checksum;

/// The lengths of the parts of a list, which has at most as many blocks as a group has events.
const PARTS: [usize; 4] = [1, 3, 12, 48];

/// Some events, compressed.
pub(super) struct Block {
    /// With the framing of a chunk.
    framed: Bytes,
    /// The length of the framing before the block.
    head: u8,
    /// The number of events of the group up to its last one.
    end: u8,
    /// Of the events of the group up to its last one.
    checksum: Checksum,
}

impl Block {
    /// A block with these compressed `bytes`.
    pub(super) fn new(bytes: &[u8], end: u64, checksum: Checksum) -> Self {
        let mut framed = Vec::with_capacity(chunk::framed_length(bytes.len()));
        let head = chunk::frame(bytes.len(), &mut framed, |out| out.extend_from_slice(bytes));
        Self { framed: framed.into(), head: head as u8, end: end as u8, checksum }
    }

    pub(super) fn bytes(&self, is_framed: bool) -> &[u8] {
        if is_framed {
            &self.framed
        } else {
            &self.framed[usize::from(self.head)..self.framed.len() - chunk::END.len()]
        }
    }

    /// What follows the first `begun` bytes, sharing the memory.
    pub(super) fn rest(&self, is_framed: bool, begun: usize) -> Bytes {
        self.framed.slice_ref(&self.bytes(is_framed)[begun..])
    }

    pub(super) fn end(&self) -> u64 {
        self.end.into()
    }

    pub(super) fn checksum(&self) -> Checksum {
        self.checksum
    }
}

#[derive(Default)]
pub(super) struct Blocks([OnceLock<Box<[OnceLock<Block>]>>; PARTS.len()]);

impl Blocks {
    pub(super) fn get(&self, number: usize) -> Option<&Block> {
        let (part, index) = place_of(number)?;
        self.0[part].get()?[index].get()
    }

    /// Sets the next block, which has this number. Returns the bytes of memory that it takes.
    pub(super) fn set(&self, number: usize, block: Block) -> u64 {
        let (part, index) = place_of(number).expect("a block has an event");
        let mut bytes = block.framed.len();
        let cells = self.0[part].get_or_init(|| {
            bytes += PARTS[part] * size_of::<OnceLock<Block>>();
            (0..PARTS[part]).map(|_| OnceLock::new()).collect()
        });
        let is_new = cells[index].set(block).is_ok();
        debug_assert!(is_new, "a block is set once");
        bytes as u64
    }
}

/// The part that has the block of this number, and where.
fn place_of(number: usize) -> Option<(usize, usize)> {
    let mut index = number;
    for (part, length) in PARTS.into_iter().enumerate() {
        match index.checked_sub(length) {
            None => return Some((part, index)),
            Some(behind) => index = behind,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::compression::group::EVENTS;

    #[test]
    fn list_has_room_for_a_block_for_each_event_of_a_group() {
        let blocks = Blocks::default();
        for end in 1..=EVENTS {
            let number = end as usize - 1;
            assert!(blocks.get(number).is_none());
            blocks.set(number, Block::new(b"block", end, Checksum::default()));
            assert_eq!(blocks.get(number).map(Block::end), Some(end));
        }
        assert!(blocks.get(EVENTS as usize).is_none());
    }

    #[test]
    fn list_of_one_block_is_small() {
        let bytes = Blocks::default().set(0, Block::new(b"block", 1, Checksum::default()));
        assert!(bytes < 80, "{bytes} bytes");
    }
}

//! One reader's gzip member.

use std::io::IoSlice;
use std::ops::Range;

use bytes::Bytes;

use super::CompressedRing;
use super::blocks::Block;
use super::group::{self, Group};
use crate::hub::frame::Frame;
use crate::hub::{Batch, Offer, Subscription};
use crate::sync::Arc;
use crate::wire::gzip::{self, Checksum};
use crate::wire::{Format, chunk};

/// The number of bytes from which on a write of stored blocks gets no further event.
const MAX_STORED: usize = 16 << 10;

/// The most slices that an offer can use.
pub(crate) const MAX_SLICES: usize = group::EVENTS as usize;

/// The state of a reader in the compressed ring that it shares.
pub(crate) struct Member {
    /// `None` for a reader of latest values.
    pub(super) ring: Option<Arc<CompressedRing>>,
    format: Format,
    /// The group whose blocks it gets; `None` while it gets stored blocks.
    pub(super) group: Option<Arc<Group>>,
    /// The number of blocks of the group that it has.
    pub(super) taken: u8,
    has_header: bool,
    /// Whether its blocks are framed in chunks.
    is_framed: bool,
    /// Of everything before the group.
    pub(super) before: Checksum,
}

/// What a reader took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Whether it took blocks that all readers share.
    pub(crate) is_shared: bool,
    /// The number of bytes before compression.
    pub(crate) plain_bytes: u64,
}

impl Member {
    pub(super) fn new(ring: Option<Arc<CompressedRing>>, format: Format, is_framed: bool) -> Self {
        Self { ring, format, group: None, taken: 0, has_header: false, is_framed, before: Checksum::default() }
    }

    /// A member without blocks of a ring: what is not [shared](Self::take_values) is stored.
    pub(in crate::hub) fn without_ring(format: Format, is_framed: bool) -> Self {
        Self::new(None, format, is_framed)
    }

    /// Returns bytes that are for this reader alone, encoded.
    pub(crate) fn encode(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.leave();
        let mut member = Vec::new();
        if !self.has_header {
            self.has_header = true;
            member.extend_from_slice(&gzip::HEADER);
        }
        gzip::store(bytes, &mut member);
        self.before.add(bytes);
        self.framed(member)
    }

    /// The end of the member.
    pub(crate) fn end(&mut self) -> Vec<u8> {
        self.leave();
        self.framed(self.before.end_of_member().to_vec())
    }

    fn framed(&self, bytes: Vec<u8>) -> Vec<u8> {
        if !self.is_framed {
            return bytes;
        }
        let mut framed = Vec::with_capacity(chunk::framed_length(bytes.len()));
        chunk::frame(bytes.len(), &mut framed, |out| out.extend_from_slice(&bytes));
        framed
    }

    /// Offers the first events of `batch`, which `subscription` has filled, for one write: as shared blocks in `slices`, as
    /// many as there is room for, or else as stored ones in `stored`. Offers no frame if the next shared block has events that
    /// were not ready when the batch was filled: now they are.
    pub(crate) fn offer<'a>(
        &'a mut self,
        subscription: &Subscription,
        batch: &Batch,
        slices: &mut [IoSlice<'a>],
        stored: &mut Vec<u8>,
    ) -> Offer {
        let indices = subscription.indices_in_ring(batch);
        let count = self.join(indices.clone()).unwrap_or(batch.len());
        if let (Some(group), Some(indices)) = (&self.group, indices) {
            return self.offer_blocks(group, indices.start..indices.start + count as u64, batch, slices);
        }
        let mut offer = Offer::default();
        for frame in batch.frames().take(count) {
            if stored.len() >= MAX_STORED {
                break;
            }
            self.store(frame, stored);
            offer.frames += 1;
        }
        Offer { bytes: stored.len(), ..offer }
    }

    /// Joins or leaves a group, as the next events require: those of `indices`, or others than the ring's. Returns for how many of
    /// `indices` that holds.
    fn join(&mut self, indices: Option<Range<u64>>) -> Option<usize> {
        let Some(Range { start, end }) = indices else {
            self.leave();
            return None;
        };
        if self.next().is_some_and(|next| next != start) {
            self.leave();
        }
        if self.group.is_none() {
            self.group = self.ring.as_ref().and_then(|ring| ring.group(start));
        }
        Some((end.min(group::end_of(start)) - start) as usize)
    }

    /// Offers blocks of the events at `indices`, the first ones of `batch`, and makes those that are missing.
    fn offer_blocks<'a>(
        &self,
        group: &'a Group,
        indices: Range<u64>,
        batch: &Batch,
        slices: &mut [IoSlice<'a>],
    ) -> Offer {
        let mut offer = Offer::default();
        for (slice, number) in slices.iter_mut().zip(usize::from(self.taken)..) {
            if indices.start + offer.frames as u64 == indices.end {
                break;
            }
            if group.block(number).is_none() {
                let ring = self.ring.as_ref().expect("the group is of its ring");
                group.make(indices.clone(), batch.frames(), &ring.channel, self.format);
            }
            let block = group.block(number).expect("blocks of events that are ready were made");
            let end = group.indices().start + block.end();
            if end > indices.end {
                // Made by a reader that had more of them ready.
                break;
            }
            let bytes = block.bytes(self.is_framed);
            *slice = IoSlice::new(bytes);
            offer.slices += 1;
            offer.frames = (end - indices.start) as usize;
            offer.bytes += bytes.len();
        }
        offer
    }

    /// The index of the event whose block it can take next.
    fn next(&self) -> Option<u64> {
        let group = self.group.as_ref()?;
        Some(group.indices().start + self.last_taken(group).map_or(0, Block::end))
    }

    /// The block of the group that it took last.
    fn last_taken<'a>(&self, group: &'a Group) -> Option<&'a Block> {
        group.block(usize::from(self.taken).checked_sub(1)?)
    }

    /// Leaves the group.
    fn leave(&mut self) {
        if let Some(group) = self.group.take() {
            self.before.append(self.last_taken(&group).map(Block::checksum).unwrap_or_default());
            self.taken = 0;
        }
    }

    fn store(&self, frame: &Frame, out: &mut Vec<u8>) {
        let event = frame.chunk(self.format).body();
        if self.is_framed {
            chunk::frame(gzip::stored_length(event.len()), out, |out| gzip::store(event, out));
        } else {
            gzip::store(event, out);
        }
    }

    /// Notes that blocks with these bytes were written, which refer to nothing before them.
    pub(crate) fn take_values(&mut self, values: Checksum) {
        self.leave();
        self.before.append(values);
    }

    /// The number of events that the first `bytes` of the last offer have begun, and the rest of their last block.
    pub(crate) fn begun(&self, batch: &Batch, bytes: usize) -> (usize, Bytes) {
        match &self.group {
            Some(group) => self.begun_blocks(group, bytes),
            None => self.begun_stored(batch, bytes),
        }
    }

    fn begun_blocks(&self, group: &Group, mut bytes: usize) -> (usize, Bytes) {
        let first = self.last_taken(group).map_or(0, Block::end);
        let (mut end, mut number) = (first, usize::from(self.taken));
        while bytes > 0 {
            let block = group.block(number).expect("what was offered was made");
            let length = block.bytes(self.is_framed).len();
            (end, number) = (block.end(), number + 1);
            if bytes < length {
                return ((end - first) as usize, block.rest(self.is_framed, bytes));
            }
            bytes -= length;
        }
        ((end - first) as usize, Bytes::new())
    }

    fn begun_stored(&self, batch: &Batch, mut bytes: usize) -> (usize, Bytes) {
        let (mut block, mut begun) = (Vec::new(), 0);
        for frame in batch.frames() {
            if bytes == 0 {
                break;
            }
            block.clear();
            self.store(frame, &mut block);
            begun += 1;
            if bytes < block.len() {
                return (begun, Bytes::copy_from_slice(&block[bytes..]));
            }
            bytes -= block.len();
        }
        (begun, Bytes::new())
    }

    /// Moves past the first `count` frames of the last offer: at least one, and all of a block that was begun.
    pub(crate) fn take(&mut self, batch: &Batch, count: usize) -> Taken {
        let Some(group) = &self.group else {
            let mut plain_bytes = 0;
            for frame in batch.frames().take(count) {
                let event = frame.chunk(self.format).body();
                self.before.add(event);
                plain_bytes += event.len() as u64;
            }
            return Taken { is_shared: false, plain_bytes };
        };
        let before = self.last_taken(group);
        let end = before.map_or(0, Block::end) + count as u64;
        let blocks = (self.taken..).map(|number| group.block(number.into()).expect("what was offered was made"));
        let (taken, last) =
            (self.taken + 1..).zip(blocks).find(|(_, block)| block.end() >= end).expect("it is one of them");
        debug_assert_eq!(last.end(), end, "blocks are taken whole");
        let plain_bytes = last.checksum().length() - before.map_or(0, |block| block.checksum().length());
        self.taken = taken;
        if group.indices().start + end == group.indices().end {
            self.leave();
        }
        Taken { is_shared: true, plain_bytes: plain_bytes.into() }
    }
}

//! One reader's gzip member.

use std::io::IoSlice;
use std::ops::Range;

use bytes::Bytes;

use super::CompressedRing;
use super::group::{self, Group};
use crate::hub::frame::Frame;
use crate::hub::{Batch, Offer, Subscription};
use crate::sync::Arc;
use crate::wire::chunk;
use crate::wire::gzip::{self, Checksum};

/// The number of bytes from which on a write of stored blocks gets no further event.
const MAX_STORED: usize = 16 << 10;

/// The most slices that an offer can use.
pub(crate) const MAX_SLICES: usize = group::EVENTS as usize;

/// The state of a reader in the compressed ring that it shares.
pub(crate) struct Member {
    pub(super) ring: Arc<CompressedRing>,
    /// The group whose blocks it gets; `None` while it gets stored blocks.
    pub(super) group: Option<Arc<Group>>,
    /// The number of blocks of the group that it has.
    pub(super) taken: u16,
    has_header: bool,
    /// Whether its blocks are framed in chunks.
    is_framed: bool,
    /// Of everything before the group.
    pub(super) before: Checksum,
    /// Of the blocks of the group that it has.
    pub(super) in_group: Checksum,
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
    pub(super) fn new(ring: Arc<CompressedRing>, is_framed: bool) -> Self {
        let (before, in_group) = (Checksum::default(), Checksum::default());
        Self { ring, group: None, taken: 0, has_header: false, is_framed, before, in_group }
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
    /// many as there is room for, or else as stored ones in `stored`.
    pub(crate) fn offer<'a>(
        &'a mut self,
        subscription: &Subscription,
        batch: &Batch,
        slices: &mut [IoSlice<'a>],
        stored: &mut Vec<u8>,
    ) -> Offer {
        let count = self.join(subscription, batch);
        let mut offer = Offer::default();
        let Some(group) = &self.group else {
            for frame in batch.frames().take(count) {
                if stored.len() >= MAX_STORED {
                    break;
                }
                self.store(frame, stored);
                offer.frames += 1;
            }
            return Offer { bytes: stored.len(), ..offer };
        };
        for (slice, block) in slices.iter_mut().zip(group.blocks(usize::from(self.taken)).take(count)) {
            let bytes = block.bytes(self.is_framed);
            *slice = IoSlice::new(bytes);
            offer.slices += 1;
            offer.frames += 1;
            offer.bytes += bytes.len();
        }
        offer
    }

    /// Joins or leaves a group, as the first frames of `batch` require, and makes their blocks. Returns for how many frames
    /// that holds.
    fn join(&mut self, subscription: &Subscription, batch: &Batch) -> usize {
        let Some(Range { start, end }) = subscription.indices_in_ring(batch) else {
            self.leave();
            return batch.len();
        };
        if self.next().is_some_and(|next| next != start) {
            self.leave();
        }
        let first = start - start % group::EVENTS;
        if self.group.is_none() && start == first {
            self.group = Some(self.ring.group(first));
        }
        let end = end.min(first + group::EVENTS);
        if let Some(group) = &self.group {
            group.make((start, end), batch.frames(), &self.ring.channel, self.ring.format);
        }
        (end - start) as usize
    }

    /// The index of the event whose block it can take next.
    fn next(&self) -> Option<u64> {
        let group = self.group.as_ref()?;
        Some(group.indices().start + u64::from(self.taken))
    }

    /// Leaves the group.
    fn leave(&mut self) {
        if self.group.take().is_some() {
            self.before.append(std::mem::take(&mut self.in_group));
            self.taken = 0;
        }
    }

    fn store(&self, frame: &Frame, out: &mut Vec<u8>) {
        let event = frame.chunk(self.ring.format).body();
        if self.is_framed {
            chunk::frame(gzip::stored_length(event.len()), out, |out| gzip::store(event, out));
        } else {
            gzip::store(event, out);
        }
    }

    /// The number of events that the first `bytes` of the last offer have begun, and the rest of the last one.
    pub(crate) fn begun(&self, batch: &Batch, mut bytes: usize) -> (usize, Bytes) {
        let (mut stored, mut begun) = (Vec::new(), 0);
        for (number, frame) in batch.frames().enumerate() {
            if bytes == 0 {
                break;
            }
            let block = match &self.group {
                Some(group) => {
                    group.blocks(usize::from(self.taken) + number).next().map(|block| block.bytes(self.is_framed))
                }
                None => {
                    stored.clear();
                    self.store(frame, &mut stored);
                    Some(&stored[..])
                }
            };
            let block = block.expect("what was offered was made");
            begun += 1;
            if bytes < block.len() {
                return (begun, Bytes::copy_from_slice(&block[bytes..]));
            }
            bytes -= block.len();
        }
        (begun, Bytes::new())
    }

    /// Moves past the first `count` frames of the last offer, at least one.
    pub(crate) fn take(&mut self, batch: &Batch, count: usize) -> Taken {
        let Some(group) = &self.group else {
            let mut plain_bytes = 0;
            for frame in batch.frames().take(count) {
                let event = frame.chunk(self.ring.format).body();
                self.before.add(event);
                plain_bytes += event.len() as u64;
            }
            return Taken { is_shared: false, plain_bytes };
        };
        let last = usize::from(self.taken) + count - 1;
        let checksum = group.blocks(last).next().expect("what was offered was made").checksum;
        let plain_bytes = (checksum.length() - self.in_group.length()).into();
        (self.taken, self.in_group) = (last as u16 + 1, checksum);
        if u64::from(self.taken) == group::EVENTS {
            self.leave();
        }
        Taken { is_shared: true, plain_bytes }
    }
}

//! The chunk of a body that its consumer takes next.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::conn::end::EndReason;
use crate::conn::output::{Output, copy_of, first_bytes_of, length_of, offer_up_to};
use crate::conn::transport::Layout;
use crate::hub::{Batch, Offer};

/// The number of bytes from which on a chunk gets no further frame.
const CHUNK: usize = 16 << 10;

/// Accepts one chunk, and is full until it is taken.
#[derive(Default)]
pub(super) struct BodyOutput(Option<Bytes>);

impl BodyOutput {
    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.0.take()
    }

    fn put(&mut self, chunk: Bytes) -> io::Result<usize> {
        if self.is_full() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = chunk.len();
        self.0 = Some(chunk);
        Ok(length)
    }
}

impl Output for BodyOutput {
    const IS_ON_SHARD: bool = false;

    fn is_full(&self) -> bool {
        self.0.is_some()
    }

    fn write(&mut self, bytes: &Bytes) -> io::Result<usize> {
        self.put(bytes.clone())
    }

    fn write_batch(&mut self, batch: &Batch, layout: Layout) -> (io::Result<usize>, Offer) {
        let offer = offer_up_to(batch, layout, CHUNK);
        (self.put(first_bytes_of(batch, layout, &offer, offer.bytes)), offer)
    }

    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.put(copy_of(slices, length_of(slices)))
    }

    /// The task does not write to a full output.
    fn poll_writable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    /// A client that has gone is noticed by the server that sends the body, which drops it.
    fn check_client(&mut self, _: &mut Context<'_>) -> Result<(), EndReason> {
        Ok(())
    }
}

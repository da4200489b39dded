//! Where a stream's bytes go: the socket that was taken over from HTTP/1, a stream of an HTTP/2 connection, or the body of a
//! response that another server sends.
//!
//! The [stream's task](super::stream) and its [lifecycle](super::control) are the same for all. They know three things of an
//! output: it accepts some bytes or none, it wakes the task when it accepts more, and it reports that the client has gone.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use super::end::EndReason;
use super::transport::Layout;
use crate::hub::{Batch, Offer};

/// The output of one stream.
pub(super) trait Output: Send + Unpin + 'static {
    /// Whether the task runs on its shard's thread, which is the only one that writes the shard's counts.
    const IS_ON_SHARD: bool = true;

    /// Whether it writes a long slice without a copy, or else only what it has to write next.
    const TAKES_LONG_SLICES: bool = false;

    /// Whether nothing more is to be written in this turn of the task. Unlike a write that would block, this is no sign of a
    /// slow client.
    fn is_full(&self) -> bool {
        false
    }

    /// Writes the first bytes of `bytes`, and returns how many. The error is `WouldBlock` if it accepts none now.
    fn write(&mut self, bytes: &Bytes) -> io::Result<usize>;

    /// Writes the first bytes of `batch` as `write` does. The offer is what it could have written.
    fn write_batch(&mut self, batch: &Batch, layout: Layout) -> (io::Result<usize>, Offer);

    /// Writes the first bytes of `slices` as `write` does.
    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Waits until bytes are accepted again, after a write that would block.
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Notes that the [poller](super::poller) has found something to read, if that wakes the task.
    fn note_readable(&mut self) {}

    /// Returns the reason if the client has ended the stream. Otherwise the task is woken when it does. For transports that do
    /// not read what the client sends.
    fn check_client(&mut self, _cx: &mut Context<'_>) -> Result<(), EndReason> {
        Ok(())
    }

    /// Ends the body. Everything was written.
    fn finish(&mut self) {}

    /// Ends the stream before its body ends, so that the client does not take the body for complete.
    fn abort(&mut self) {}
}

/// The first frames of `batch`: one, and further ones while they have less than `limit` bytes together.
pub(super) fn offer_up_to(batch: &Batch, layout: Layout, limit: usize) -> Offer {
    let mut offer = Offer::default();
    for frame in batch.frames() {
        if offer.bytes >= limit {
            break;
        }
        offer.frames += 1;
        offer.bytes += layout.length(frame);
    }
    offer
}

/// The first `length` bytes of the frames in `offer`, without framing. A single frame is returned as the memory that all
/// readers share. Several are copied, which costs less than passing each of them on.
pub(super) fn first_bytes_of(batch: &Batch, layout: Layout, offer: &Offer, length: usize) -> Bytes {
    let bodies = batch.frames().map(|frame| layout.chunk(frame).to_body());
    first_bytes(bodies.take(offer.frames), length)
}

/// The first `length` bytes of `slices`, copied.
pub(super) fn copy_of(slices: &[IoSlice<'_>], length: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(length);
    for slice in slices {
        let room = length - bytes.len();
        bytes.extend_from_slice(&slice[..slice.len().min(room)]);
    }
    bytes.freeze()
}

/// The number of bytes of `slices`.
pub(super) fn length_of(slices: &[IoSlice<'_>]) -> usize {
    slices.iter().map(|slice| slice.len()).sum()
}

/// The first `length` bytes of `parts`. Copied unless one part has all of them.
fn first_bytes(mut parts: impl Iterator<Item = Bytes>, length: usize) -> Bytes {
    let first = parts.next().unwrap_or_default();
    if length <= first.len() {
        return if length == first.len() { first } else { first.slice(..length) };
    }
    let mut bytes = BytesMut::with_capacity(length);
    bytes.extend_from_slice(&first);
    for part in parts {
        let room = length - bytes.len();
        bytes.extend_from_slice(&part[..part.len().min(room)]);
    }
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_is_shared_and_several_are_copied() {
        let parts = [&b"abc"[..], b"", b"defg"].map(Bytes::from_static);
        for length in 1..=7 {
            let bytes = first_bytes(parts.iter().cloned(), length);
            assert_eq!(bytes, b"abcdefg"[..length]);
            assert_eq!(bytes.as_ptr() == parts[0].as_ptr(), length <= 3, "{length}");
        }
    }
}

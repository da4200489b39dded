//! Where a stream's bytes go: the socket that was taken over from HTTP/1, or a stream of an HTTP/2 connection.
//!
//! The [stream's task](super::stream) and its [lifecycle](super::control) are the same for both. They know three things of an
//! output: it accepts some bytes or none, it wakes the task when it accepts more, and it reports that the client has gone.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::end::EndReason;
use super::transport::Layout;
use crate::hub::{Batch, Offer};

/// The output of one stream.
pub(super) trait Output: Send + Unpin + 'static {
    /// Writes the first bytes of `bytes`, and returns how many. The error is `WouldBlock` if it accepts none now.
    fn write(&mut self, bytes: &Bytes) -> io::Result<usize>;

    /// Writes the first bytes of `batch` as `write` does. The offer is what it could have written.
    fn write_batch(&mut self, batch: &Batch, layout: Layout) -> (io::Result<usize>, Offer);

    /// Waits until bytes are accepted again, after a write that would block.
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Returns the reason if the client has ended the stream. Otherwise the task is woken when it does.
    fn check_client(&mut self, cx: &mut Context<'_>) -> Result<(), EndReason>;

    /// Ends the body. Everything was written.
    fn finish(&mut self) {}

    /// Ends the stream before its body ends, so that the client does not take the body for complete.
    fn abort(&mut self) {}
}

//! The socket of a stream of Server-Sent Events that was taken over from HTTP/1.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::task::{Context, Poll};

use bytes::Bytes;

use super::output::write_batch;
use crate::conn::end::EndReason;
use crate::conn::output::Output;
use crate::conn::poller::Poller;
use crate::conn::socket::{Socket, Unregistered, turn_kernel_timeout_off};
use crate::conn::transport::Layout;
use crate::hub::{Batch, Offer};
use crate::presence::ClientKey;

/// The number of bytes that a client may send on its stream. They are ignored.
const MAX_EARLY_BYTES: usize = 16 << 10;

/// The socket of one stream. Closing it ends a body without chunks, and aborts a chunked one.
pub(in crate::conn) struct StreamSocket {
    socket: Unregistered,
    early_bytes: u16,
    /// Whether there may be something to read.
    is_readable: bool,
    /// Whether a write would have blocked before.
    has_blocked: bool,
}

impl StreamSocket {
    /// The socket of `client`, which the poller wakes from now on instead of tokio. It has sent `early_bytes` after its request.
    pub(in crate::conn) fn new(
        socket: Socket,
        early_bytes: usize,
        poller: &Poller,
        client: ClientKey,
    ) -> io::Result<Self> {
        if early_bytes > 0 {
            tracing::debug!(early_bytes, "ignoring bytes that a client sent after its request for a stream");
        }
        let socket = socket.unregister()?;
        poller.register(&socket, client)?;
        Ok(Self {
            socket,
            early_bytes: u16::try_from(early_bytes).unwrap_or(u16::MAX),
            is_readable: false,
            has_blocked: false,
        })
    }

    fn note_early_bytes(&mut self, bytes: usize) -> Result<(), EndReason> {
        if self.early_bytes == 0 {
            tracing::debug!(bytes, "ignoring bytes that a client sent on its stream");
        }
        let total = usize::from(self.early_bytes) + bytes;
        self.early_bytes = u16::try_from(total).unwrap_or(u16::MAX);
        if total > MAX_EARLY_BYTES { Err(EndReason::Misused) } else { Ok(()) }
    }
}

impl Output for StreamSocket {
    const TAKES_LONG_SLICES: bool = true;

    fn write(&mut self, bytes: &Bytes) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn write_batch(&mut self, batch: &Batch, layout: Layout) -> (io::Result<usize>, Offer) {
        if let Some(bytes) = layout.joined(batch) {
            return (self.socket.write(bytes), Offer { slices: 1, frames: batch.len(), bytes: bytes.len() });
        }
        write_batch(batch, layout, |slices| self.write_slices(slices))
    }

    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [slice] => self.socket.write(slice),
            slices => self.socket.write_vectored(slices),
        }
    }

    /// The poller wakes the task.
    fn poll_writable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.has_blocked, true) {
            turn_kernel_timeout_off(&self.socket);
        }
        Poll::Pending
    }

    fn note_readable(&mut self) {
        self.is_readable = true;
    }

    /// Reads and ignores what the client sends, to detect when it disconnects.
    fn check_client(&mut self, _: &mut Context<'_>) -> Result<(), EndReason> {
        if usize::from(self.early_bytes) > MAX_EARLY_BYTES {
            return Err(EndReason::Misused);
        }
        while self.is_readable {
            match self.socket.read(&mut [0; 1024]) {
                Ok(0) => return Err(EndReason::Closed),
                Ok(bytes) => self.note_early_bytes(bytes)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(EndReason::of_socket(&error)),
            }
        }
        Ok(())
    }
}

//! The socket of a stream that was taken over from HTTP/1.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::Interest;
use tokio::task::coop;

use crate::conn::end::EndReason;
use crate::conn::output::Output;
use crate::conn::socket::Socket;
use crate::conn::transport::Layout;
use crate::hub::{Batch, MAX_FRAMES, Offer};

/// The number of bytes that a client may send on its stream. They are ignored.
const MAX_EARLY_BYTES: usize = 16 << 10;

/// The socket of one stream. Closing it ends a body without chunks, and aborts a chunked one.
pub(in crate::conn) struct SocketOutput {
    socket: Socket,
    early_bytes: u16,
    /// Whether the reactor wakes the task when there is something to read.
    awaits_read: bool,
}

impl SocketOutput {
    /// The client has sent `early_bytes` after its request.
    pub(in crate::conn) fn new(socket: Socket, early_bytes: usize) -> Self {
        if early_bytes > 0 {
            tracing::debug!(early_bytes, "ignoring bytes that a client sent after its request for a stream");
        }
        Self { socket, early_bytes: u16::try_from(early_bytes).unwrap_or(u16::MAX), awaits_read: false }
    }

    pub(in crate::conn) fn into_socket(self) -> Socket {
        self.socket
    }

    /// Calls `read` when the client has sent something. Otherwise the task is woken when it does.
    ///
    /// Checking the reactor's readiness is one load. Registering with the reactor takes a lock: it is done at first, and each
    /// time after the reactor has woken the task.
    pub(in crate::conn) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(&Socket) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let (socket, awaits_read) = (&self.socket, &mut self.awaits_read);
            let outcome = socket.try_io(Interest::READABLE, || {
                *awaits_read = false;
                read(socket)
            });
            match outcome {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
            if self.awaits_read {
                return Poll::Pending;
            }
            match self.socket.poll_read_ready(cx) {
                Poll::Ready(readiness) => readiness?,
                Poll::Pending => {
                    // Without budget the task is woken again instead of registered.
                    self.awaits_read = coop::has_budget_remaining();
                    return Poll::Pending;
                }
            }
        }
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

impl Output for SocketOutput {
    fn write(&mut self, bytes: &Bytes) -> io::Result<usize> {
        self.socket.try_write(bytes)
    }

    fn write_batch(&mut self, batch: &Batch, layout: Layout) -> (io::Result<usize>, Offer) {
        // Most batches need one or two slices, and initialising `MAX_FRAMES` of them has a cost.
        let mut few = [IoSlice::new(&[]); 16];
        let offer = layout.offer(batch, &mut few);
        if offer.frames == batch.len() {
            return (self.write_slices(&few[..offer.slices]), offer);
        }
        let mut many = [IoSlice::new(&[]); MAX_FRAMES];
        let offer = layout.offer(batch, &mut many);
        (self.write_slices(&many[..offer.slices]), offer)
    }

    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [slice] => self.socket.try_write(slice),
            slices => self.socket.try_write_vectored(slices),
        }
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_write_ready(cx)
    }

    /// Reads and ignores what the client sends, to detect when it disconnects.
    fn check_client(&mut self, cx: &mut Context<'_>) -> Result<(), EndReason> {
        if usize::from(self.early_bytes) > MAX_EARLY_BYTES {
            return Err(EndReason::Misused);
        }
        while let Poll::Ready(read) = self.poll_read(cx, |socket| Ok(rustix::io::read(socket, &mut [0; 1024])?)) {
            match read {
                Ok(0) => return Err(EndReason::Closed),
                Ok(bytes) => self.note_early_bytes(bytes)?,
                Err(error) => return Err(EndReason::of_socket(&error)),
            }
        }
        Ok(())
    }
}

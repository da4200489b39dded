//! The socket of a WebSocket that was taken over from HTTP/1.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::Interest;
use tokio::task::coop;

use crate::conn::output::Output;
use crate::conn::socket::{Socket, turn_kernel_timeout_off};
use crate::conn::transport::Layout;
use crate::hub::{Batch, MAX_FRAMES, Offer};

/// The socket of one WebSocket.
pub(in crate::conn) struct SocketOutput {
    socket: Socket,
    /// Whether the reactor wakes the task when there is something to read.
    awaits_read: bool,
    /// Whether a write would have blocked before.
    has_blocked: bool,
}

impl SocketOutput {
    pub(in crate::conn) fn new(socket: Socket) -> Self {
        Self { socket, awaits_read: false, has_blocked: false }
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
}

/// Writes the first bytes of `batch` with one call of `write`.
pub(super) fn write_batch(
    batch: &Batch,
    layout: Layout,
    write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
) -> (io::Result<usize>, Offer) {
    if let Some(frame) = batch.only() {
        let bytes = layout.slice(frame);
        return (write(&[IoSlice::new(bytes)]), Offer { slices: 1, frames: 1, bytes: bytes.len() });
    }
    // Most batches need one or two slices, and initialising `MAX_FRAMES` of them has a cost.
    let mut few = [IoSlice::new(&[]); 16];
    let offer = layout.offer(batch, &mut few);
    if offer.frames == batch.len() {
        return (write(&few[..offer.slices]), offer);
    }
    let mut many = [IoSlice::new(&[]); MAX_FRAMES];
    let offer = layout.offer(batch, &mut many);
    (write(&many[..offer.slices]), offer)
}

impl Output for SocketOutput {
    fn write(&mut self, bytes: &Bytes) -> io::Result<usize> {
        self.socket.try_write(bytes)
    }

    fn write_batch(&mut self, batch: &Batch, layout: Layout) -> (io::Result<usize>, Offer) {
        write_batch(batch, layout, |slices| self.write_slices(slices))
    }

    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [slice] => self.socket.try_write(slice),
            slices => self.socket.try_write_vectored(slices),
        }
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.has_blocked, true) {
            turn_kernel_timeout_off(&self.socket);
        }
        self.socket.poll_write_ready(cx)
    }
}

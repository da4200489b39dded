//! The socket of an HTTP/2 connection, with a buffer for writes.
//!
//! h2 flushes after every larger frame. An event goes to many streams of a connection at once: their frames are collected, and the
//! driver of the connection writes all of them with one system call. What one connection reads in one turn is bounded, so that a
//! flood of small frames delays no other connection of the shard.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::conn::socket::Socket;
use crate::sync::{Arc, AtomicU32, Mutex, Ordering, lock};

/// The number of bytes that are collected for one write.
const MAX_COLLECTED: usize = 64 << 10;

/// The number of reads of one connection before other tasks run.
const READS_PER_TURN: u32 = 8;

/// The socket of one connection, used by its driver and by h2.
pub(super) struct Shared {
    pub(super) socket: Socket,
    unwritten: Mutex<BytesMut>,
    /// The reads of this turn.
    reads: AtomicU32,
}

impl Shared {
    pub(super) fn new(socket: Socket) -> Arc<Self> {
        Arc::new(Self { socket, unwritten: Mutex::default(), reads: AtomicU32::new(0) })
    }

    /// Allows the reads of another turn.
    pub(super) fn begin_turn(&self) {
        self.reads.store(0, Ordering::Relaxed);
    }

    /// Writes what was collected. The task is woken when a blocked socket accepts more.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut unwritten = lock(&self.unwritten);
        while !unwritten.is_empty() {
            match self.socket.try_write(&unwritten) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(bytes) => unwritten.advance(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.socket.poll_write_ready(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        // An idle connection keeps no buffer.
        *unwritten = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

/// h2's side of the socket.
pub(super) struct Collecting(pub(super) Arc<Shared>);

impl AsyncRead for Collecting {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Shared { socket, reads, .. } = &*self.0;
        if reads.load(Ordering::Relaxed) >= READS_PER_TURN {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            ready!(socket.poll_read_ready(cx))?;
            match socket.try_read(buf.initialize_unfilled()) {
                Ok(bytes) => {
                    reads.fetch_add(1, Ordering::Relaxed);
                    buf.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Collecting {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if lock(&self.0.unwritten).len() >= MAX_COLLECTED {
            ready!(self.0.poll_flush(cx))?;
        }
        lock(&self.0.unwritten).extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    /// The driver flushes at the end of its turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The driver closes the socket, after it has written everything.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

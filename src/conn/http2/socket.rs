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

use crate::conn::socket::{Socket, turn_kernel_timeout_off};
use crate::sync::{Arc, AtomicBool, AtomicU32, Mutex, Ordering, lock};

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
    /// Whether a write would have blocked before.
    has_blocked: AtomicBool,
}

impl Shared {
    pub(super) fn new(socket: Socket) -> Arc<Self> {
        Arc::new(Self {
            socket,
            unwritten: Mutex::default(),
            reads: AtomicU32::new(0),
            has_blocked: AtomicBool::new(false),
        })
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
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.has_blocked.swap(true, Ordering::Relaxed) {
                        turn_kernel_timeout_off(&self.socket);
                    }
                    ready!(self.socket.poll_write_ready(cx))?;
                }
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (Arc<Shared>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Shared::new(Socket::Tcp(listener.accept().await.unwrap().0)), peer)
    }

    #[tokio::test]
    async fn small_writes_are_collected_until_the_driver_flushes() {
        let (shared, mut peer) = pair().await;
        let mut collecting = Collecting(shared.clone());
        for part in [&b"one "[..], b"two ", b"three"] {
            collecting.write_all(part).await.unwrap();
            collecting.flush().await.unwrap();
        }
        assert_eq!(*lock(&shared.unwritten), b"one two three"[..]);
        poll_fn(|cx| shared.poll_flush(cx)).await.unwrap();
        let mut received = [0; 13];
        peer.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"one two three");
        assert_eq!(lock(&shared.unwritten).capacity(), 0, "an idle connection keeps no buffer");
    }

    #[tokio::test]
    async fn writes_wait_when_the_peer_reads_nothing_and_the_buffer_is_full() {
        let (shared, _peer) = pair().await;
        let mut collecting = Collecting(shared.clone());
        let mut written = 0;
        let part = vec![b'x'; 16 << 10];
        while poll_fn(|cx| Poll::Ready(Pin::new(&mut collecting).poll_write(cx, &part))).await.is_ready() {
            written += part.len();
            assert!(written < 64 << 20, "the kernel's buffers are full at some time");
        }
        assert!((1..MAX_COLLECTED + part.len()).contains(&lock(&shared.unwritten).len()));
    }

    #[tokio::test]
    async fn reads_of_one_turn_are_bounded() {
        let (shared, mut peer) = pair().await;
        peer.write_all(&[0; 64]).await.unwrap();
        let mut collecting = Collecting(shared.clone());
        for turn in 0..2 {
            shared.begin_turn();
            for read in 0..READS_PER_TURN {
                assert_eq!(collecting.read_u8().await.unwrap(), 0, "{turn} {read}");
            }
            let next = poll_fn(|cx| Poll::Ready(Pin::new(&mut collecting).poll_read(cx, &mut ReadBuf::new(&mut [0]))));
            assert!(next.await.is_pending());
        }
    }
}

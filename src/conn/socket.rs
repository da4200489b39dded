//! The socket of a connection: TCP or Unix.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, SendFlags};
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};

/// A connected socket that is registered with the reactor of a thread.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connected socket that tokio does not watch: on its way from the thread that accepted it to the thread that serves it, or
/// that of a stream, which the [poller](super::poller) watches.
pub(crate) enum Unregistered {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Unregistered {
    /// Registers the socket with the reactor of this thread.
    pub(crate) fn register(self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(socket) => Socket::Tcp(TcpStream::from_std(socket)?),
            Self::Unix(socket) => Socket::Unix(UnixStream::from_std(socket)?),
        })
    }
}

/// Does not block.
impl Read for Unregistered {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buf),
            Self::Unix(socket) => socket.read(buf),
        }
    }
}

/// No signal if the connection is closed. On Apple's systems that is an option of the socket, which the standard library sets.
#[cfg(not(target_vendor = "apple"))]
const SEND: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const SEND: SendFlags = SendFlags::empty();

/// Does not block.
impl Write for Unregistered {
    /// A system call without the C library, where threads can be cancelled in it, which has a cost.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(self, buf, SEND)?)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write_vectored(bufs),
            Self::Unix(socket) => socket.write_vectored(bufs),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Turns the kernel's timeout of a connection off, once its socket accepted no bytes: from then on only the server decides how long
/// a client may accept none.
///
/// `TCP_USER_TIMEOUT` also closes connections of slow clients that read. While the next packet is larger than the client's window,
/// Linux counts the time from the first probe of the window, whether or not parts of packets are accepted meanwhile.
pub(super) fn turn_kernel_timeout_off(socket: &impl AsFd) {
    // A Unix socket has none, and a socket with an error is closed soon.
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(socket).set_tcp_user_timeout(None);
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

impl AsFd for Unregistered {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

impl TryFrom<TcpStream> for Unregistered {
    type Error = io::Error;

    fn try_from(socket: TcpStream) -> io::Result<Self> {
        socket.into_std().map(Self::Tcp)
    }
}

impl TryFrom<UnixStream> for Unregistered {
    type Error = io::Error;

    fn try_from(socket: UnixStream) -> io::Result<Self> {
        socket.into_std().map(Self::Unix)
    }
}

/// Evaluates an expression for the socket of either kind.
macro_rules! either {
    ($socket:expr, $inner:ident => $result:expr) => {
        match $socket {
            Socket::Tcp($inner) => $result,
            Socket::Unix($inner) => $result,
        }
    };
}

impl Socket {
    /// Removes the socket from the reactor of this thread.
    pub(super) fn unregister(self) -> io::Result<Unregistered> {
        Ok(match self {
            Self::Tcp(socket) => Unregistered::Tcp(socket.into_std()?),
            Self::Unix(socket) => Unregistered::Unix(socket.into_std()?),
        })
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        either!(self, socket => socket.readable().await)
    }

    async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        either!(self, socket => socket.ready(interest).await)
    }

    /// Calls `decide` with the first bytes, at most `N` of them, each time that more have arrived, until it returns a result.
    /// The bytes stay in the socket. The second argument is whether no bytes will follow.
    pub(crate) async fn peek<const N: usize, T>(
        &self,
        mut decide: impl FnMut(&[u8], bool) -> Option<T>,
    ) -> io::Result<T> {
        loop {
            let is_closed = self.ready(Interest::READABLE).await?.is_read_closed();
            let decision = self.try_io(Interest::READABLE, || {
                let mut first = [0; N];
                let length = rustix::net::recv(self, &mut first, RecvFlags::PEEK)?.0;
                let decision = decide(&first[..length], is_closed || length == 0);
                // The reactor waits for more.
                decision.ok_or_else(|| io::ErrorKind::WouldBlock.into())
            });
            match decision {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                decision => return decision,
            }
        }
    }

    pub(crate) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        either!(self, socket => socket.try_read(buf))
    }

    pub(crate) fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        either!(self, socket => socket.try_write(buf))
    }

    pub(crate) fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, socket => socket.try_write_vectored(bufs))
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, socket => socket.poll_read_ready(cx))
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, socket => socket.poll_write_ready(cx))
    }

    /// Calls `io` if the socket is ready. If it returns `WouldBlock`, the socket is not ready any more.
    pub(crate) fn try_io<R>(&self, interest: Interest, io: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        either!(self, socket => socket.try_io(interest, io))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(self, socket => socket.as_fd())
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), socket => Pin::new(socket).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), socket => Pin::new(socket).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), socket => Pin::new(socket).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, socket => socket.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), socket => Pin::new(socket).poll_shutdown(cx))
    }
}

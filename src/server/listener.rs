//! Accepting: connections come in on one thread and go to the shard that has the fewest.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;

use super::files::Reserve;
use crate::limit::{ConnectionPermit, LimitExceeded, Limiter};
use crate::metrics::{ConnectionGuard, Metrics};

/// How many connections the kernel keeps until they are accepted. With tokio's 1024 a crowd that reconnects overflows
/// it, and every SYN that is dropped costs its client a second and more.
const BACKLOG: i32 = 4096;

/// How long to wait for a file descriptor before looking again.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection on its way to a shard.
pub(super) struct Accepted {
    pub(super) socket: TcpStream,
    pub(super) remote: SocketAddr,
    pub(super) guard: ConnectionGuard,
    /// Why the client is told to go, if it is.
    pub(super) over: Option<LimitExceeded>,
}

/// Listens on `address`. What is set here holds for the connections too: they inherit it.
pub(super) fn bind(address: SocketAddr, send_buffer: usize, write_timeout: Duration) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(send_buffer)?;
    // A peer that acknowledges nothing, because it is gone or because it does not read, ends here at the latest.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(write_timeout))?;
    #[cfg(not(target_os = "linux"))]
    let _ = write_timeout;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Hands connections to shards.
#[derive(Clone)]
pub(super) struct Shards {
    pub(super) inboxes: Arc<[mpsc::UnboundedSender<Accepted>]>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limiter: Arc<Limiter>,
}

impl Shards {
    /// Gives the connection a place at the shard that has the fewest. A connection over a limit is turned away.
    fn take_in(&self, socket: TcpStream, remote: SocketAddr) {
        self.metrics.accepted();
        match self.limiter.connect(remote.ip()) {
            Ok(permit) => self.hand_over(socket, remote, permit, None),
            Err(over) => self.turn_away(socket, remote, over),
        }
    }

    /// Gives the connection a place for as long as it takes to answer it with the limit's error, or with health or metrics.
    /// When there are too many of these connections as well, it is closed.
    fn turn_away(&self, socket: TcpStream, remote: SocketAddr, over: LimitExceeded) {
        match self.limiter.connections.admit_rejected(remote.ip()) {
            Some(permit) => self.hand_over(socket, remote, permit, Some(over)),
            None => {
                tracing::debug!(%remote, reason = over.reason.as_str(), "closed at once");
                self.metrics.rejected(over.reason.as_str());
            }
        }
    }

    /// Releases the reserve, after `error` said that there is no other file.
    fn release(&self, reserve: &mut Reserve, error: &io::Error) {
        if reserve.is_released() {
            return;
        }
        reserve.release();
        self.metrics.accepting_paused();
        let connections = self.metrics.connections();
        tracing::warn!(%error, connections, "no file descriptor is left: connections are turned away (raise ulimit -n)");
    }

    /// Returns whether the reserve is there, after an attempt to take it back.
    fn take_back(&self, reserve: &mut Reserve) -> bool {
        if !reserve.is_released() {
            return true;
        }
        if reserve.take_back() {
            self.metrics.accepting_resumed();
            tracing::info!(connections = self.metrics.connections(), "accepting again");
        }
        !reserve.is_released()
    }

    fn hand_over(&self, socket: TcpStream, remote: SocketAddr, permit: ConnectionPermit, over: Option<LimitExceeded>) {
        let count = |&shard: &usize| self.metrics.shard(shard).connections();
        let shard = (0..self.inboxes.len()).min_by_key(count).unwrap_or(0);
        let guard = ConnectionGuard::new(self.metrics.clone(), permit, shard);
        // A shard that is gone, at the very end, closes the connection.
        let _ = self.inboxes[shard].send(Accepted { socket, remote, guard, over });
    }
}

/// Accepts for ever. Out of files, connections are turned away on those of the reserve: health checks are answered, and an
/// orchestrator sees why the server takes no others.
pub(super) async fn accept(listener: TcpListener, shards: Shards, reserved_files: usize) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut reserve = Reserve::new(reserved_files)?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = tokio::time::sleep(PAUSE), if reserve.is_released() => {
                shards.take_back(&mut reserve);
                continue;
            }
        };
        // Off this thread's reactor; the shard puts it on its own.
        match accepted.and_then(|(socket, remote)| Ok((socket.into_std()?, remote))) {
            Ok((socket, remote)) if shards.take_back(&mut reserve) => shards.take_in(socket, remote),
            Ok((socket, remote)) => {
                shards.metrics.accepted();
                shards.turn_away(socket, remote, shards.limiter.refuse_for_want_of_files());
            }
            Err(error) if is_out_of_files(&error) => {
                if reserve.is_released() {
                    tokio::time::sleep(PAUSE).await;
                }
                shards.release(&mut reserve, &error);
            }
            // The client gave up before it was accepted.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(error) => {
                tracing::warn!(%error, "accepting failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_out_of_files(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

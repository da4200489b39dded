//! From the listening socket to the shard that serves the connection.
//!
//! Connections are accepted on the caller's thread and go to the shard with the fewest, HTTP/2 streams included. Each shard
//! is a thread with a runtime of its own, where its connections begin and end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::mpsc;

use super::acceptor::Accepting;
use super::files::Reserve;
use crate::conn::Unregistered;
use crate::conn::http::Http;
use crate::http::Routes;
use crate::limit::{ConnectionPermit, LimitExceeded, Limiter};
use crate::metrics::{ConnectionGuard, Metrics};
use crate::peer::{Peer, TrustedProxy};

/// The time between two attempts to get a file descriptor.
const PAUSE: Duration = Duration::from_millis(100);

/// The shortest time for a drain: enough to write the restart notice to the streams.
const MIN_DRAIN: Duration = Duration::from_millis(200);

/// The number of tasks that run before the runtime polls its sockets again. Large enough that many publishers are read
/// before the first one publishes, so that their events are one batch. Small enough that no task waits long: writing to
/// that many clients takes about a millisecond.
const EVENT_INTERVAL: u32 = 256;

/// A connection that is handed to a shard.
pub(super) struct Accepted {
    socket: Unregistered,
    peer: Peer,
    guard: ConnectionGuard,
    /// The limit that the connection exceeds.
    exceeded: Option<LimitExceeded>,
}

/// The queue of connections of a shard.
pub(super) type Inbox = mpsc::UnboundedSender<Accepted>;

/// Hands connections to shards.
#[derive(Clone)]
pub(super) struct Dispatcher {
    pub(super) inboxes: Arc<[Inbox]>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limiter: Arc<Limiter>,
    pub(super) trusted_proxies: Arc<[TrustedProxy]>,
}

impl Dispatcher {
    /// Hands the connection to a shard if no limit is exceeded, or turns it away.
    fn dispatch(&self, socket: Unregistered, peer: Peer) {
        let is_trusted = || self.trusted_proxies.iter().any(|proxy| proxy.is_at(peer.address));
        let is_proxy = peer.awaits_proxy_header || is_trusted();
        let admitted = if is_proxy { self.limiter.connect_proxy() } else { self.limiter.connect(peer.address) };
        match admitted {
            Ok(permit) => self.hand_over(socket, peer, permit, None),
            Err(exceeded) => self.turn_away(socket, peer, exceeded),
        }
    }

    /// Hands over a connection that gets the limit's error, or health and metrics. With too many such connections, closes it.
    fn turn_away(&self, socket: Unregistered, peer: Peer, exceeded: LimitExceeded) {
        match self.limiter.connections.admit_rejected(peer.address) {
            Some(permit) => self.hand_over(socket, peer, permit, Some(exceeded)),
            None => {
                tracing::debug!(remote = %peer, reason = exceeded.reason.as_str(), "connection closed without a response");
                self.metrics.accepted.add_shared(1);
                self.metrics.rejections.add(exceeded.reason.as_str());
            }
        }
    }

    /// Releases the reserve after `error`, because no file descriptor is left.
    fn release(&self, reserve: &mut Reserve, error: &io::Error) {
        if reserve.is_released() {
            return;
        }
        reserve.release();
        self.metrics.accept_pauses.add_shared(1);
        self.metrics.is_accepting_paused.store(true, Ordering::Relaxed);
        let connections = self.metrics.connections();
        tracing::warn!(%error, connections, "no file descriptor is left: connections are turned away (raise ulimit -n)");
    }

    /// Takes a released reserve back if possible. Returns whether the reserve is complete.
    fn take_back(&self, reserve: &mut Reserve) -> bool {
        if !reserve.is_released() {
            return true;
        }
        if reserve.take_back() {
            self.metrics.is_accepting_paused.store(false, Ordering::Relaxed);
            tracing::info!(connections = self.metrics.connections(), "accepting again");
        }
        !reserve.is_released()
    }

    fn hand_over(&self, socket: Unregistered, peer: Peer, permit: ConnectionPermit, exceeded: Option<LimitExceeded>) {
        let load = |&shard: &usize| self.metrics.shard(shard).load();
        // During a drain, a shard without streams ends before the others.
        let running = (0..self.inboxes.len()).filter(|&shard| !self.inboxes[shard].is_closed());
        let shard = running.min_by_key(load).unwrap_or(0);
        let guard = ConnectionGuard::new(self.metrics.clone(), permit, shard);
        // Counted after the guard exists and before a request is served: an accepted connection is open or has ended.
        self.metrics.accepted.add_shared(1);
        // The send fails only after the shard has ended, which closes the connection.
        let _ = self.inboxes[shard].send(Accepted { socket, peer, guard, exceeded });
    }
}

/// Accepts connections until the task is dropped. If no file descriptor is left, connections use those of the reserve: they
/// are turned away, except for health checks and metrics.
pub(super) async fn accept(listener: Accepting, shards: Dispatcher, reserved_files: usize) -> io::Result<()> {
    let mut reserve = Reserve::new(reserved_files)?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = tokio::time::sleep(PAUSE), if reserve.is_released() => {
                shards.take_back(&mut reserve);
                continue;
            }
        };
        match accepted {
            Ok((socket, peer)) if shards.take_back(&mut reserve) => shards.dispatch(socket, peer),
            Ok((socket, peer)) => shards.turn_away(socket, peer, shards.limiter.refuse_without_files()),
            Err(error) if is_out_of_files(&error) => {
                if reserve.is_released() {
                    tokio::time::sleep(PAUSE).await;
                }
                shards.release(&mut reserve, &error);
            }
            // The client closed the connection before it was accepted.
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

/// Starts the thread of a shard. It serves the connections of its inbox until the drain begins, closes them over `window`,
/// and ends.
pub(super) fn spawn_shard(number: usize, http: Http<Routes>, window: Duration) -> io::Result<(Inbox, JoinHandle<()>)> {
    let (inbox, accepted) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(EVENT_INTERVAL).build()?;
    // Dropping the runtime ends whatever is left.
    let thread = std::thread::Builder::new()
        .name(format!("fanline-{number}"))
        .spawn(move || runtime.block_on(run_shard(Arc::new(http), accepted, window)))?;
    Ok((inbox, thread))
}

async fn run_shard(http: Arc<Http<Routes>>, inbox: mpsc::UnboundedReceiver<Accepted>, window: Duration) {
    let shard = &http.shard;
    let drained = async {
        shard.drain.begun().await;
        let end = async {
            shard.drain_streams(window).await;
            // Other requests in progress.
            while shard.counts().connections.get() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(window.max(MIN_DRAIN), end).await.is_err() {
            let connections = shard.counts().connections.get();
            tracing::warn!(connections, "the drain time is over: closing the remaining connections");
        }
    };
    tokio::select! {
        () = drained => {}
        () = shard.run() => {}
        Err(error) = http.poller.run(&shard.clients) => {
            tracing::error!(%error, "a shard ends: the sockets of its streams cannot be watched");
        }
        () = serve_all(&http, inbox) => {}
    }
}

async fn serve_all(http: &Arc<Http<Routes>>, mut inbox: mpsc::UnboundedReceiver<Accepted>) {
    while let Some(Accepted { socket, peer, guard, exceeded }) = inbox.recv().await {
        match socket.register() {
            Ok(socket) => drop(tokio::spawn(http.clone().serve(socket, peer, guard, exceeded.map(Box::new)))),
            Err(error) => tracing::warn!(%error, "cannot register a connection"),
        }
    }
    // The listeners are closed, and the connections are still served.
    std::future::pending().await
}

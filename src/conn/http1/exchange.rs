//! What the driver of a connection shares with its service and its socket: whether a request is in flight, since when a head is
//! waited for, and whether the socket is flushed.
//!
//! **The wait for a head** begins with a read that finds nothing while no request is in flight, and ends with the next request.
//! Heads that arrive byte by byte do not restart it. The driver compares its beginning with the limit when a timer of the
//! connection fires: a request sets no timer.

use std::time::Duration;

use tokio::time::Instant;

use super::Takeover;
use crate::metrics::ConnectionGuard;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, lock};

/// State that the driver of a connection shares with its service and its socket.
pub(in crate::conn) struct Exchange {
    pub(in crate::conn) has_request: AtomicBool,
    /// Cloned for each request in flight. What arrives meanwhile is not the head of a request.
    in_flight: InFlight,
    began: Instant,
    /// When the wait for the next head began, in milliseconds since `began`, or [`BUSY`].
    head_wait: AtomicU64,
    /// Set when the protocol of the connection changes from HTTP to one of the application.
    pub(super) is_upgraded: AtomicBool,
    /// The guard of an upgraded connection. It lives as long as the socket.
    pub(super) guard: Mutex<Option<ConnectionGuard>>,
    /// Set from a write to the socket until its flush.
    pub(super) is_unflushed: AtomicBool,
    takeover: Mutex<Option<Takeover>>,
    has_takeover: AtomicBool,
}

/// No head is waited for.
const BUSY: u64 = u64::MAX;

/// A request whose response is not complete, or a request body that may still be read.
#[derive(Clone, Default)]
pub(super) struct InFlight(Arc<()>);

impl Exchange {
    /// A connection that was accepted at `began`, which is when the wait for its first head begins.
    pub(in crate::conn) fn new(began: Instant) -> Self {
        Self {
            has_request: AtomicBool::default(),
            in_flight: InFlight::default(),
            began,
            head_wait: AtomicU64::new(0),
            is_upgraded: AtomicBool::default(),
            guard: Mutex::default(),
            is_unflushed: AtomicBool::default(),
            takeover: Mutex::default(),
            has_takeover: AtomicBool::default(),
        }
    }

    /// Ends the wait for a head. The next one begins after the result is dropped.
    pub(super) fn begin_request(&self) -> InFlight {
        self.has_request.store(true, Ordering::Relaxed);
        self.head_wait.store(BUSY, Ordering::Relaxed);
        self.in_flight.clone()
    }

    /// Counts a body of the present request, which may outlive its response.
    pub(super) fn begin_body(&self) -> InFlight {
        self.in_flight.clone()
    }

    /// Whether the next bytes are the head of a request.
    pub(super) fn awaits_head(&self) -> bool {
        Arc::strong_count(&self.in_flight.0) == 1 && !self.is_upgraded.load(Ordering::Relaxed)
    }

    /// Begins the wait for a head, unless it has begun.
    pub(super) fn wait_for_head(&self) {
        if self.head_wait.load(Ordering::Relaxed) == BUSY {
            // Rounded up: no connection is closed too early.
            let elapsed = self.began.elapsed().as_millis() + 1;
            self.head_wait.store(u64::try_from(elapsed).unwrap_or(BUSY), Ordering::Relaxed);
        }
    }

    /// When the wait for a head began, if one is waited for.
    pub(super) fn head_wait(&self) -> Option<Instant> {
        let elapsed = self.head_wait.load(Ordering::Relaxed);
        (elapsed != BUSY).then(|| self.began + Duration::from_millis(elapsed))
    }

    /// Stores the reply that takes the socket over.
    pub(super) fn take_over(&self, takeover: Takeover) {
        *lock(&self.takeover) = Some(takeover);
        self.has_takeover.store(true, Ordering::Relaxed);
    }

    /// The stored reply, as soon as the socket is flushed. The driver is woken when the socket accepts more bytes.
    pub(super) fn takeover(&self) -> Option<Takeover> {
        let is_ready = self.has_takeover.load(Ordering::Relaxed) && !self.is_unflushed.load(Ordering::Relaxed);
        is_ready.then(|| lock(&self.takeover).take()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_for_a_head_is_not_shortened() {
        let exchange = Exchange::new(Instant::now());
        drop(exchange.begin_request());
        let before = Instant::now();
        exchange.wait_for_head();
        assert!(exchange.head_wait().unwrap() >= before);
    }
}

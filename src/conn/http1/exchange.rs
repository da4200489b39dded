//! What the driver of a connection shares with its service and its socket: whether a request is handled, since when a head is
//! waited for, and whether the socket is flushed.
//!
//! **The wait for a head** begins with a read that finds nothing while no request is in flight, and ends with the next request.
//! Heads that arrive byte by byte do not restart it. The driver compares its beginning with the limit when a timer of the
//! connection fires: requests set no timer.

use tokio::time::Instant;

use super::Takeover;
use crate::metrics::ConnectionGuard;
use crate::sync::{Arc, AtomicBool, AtomicU32, Mutex, Ordering, lock};

/// State that the driver of a connection shares with its service and its socket.
pub(in crate::conn) struct Exchange {
    pub(in crate::conn) has_request: AtomicBool,
    /// The number of requests and request bodies in flight. What arrives meanwhile is not the head of a request.
    in_flight: Arc<AtomicU32>,
    /// When the wait for the next head began. `None` while it is not waited for.
    head_wait: Mutex<Option<Instant>>,
    /// Set when the protocol of the connection changes from HTTP to one of the application.
    pub(super) is_upgraded: AtomicBool,
    /// The guard of an upgraded connection. It lives as long as the socket.
    pub(super) guard: Mutex<Option<ConnectionGuard>>,
    /// Set from a write to the socket until its flush.
    pub(super) is_unflushed: AtomicBool,
    pub(super) takeover: Mutex<Option<Takeover>>,
}

/// A request whose response is not complete, or a request body that may still be read.
pub(super) struct InFlight(Arc<AtomicU32>);

impl InFlight {
    fn new(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Exchange {
    /// A connection that was accepted at `began`, which is when the wait for its first head begins.
    pub(in crate::conn) fn new(began: Instant) -> Self {
        Self {
            has_request: AtomicBool::default(),
            in_flight: Arc::default(),
            head_wait: Mutex::new(Some(began)),
            is_upgraded: AtomicBool::default(),
            guard: Mutex::default(),
            is_unflushed: AtomicBool::default(),
            takeover: Mutex::default(),
        }
    }

    /// Ends the wait for a head. The next one begins after the guard is dropped.
    pub(super) fn begin_request(&self) -> InFlight {
        self.has_request.store(true, Ordering::Relaxed);
        *lock(&self.head_wait) = None;
        InFlight::new(&self.in_flight)
    }

    /// Counts a body of the present request, which may outlive its response.
    pub(super) fn begin_body(&self) -> InFlight {
        InFlight::new(&self.in_flight)
    }

    /// Whether the next bytes are the head of a request.
    pub(super) fn awaits_head(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0 && !self.is_upgraded.load(Ordering::Relaxed)
    }

    /// Begins the wait for a head, unless it has begun.
    pub(super) fn wait_for_head(&self) {
        lock(&self.head_wait).get_or_insert_with(Instant::now);
    }

    /// When the wait for a head began, if one is waited for.
    pub(super) fn head_wait(&self) -> Option<Instant> {
        *lock(&self.head_wait)
    }
}

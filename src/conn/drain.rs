//! The drain state: one flag for listeners, shards, handlers and streams.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Set once, when the server begins to shut down.
#[derive(Default)]
pub(crate) struct Drain {
    has_begun: AtomicBool,
    begun: Notify,
}

impl Drain {
    pub(crate) fn begin(&self) {
        self.has_begun.store(true, Ordering::Release);
        self.begun.notify_waiters();
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// Completes when the drain begins, at once if it has begun.
    pub(crate) async fn begun(&self) {
        let mut begun = pin!(self.begun.notified());
        // Registered before the flag is read: a drain that begins in between is not missed.
        begun.as_mut().enable();
        if !self.has_begun() {
            begun.await;
        }
    }
}

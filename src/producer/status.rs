//! The state of a producer, for `/health`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Whether producers run. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    running: AtomicUsize,
    started: AtomicBool,
}

impl Status {
    /// `off` before the first start, `running` while one runs, `stopped` afterwards.
    pub fn as_str(&self) -> &'static str {
        // Relaxed: the state is for display and orders nothing else.
        if self.0.running.load(Ordering::Relaxed) > 0 {
            "running"
        } else if self.0.started.load(Ordering::Relaxed) {
            "stopped"
        } else {
            "off"
        }
    }

    /// Counts a producer as running until the guard is dropped.
    pub fn running(&self) -> Running {
        self.0.running.fetch_add(1, Ordering::Relaxed);
        self.0.started.store(true, Ordering::Relaxed);
        Running(self.0.clone())
    }
}

#[derive(Debug)]
pub struct Running(Arc<Counts>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_off_then_running_then_stopped() {
        let status = Status::default();
        assert_eq!(status.as_str(), "off");
        let (one, two) = (status.running(), status.clone().running());
        drop(one);
        assert_eq!(status.as_str(), "running");
        drop(two);
        assert_eq!(status.as_str(), "stopped");
    }
}

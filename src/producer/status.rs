//! The state of a producer, for `/health`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const NAMES: [&str; 3] = ["off", "running", "stopped"];

/// Whether a producer runs. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<AtomicUsize>);

impl Status {
    /// `off` before the start, `running`, and `stopped` afterwards.
    pub fn as_str(&self) -> &'static str {
        // Relaxed: the state is for display and orders nothing else.
        NAMES[self.0.load(Ordering::Relaxed)]
    }

    /// The producer is running until the guard is dropped.
    pub fn running(&self) -> Running {
        self.0.store(1, Ordering::Relaxed);
        Running(self.clone())
    }
}

#[derive(Debug)]
pub struct Running(Status);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.store(2, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_off_then_running_then_stopped() {
        let status = Status::default();
        assert_eq!(status.as_str(), "off");
        let running = status.running();
        assert_eq!(status.clone().as_str(), "running");
        drop(running);
        assert_eq!(status.as_str(), "stopped");
    }
}

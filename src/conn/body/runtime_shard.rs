//! The shard of the bodies that are created on one runtime.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::conn::shard::Shard;

/// A shard whose clock and wake-ups are a task of the runtime that it was started on. The task ends when this is dropped, or with
/// the runtime.
pub(crate) struct RuntimeShard {
    shard: Arc<Shard>,
    task: AbortHandle,
}

impl RuntimeShard {
    /// Starts the task on the current runtime. Panics if that has no time.
    pub(crate) fn start(shard: Shard) -> Self {
        // Panics here: a panic of the task would leave its streams without wake-ups.
        drop(tokio::time::sleep(Duration::ZERO));
        let shard = Arc::new(shard);
        let running = shard.clone();
        let task = tokio::spawn(async move { running.run().await }).abort_handle();
        Self { shard, task }
    }

    pub(crate) fn shard(&self) -> &Arc<Shard> {
        &self.shard
    }
}

impl Drop for RuntimeShard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

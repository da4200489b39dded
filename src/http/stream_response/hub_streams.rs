//! What the streams of one hub share that are bodies of responses.
//!
//! It is kept with the hub, and must not own it. A [`RuntimeShard`] does, and belongs to its streams: the first stream on a
//! runtime starts it, and the last one ends it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::{self, Handle};

use crate::conn::{Drain, EndReason, RuntimeShard, Shard, StreamOptions};
use crate::http::problem::Problem;
use crate::hub::{GapReason, Hub};
use crate::limit::streams::Streams;
use crate::metrics::Metrics;
use crate::presence::ClientIds;
use crate::sync::{Mutex, lock};

/// The shortest time for a drain: enough to write the restart notice to the streams.
const MIN_DRAIN: Duration = Duration::from_millis(200);

pub(super) struct HubStreams {
    pub(super) metrics: Arc<Metrics>,
    pub(super) ids: ClientIds,
    pub(super) limits: Streams,
    drain: Arc<Drain>,
    /// One for each runtime with open streams.
    shards: Mutex<Vec<(runtime::Id, Weak<RuntimeShard>)>>,
}

/// The counts of the streams of [`stream_response`](crate::http::stream_response()) on one hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamStats {
    /// Open streams.
    pub streams: u64,
    /// Events that were passed to connections.
    pub delivered: u64,
    /// Their bytes, with those of the hello, gaps and keep-alives.
    pub delivered_bytes: u64,
    /// Gaps reported to clients.
    pub gaps: u64,
    /// Streams that were cut off because their client read too slowly.
    pub cut_off_lagged: u64,
    /// Streams that were dropped before their end, because the client or the application closed the connection.
    pub closed: u64,
    /// Streams that came to their end: because they were drained, the hub was closed, or the grant expired.
    pub ended: u64,
    /// Requests that were refused.
    pub refused: u64,
}

impl Default for HubStreams {
    fn default() -> Self {
        Self {
            metrics: Arc::new(Metrics::new(1, EndReason::ALL.len())),
            ids: ClientIds::new(),
            limits: Streams::default(),
            drain: Arc::default(),
            shards: Mutex::default(),
        }
    }
}

impl HubStreams {
    /// Checks that the streams are not being drained.
    pub(super) fn check_open(&self, hub: &Hub) -> Result<(), Problem> {
        if self.is_draining() || hub.is_closed() {
            return Err(Problem::unavailable("the server is shutting down"));
        }
        Ok(())
    }

    pub(super) fn is_draining(&self) -> bool {
        self.drain.has_begun()
    }

    /// Returns the shard of the current runtime, started if this is its first stream.
    pub(super) fn shard(&self, hub: &Hub) -> Arc<RuntimeShard> {
        let runtime = Handle::current().id();
        let mut shards = lock(&self.shards);
        shards.retain(|(_, shard)| shard.strong_count() > 0);
        let mut known = shards.iter().filter(|(id, _)| *id == runtime);
        if let Some(shard) = known.find_map(|(_, shard)| shard.upgrade()) {
            return shard;
        }
        let shard = Shard::new(0, hub.clone(), StreamOptions::default(), self.metrics.clone(), self.drain.clone());
        let shard = Arc::new(RuntimeShard::start(shard));
        shards.push((runtime, Arc::downgrade(&shard)));
        shard
    }

    pub(super) async fn drain(&self, window: Duration) {
        self.drain.begin();
        let shards: Vec<_> = lock(&self.shards).iter().filter_map(|(_, shard)| shard.upgrade()).collect();
        let drained = join_all(shards.iter().map(|shard| shard.shard().drain_streams(window)));
        if tokio::time::timeout(window.max(MIN_DRAIN), drained).await.is_err() {
            let streams = self.metrics.streams();
            tracing::warn!(streams, "the drain time is over: the clients of the remaining streams do not read");
        }
    }

    pub(super) fn stats(&self) -> StreamStats {
        let counts = self.metrics.shard(0);
        let ended = |reason: EndReason| counts.ended[reason as usize].get();
        let (cut_off_lagged, closed) = (ended(EndReason::Lagged), ended(EndReason::Closed));
        StreamStats {
            streams: self.metrics.streams(),
            delivered: counts.delivered.get(),
            delivered_bytes: counts.delivered_bytes.get(),
            gaps: GapReason::ALL.map(|reason| counts.gaps[reason as usize].get()).iter().sum(),
            cut_off_lagged,
            closed,
            ended: EndReason::ALL.map(ended).iter().sum::<u64>() - cut_off_lagged - closed,
            refused: self.metrics.refusals.read().iter().map(|(_, count)| count).sum(),
        }
    }
}

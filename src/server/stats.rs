//! A server's counts in the public API.

use std::fmt;
use std::sync::Arc;

use crate::conn::EndReason;
use crate::hub::GapReason;
use crate::metrics::Metrics;

/// The counts of a running server. Cheap to clone.
#[derive(Clone)]
pub struct Stats(pub(super) Arc<Metrics>);

impl Default for Stats {
    /// The counts of a server that never ran.
    fn default() -> Self {
        Self(Arc::new(Metrics::new(0, EndReason::ALL.len())))
    }
}

impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read().fmt(f)
    }
}

/// A server's counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Open connections.
    pub connections: u64,
    /// Those of them that are streams.
    pub streams: u64,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Events written to streams.
    pub delivered: u64,
    /// Bytes written to streams.
    pub delivered_bytes: u64,
    /// Gaps reported to streams.
    pub gaps: u64,
    /// Streams cut off because their cursor fell out of its ring.
    pub cut_off_lagged: u64,
    /// Streams cut off because they took no bytes for the write timeout.
    pub cut_off_stalled: u64,
    /// Streams that their clients closed.
    pub closed_by_peer: u64,
    /// Streams that the server ended: at its shutdown, because the client sent too much, by an operator, because the token
    /// expired, or because the access rules changed.
    pub closed_by_server: u64,
    /// How often accepting paused because the process had no file descriptor left.
    pub accept_pauses: u64,
}

impl Stats {
    /// Returns the sums over all shards.
    pub fn read(&self) -> ServerStats {
        let metrics = &self.0;
        let ended = |reason: EndReason| metrics.sum(|shard| &shard.ended[reason as usize]);
        let closed_by_server = |reason| match reason {
            EndReason::Closed | EndReason::Lagged | EndReason::Stalled => 0,
            _ => ended(reason),
        };
        ServerStats {
            connections: metrics.connections(),
            streams: metrics.streams(),
            accepted: metrics.accepted.get(),
            delivered: metrics.sum(|shard| &shard.delivered),
            delivered_bytes: metrics.sum(|shard| &shard.delivered_bytes),
            gaps: GapReason::ALL.map(|reason| metrics.sum(|shard| &shard.gaps[reason as usize])).iter().sum(),
            cut_off_lagged: ended(EndReason::Lagged),
            cut_off_stalled: ended(EndReason::Stalled),
            closed_by_peer: ended(EndReason::Closed),
            closed_by_server: EndReason::ALL.map(closed_by_server).iter().sum(),
            accept_pauses: metrics.accept_pauses.get(),
        }
    }
}

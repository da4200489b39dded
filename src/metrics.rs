//! What the server counts.
//!
//! Each shard counts for itself, in memory that no other thread writes, and whoever reads adds the shards up: a count on
//! the way of a delivery costs a plain load and a plain store.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod histogram;

pub(crate) use histogram::{Latencies, LatencyDistribution};

use crate::limit::ConnectionPermit;

/// A number that one thread at a time changes, and any thread reads.
#[derive(Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// For the one thread that writes it: no read-modify-write.
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.get() + more, Ordering::Relaxed);
    }

    /// For the one thread that writes it.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// For a number that several threads change.
    fn add_shared(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn subtract_shared(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }
}

/// What one shard counts; padded, so that shards do not share cache lines.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct ShardCounts {
    /// Open connections, also those that are not yet accepted by the shard.
    connections: Count,
    /// Connections that have become streams.
    streams: Count,
    pub(crate) delivered: Count,
    pub(crate) delivered_bytes: Count,
    /// By reason, in the order in which the hub names them.
    pub(crate) gaps: [Count; GAP_REASONS],
    pub(crate) ended: [Count; Ending::COUNT],
    /// From the publication of an event to the write that takes it, for one event a second.
    pub(crate) socket_latency: Latencies,
    /// From the moment at which the events of a request are known to their positions.
    pub(crate) publish_latency: Latencies,
}

/// Why a connection may end before any handler answers. The last three are limits: those who found no place where they
/// could have been told so.
const REJECTIONS: [&str; 6] =
    ["head_timeout", "head_too_large", "malformed", "connections", "connections_per_address", "connect_rate"];

/// How many reasons for a gap there are.
pub(crate) const GAP_REASONS: usize = 4;

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The client went away.
    Closed,
    /// Its cursor fell out of its ring.
    Lagged,
    /// Bytes were pending and none were taken for the write timeout.
    Stalled,
    /// The server ended it.
    Drained,
    /// The client sent what no client of a stream sends.
    Misused,
    /// An operator had the server end it.
    Disconnected,
    /// Its token ended.
    TokenExpired,
    /// The rules were replaced, and it would not be let in any more.
    Revoked,
}

impl Ending {
    pub(crate) const ALL: [Self; 8] = [
        Self::Closed,
        Self::Lagged,
        Self::Stalled,
        Self::Drained,
        Self::Misused,
        Self::Disconnected,
        Self::TokenExpired,
        Self::Revoked,
    ];
    const COUNT: usize = Self::ALL.len();

    /// The word for it in logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Lagged => "lagged",
            Self::Stalled => "stalled",
            Self::Drained => "drained",
            Self::Misused => "misused",
            Self::Disconnected => "disconnected",
            Self::TokenExpired => "token_expired",
            Self::Revoked => "revoked",
        }
    }
}

impl ShardCounts {
    pub(crate) fn ended(&self, ending: Ending) -> &Count {
        &self.ended[ending as usize]
    }

    pub(crate) fn connections(&self) -> u64 {
        self.connections.get()
    }
}

/// What all shards and the listeners count.
pub(crate) struct Metrics {
    shards: Box<[ShardCounts]>,
    accepted: Count,
    accept_pauses: Count,
    is_accepting_paused: std::sync::atomic::AtomicBool,
    refusals: Mutex<BTreeMap<(u16, &'static str), u64>>,
    rejected_connections: Mutex<BTreeMap<&'static str, u64>>,
    publish_errors: Mutex<BTreeMap<&'static str, u64>>,
}

impl Metrics {
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| ShardCounts::default()).collect(),
            accepted: Count::default(),
            accept_pauses: Count::default(),
            is_accepting_paused: false.into(),
            refusals: Mutex::default(),
            // A reason that is not met yet is there with a zero: a rate is right from the first one on.
            rejected_connections: Mutex::new(REJECTIONS.map(|reason| (reason, 0)).into()),
            publish_errors: Mutex::default(),
        }
    }

    pub(crate) fn shard(&self, number: usize) -> &ShardCounts {
        &self.shards[number]
    }

    pub(crate) fn streams(&self) -> u64 {
        self.sum(|shard| &shard.streams)
    }

    pub(crate) fn connections(&self) -> u64 {
        self.sum(|shard| &shard.connections)
    }

    /// Streams that ended because of `ending`.
    pub(crate) fn ended(&self, ending: Ending) -> u64 {
        self.sum(|shard| shard.ended(ending))
    }

    /// Gaps that streams were told of, for one reason.
    pub(crate) fn gaps(&self, reason: usize) -> u64 {
        self.sum(|shard| &shard.gaps[reason])
    }

    /// A request was answered with an error. The reason is one of a few words.
    pub(crate) fn refused(&self, status: u16, reason: &'static str) {
        *lock(&self.refusals).entry((status, reason)).or_default() += 1;
    }

    /// How many requests were answered with which error, and why.
    pub(crate) fn refusals(&self) -> Vec<(u16, &'static str, u64)> {
        lock(&self.refusals).iter().map(|(&(status, reason), &count)| (status, reason, count)).collect()
    }

    /// A connection ended without an answer of a handler.
    pub(crate) fn rejected(&self, reason: &'static str) {
        *lock(&self.rejected_connections).entry(reason).or_default() += 1;
    }

    pub(crate) fn rejections(&self) -> Vec<(&'static str, u64)> {
        lock(&self.rejected_connections).iter().map(|(reason, count)| (*reason, *count)).collect()
    }

    /// A request to publish was refused, or stopped before its end.
    pub(crate) fn publishing_failed(&self, reason: &'static str) {
        *lock(&self.publish_errors).entry(reason).or_default() += 1;
    }

    pub(crate) fn publish_errors(&self) -> Vec<(&'static str, u64)> {
        lock(&self.publish_errors).iter().map(|(reason, count)| (*reason, *count)).collect()
    }

    /// From publication to socket, over all shards.
    pub(crate) fn socket_latency(&self) -> LatencyDistribution {
        LatencyDistribution::of(self.shards.iter().map(|shard| &shard.socket_latency))
    }

    /// From request to position, over all shards.
    pub(crate) fn publish_latency(&self) -> LatencyDistribution {
        LatencyDistribution::of(self.shards.iter().map(|shard| &shard.publish_latency))
    }

    pub(crate) fn accepted(&self) {
        self.accepted.add_shared(1);
    }

    pub(crate) fn accepting_paused(&self) {
        self.accept_pauses.add_shared(1);
        self.is_accepting_paused.store(true, Ordering::Relaxed);
    }

    pub(crate) fn accepting_resumed(&self) {
        self.is_accepting_paused.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_accepting_paused(&self) -> bool {
        self.is_accepting_paused.load(Ordering::Relaxed)
    }

    fn sum(&self, count: impl Fn(&ShardCounts) -> &Count) -> u64 {
        self.shards.iter().map(|shard| count(shard).get()).sum()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One open connection: counted, and in its place, as long as this lives.
pub(crate) struct ConnectionGuard {
    metrics: Arc<Metrics>,
    #[expect(dead_code, reason = "it is held, not looked at")]
    permit: ConnectionPermit,
    shard: u32,
    is_stream: bool,
}

impl ConnectionGuard {
    pub(crate) fn new(metrics: Arc<Metrics>, permit: ConnectionPermit, shard: usize) -> Self {
        metrics.shard(shard).connections.add_shared(1);
        let shard = u32::try_from(shard).expect("fewer than 2^32 shards");
        Self { metrics, permit, shard, is_stream: false }
    }

    /// The connection has become a stream.
    pub(crate) fn streams(&mut self) {
        if !std::mem::replace(&mut self.is_stream, true) {
            self.metrics.shard(self.shard as usize).streams.add_shared(1);
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let shard = self.metrics.shard(self.shard as usize);
        if self.is_stream {
            shard.streams.subtract_shared(1);
        }
        shard.connections.subtract_shared(1);
    }
}

/// What a running server has counted; cheap to clone.
#[derive(Clone)]
pub struct Stats(pub(crate) Arc<Metrics>);

impl Default for Stats {
    /// The counts of a server that never ran.
    fn default() -> Self {
        Self(Arc::new(Metrics::new(0)))
    }
}

impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read().fmt(f)
    }
}

/// A server's counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Gaps that streams were told of.
    pub gaps: u64,
    /// Streams cut off because their cursor fell out of its ring.
    pub cut_off_lagged: u64,
    /// Streams cut off because they took no bytes for the write timeout.
    pub cut_off_stalled: u64,
    /// Streams that their clients closed.
    pub closed_by_peer: u64,
    /// Streams that the server ended: at its shutdown, because of what the client sent, because an operator
    /// said so, or because the client may not have it any more.
    pub closed_by_server: u64,
    /// How often accepting paused because the process had no file descriptor left.
    pub accept_pauses: u64,
}

impl Stats {
    /// Adds the shards up.
    pub fn read(&self) -> ServerStats {
        let metrics = &self.0;
        let ended = |ending| metrics.ended(ending);
        ServerStats {
            connections: metrics.connections(),
            streams: metrics.streams(),
            accepted: metrics.accepted.get(),
            delivered: metrics.sum(|shard| &shard.delivered),
            delivered_bytes: metrics.sum(|shard| &shard.delivered_bytes),
            gaps: (0..GAP_REASONS).map(|reason| metrics.gaps(reason)).sum(),
            cut_off_lagged: ended(Ending::Lagged),
            cut_off_stalled: ended(Ending::Stalled),
            closed_by_peer: ended(Ending::Closed),
            closed_by_server: [
                Ending::Drained,
                Ending::Misused,
                Ending::Disconnected,
                Ending::TokenExpired,
                Ending::Revoked,
            ]
            .map(ended)
            .iter()
            .sum(),
            accept_pauses: metrics.accept_pauses.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Connections, Limiter, Limits};

    #[test]
    fn a_connection_is_counted_as_long_as_its_guard_lives() {
        let metrics = Arc::new(Metrics::new(2));
        let limiter = Limiter::new(&Limits::default(), Connections::new(Some(2), "setting", 1, None));
        let permit = || limiter.connect([127, 0, 0, 1].into()).unwrap();
        let mut first = ConnectionGuard::new(metrics.clone(), permit(), 0);
        let second = ConnectionGuard::new(metrics.clone(), permit(), 1);
        assert!(limiter.connections.is_full());
        first.streams();
        first.streams();
        let stats = Stats(metrics.clone());
        assert_eq!((stats.read().connections, stats.read().streams), (2, 1));
        drop(first);
        assert_eq!((stats.read().connections, stats.read().streams), (1, 0));
        drop(second);
        assert_eq!(stats.read(), ServerStats::default());
        assert!(!limiter.connections.is_full());
    }
}

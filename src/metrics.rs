//! What the server counts.
//!
//! Each shard counts for itself, in memory that no other thread writes, and whoever reads adds the shards up: a count on
//! the way of a delivery costs a plain load and a plain store.

use std::collections::BTreeMap;

mod histogram;

pub(crate) use histogram::{Latencies, LatencyDistribution};

use crate::hub::GapReason;
use crate::limit::ConnectionPermit;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, lock};

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
    /// By [`GapReason`].
    pub(crate) gaps: [Count; GapReason::ALL.len()],
    /// Streams that ended, by the index of the reason.
    pub(crate) ended: Box<[Count]>,
    /// From the publication of an event to the write that takes it, for one event a second.
    pub(crate) socket_latency: Latencies,
    /// From the moment at which the events of a request are known to their positions.
    pub(crate) publish_latency: Latencies,
}

/// Why a connection may end before any handler answers. The last three are limits: those who found no place where they
/// could have been told so.
const REJECTIONS: [&str; 6] =
    ["head_timeout", "head_too_large", "malformed", "connections", "connections_per_address", "connect_rate"];

impl ShardCounts {
    pub(crate) fn connections(&self) -> u64 {
        self.connections.get()
    }
}

/// What all shards and the listeners count.
pub(crate) struct Metrics {
    shards: Box<[ShardCounts]>,
    accepted: Count,
    accept_pauses: Count,
    is_accepting_paused: AtomicBool,
    refusals: Mutex<BTreeMap<(u16, &'static str), u64>>,
    rejected_connections: Mutex<BTreeMap<&'static str, u64>>,
    publish_errors: Mutex<BTreeMap<&'static str, u64>>,
}

impl Metrics {
    /// Counts for this many shards, whose streams end for this many reasons.
    pub(crate) fn new(shards: usize, end_reasons: usize) -> Self {
        let ended = || (0..end_reasons).map(|_| Count::default()).collect();
        Self {
            shards: (0..shards).map(|_| ShardCounts { ended: ended(), ..ShardCounts::default() }).collect(),
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

    /// Streams that ended for the reason with this index.
    pub(crate) fn ended(&self, reason: usize) -> u64 {
        self.sum(|shard| &shard.ended[reason])
    }

    /// Gaps that streams were told of, for one reason.
    pub(crate) fn gaps(&self, reason: GapReason) -> u64 {
        self.sum(|shard| &shard.gaps[reason as usize])
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.sum(|shard| &shard.delivered)
    }

    pub(crate) fn delivered_bytes(&self) -> u64 {
        self.sum(|shard| &shard.delivered_bytes)
    }

    pub(crate) fn connections_accepted(&self) -> u64 {
        self.accepted.get()
    }

    pub(crate) fn accept_pauses(&self) -> u64 {
        self.accept_pauses.get()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Connections, Limiter, Limits};

    #[test]
    fn connection_is_counted_while_its_guard_lives() {
        let metrics = Arc::new(Metrics::new(2, 0));
        let limiter = Limiter::new(&Limits::default(), Connections::new(Some(2), "setting", 1, None));
        let permit = || limiter.connect([127, 0, 0, 1].into()).unwrap();
        let mut first = ConnectionGuard::new(metrics.clone(), permit(), 0);
        let second = ConnectionGuard::new(metrics.clone(), permit(), 1);
        assert!(limiter.connections.is_full());
        first.streams();
        first.streams();
        assert_eq!((metrics.connections(), metrics.streams()), (2, 1));
        drop(first);
        assert_eq!((metrics.connections(), metrics.streams()), (1, 0));
        drop(second);
        assert_eq!((metrics.connections(), metrics.streams()), (0, 0));
        assert!(!limiter.connections.is_full());
    }
}

//! What the server counts.
//!
//! Each shard has counts that no other thread writes, and a reader adds the shards up. A count on the path of a delivery costs
//! a plain load and a plain store.

use std::collections::BTreeMap;

mod histogram;

pub(crate) use histogram::{Latencies, LatencyDistribution};

use crate::hub::GapReason;
use crate::limit::ConnectionPermit;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, lock};

/// A number that one thread at a time changes, and any thread reads.
#[derive(Debug, Default)]
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
    pub(crate) fn add_shared(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn subtract_shared(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }
}

/// The counts of one shard, padded so that shards share no cache lines.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct ShardCounts {
    /// Open connections, including those on their way to the shard.
    pub(crate) connections: Count,
    pub(crate) streams: Count,
    /// Those of the connections that speak HTTP/2.
    pub(crate) http2_connections: Count,
    /// Those of the streams that share an HTTP/2 connection.
    pub(crate) http2_streams: Count,
    pub(crate) delivered: Count,
    pub(crate) delivered_bytes: Count,
    pub(crate) websocket: WebSocketCounts,
    pub(crate) gzip: GzipCounts,
    /// Responses of the application's service, by the class of their status: 1xx first.
    pub(crate) fallback: [Count; 5],
    /// By [`GapReason`].
    pub(crate) gaps: [Count; GapReason::ALL.len()],
    /// Streams that ended, by the index of the reason.
    pub(crate) ended: Box<[Count]>,
    /// From the publication of an event to the write that takes it, for one event a second.
    pub(crate) socket_latency: Latencies,
    /// From reading the events of a request to their positions.
    pub(crate) publish_latency: Latencies,
}

/// The part of WebSocket in the counts of a shard.
#[derive(Default)]
pub(crate) struct WebSocketCounts {
    pub(crate) streams: Count,
    pub(crate) delivered: Count,
    pub(crate) delivered_bytes: Count,
    /// Messages of clients.
    pub(crate) received: Count,
}

/// The part of compressed streams in the counts of a shard.
#[derive(Default)]
pub(crate) struct GzipCounts {
    pub(crate) streams: Count,
    /// Deliveries as blocks that all readers of a ring share.
    pub(crate) shared: Count,
    /// Deliveries without compression, to readers that wait for a shared block to begin with.
    pub(crate) stored: Count,
    /// The bytes of their messages.
    pub(crate) plain_bytes: Count,
    /// The part of them in `delivered_bytes`.
    pub(crate) bytes: Count,
}

impl ShardCounts {
    /// The number of connections, and of streams that share one.
    pub(crate) fn load(&self) -> u64 {
        self.connections.get() + self.http2_streams.get()
    }

    /// Counts a response of the application's service. One with a status outside the classes counts as the last.
    pub(crate) fn add_fallback(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, self.fallback.len());
        self.fallback[class - 1].add(1);
    }
}

/// Counters of rare events, by a label with few values.
pub(crate) struct Tally<L>(Mutex<BTreeMap<L, u64>>);

impl<L: Copy + Ord> Tally<L> {
    /// Begins with 0 for these labels, so that a rate includes the first increase.
    fn with(labels: impl IntoIterator<Item = L>) -> Self {
        Self(Mutex::new(labels.into_iter().map(|label| (label, 0)).collect()))
    }

    pub(crate) fn add(&self, label: L) {
        *lock(&self.0).entry(label).or_default() += 1;
    }

    pub(crate) fn read(&self) -> Vec<(L, u64)> {
        lock(&self.0).iter().map(|(&label, &count)| (label, count)).collect()
    }
}

/// The classes of statuses, in the order of [`ShardCounts::fallback`].
pub(crate) const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Why a connection may end before a handler answers. The last three are limits, where no answer could be sent.
const REJECTIONS: [&str; 8] = [
    "head_timeout",
    "head_too_large",
    "malformed",
    "proxy_header",
    "proxy_header_timeout",
    "connections",
    "connections_per_address",
    "connect_rate",
];

/// The counts of all shards and of the listeners.
pub(crate) struct Metrics {
    shards: Box<[ShardCounts]>,
    /// Connections accepted since the start.
    pub(crate) accepted: Count,
    /// How often accepting paused because the process had no file descriptor left.
    pub(crate) accept_pauses: Count,
    pub(crate) is_accepting_paused: AtomicBool,
    /// Requests answered with an error, by status and reason.
    pub(crate) refusals: Tally<(u16, &'static str)>,
    /// Connections that ended before a handler answered, by reason.
    pub(crate) rejections: Tally<&'static str>,
    /// HTTP/2 connections that the server ended because of an error, by its code.
    pub(crate) http2_errors: Tally<&'static str>,
    /// Messages of WebSocket clients that were refused, by code.
    pub(crate) websocket_errors: Tally<&'static str>,
    /// Publications with an idempotency key that had been used for the same events.
    pub(crate) publishes_repeated: Count,
    /// Publish requests that were refused or broke off, by reason.
    pub(crate) publish_errors: Tally<&'static str>,
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
            refusals: Tally::with([]),
            rejections: Tally::with(REJECTIONS),
            http2_errors: Tally::with([]),
            websocket_errors: Tally::with([]),
            publishes_repeated: Count::default(),
            publish_errors: Tally::with([]),
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

    pub(crate) fn is_accepting_paused(&self) -> bool {
        self.is_accepting_paused.load(Ordering::Relaxed)
    }

    /// A count, summed over all shards.
    pub(crate) fn sum(&self, count: impl Fn(&ShardCounts) -> &Count) -> u64 {
        self.shards.iter().map(|shard| count(shard).get()).sum()
    }

    /// The latencies of all shards together.
    pub(crate) fn latencies(&self, of: impl Fn(&ShardCounts) -> &Latencies + Clone) -> LatencyDistribution {
        LatencyDistribution::of(self.shards.iter().map(of))
    }
}

/// An open connection, or a stream of an HTTP/2 connection, which is counted and holds its permit until this is dropped.
pub(crate) struct ConnectionGuard {
    metrics: Arc<Metrics>,
    permit: ConnectionPermit,
    shard: u32,
    counted: Counted,
    /// Whether it is also counted as a compressed stream.
    is_compressed: bool,
}

/// What a guard stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    Connection,
    /// A connection that has become a stream.
    Stream,
    /// A connection that has become a WebSocket.
    WebSocket,
    Http2Connection,
    Http2Stream,
    /// A stream that is the body of a response, on a connection of another server.
    Body,
}

impl Counted {
    /// The counts that the guard is part of.
    fn counts(self, shard: &ShardCounts) -> impl Iterator<Item = &Count> {
        let counts = match self {
            Self::Connection => [Some(&shard.connections), None, None],
            Self::Stream => [Some(&shard.connections), Some(&shard.streams), None],
            Self::WebSocket => [Some(&shard.connections), Some(&shard.streams), Some(&shard.websocket.streams)],
            Self::Http2Connection => [Some(&shard.connections), Some(&shard.http2_connections), None],
            Self::Http2Stream => [Some(&shard.streams), Some(&shard.http2_streams), None],
            Self::Body => [Some(&shard.streams), None, None],
        };
        counts.into_iter().flatten()
    }
}

impl ConnectionGuard {
    pub(crate) fn new(metrics: Arc<Metrics>, permit: ConnectionPermit, shard: usize) -> Self {
        Self::counted(metrics, permit, shard, Counted::Connection)
    }

    /// The guard of a stream that shares its connection with others.
    pub(crate) fn of_stream(metrics: Arc<Metrics>, permit: ConnectionPermit, shard: usize) -> Self {
        Self::counted(metrics, permit, shard, Counted::Http2Stream)
    }

    /// The guard of a stream that is the body of a response.
    pub(crate) fn of_body(metrics: Arc<Metrics>, permit: ConnectionPermit, shard: usize) -> Self {
        Self::counted(metrics, permit, shard, Counted::Body)
    }

    fn counted(metrics: Arc<Metrics>, permit: ConnectionPermit, shard: usize, counted: Counted) -> Self {
        counted.counts(metrics.shard(shard)).for_each(|count| count.add_shared(1));
        let shard = u32::try_from(shard).expect("fewer than 2^32 shards");
        Self { metrics, permit, shard, counted, is_compressed: false }
    }

    /// Counts the connection of a proxy for the proxy's client, which has this permit.
    pub(crate) fn count_for(&mut self, client: ConnectionPermit) {
        self.permit.count_for(client);
    }

    /// Notes that the connection has become a stream.
    pub(crate) fn streams(&mut self) {
        if self.counted == Counted::Connection {
            self.counted = Counted::Stream;
            self.metrics.shard(self.shard as usize).streams.add_shared(1);
        }
    }

    /// Notes that the stream is compressed.
    pub(crate) fn compresses(&mut self) {
        if !self.is_compressed {
            self.is_compressed = true;
            self.metrics.shard(self.shard as usize).gzip.streams.add_shared(1);
        }
    }

    /// Notes that the connection has become a WebSocket.
    pub(crate) fn converses(&mut self) {
        if self.counted == Counted::Connection {
            self.counted = Counted::WebSocket;
            let shard = self.metrics.shard(self.shard as usize);
            shard.streams.add_shared(1);
            shard.websocket.streams.add_shared(1);
        }
    }

    /// Notes that the connection speaks HTTP/2.
    pub(crate) fn multiplexes(&mut self) {
        if self.counted == Counted::Connection {
            self.counted = Counted::Http2Connection;
            self.metrics.shard(self.shard as usize).http2_connections.add_shared(1);
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let shard = self.metrics.shard(self.shard as usize);
        self.counted.counts(shard).for_each(|count| count.subtract_shared(1));
        if self.is_compressed {
            shard.gzip.streams.subtract_shared(1);
        }
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
        let permit = || limiter.connect(std::net::IpAddr::from([127, 0, 0, 1])).unwrap();
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

//! How much a hub retains.

use std::time::Duration;

use crate::position::Epoch;

/// How much a hub retains. With the defaults, a reader that stalls for a second at 10,000 events a second of up to 3 KB loses
/// none.
///
/// ```
/// use fanline::hub::{Hub, HubOptions};
///
/// let hub = Hub::new(&HubOptions { history: 1000, history_bytes: 16 << 20, ..HubOptions::default() });
/// assert_eq!(hub.stats().retained_events, 0);
/// ```
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Identifies the numbering of the events. Default: a new one, because the history starts empty.
    pub epoch: Epoch,
    /// The number of events retained for each topic. Default: 20,000.
    pub history: usize,
    /// The bytes retained by the whole hub. Beyond it the topic that holds the most, or up to a fifth less, loses its oldest
    /// events. An event counts twice: in its topic and in the firehose. Its envelope, which is made for the first reader of
    /// that format, counts once. Default: 64 MiB.
    pub history_bytes: usize,
    /// The number of topics that have had events, at least one. Beyond it the quietest topics without subscribers are
    /// dropped with their history; while most of the others are in use there can be a sixteenth more. A topic with
    /// one event costs at most 600 bytes besides it. Topics without events last as long as their subscribers.
    /// Default: 100,000.
    pub history_topics: usize,
    /// The number of events retained over all topics, for subscriptions to everything or to a pattern. As many again of
    /// [reserved](crate::topic::Topic::is_reserved) topics. Default: 50,000.
    pub firehose_history: usize,
    /// How long a topic without subscribers and without events keeps its history when a [`Server`](crate::Server) runs
    /// the hub. A hub on its own keeps it until `history_topics` or `history_bytes` require room. Default: 1 h.
    pub topic_ttl: Duration,
    /// The number of [keys](crate::event::Key) that have a latest value. Beyond it, or when their values take half of
    /// `history_bytes`, publishing a new key is an error; other keys continue. Default: 100,000.
    pub max_keys: usize,
    /// How long a deletion of a latest value is remembered, while there are fewer keys and deletions than `max_keys`. A
    /// subscription to latest values that resumes from before a forgotten deletion begins again with all values.
    /// Default: 1 h.
    pub tombstone_ttl: Duration,
    /// How long a [key](crate::event::Key) keeps its value without an update when a [`Server`](crate::Server) runs the hub. Then it
    /// is deleted, by an event like any other, a second later at most, or a thousandth of this time. A server that starts counts
    /// from then. A [relayed](super::Hub::relayed) hub leaves this to its backbone. Default: `None`, keys last until they are
    /// deleted.
    pub latest_ttl: Option<Duration>,
    /// How long an [`IdempotencyKey`](super::IdempotencyKey) is remembered. Default: 2 min.
    pub idempotency_window: Duration,
    /// The number of keys that are remembered, about 150 bytes each. Beyond it a new key is an error. A
    /// [relayed](super::Hub::relayed) hub leaves its keys to the backbone. Default: 100,000.
    pub idempotency_keys: usize,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            epoch: Epoch::now(),
            history: 20_000,
            history_bytes: 64 << 20,
            history_topics: 100_000,
            firehose_history: 50_000,
            topic_ttl: Duration::from_secs(3600),
            max_keys: 100_000,
            tombstone_ttl: Duration::from_secs(3600),
            latest_ttl: None,
            idempotency_window: Duration::from_secs(120),
            idempotency_keys: 100_000,
        }
    }
}

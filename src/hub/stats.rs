//! Totals of a hub and of its topics.

#[cfg(doc)]
use super::{Hub, HubOptions, IdempotencyKey};
use crate::position::StreamPosition;
use crate::topic::Topic;

/// Totals of a hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubStats {
    /// Events published since the hub was created, without those that it began with. On a [relayed](Hub::relayed)
    /// hub: appended by the relay.
    pub published: u64,
    /// Events that the hub began with: those of the hub that it [continues](Hub::continued).
    pub restored: u64,
    /// Topics that have a history or a subscriber.
    pub topics: usize,
    /// Events of [`Hub::try_publish`] that a backbone did not acknowledge. 0 unless the hub is [relayed](Hub::relayed).
    pub unacknowledged: u64,
    /// Events that can be replayed, over all topics.
    pub retained_events: u64,
    /// Their memory, as [`HubOptions::history_bytes`] counts it.
    pub retained_bytes: u64,
    /// The keys that are remembered, see [`IdempotencyKey`].
    pub idempotency_keys: usize,
}

/// A topic of a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicStats {
    /// The topic.
    pub topic: Topic,
    /// Subscriptions that name the topic, without those of patterns and of everything.
    pub subscribers: usize,
    /// Events that it has had since this server created it, retained or not.
    pub published_events: u64,
    /// Events that can be replayed.
    pub retained_events: u64,
    /// Their memory in the topic's ring.
    pub retained_bytes: u64,
    /// The newest event, retained or not. `None` before the first.
    pub last: Option<StreamPosition>,
}

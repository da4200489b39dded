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
    /// Topics that have a history, a subscriber, or latest values with [keys](crate::event::Key).
    pub topics: usize,
    /// Events of [`Hub::try_publish`] that were not published: with a new [key](crate::event::Key) where there is no room for it,
    /// or without an acknowledgement of the backbone of a [relayed](Hub::relayed) hub.
    pub unacknowledged: u64,
    /// Events that can be replayed, over all topics.
    pub retained_events: u64,
    /// Their memory, as [`HubOptions::history_bytes`] counts it.
    pub retained_bytes: u64,
    /// The [keys](crate::event::Key) that have a latest value.
    pub latest_keys: usize,
    /// The memory of their values, which is part of `retained_bytes`.
    pub latest_bytes: u64,
    /// The keys that this server has deleted because they were no longer updated, see [`HubOptions::latest_ttl`].
    pub expired_keys: u64,
    /// The deletions of latest values that are remembered, see [`HubOptions::tombstone_ttl`].
    pub tombstones: usize,
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
    /// The [keys](crate::event::Key) that have a latest value.
    pub latest_keys: usize,
    /// The memory of their values, which is not in `retained_bytes`.
    pub latest_bytes: u64,
    /// The newest event, retained or not. `None` before the first.
    pub last: Option<StreamPosition>,
}

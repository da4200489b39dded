//! The state of a backbone and its counts, for health, metrics and publishers.

use crate::metrics::Count;
use crate::sync::{Mutex, lock};

/// Whether the backbone can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// The server has not caught up with the backbone for the first time.
    Connecting,
    /// The backbone answers, and the server follows it.
    Up,
    /// The server has lost the backbone.
    Away,
}

impl State {
    /// The state's name in `GET /health`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Up => "up",
            Self::Away => "away",
        }
    }
}

/// Counters that only grow.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Batches published for this server's publishers.
    pub(crate) batches: Count,
    /// Events in these batches.
    pub(crate) published: Count,
    /// Events received, whichever server published them.
    pub(crate) received: Count,
    /// Times that the backbone was lost.
    pub(crate) losses: Count,
    /// Times that the order could not be continued: a new epoch, or events that were dropped before they were read.
    pub(crate) breaks: Count,
    /// Pages given to readers that had fallen behind the rings.
    pub(crate) pages: Count,
    /// Reads of the backbone for these pages.
    pub(crate) pages_fetched: Count,
    /// Epochs that this server began because the backbone may have lost events.
    pub(crate) epochs: Count,
    /// Positions looked up because clients had them before this server.
    pub(crate) lookups: Count,
}

/// The state of a backbone.
#[derive(Debug)]
pub struct Status {
    kind: &'static str,
    node: String,
    current: Mutex<Current>,
    pub(crate) counts: Counts,
}

#[derive(Debug)]
struct Current {
    state: State,
    /// Why the state is not [`State::Up`].
    reason: Option<String>,
    confirming_replicas: u32,
    wanted_replicas: u32,
}

impl Status {
    pub(crate) fn new(kind: &'static str, node: String) -> Self {
        let reason = Some("not connected yet".to_owned());
        let current = Current { state: State::Connecting, reason, confirming_replicas: 0, wanted_replicas: 0 };
        Self { kind, node, current: Mutex::new(current), counts: Counts::default() }
    }

    /// The kind of backbone: `redis`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// This server's name among those that share the backbone.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Whether the backbone can be used.
    pub fn state(&self) -> State {
        lock(&self.current).state
    }

    /// Why the backbone cannot be used, or `None` while it can.
    pub fn reason(&self) -> Option<String> {
        lock(&self.current).reason.clone()
    }

    /// How many replicas confirmed the last events, or `None` when publishers do not wait for replicas.
    pub(crate) fn confirming_replicas(&self) -> Option<u32> {
        let current = lock(&self.current);
        (current.wanted_replicas > 0).then_some(current.confirming_replicas)
    }

    /// How many replicas confirmed the last events and how many are wanted, if these are too few.
    pub fn missing_replicas(&self) -> Option<(u32, u32)> {
        let Current { confirming_replicas, wanted_replicas, .. } = *lock(&self.current);
        (confirming_replicas < wanted_replicas).then_some((confirming_replicas, wanted_replicas))
    }

    pub(crate) fn set_replicas(&self, confirming: u32, wanted: u32) {
        let mut current = lock(&self.current);
        (current.confirming_replicas, current.wanted_replicas) = (confirming, wanted);
    }

    pub(crate) fn set_state(&self, state: State, reason: Option<String>) {
        let mut current = lock(&self.current);
        (current.state, current.reason) = (state, reason);
    }
}

//! How a backbone is, and what it counts: for health, metrics and publishers.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Whether the backbone can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was never there, or this server has not caught up with it for the first time.
    Connecting,
    /// It answers, and this server has what it has.
    Up,
    /// It was there, and does not answer now.
    Away,
}

impl State {
    const ALL: [Self; 3] = [Self::Connecting, Self::Up, Self::Away];

    /// The state's name in `GET /health`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Up => "up",
            Self::Away => "away",
        }
    }
}

/// What is counted; each only grows.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Batches that were published for this server's publishers, and the events in them.
    pub(crate) batches: AtomicU64,
    pub(crate) published: AtomicU64,
    /// Events that came from the backbone, whoever published them.
    pub(crate) received: AtomicU64,
    /// How often the backbone was lost.
    pub(crate) losses: AtomicU64,
    /// How often the order was broken, by a new epoch or because events had been dropped before they were read.
    pub(crate) breaks: AtomicU64,
    /// Pages that readers got who had fallen behind the rings, and those of them that had to be fetched.
    pub(crate) pages: AtomicU64,
    pub(crate) pages_fetched: AtomicU64,
    /// Epochs that this server began because the backbone may have lost events.
    pub(crate) epochs: AtomicU64,
    /// Positions that clients came with before this server had them, and that the backbone was asked about.
    pub(crate) lookups: AtomicU64,
}

/// How a backbone is.
#[derive(Debug)]
pub struct Status {
    kind: &'static str,
    node: String,
    state: AtomicU8,
    /// Why it is not up.
    reason: Mutex<Option<String>>,
    /// How many replicas confirmed last, and how many are wanted.
    replicas: Mutex<(u32, u32)>,
    pub(crate) counts: Counts,
}

/// The reason before the first attempt.
pub(crate) const NOT_YET: &str = "not connected yet";

impl Status {
    pub(crate) fn new(kind: &'static str, node: String) -> Self {
        let reason = Mutex::new(Some(NOT_YET.to_owned()));
        let state = AtomicU8::new(State::Connecting as u8);
        Self { kind, node, state, reason, replicas: Mutex::default(), counts: Counts::default() }
    }

    /// What it is: `redis`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// This server's name among those that share the backbone.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Whether it can be used.
    pub fn state(&self) -> State {
        State::ALL[usize::from(self.state.load(Ordering::Acquire))]
    }

    /// Why it cannot be used; none while it can.
    pub fn reason(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many replicas confirmed what was published last; none when that is not waited for.
    pub(crate) fn confirming_replicas(&self) -> Option<u32> {
        let (confirmed, wanted) = *self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        (wanted > 0).then_some(confirmed)
    }

    /// How many replicas confirmed what was published last, and how many are wanted, when those are too few.
    pub fn missing_replicas(&self) -> Option<(u32, u32)> {
        let (confirmed, wanted) = *self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        (confirmed < wanted).then_some((confirmed, wanted))
    }

    /// Notes how many replicas have confirmed.
    #[cfg(feature = "redis")]
    pub(crate) fn replicas(&self, confirmed: u32, wanted: u32) {
        *self.replicas.lock().unwrap_or_else(PoisonError::into_inner) = (confirmed, wanted);
    }

    /// Sets the state, and returns the one before.
    pub(crate) fn become_(&self, state: State, reason: Option<String>) -> State {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
        State::ALL[usize::from(self.state.swap(state as u8, Ordering::AcqRel))]
    }
}

pub(crate) fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

//! The result of publishing.

use std::fmt;
use std::time::Duration;

use crate::event::Event;
use crate::position::StreamPosition;

/// The positions of events that were published together. They are consecutive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The position of the first.
    pub first: StreamPosition,
    /// The position of the last.
    pub last: StreamPosition,
}

/// Why events were not acknowledged; [`PublishError::outcome`] tells whether they were published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The hub was closed.
    #[error("{}: nothing was published", self.cause())]
    Closed,
    /// The backbone cannot be reached.
    #[error("{}: nothing was published, try again", self.cause())]
    Unavailable,
    /// The backbone did not reply in time.
    #[error(
        "{}: the events may have been published, or may be yet; publishing them again may duplicate them",
        self.cause()
    )]
    Unknown,
    /// The backbone has no memory for more events.
    #[error("{}: nothing was published", self.cause())]
    OutOfMemory,
    /// The backbone rejected the events. Its operator has to fix the reason.
    #[error("{}: nothing was published; the server's log says why", self.cause())]
    Refused,
    /// The [key](super::IdempotencyKey) was used for other events.
    #[error("{}: nothing was published; a key is for one publication and its repetitions", self.cause())]
    KeyReused,
    /// The hub remembers as many [keys](super::IdempotencyKey) as it may.
    #[error("{}: nothing was published; a key is free in {} s (setting idempotency_keys)", self.cause(), retry_after.as_secs_f64().ceil())]
    TooManyKeys {
        /// When the oldest key will be forgotten.
        retry_after: Duration,
    },
    /// The hub has as many [keys](crate::event::Key) as it may, and one of the events has a new one.
    #[error("{}: nothing was published; delete a key, or raise max_keys ({max_keys})", self.cause())]
    TooManyValues {
        /// The limit.
        max_keys: usize,
    },
    /// The latest values take as much memory as they may, and one of the events has a new [key](crate::event::Key).
    #[error(
        "{}: nothing was published; delete a key, or raise history_bytes, of which the values can take half ({max_bytes})",
        self.cause()
    )]
    ValuesTooLarge {
        /// The limit.
        max_bytes: u64,
    },
    /// The events were published, but too few replicas acknowledged them in time.
    #[error(
        "published up to {}, but only {acknowledged} of {wanted} replicas have it: a failover may lose it; publishing \
         again would duplicate it",
        published.last
    )]
    NotReplicated {
        /// The positions of the events.
        published: Published,
        /// How many replicas have acknowledged them.
        acknowledged: u32,
        /// How many replicas are required.
        wanted: u32,
    },
}

/// Why [`Hub::try_publish`](super::Hub::try_publish) did not take an event, and the event.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TryPublishError {
    /// The queue is full.
    #[error("the queue of the hub is full: nothing was published; try again, or wait for room with `publish`")]
    Full(Event),
    /// The hub was closed.
    #[error("{}", PublishError::Closed)]
    Closed(Event),
}

impl TryPublishError {
    /// Returns the event.
    pub fn into_event(self) -> Event {
        match self {
            Self::Full(event) | Self::Closed(event) => event,
        }
    }
}

/// Without the event, which may be large.
impl fmt::Debug for TryPublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

/// Whether events that were not acknowledged were published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// None was or will be published: publishing them again duplicates nothing.
    NotPublished,
    /// They may have been published, or may be yet.
    Unknown,
    /// They were published: publishing them again duplicates them.
    Published(Published),
}

impl PublishError {
    /// Returns whether the events were published.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Closed
            | Self::Unavailable
            | Self::OutOfMemory
            | Self::Refused
            | Self::KeyReused
            | Self::TooManyKeys { .. }
            | Self::TooManyValues { .. }
            | Self::ValuesTooLarge { .. } => Outcome::NotPublished,
            Self::Unknown => Outcome::Unknown,
            Self::NotReplicated { published, .. } => Outcome::Published(published),
        }
    }

    /// Returns what went wrong, without the outcome.
    pub(crate) fn cause(self) -> &'static str {
        match self {
            Self::Closed => "the hub is closed because the server is shutting down",
            Self::Unavailable => "the backbone is away",
            Self::Unknown => "the backbone did not answer",
            Self::OutOfMemory => "the backbone is out of memory",
            Self::Refused => "the backbone refused",
            Self::KeyReused => "the Idempotency-Key was used for other events",
            Self::TooManyKeys { .. } => "the server cannot remember another Idempotency-Key now",
            Self::TooManyValues { .. } => "the server cannot keep the value of another key",
            Self::ValuesTooLarge { .. } => "the server has no memory for the value of another key",
            Self::NotReplicated { .. } => "too few replicas have the events",
        }
    }
}

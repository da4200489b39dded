//! What a subscriber is told when it missed events.

use crate::position::StreamPosition;
use crate::topic::TopicFilter;

/// Events that a subscriber did not receive and will not receive.
///
/// Nothing else is missing: what is after `from` and up to `to` and belongs to a filter that `topics` does not name was
/// delivered, or follows. A topic that the subscription names belongs to that name only, also where one of its patterns
/// matches it. Some events of the filters named may follow as well, when their topics have lost less than others.
///
/// With one topic, or everything, a subscriber that counts what it received and adds up what it `missed` gets exactly
/// what was published after the position that it began with. With several topics it may be told of the same events
/// twice when it comes back before the stream has passed `to`; never not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// Why they are missing.
    pub reason: GapReason,
    /// The last position that the subscriber is known to have seen, in the numbering that it has it from.
    pub from: Option<StreamPosition>,
    /// The last position that is missing.
    pub to: StreamPosition,
    /// How many events are missing; none when that is not known.
    pub missed: Option<u64>,
    /// The subscriber's filters that the missing events belong to, as the subscriber spelled them; none when they may belong
    /// to any of its filters.
    pub topics: Option<Vec<TopicFilter>>,
    /// Where the stream goes on: a subscriber that resumes after this position gets what it would get now.
    pub resume: StreamPosition,
}

/// Why events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapReason {
    /// They had left the history when the subscriber came back.
    Evicted,
    /// They left the history while the subscriber was reading.
    Lagged,
    /// The subscriber's position belongs to another epoch: the history was lost, or the backbone may have lost its end.
    Epoch,
    /// The subscriber's position is none that this stream has given.
    UnknownId,
}

impl GapReason {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::Evicted, Self::Lagged, Self::Epoch, Self::UnknownId];

    /// The reason as it is spelled on the wire and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::Lagged => "lagged",
            Self::Epoch => "epoch",
            Self::UnknownId => "unknown_id",
        }
    }
}

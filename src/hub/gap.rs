//! Gaps: events that a subscription will not deliver.

use crate::position::StreamPosition;
use crate::topic::TopicFilter;

/// Events that a subscriber did not receive and will not receive.
///
/// Nothing else is missing: events after `from` and up to `to` of filters that `topics` does not name were delivered, or
/// follow. A named topic belongs to its name only, even where a pattern of the subscription matches it. Some events of
/// the filters in `topics` may follow too, because their topics have lost less than others.
///
/// With one topic, or with everything, received and `missed` events add up to exactly what was published after the
/// starting position. With several topics, a client that reconnects before the stream has passed `to` may get a second gap
/// over the same events, but never none.
///
/// ```
/// use fanline::event::{Event, Payload};
/// use fanline::hub::{Delivery, GapReason, Hub, HubOptions, Start};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = Hub::new(&HubOptions { history: 1, ..HubOptions::default() });
/// let (mut reader, _) = hub.subscribe("metric".parse()?, Start::Live);
/// for value in ["1", "2", "3"] {
///     hub.publish(Event::new("metric".parse()?, Payload::text(value))).await?;
/// }
/// let Some(Delivery::Gap(gap)) = reader.next().await else { panic!("two events have left the history") };
/// assert_eq!((gap.reason, gap.missed), (GapReason::Lagged, Some(2)));
/// // After a gap, a reader loads the current state, and continues with what follows.
/// let Some(Delivery::Event(frame)) = reader.next().await else { panic!("one event is retained") };
/// assert_eq!(frame.payload(), "3");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// Why they are missing.
    pub reason: GapReason,
    /// The last position that the subscriber is known to have, in the epoch it was issued in.
    pub from: Option<StreamPosition>,
    /// The last position that is missing.
    pub to: StreamPosition,
    /// How many events are missing. `None` when that is not known.
    pub missed: Option<u64>,
    /// The filters that the missing events belong to, as the subscriber spelled them. `None` when they may belong to any of
    /// its filters.
    pub topics: Option<Vec<TopicFilter>>,
    /// Where the stream continues: resuming after this position delivers what follows the gap.
    pub resume: StreamPosition,
}

/// Why events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapReason {
    /// They had left the history when the subscriber resumed.
    Evicted,
    /// They left the history while the subscriber was reading.
    Lagged,
    /// The subscriber's position belongs to another epoch: the history was lost, or the backbone may have lost its newest
    /// events.
    Epoch,
    /// The subscriber's position was never issued by this stream.
    UnknownId,
}

impl GapReason {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::Evicted, Self::Lagged, Self::Epoch, Self::UnknownId];

    /// The reason's name on the wire and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::Lagged => "lagged",
            Self::Epoch => "epoch",
            Self::UnknownId => "unknown_id",
        }
    }
}

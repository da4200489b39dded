//! Positions in a stream: an epoch and a sequence.
//!
//! On the wire a position is the event's `id`, `<epoch>-<sequence>`, for example `1795186660483920175-42`. Both numbers are
//! decimal, without sign and without leading zeros, so that a position has exactly one spelling.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// The number of an event within its epoch. The first event is 1, and there are no holes; 0 is "before the first event".
pub type Sequence = u64;

/// Identifies a numbering: sequences of different epochs are unrelated.
///
/// A server that lost its history begins a new epoch, so that an id of the old numbering cannot be mistaken for one of
/// the new:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use fanline::event::{Event, Payload};
/// use fanline::hub::{Delivery, GapReason, Hub, Start, SubscriptionFilter};
/// use fanline::topic::Topic;
///
/// let event = |text| Event::new(Topic::new("metric").unwrap(), Payload::text(text));
/// let before = Hub::default();
/// let last_id = before.publish(event("1")).await.unwrap();
///
/// // The server restarts. Its next event has sequence 1 as well, in another epoch.
/// let after = Hub::default();
/// let id = after.publish(event("2")).await.unwrap();
/// assert_eq!(id.sequence, last_id.sequence);
/// assert_ne!(id.epoch, last_id.epoch);
///
/// // A client of the first server resumes: a gap precedes the event that it would have missed.
/// let (mut subscription, _) = after.subscribe(SubscriptionFilter::everything(), Start::After(last_id));
/// let Some(Delivery::Gap(gap)) = subscription.next().await else { panic!("the first history is lost") };
/// assert_eq!((gap.reason, gap.from), (GapReason::Epoch, Some(last_id)));
/// let Some(Delivery::Event(frame)) = subscription.next().await else { panic!("the second history is retained") };
/// assert_eq!(frame.id(), id);
/// # }
/// ```
///
/// The digits are the Unix time in milliseconds and six random ones. Epochs increase where the clock does; two that begin
/// in the same millisecond, or on a clock that does not move, still differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// How many epochs there are within a millisecond.
const PER_MILLISECOND: u64 = 1_000_000;

impl Epoch {
    /// A new epoch that begins now.
    pub fn now() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let milliseconds = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        Self(milliseconds.saturating_mul(PER_MILLISECOND).saturating_add(random()))
    }

    /// A new epoch that is greater than this one, even if the clock is behind.
    #[must_use]
    pub fn unique_after(self) -> Self {
        Self::now().max(Self(self.0.saturating_add(1 + random())))
    }
}

/// Six random digits.
fn random() -> u64 {
    // From the system, by way of the keys of a hash table.
    RandomState::new().build_hasher().finish() % PER_MILLISECOND
}

/// An event's place in the hub's one order over all topics.
///
/// Positions of one epoch compare by sequence. Positions of different epochs have no meaningful order, so that this type
/// has no `Ord`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamPosition {
    /// The numbering.
    pub epoch: Epoch,
    /// The number within it.
    pub sequence: Sequence,
}

impl StreamPosition {
    /// A position that no event has. Resuming from it is like resuming from an id that was never issued.
    pub const UNKNOWN: Self = Self::new(Epoch(0), 0);

    /// The position of `sequence` within `epoch`.
    pub const fn new(epoch: Epoch, sequence: Sequence) -> Self {
        Self { epoch, sequence }
    }

    /// The position as text, without an allocation.
    pub(crate) fn text(self) -> PositionText {
        thread_local! {
            /// The text of an earlier position: nearly all positions of a server have the same epoch.
            static EARLIER: Cell<PositionText> = const { Cell::new(PositionText::UNKNOWN) };
        }
        let mut text = EARLIER.get();
        if text.epoch != self.epoch {
            text = PositionText { epoch: self.epoch, length: 0, ..text };
            text.push(itoa::Buffer::new().format(self.epoch.0));
            text.push("-");
            text.prefix = text.length;
            EARLIER.set(text);
        }
        text.length = text.prefix;
        text.push(itoa::Buffer::new().format(self.sequence));
        text
    }
}

/// The text of a [`StreamPosition`].
#[derive(Clone, Copy)]
pub(crate) struct PositionText {
    /// As many as two numbers of 20 digits and the hyphen have.
    bytes: [u8; 41],
    length: usize,
    epoch: Epoch,
    /// The length of the epoch with the hyphen.
    prefix: usize,
}

impl PositionText {
    /// The text of [`StreamPosition::UNKNOWN`].
    const UNKNOWN: Self = {
        let mut bytes = [b'0'; 41];
        bytes[1] = b'-';
        Self { bytes, length: 3, epoch: Epoch(0), prefix: 2 }
    };

    fn push(&mut self, text: &str) {
        self.bytes[self.length..][..text.len()].copy_from_slice(text.as_bytes());
        self.length += text.len();
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl fmt::Display for StreamPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(self.text().as_bytes()).expect("digits are UTF-8"))
    }
}

/// The text is not a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position is <epoch>-<sequence> in decimal, like 1795186660483920175-42")]
#[non_exhaustive]
pub struct InvalidPosition;

impl FromStr for StreamPosition {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (epoch, sequence) = text.split_once('-').ok_or(InvalidPosition)?;
        Ok(Self::new(Epoch(decimal(epoch)?), decimal(sequence)?))
    }
}

fn decimal(text: &str) -> Result<u64, InvalidPosition> {
    let canonical = text == "0" || (text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0'));
    if canonical { text.parse().map_err(|_| InvalidPosition) } else { Err(InvalidPosition) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn position_round_trips(epoch: u64, sequence: u64) {
            let position = StreamPosition::new(Epoch(epoch), sequence);
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn position_has_one_spelling(text in "[0-9+]{0,3}[0-9]{0,17}-?[0-9]{0,20}|[ 0-9-]{0,6}|\\PC{0,6}") {
            if let Ok(position) = text.parse::<StreamPosition>() {
                prop_assert_eq!(position.to_string(), text);
            }
        }
    }

    #[test]
    fn simultaneous_epochs_differ() {
        let epochs: std::collections::HashSet<Epoch> = (0..100).map(|_| Epoch::now()).collect();
        assert!(epochs.len() > 98, "two are the same by a chance of 1 in a million: {}", epochs.len());
    }

    #[test]
    fn epochs_increase_when_the_clock_is_behind() {
        let now = Epoch::now();
        assert!(Epoch(1_795_186_660_123) < now, "epochs in milliseconds are earlier ones");
        assert!(Epoch(now.0 + 10_000 * PER_MILLISECOND) > Epoch(now.0).unique_after());
        let ahead = Epoch(now.0 + 3_600_000 * PER_MILLISECOND);
        let next = [ahead.unique_after(), ahead.unique_after()];
        assert!(ahead < next[0] && ahead < next[1] && next[0] != next[1], "{next:?}");
        assert!(next.iter().all(|next| next.0 <= ahead.0 + PER_MILLISECOND));
        assert_eq!(Epoch(u64::MAX).unique_after(), Epoch(u64::MAX));
    }

    #[test]
    fn position_by_example() {
        let position = StreamPosition::new(Epoch(1_795_186_660_123), 42);
        assert_eq!(position.to_string(), "1795186660123-42");
        assert_eq!("1795186660123-42".parse(), Ok(position));
        assert_eq!("0-0".parse(), Ok(StreamPosition::new(Epoch(0), 0)));
        let largest = StreamPosition::new(Epoch(u64::MAX), u64::MAX);
        assert_eq!(largest.to_string().parse(), Ok(largest));
    }

    #[test]
    fn other_spellings_are_rejected() {
        for text in [
            "",
            "-",
            "1",
            "1-",
            "-1",
            "1-2-3",
            "01-2",
            "1-02",
            "+1-2",
            "1 -2",
            "1-2 ",
            "a-b",
            "١-٢",
            "1-18446744073709551616",
        ] {
            assert_eq!(text.parse::<StreamPosition>(), Err(InvalidPosition), "{text:?}");
        }
    }
}

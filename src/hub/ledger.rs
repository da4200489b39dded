//! Which channel each of the newest sequences belonged to, long after the events themselves were evicted: four bytes an
//! event, so that a gap can be told with its exact count.
//!
//! One writer (the sequencer) records; readers count without a lock. A reader may be overtaken by the writer while it
//! counts; it looks at `newest` again when it is done, and knows nothing if its range has been overwritten.

use crate::position::Sequence;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The number of a channel within its hub; never used twice.
pub(crate) type ChannelId = u32;

pub(crate) struct Ledger {
    channels: Box<[AtomicU32]>,
    newest: AtomicU64,
}

impl Ledger {
    /// A ledger of the newest `capacity` sequences, a power of two.
    pub(crate) fn new(capacity: usize) -> Self {
        assert!(capacity.is_power_of_two());
        let channels = (0..capacity).map(|_| AtomicU32::new(0)).collect();
        Self { channels, newest: AtomicU64::new(0) }
    }

    /// Notes that `sequence`, the one after the last, belongs to `channel`.
    pub(crate) fn record(&self, sequence: Sequence, channel: ChannelId) {
        debug_assert_eq!(sequence, self.newest.load(Ordering::Relaxed) + 1);
        // First the claim, then the entry: a reader that sees the entry of a later lap sees the claim.
        self.newest.store(sequence, Ordering::Release);
        self.entry(sequence).store(channel, Ordering::Release);
    }

    /// Goes on with the sequence after `newest`. Nothing up to there is asked for again.
    pub(crate) fn skip_to(&self, newest: Sequence) {
        self.newest.store(newest, Ordering::Release);
    }

    /// How many of the sequences after `from` up to `to` belonged to `channel`; nothing when that is no longer known.
    pub(crate) fn count(&self, channel: ChannelId, from: Sequence, to: Sequence) -> Option<u64> {
        let count = (from + 1..=to).filter(|&sequence| self.entry(sequence).load(Ordering::Acquire) == channel).count();
        let oldest_kept = (self.newest.load(Ordering::Acquire) + 1).saturating_sub(self.channels.len() as u64);
        (from + 1 >= oldest_kept).then_some(count as u64)
    }

    fn entry(&self, sequence: Sequence) -> &AtomicU32 {
        &self.channels[sequence as usize & (self.channels.len() - 1)]
    }
}

#[cfg(all(test, not(fanline_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_counted_exactly_while_it_is_known() {
        let ledger = Ledger::new(8);
        for sequence in 1..=10 {
            ledger.record(sequence, (sequence % 2) as u32);
        }
        assert_eq!(ledger.count(0, 4, 10), Some(3));
        assert_eq!(ledger.count(1, 4, 10), Some(3));
        assert_eq!(ledger.count(1, 2, 3), Some(1));
        assert_eq!(ledger.count(7, 2, 10), Some(0));
        assert_eq!(ledger.count(1, 1, 10), None);
        assert_eq!(ledger.count(1, 10, 10), Some(0));
    }
}

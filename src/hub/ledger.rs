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

    /// How many of the sequences after `from` belonged to one of `channels`, which are sorted, each up to the sequence
    /// beside it; nothing when that is no longer known.
    ///
    /// One pass for all of them, and none where nothing is known: how far back it goes is the client's word.
    pub(crate) fn count(&self, from: Sequence, channels: &[(ChannelId, Sequence)]) -> Option<u64> {
        if !self.is_kept(from + 1) {
            return None;
        }
        // Most entries are those of other channels, and of these few pass the sieve.
        let mut sieve = [0u64; 16];
        let place = |channel: ChannelId| ((channel / 64 % 16) as usize, 1 << (channel % 64));
        for (channel, _) in channels {
            let (word, bit) = place(*channel);
            sieve[word] |= bit;
        }
        let is_counted = |&sequence: &Sequence| {
            let channel = self.entry(sequence).load(Ordering::Acquire);
            let (word, bit) = place(channel);
            sieve[word] & bit != 0
                && channels
                    .binary_search_by_key(&channel, |(channel, _)| *channel)
                    .is_ok_and(|index| sequence <= channels[index].1)
        };
        let to = channels.iter().map(|(_, to)| *to).max().unwrap_or(from);
        let count = (from + 1..=to).filter(is_counted).count();
        self.is_kept(from + 1).then_some(count as u64)
    }

    fn is_kept(&self, sequence: Sequence) -> bool {
        sequence >= (self.newest.load(Ordering::Acquire) + 1).saturating_sub(self.channels.len() as u64)
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
        assert_eq!(ledger.count(4, &[(0, 10)]), Some(3));
        assert_eq!(ledger.count(4, &[(1, 10)]), Some(3));
        assert_eq!(ledger.count(2, &[(1, 3)]), Some(1));
        assert_eq!(ledger.count(2, &[(7, 10)]), Some(0));
        assert_eq!(ledger.count(1, &[(1, 10)]), None);
        assert_eq!(ledger.count(10, &[(1, 10)]), Some(0));
        assert_eq!(ledger.count(2, &[(0, 6), (1, 9), (1025, 10)]), Some(2 + 4));
        assert_eq!(ledger.count(2, &[]), Some(0));
    }

    #[test]
    fn what_is_no_longer_known_is_not_gone_through() {
        let ledger = Ledger::new(8);
        ledger.skip_to(u64::MAX - 1);
        assert_eq!(ledger.count(0, &[(1, u64::MAX - 1)]), None, "it would take years");
    }
}

//! The topic of each of the newest sequences, kept long after the events were evicted: eight bytes an event, so that gaps
//! have exact counts, and a topic that was merely quiet has none.
//!
//! One writer (the sequencer) records; readers count without a lock. The writer may overtake a reader that counts; the
//! reader checks the bounds again at the end, and returns no count if its range was overwritten.
//!
//! **Exactness.** An entry is a keyed hash of the topic's name, so it stays valid when a topic is dropped and created
//! again, and in the hub that continues this one, which has the same key. A count is wrong only if two names of one hub have
//! the same 64 bits: for a million names the probability is less than 1 in 10^7, and the key is secret, so that such names
//! cannot be constructed.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::RangeInclusive;

use sha2::{Digest, Sha256};

use crate::position::Sequence;
use crate::sync::{AtomicU64, Ordering};
use crate::topic::Topic;

/// A topic's name in the ledger.
pub(crate) type TopicHash = u64;

/// The key of the hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LedgerKey(pub(crate) [u64; 2]);

impl LedgerKey {
    /// A random key.
    pub(crate) fn new() -> Self {
        // From the system, by way of the keys of a hash table.
        Self([(); 2].map(|()| RandomState::new().build_hasher().finish()))
    }
}

pub(crate) struct Ledger {
    pub(crate) key: LedgerKey,
    topics: Box<[AtomicU64]>,
    newest: AtomicU64,
    /// The entries up to this sequence are not known.
    begin: AtomicU64,
}

/// The number of events of one topic in a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) topic: TopicHash,
    /// The end of the range.
    pub(crate) to: Sequence,
    pub(crate) count: u64,
    /// The newest of them; 0 if there is none.
    pub(crate) newest: Sequence,
}

impl Tally {
    pub(crate) fn new(topic: TopicHash, to: Sequence) -> Self {
        Self { topic, to, count: 0, newest: 0 }
    }
}

impl Ledger {
    /// A ledger of the newest `capacity` sequences, a power of two.
    pub(crate) fn new(capacity: usize, key: LedgerKey) -> Self {
        assert!(capacity.is_power_of_two());
        let topics = (0..capacity).map(|_| AtomicU64::new(0)).collect();
        Self { key, topics, newest: AtomicU64::new(0), begin: AtomicU64::new(0) }
    }

    pub(crate) fn hash(&self, topic: &Topic) -> TopicHash {
        let LedgerKey([first, second]) = self.key;
        let digest = Sha256::new().chain_update(first.to_le_bytes()).chain_update(second.to_le_bytes());
        let digest = digest.chain_update(topic.as_str()).finalize();
        digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
    }

    /// The sequences whose topics are known, if nothing is recorded meanwhile.
    pub(crate) fn known(&self) -> RangeInclusive<Sequence> {
        let newest = self.newest.load(Ordering::Acquire);
        let oldest = (newest + 1).saturating_sub(self.topics.len() as u64);
        oldest.max(self.begin.load(Ordering::Acquire) + 1)..=newest
    }

    /// The topic of a known sequence.
    pub(crate) fn topic(&self, sequence: Sequence) -> TopicHash {
        self.entry(sequence).load(Ordering::Acquire)
    }

    /// Records the topic of `sequence`, the one after the last.
    pub(crate) fn record(&self, sequence: Sequence, topic: TopicHash) {
        debug_assert_eq!(sequence, self.newest.load(Ordering::Relaxed) + 1);
        // First the claim, then the entry: a reader that sees the entry of a later lap sees the claim.
        self.newest.store(sequence, Ordering::Release);
        self.entry(sequence).store(topic, Ordering::Release);
    }

    /// Continues with the sequence after `newest`, and forgets those up to there.
    pub(crate) fn skip_to(&self, newest: Sequence) {
        self.begin.store(newest, Ordering::Release);
        self.newest.store(newest, Ordering::Release);
    }

    /// Counts for each of `tallies`, which are sorted by topic, the sequences after `from` and up to its end. Returns false
    /// when they are no longer known.
    ///
    /// One pass for all of them, and none where they are not known: clients choose how far back they ask.
    pub(crate) fn count(&self, from: Sequence, tallies: &mut [Tally]) -> bool {
        if !self.is_kept(from + 1) {
            return false;
        }
        // Most entries are of other topics, and few of these pass the sieve.
        let mut sieve = [0u64; 16];
        let place = |topic: TopicHash| ((topic / 64 % 16) as usize, 1 << (topic % 64));
        for tally in &*tallies {
            let (word, bit) = place(tally.topic);
            sieve[word] |= bit;
        }
        let to = tallies.iter().map(|tally| tally.to).max().unwrap_or(from);
        for sequence in from + 1..=to {
            let topic = self.entry(sequence).load(Ordering::Acquire);
            let (word, bit) = place(topic);
            if sieve[word] & bit != 0
                && let Ok(index) = tallies.binary_search_by_key(&topic, |tally| tally.topic)
                && sequence <= tallies[index].to
            {
                tallies[index].count += 1;
                tallies[index].newest = sequence;
            }
        }
        self.is_kept(from + 1)
    }

    fn is_kept(&self, sequence: Sequence) -> bool {
        // An entry of a sequence behind a break was written after both bounds of the break.
        let newest = self.newest.load(Ordering::Acquire);
        sequence > self.begin.load(Ordering::Acquire)
            && sequence >= (newest + 1).saturating_sub(self.topics.len() as u64)
    }

    fn entry(&self, sequence: Sequence) -> &AtomicU64 {
        &self.topics[sequence as usize & (self.topics.len() - 1)]
    }
}

#[cfg(all(test, not(fanline_loom)))]
mod tests {
    use super::*;

    /// The counts of these topics up to these sequences.
    fn count<const N: usize>(ledger: &Ledger, from: Sequence, topics: [(TopicHash, Sequence); N]) -> Option<[u64; N]> {
        let mut tallies = topics.map(|(topic, to)| Tally::new(topic, to));
        ledger.count(from, &mut tallies).then(|| tallies.map(|tally| tally.count))
    }

    #[test]
    fn known_range_is_counted_exactly() {
        let ledger = Ledger::new(8, LedgerKey::new());
        for sequence in 1..=10 {
            ledger.record(sequence, sequence % 2);
        }
        assert_eq!(count(&ledger, 4, [(0, 10)]), Some([3]));
        assert_eq!(count(&ledger, 4, [(1, 10)]), Some([3]));
        assert_eq!(count(&ledger, 2, [(1, 3)]), Some([1]));
        assert_eq!(count(&ledger, 2, [(7, 10)]), Some([0]));
        assert_eq!(count(&ledger, 1, [(1, 10)]), None);
        assert_eq!(count(&ledger, 10, [(1, 10)]), Some([0]));
        assert_eq!(count(&ledger, 2, [(0, 6), (1, 9), (1025, 10)]), Some([2, 4, 0]));
        assert_eq!(count(&ledger, 2, []), Some([]));
        let mut tallies = [Tally::new(0, 9), Tally::new(7, 10)];
        assert!(ledger.count(2, &mut tallies));
        assert_eq!(tallies.map(|tally| tally.newest), [8, 0]);
    }

    #[test]
    fn range_before_a_break_is_not_known() {
        let ledger = Ledger::new(8, LedgerKey::new());
        (1..=3).for_each(|sequence| ledger.record(sequence, 7));
        ledger.skip_to(5);
        (6..=7).for_each(|sequence| ledger.record(sequence, 7));
        assert_eq!(count(&ledger, 4, [(7, 7)]), None);
        assert_eq!(count(&ledger, 5, [(7, 7)]), Some([2]));
    }

    #[test]
    fn unknown_range_is_not_scanned() {
        let ledger = Ledger::new(8, LedgerKey::new());
        ledger.skip_to(u64::MAX - 1);
        assert_eq!(count(&ledger, 0, [(1, u64::MAX - 1)]), None, "it would take years");
    }
}

//! The one order of events that all clients have to see.
//!
//! The first client to receive an event has it parsed and written down here, bytes and all; for every other client the
//! check is a comparison with those bytes. That is what lets one core check a million deliveries a second.

use std::collections::VecDeque;

use crate::wire::Stamp;

/// An event as it was on the wire.
pub struct Entry {
    pub sequence: u64,
    pub due: u64,
    /// One whole HTTP chunk with one whole SSE block in it.
    pub raw: Box<[u8]>,
}

/// Events kept for comparison: a client that is further behind has its stream parsed instead.
const RETAINED: usize = 64 * 1024;
const RETAINED_BYTES: usize = 64 * 1024 * 1024;
const UNKNOWN: u64 = u64::MAX;

#[derive(Default)]
pub struct Journal {
    entries: VecDeque<Entry>,
    /// Index of `entries[0]` since the start.
    first: u64,
    bytes: usize,
    pub epoch: Option<u64>,
    /// `numbers[sequence - base]` is the number of the publish that became this sequence.
    numbers: Vec<u64>,
    base: u64,
    /// Sequences that two sources told different publishes for.
    pub contradictions: u64,
}

impl Journal {
    pub fn get(&self, index: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// Index of the first event after `sequence`; `None` when events that come after it are not kept any more.
    pub fn index_after(&self, sequence: u64) -> Option<u64> {
        let offset = self.entries.partition_point(|entry| entry.sequence <= sequence);
        (offset > 0 || self.first == 0).then_some(self.first + offset as u64)
    }

    /// Learns that publish `number` became `sequence`, from a publisher's answer or from a client's stream.
    pub fn learn(&mut self, sequence: u64, number: u64) {
        if self.numbers.is_empty() {
            self.base = sequence;
        }
        if sequence < self.base {
            let missing = usize::try_from(self.base - sequence).expect("sequences of one run fit in memory");
            self.numbers.splice(0..0, std::iter::repeat_n(UNKNOWN, missing));
            self.base = sequence;
        }
        let index = usize::try_from(sequence - self.base).expect("sequences of one run fit in memory");
        if index >= self.numbers.len() {
            self.numbers.resize(index + 1, UNKNOWN);
        }
        match &mut self.numbers[index] {
            known if *known == UNKNOWN => *known = number,
            known if *known != number => self.contradictions += 1,
            _ => {}
        }
    }

    /// Keeps an event for comparison, if it is the newest.
    pub fn keep(&mut self, sequence: u64, stamp: Stamp, raw: &[u8]) {
        if self.entries.back().is_some_and(|newest| newest.sequence >= sequence) {
            return;
        }
        self.bytes += raw.len();
        self.entries.push_back(Entry { sequence, due: stamp.due, raw: raw.into() });
        while self.entries.len() > RETAINED || self.bytes > RETAINED_BYTES {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.raw.len();
            self.first += 1;
        }
    }

    /// How many events of this run are known from `from` to `to`, both included.
    pub fn known_between(&self, from: u64, to: u64) -> u64 {
        let start = from.saturating_sub(self.base).min(self.numbers.len() as u64) as usize;
        let end = (to + 1).saturating_sub(self.base).min(self.numbers.len() as u64) as usize;
        self.numbers.get(start..end).unwrap_or_default().iter().filter(|number| **number != UNKNOWN).count() as u64
    }

    /// The newest sequence of this run.
    pub fn newest(&self) -> u64 {
        if self.numbers.is_empty() { 0 } else { self.base + self.numbers.len() as u64 - 1 }
    }

    /// The numbers of the events of this run, in the order of their sequences.
    pub fn order(&self) -> impl Iterator<Item = u64> + '_ {
        self.numbers.iter().copied().filter(|number| *number != UNKNOWN)
    }
}

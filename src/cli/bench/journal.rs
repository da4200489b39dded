//! The bytes of events as they came to the first of several subscribers with the same topics.
//!
//! To each other subscriber these bytes most often come alike, and then comparing them is all the parsing that there is.
//! The journal decides nothing: which event the bytes are is noted here, whether it is the right one is each stream's own
//! [ledger](super::ledger).

use std::collections::VecDeque;

use super::id::EventId;

/// Events kept for comparison: a subscriber that is further behind has its stream parsed instead.
const MOST_ENTRIES: usize = 64 * 1024;
/// In all journals together.
const MOST_BYTES: usize = 64 * 1024 * 1024;
const LEAST_BYTES: usize = 64 * 1024;
/// How far ahead an event is looked for in a journal, by a stream that missed some.
const LOOK_AHEAD: usize = 256;

/// An event as its group knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The line of the ledgers of this group.
    pub line: u32,
    pub number: u32,
    pub due: u64,
    pub id: EventId,
}

/// An event as it was on the wire: one whole chunk, or without chunks one whole block.
pub struct Entry {
    pub raw: Box<[u8]>,
    pub known: Known,
    /// How many subscribers have it.
    pub reached: u32,
}

pub struct Journal {
    entries: VecDeque<Entry>,
    /// Index of `entries[0]` since the start.
    first: u64,
    bytes: usize,
    most_bytes: usize,
}

impl Journal {
    /// One of `journals`, which share the memory.
    pub fn new(journals: usize) -> Self {
        let most_bytes = (MOST_BYTES / journals.max(1)).max(LEAST_BYTES);
        Self { entries: VecDeque::new(), first: 0, bytes: 0, most_bytes }
    }

    #[inline]
    pub fn get(&mut self, index: u64) -> Option<&mut Entry> {
        self.entries.get_mut(index.checked_sub(self.first)? as usize)
    }

    /// Notes an event that a stream at `index` had parsed, and gives the index of the one after it. An event that is
    /// neither there nor the newest leaves the stream where it is.
    pub fn note(&mut self, index: u64, known: Known, raw: Option<&[u8]>) -> (u64, Option<&mut Entry>) {
        let start = index.saturating_sub(self.first) as usize;
        let ahead = self.entries.range(start.min(self.entries.len())..).take(LOOK_AHEAD);
        let found = ahead.into_iter().position(|entry| entry.known == known);
        let at = match (found, raw) {
            (Some(offset), _) => start + offset,
            (None, Some(raw)) if start >= self.entries.len() => {
                self.push(Entry { raw: raw.into(), known, reached: 0 });
                self.entries.len() - 1
            }
            (None, _) => return (index, None),
        };
        (self.first + at as u64 + 1, self.entries.get_mut(at))
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += entry.raw.len();
        self.entries.push_back(entry);
        while self.entries.len() > 1 && (self.entries.len() > MOST_ENTRIES || self.bytes > self.most_bytes) {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.raw.len();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(number: u32) -> Known {
        Known { line: 0, number, due: 0, id: EventId::NONE }
    }

    fn note(journal: &mut Journal, index: u64, number: u32) -> u64 {
        journal.note(index, known(number), Some(&[b'x'; 100])).0
    }

    #[test]
    fn the_first_stream_writes_and_the_others_find() {
        let mut journal = Journal::new(1);
        assert_eq!((note(&mut journal, 0, 10), note(&mut journal, 1, 11), note(&mut journal, 2, 12)), (1, 2, 3));
        assert_eq!(journal.get(1).unwrap().known, known(11));
        // One that missed 10, one that got 11 twice, one that got what nobody else did.
        assert_eq!((note(&mut journal, 0, 11), note(&mut journal, 2, 11), note(&mut journal, 1, 99)), (2, 2, 1));
        assert!(journal.get(3).is_none());
    }

    #[test]
    fn what_is_not_one_event_in_one_piece_is_not_kept() {
        let mut journal = Journal::new(1);
        assert_eq!(journal.note(0, known(1), None).0, 0);
        assert!(journal.get(0).is_none());
    }

    #[test]
    fn memory_is_bounded_and_who_is_behind_finds_the_way_again() {
        let mut journal = Journal::new(usize::MAX);
        let mut index = 0;
        for number in 0..10_000 {
            index = note(&mut journal, index, number);
        }
        let kept = journal.entries.len();
        assert!(kept * 100 <= LEAST_BYTES && kept * 100 > LEAST_BYTES - 200, "{kept}");
        assert!(journal.get(0).is_none());
        assert_eq!(note(&mut journal, 0, 10_000 - kept as u32), 10_001 - kept as u64);
    }
}

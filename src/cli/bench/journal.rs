//! The blocks of events as the first of several subscribers with the same topics received them.
//!
//! The other subscribers usually receive the same bytes, which then need only be compared, not parsed. The journal
//! knows which event a block is. The [ledger](super::ledger) of each stream knows whether that event comes next.

use std::collections::VecDeque;

/// Events kept for comparison. The stream of a subscriber further behind is parsed.
const MAX_ENTRIES: usize = 64 * 1024;
/// Of all journals together.
const MAX_BYTES: usize = 64 * 1024 * 1024;
const MIN_BYTES: usize = 64 * 1024;
/// How far ahead an event is searched for a stream that missed some.
const LOOK_AHEAD: usize = 256;

/// The id of an event, if it has the form `<number>-<number>`.
pub type EventId = Option<(u64, u64)>;

/// Parses an id of that form, as those of fanline and of Redis streams.
pub fn event_id(id: &[u8]) -> EventId {
    let (first, second) = str::from_utf8(id).ok()?.split_once('-')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

/// What is known of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The lane of the ledgers of this group.
    pub lane: u32,
    pub number: u32,
    pub due: u64,
    pub id: EventId,
}

/// An event and its block.
pub struct Entry {
    /// The block as a chunk: framed as servers usually frame it.
    chunk: Box<[u8]>,
    /// Where the block starts in the chunk.
    start: usize,
    pub known: Known,
    /// How many subscribers received it.
    pub reached: u32,
}

impl Entry {
    fn new(block: &[u8], known: Known) -> Self {
        let size = format!("{:x}\r\n", block.len());
        let chunk = [size.as_bytes(), block, b"\r\n"].concat().into();
        Self { chunk, start: size.len(), known, reached: 0 }
    }

    #[inline]
    pub fn block(&self) -> &[u8] {
        &self.chunk[self.start..self.chunk.len() - 2]
    }

    #[inline]
    pub fn chunk(&self) -> &[u8] {
        &self.chunk
    }
}

pub struct Journal {
    entries: VecDeque<Entry>,
    /// Index of `entries[0]` since the start.
    first: u64,
    bytes: usize,
    max_bytes: usize,
}

impl Journal {
    /// One of `journals` that share the memory.
    pub fn new(journals: usize) -> Self {
        let max_bytes = (MAX_BYTES / journals.max(1)).max(MIN_BYTES);
        Self { entries: VecDeque::new(), first: 0, bytes: 0, max_bytes }
    }

    #[inline]
    pub fn get(&mut self, index: u64) -> Option<&mut Entry> {
        self.entries.get_mut(index.checked_sub(self.first)? as usize)
    }

    /// Notes an event that a stream at `index` parsed. Returns the index after it, and its entry. An event that is
    /// neither known nor the newest leaves the stream where it is.
    pub fn note(&mut self, index: u64, known: Known, block: Option<&[u8]>) -> (u64, Option<&mut Entry>) {
        let start = index.saturating_sub(self.first) as usize;
        let ahead = self.entries.range(start.min(self.entries.len())..).take(LOOK_AHEAD);
        let found = ahead.into_iter().position(|entry| entry.known == known);
        let at = match (found, block) {
            (Some(offset), _) => start + offset,
            (None, Some(block)) if start >= self.entries.len() => {
                self.push(Entry::new(block, known));
                self.entries.len() - 1
            }
            (None, _) => return (index, None),
        };
        (self.first + at as u64 + 1, self.entries.get_mut(at))
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += entry.block().len();
        self.entries.push_back(entry);
        while self.entries.len() > 1 && (self.entries.len() > MAX_ENTRIES || self.bytes > self.max_bytes) {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.block().len();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(number: u32) -> Known {
        Known { lane: 0, number, due: 0, id: None }
    }

    fn note(journal: &mut Journal, index: u64, number: u32) -> u64 {
        journal.note(index, known(number), Some(&[b'x'; 100])).0
    }

    #[test]
    fn first_stream_writes_and_others_find() {
        let mut journal = Journal::new(1);
        assert_eq!((note(&mut journal, 0, 10), note(&mut journal, 1, 11), note(&mut journal, 2, 12)), (1, 2, 3));
        assert_eq!(journal.get(1).unwrap().known, known(11));
        // A stream that missed 10, one that received 11 twice, and one with an event of its own.
        assert_eq!((note(&mut journal, 0, 11), note(&mut journal, 2, 11), note(&mut journal, 1, 99)), (2, 2, 1));
        assert!(journal.get(3).is_none());
    }

    #[test]
    fn event_without_a_block_of_its_own_is_not_kept() {
        let mut journal = Journal::new(1);
        assert_eq!(journal.note(0, known(1), None).0, 0);
        assert!(journal.get(0).is_none());
    }

    #[test]
    fn memory_is_bounded_and_a_stream_behind_catches_up() {
        let mut journal = Journal::new(usize::MAX);
        let mut index = 0;
        for number in 0..10_000 {
            index = note(&mut journal, index, number);
        }
        let kept = journal.entries.len();
        assert!(kept * 100 <= MIN_BYTES && kept * 100 > MIN_BYTES - 200, "{kept}");
        assert!(journal.get(0).is_none());
        assert_eq!(note(&mut journal, 0, 10_000 - kept as u32), 10_001 - kept as u64);
    }
}

//! What one client has received, checked as it comes.

use crate::journal::Journal;
use crate::latency::Latency;
use crate::wire::{Block, Chunk, Position, Stamp};

/// What was wrong with the streams, and how much was right.
#[derive(Default)]
pub struct Tally {
    pub deliveries: u64,
    pub duplicated: u64,
    pub disordered: u64,
    pub gaps: u64,
    pub malformed: u64,
    pub heartbeats: u64,
    pub comments: u64,
    pub foreign: u64,
}

/// Shared by all streams.
#[derive(Default)]
pub struct Checker {
    pub journal: Journal,
    pub tally: Tally,
    pub latency: Latency,
}

/// The state of one client's response body.
///
/// While its bytes are those of the journal, it is two numbers: which event comes next, and how much of it is there
/// already. The buffers are for all else: hello, heartbeats, and events that no client has received before.
#[derive(Default)]
pub struct Stream {
    /// Position of the newest event, from its `id:` line; the hello's before the first.
    last: Option<u64>,
    next: u64,
    matched: usize,
    /// Bytes that are no whole chunk yet.
    raw: Vec<u8>,
    /// Content of chunks that is no whole block yet.
    text: Vec<u8>,
    /// Sequences that were jumped over. What of them is lost is known at the end.
    holes: Vec<(u64, u64)>,
    pub greeted: bool,
    pub ended: bool,
}

impl Stream {
    /// Checks `bytes`, that were received at `now`.
    pub fn receive(&mut self, mut bytes: &[u8], now: u64, checker: &mut Checker) {
        if self.greeted && self.raw.is_empty() && self.text.is_empty() {
            bytes = self.compare(bytes, now, checker);
            if bytes.is_empty() {
                return;
            }
            if self.matched > 0 {
                let entry = checker.journal.get(self.next).map(|entry| &entry.raw[..self.matched]);
                self.raw.extend_from_slice(entry.unwrap_or_default());
                self.matched = 0;
            }
        }
        self.raw.extend_from_slice(bytes);
        self.parse(now, checker);
        if self.text.is_empty() && !self.ended {
            self.rejoin(&checker.journal);
        }
    }

    /// Follows the journal for as long as `bytes` are the same; gives back the rest.
    fn compare<'a>(&mut self, mut bytes: &'a [u8], now: u64, checker: &mut Checker) -> &'a [u8] {
        while let Some(entry) = checker.journal.get(self.next) {
            let expected = &entry.raw[self.matched..];
            if bytes.len() < expected.len() {
                if expected.starts_with(bytes) {
                    self.matched += bytes.len();
                    return &[];
                }
                break;
            }
            let (head, rest) = bytes.split_at(expected.len());
            if head != expected {
                break;
            }
            bytes = rest;
            self.matched = 0;
            self.next += 1;
            let (sequence, due) = (entry.sequence, entry.due);
            self.deliver(sequence, due, now, checker);
            if bytes.is_empty() {
                break;
            }
        }
        bytes
    }

    fn parse(&mut self, now: u64, checker: &mut Checker) {
        let raw = std::mem::take(&mut self.raw);
        let mut at = 0;
        while at < raw.len() && !self.ended {
            match Chunk::parse(&raw[at..]) {
                Chunk::Incomplete => break,
                Chunk::Malformed => {
                    checker.tally.malformed += 1;
                    self.ended = true;
                }
                Chunk::Whole { content, .. } if content.is_empty() => self.ended = true,
                Chunk::Whole { content, end } => {
                    let content = &raw[at + content.start..at + content.end];
                    let whole = self.text.is_empty() && is_one_block(content);
                    if whole {
                        self.block(content, Some(&raw[at..at + end]), now, checker);
                    } else {
                        self.text.extend_from_slice(content);
                        self.blocks(now, checker);
                    }
                    at += end;
                }
            }
        }
        self.raw = raw;
        self.raw.drain(..at);
    }

    fn blocks(&mut self, now: u64, checker: &mut Checker) {
        let text = std::mem::take(&mut self.text);
        let mut rest = &text[..];
        while let Some(end) = memchr::memmem::find(rest, b"\n\n") {
            self.block(&rest[..end + 2], None, now, checker);
            rest = &rest[end + 2..];
        }
        self.text = rest.to_vec();
    }

    fn block(&mut self, text: &[u8], raw: Option<&[u8]>, now: u64, checker: &mut Checker) {
        let block = Block::parse(text);
        let position = block.id.and_then(Position::parse);
        if let Some(position) = position
            && position.epoch != *checker.journal.epoch.get_or_insert(position.epoch)
        {
            checker.tally.gaps += 1;
            return;
        }
        let stamp = block.data.and_then(Stamp::parse);
        match (block.event, position, stamp) {
            (Some(b"system"), position, _) => {
                if !self.greeted {
                    self.greeted = true;
                    self.last = position.map(|position| position.sequence);
                }
            }
            (Some(b"gap"), position, _) => {
                checker.tally.gaps += 1;
                if let Some(position) = position {
                    self.advance(position.sequence + 1);
                    self.last = self.last.max(Some(position.sequence));
                }
            }
            (Some(b"heartbeat"), ..) => checker.tally.heartbeats += 1,
            (_, Some(position), Some(stamp)) => {
                checker.journal.learn(position.sequence, stamp.number);
                if let Some(raw) = raw {
                    checker.journal.keep(position.sequence, stamp, raw);
                }
                self.deliver(position.sequence, stamp.due, now, checker);
            }
            (_, Some(position), None) => {
                checker.tally.foreign += 1;
                self.advance(position.sequence);
                self.last = self.last.max(Some(position.sequence));
            }
            _ if text.starts_with(b":") => checker.tally.comments += 1,
            _ => checker.tally.malformed += 1,
        }
    }

    fn deliver(&mut self, sequence: u64, due: u64, now: u64, checker: &mut Checker) {
        match self.last {
            Some(last) if sequence == last + 1 => {}
            Some(last) if sequence <= last => {
                if self.fill(sequence) {
                    checker.tally.disordered += 1;
                } else {
                    checker.tally.duplicated += 1;
                }
                return;
            }
            _ => self.advance(sequence),
        }
        self.last = Some(sequence);
        checker.tally.deliveries += 1;
        checker.latency.record(due, now);
    }

    /// Notes what is jumped over by going on with `sequence`.
    fn advance(&mut self, sequence: u64) {
        if let Some(last) = self.last
            && sequence > last + 1
        {
            self.holes.push((last + 1, sequence - 1));
        }
    }

    /// Whether `sequence` had been jumped over, and is there now.
    fn fill(&mut self, sequence: u64) -> bool {
        let Some(index) = self.holes.iter().position(|(from, to)| (*from..=*to).contains(&sequence)) else {
            return false;
        };
        let (from, to) = self.holes.swap_remove(index);
        if from < sequence {
            self.holes.push((from, sequence - 1));
        }
        if sequence < to {
            self.holes.push((sequence + 1, to));
        }
        true
    }

    /// Finds the place in the journal again, after something that is not in it.
    fn rejoin(&mut self, journal: &Journal) {
        let Some(next) = self.last.and_then(|last| journal.index_after(last)) else { return };
        self.next = next;
        if self.raw.is_empty() {
            return;
        }
        if let Some(entry) = journal.get(next)
            && entry.raw.len() > self.raw.len()
            && entry.raw.starts_with(&self.raw)
        {
            self.matched = self.raw.len();
            self.raw.clear();
        }
    }

    /// Whether all that is known to have been published has been received, or jumped over.
    pub fn is_at(&self, sequence: u64) -> bool {
        self.last.is_some_and(|last| last >= sequence)
    }

    /// Events of this run that this client never got.
    pub fn lost(&self, journal: &Journal) -> u64 {
        let after = self.last.map_or(0, |last| last + 1);
        self.holes
            .iter()
            .copied()
            .chain([(after, journal.newest())])
            .map(|(from, to)| journal.known_between(from, to))
            .sum()
    }
}

fn is_one_block(content: &[u8]) -> bool {
    memchr::memmem::find(content, b"\n\n").is_some_and(|end| end + 2 == content.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(text: &str) -> String {
        format!("{:x}\r\n{text}\r\n", text.len())
    }

    fn hello() -> String {
        chunk("id: 9-0\nevent: system\nretry: 5000\ndata: {\"message\":\"connected\"}\n\n")
    }

    fn event(sequence: u64) -> String {
        let number = sequence + 100;
        chunk(&format!("id: 9-{sequence}\nevent: data\ndata: {{\"due\":0,\"n\":{number},\"pad\":\"\"}}\n\n"))
    }

    fn feed(checker: &mut Checker, stream: &mut Stream, parts: &[String]) {
        for part in parts {
            stream.receive(part.as_bytes(), 0, checker);
        }
    }

    /// A journal with events 1 to `count`, from a client that received all of them.
    fn after(count: u64) -> (Checker, Stream) {
        let mut checker = Checker::default();
        let mut leader = Stream::default();
        feed(&mut checker, &mut leader, &[hello()]);
        feed(&mut checker, &mut leader, &(1..=count).map(event).collect::<Vec<_>>());
        (checker, leader)
    }

    fn judged(parts: &[String]) -> (Tally, u64) {
        let (mut checker, leader) = after(4);
        assert_eq!(leader.lost(&checker.journal), 0);
        let before = checker.tally.deliveries;
        let mut stream = Stream::default();
        feed(&mut checker, &mut stream, parts);
        checker.tally.deliveries -= before;
        let lost = stream.lost(&checker.journal);
        (checker.tally, lost)
    }

    #[test]
    fn a_whole_stream_has_nothing_wrong() {
        let (tally, lost) = judged(&[hello(), event(1), event(2), event(3), event(4)]);
        assert_eq!((tally.deliveries, lost, tally.duplicated, tally.disordered), (4, 0, 0, 0));
    }

    #[test]
    fn a_stream_cut_into_single_bytes_has_nothing_wrong() {
        let all = [hello(), event(1), event(2), event(3), event(4)].concat();
        let parts: Vec<String> = all.chars().map(String::from).collect();
        let (tally, lost) = judged(&parts);
        assert_eq!((tally.deliveries, lost, tally.malformed), (4, 0, 0));
    }

    #[test]
    fn a_skipped_event_is_lost() {
        let (tally, lost) = judged(&[hello(), event(1), event(3), event(4)]);
        assert_eq!((tally.deliveries, lost, tally.duplicated, tally.disordered), (3, 1, 0, 0));
    }

    #[test]
    fn events_missing_at_the_end_are_lost() {
        let (tally, lost) = judged(&[hello(), event(1), event(2)]);
        assert_eq!((tally.deliveries, lost), (2, 2));
    }

    #[test]
    fn events_missing_at_the_start_are_lost() {
        let (tally, lost) = judged(&[hello(), event(4)]);
        assert_eq!((tally.deliveries, lost), (1, 3));
    }

    #[test]
    fn an_event_twice_is_a_duplicate() {
        let (tally, lost) = judged(&[hello(), event(1), event(2), event(2), event(3), event(4)]);
        assert_eq!((tally.deliveries, lost, tally.duplicated, tally.disordered), (4, 0, 1, 0));
    }

    #[test]
    fn a_late_event_is_disordered_and_not_lost() {
        let (tally, lost) = judged(&[hello(), event(1), event(3), event(2), event(4)]);
        assert_eq!((lost, tally.duplicated, tally.disordered), (0, 0, 1));
    }

    #[test]
    fn a_gap_is_counted_and_so_is_what_it_hides() {
        let gap = chunk("id: 9-2\nevent: gap\ndata: {\"reason\":\"lagged\"}\n\n");
        let (tally, lost) = judged(&[hello(), gap, event(3), event(4)]);
        assert_eq!((tally.gaps, tally.deliveries, lost), (1, 2, 2));
    }

    #[test]
    fn keep_alives_between_and_inside_of_reads_change_nothing() {
        let beat = chunk("event: heartbeat\ndata: {\"timestamp\":1,\"clients\":2}\n\n");
        let quiet = chunk(":\n\n");
        let mixed = [event(1), quiet, event(2), beat, event(3), event(4)].concat();
        let (front, back) = mixed.split_at(mixed.len() / 2);
        let (tally, lost) = judged(&[hello(), front.to_owned(), back.to_owned()]);
        assert_eq!((tally.deliveries, lost, tally.comments, tally.heartbeats), (4, 0, 1, 1));
        assert_eq!(tally.malformed, 0);
    }

    #[test]
    fn blocks_that_are_not_framed_one_to_a_chunk_are_read_too() {
        let text = |sequence: u64| {
            let event = event(sequence);
            event[event.find('\n').expect("a size line") + 1..event.len() - 2].to_owned()
        };
        let all = [text(1), text(2), text(3), text(4)].concat();
        let (front, back) = all.split_at(70);
        let (tally, lost) = judged(&[hello(), chunk(front), chunk(back)]);
        assert_eq!((tally.deliveries, lost, tally.malformed), (4, 0, 0));
    }

    #[test]
    fn other_data_under_a_known_id_contradicts() {
        let (mut checker, _) = after(2);
        let mut stream = Stream::default();
        let wrong = event(2).replace("\"n\":102", "\"n\":103");
        feed(&mut checker, &mut stream, &[hello(), event(1), wrong]);
        assert_eq!(checker.journal.contradictions, 1);
    }

    #[test]
    fn an_event_that_only_its_publisher_knows_of_is_lost() {
        let (mut checker, leader) = after(2);
        checker.journal.learn(3, 103);
        assert_eq!(leader.lost(&checker.journal), 1);
        assert!(!leader.is_at(checker.journal.newest()));
    }

    #[test]
    fn another_epoch_is_a_gap() {
        let (tally, _) = judged(&[hello(), event(1), event(2).replace("id: 9-", "id: 8-")]);
        assert_eq!(tally.gaps, 1);
    }
}

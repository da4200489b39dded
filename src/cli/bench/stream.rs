//! What one subscriber has received, checked as it comes.
//!
//! Bytes that are those of the [journal](super::journal) are compared with it; all else is taken out of its chunks, cut
//! into blocks and searched for [markers](super::marker). Neither allocates for an event that others had before.

use memchr::{memchr, memchr_iter};

use super::http::Chunk;
use super::id::EventId;
use super::journal::{Journal, Known};
use super::latency::Latency;
use super::ledger::{Arrival, Ledger};
use super::marker::{Mark, Marker};

/// A chunk that is longer is taken in before it is complete.
const LONG_CHUNK: usize = 64 * 1024;
/// A block that goes on for longer is none.
const LONGEST_BLOCK: usize = 32 << 20;

/// What was wrong with the streams, and how much was right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub deliveries: u64,
    pub duplicated: u64,
    pub out_of_order: u64,
    /// Events whose id `<number>-<number>` is not greater than that of the event before: with such ids a server promises
    /// one order of all events, of whatever publisher.
    pub ids_out_of_order: u64,
    /// `event: gap`: the server says that a stream misses something.
    pub gaps: u64,
    /// Payloads that are not as they were sent, and events of topics that the stream has not asked for.
    pub corrupted: u64,
    /// Bytes that are no chunk, or no block.
    pub malformed: u64,
    pub heartbeats: u64,
    pub comments: u64,
    /// Events that are not of this run.
    pub foreign: u64,
}

/// Shared by all streams.
pub struct Checker {
    pub marker: Marker,
    pub tally: Tally,
    pub latency: Latency,
    /// From when an event was due until the last of its group had it.
    pub last_client: Latency,
    pub publishers: usize,
}

/// Shared by the streams with the same topics.
pub struct GroupState {
    /// Sorted.
    pub topics: Box<[u32]>,
    /// Streams that are open.
    pub members: u32,
    /// Only where there is somebody to compare with.
    pub journal: Option<Journal>,
}

impl GroupState {
    fn line(&self, mark: Mark, publishers: usize) -> Option<u32> {
        let place = self.topics.binary_search(&mark.topic).ok()?;
        ((mark.publisher as usize) < publishers).then(|| (place * publishers) as u32 + mark.publisher)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Framing {
    /// No chunks: the body ends with the connection.
    #[default]
    Plain,
    /// Between chunks.
    Chunks,
    /// So much of a long chunk, with its line end, is still to come.
    Within(usize),
}

/// The state of one response body.
#[derive(Default)]
pub struct Stream {
    framing: Framing,
    /// Index into the journal: what is likely to come next.
    next: u64,
    /// Bytes that make no whole chunk, or without chunks no whole block, yet.
    pending: Vec<u8>,
    /// Content of chunks that makes no whole block yet.
    text: Vec<u8>,
    pub ledger: Ledger,
    /// The id of the newest event.
    last_id: EventId,
    /// The body came to its end, or to something that cannot be read on.
    pub ended: bool,
}

impl Stream {
    pub fn new(lines: usize) -> Self {
        Self { ledger: Ledger::new(lines), ..Self::default() }
    }

    /// Says how the body is framed, before the first of its bytes.
    pub fn begin(&mut self, chunked: bool) {
        self.framing = if chunked { Framing::Chunks } else { Framing::Plain };
    }

    /// Puts what is pending at the start of a buffer, for the next bytes to be read behind it.
    pub fn restore(&mut self, buffer: &mut [u8]) -> usize {
        let length = self.pending.len();
        buffer[..length].copy_from_slice(&self.pending);
        self.pending.clear();
        length
    }

    /// Keeps what was restored: there was nothing to read behind it.
    pub fn keep(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Checks `bytes`, which are what was pending and what was received at `now`.
    pub fn receive(&mut self, bytes: &[u8], now: u64, group: &mut GroupState, checker: &mut Checker) {
        let mut at = 0;
        while at < bytes.len() && !self.ended {
            if self.text.is_empty() && !matches!(self.framing, Framing::Within(_)) {
                at += self.compare(&bytes[at..], now, group, checker);
            }
            match self.parse(&bytes[at..], now, group, checker) {
                0 => break,
                length => at += length,
            }
        }
        if at < bytes.len() && !self.ended {
            self.keep(&bytes[at..]);
        }
    }

    /// Follows the journal for as long as the bytes are the same; gives how many were.
    #[inline]
    fn compare(&mut self, bytes: &[u8], now: u64, group: &mut GroupState, checker: &mut Checker) -> usize {
        let Some(journal) = &mut group.journal else { return 0 };
        let mut at = 0;
        while let Some(entry) = journal.get(self.next)
            && bytes[at..].starts_with(&entry.raw)
        {
            at += entry.raw.len();
            self.next += 1;
            let known = entry.known;
            entry.reached += 1;
            if entry.reached == group.members {
                checker.last_client.record(known.due, now);
            }
            self.deliver(known, now, checker);
        }
        at
    }

    /// Takes in one chunk, or all whole blocks of a body without chunks; gives the length, 0 when more is needed.
    fn parse(&mut self, bytes: &[u8], now: u64, group: &mut GroupState, checker: &mut Checker) -> usize {
        match self.framing {
            Framing::Plain => {
                let in_place = self.text.is_empty();
                let whole = if in_place { self.blocks_of(bytes, true, now, group, checker) } else { 0 };
                if !in_place || (whole == 0 && bytes.len() > LONG_CHUNK) {
                    self.content(bytes, None, now, group, checker);
                    return bytes.len();
                }
                whole
            }
            Framing::Within(left) => {
                let length = left.min(bytes.len());
                let content = length.min(left.saturating_sub(2));
                self.content(&bytes[..content], None, now, group, checker);
                self.framing = if length == left { Framing::Chunks } else { Framing::Within(left - length) };
                length
            }
            Framing::Chunks => match Chunk::parse(bytes) {
                Chunk::Whole { length: 0, .. } => {
                    self.ended = true;
                    bytes.len()
                }
                Chunk::Whole { start, length } => {
                    let end = start + length + 2;
                    self.content(&bytes[start..start + length], Some(&bytes[..end]), now, group, checker);
                    end
                }
                Chunk::Partial { start, length } if bytes.len() > LONG_CHUNK => {
                    self.framing = Framing::Within(length + 2);
                    start
                }
                Chunk::Incomplete | Chunk::Partial { .. } => 0,
                Chunk::Malformed => {
                    checker.tally.malformed += 1;
                    self.ended = true;
                    bytes.len()
                }
            },
        }
    }

    /// Takes in content; `raw` is the chunk that it is the whole of.
    fn content(&mut self, text: &[u8], raw: Option<&[u8]>, now: u64, group: &mut GroupState, checker: &mut Checker) {
        if self.text.is_empty() {
            if let Some(raw) = raw
                && block_end(text) == Some(text.len())
            {
                self.block(text, Some(raw), now, group, checker);
                return;
            }
            let whole = self.blocks_of(text, false, now, group, checker);
            self.text.extend_from_slice(&text[whole..]);
        } else {
            let mut all = std::mem::take(&mut self.text);
            all.extend_from_slice(text);
            let whole = self.blocks_of(&all, false, now, group, checker);
            all.drain(..whole);
            self.text = all;
        }
        if self.text.len() > LONGEST_BLOCK {
            checker.tally.malformed += 1;
            self.ended = true;
        }
    }

    /// Takes in the whole blocks at the start of `text`; gives their length. Where they are `raw` they are kept.
    fn blocks_of(&mut self, text: &[u8], raw: bool, now: u64, group: &mut GroupState, checker: &mut Checker) -> usize {
        let mut at = 0;
        while let Some(length) = block_end(&text[at..]) {
            let block = &text[at..at + length];
            self.block(block, raw.then_some(block), now, group, checker);
            at += length;
        }
        at
    }

    fn block(&mut self, text: &[u8], raw: Option<&[u8]>, now: u64, group: &mut GroupState, checker: &mut Checker) {
        let Some((first, end)) = checker.marker.find(text) else { return count_other(text, &mut checker.tally) };
        let mut rest = &text[end..];
        let mut following = checker.marker.find(rest);
        let raw = if following.is_none() { raw } else { None };
        self.payload(first.ok(), EventId::of(text), raw, now, group, checker);
        // A server may put several payloads into one event.
        while let Some((payload, end)) = following {
            self.payload(payload.ok(), EventId::NONE, None, now, group, checker);
            rest = &rest[end..];
            following = checker.marker.find(rest);
        }
    }

    fn payload(
        &mut self,
        mark: Option<Mark>,
        id: EventId,
        raw: Option<&[u8]>,
        now: u64,
        group: &mut GroupState,
        checker: &mut Checker,
    ) {
        let line = mark.and_then(|mark| Some((mark, group.line(mark, checker.publishers)?)));
        let Some((mark, line)) = line else {
            checker.tally.corrupted += 1;
            return;
        };
        let known = Known { line, number: mark.number, due: mark.due, id };
        if let Some(journal) = &mut group.journal {
            let (next, entry) = journal.note(self.next, known, raw);
            self.next = next;
            if let Some(entry) = entry {
                entry.reached += 1;
                if entry.reached == group.members {
                    checker.last_client.record(known.due, now);
                }
            }
        }
        self.deliver(known, now, checker);
    }

    #[inline]
    fn deliver(&mut self, known: Known, now: u64, checker: &mut Checker) {
        let tally = &mut checker.tally;
        match self.ledger.receive(known.line as usize, known.number) {
            Arrival::Forward if known.id == EventId::NONE => {}
            Arrival::Forward => {
                tally.ids_out_of_order += u64::from(known.id <= self.last_id);
                self.last_id = known.id;
            }
            Arrival::Late => tally.out_of_order += 1,
            Arrival::Again => {
                tally.duplicated += 1;
                return;
            }
        }
        tally.deliveries += 1;
        checker.latency.record(known.due, now);
    }
}

/// Where the first block of `text` ends, behind its blank line: lines end with LF or CRLF.
fn block_end(text: &[u8]) -> Option<usize> {
    memchr_iter(b'\n', text).find_map(|at| match &text[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// Counts a block without a payload of this run.
fn count_other(text: &[u8], tally: &mut Tally) {
    let mut name = None;
    let mut has_data = false;
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (field, value) = line.split_at(memchr(b':', line).unwrap_or(line.len()));
        match field {
            b"event" => name = Some(value.trim_ascii_start().strip_prefix(b":").unwrap_or(value).trim_ascii()),
            b"data" => has_data = true,
            _ => {}
        }
    }
    match name {
        Some(b"gap") => tally.gaps += 1,
        Some(b"heartbeat") => tally.heartbeats += 1,
        _ if has_data => tally.foreign += 1,
        _ => tally.comments += 1,
    }
}

#[cfg(test)]
mod tests;

//! Checks what one subscriber receives, as it arrives.
//!
//! Blocks and chunks that equal those of the [journal](super::journal) are only compared. All others are searched for
//! [markers](super::marker). Neither allocates for an event that another subscriber received before.

use memchr::memchr_iter;
use serde::Serialize;

use super::http::{Body, Malformed};
use super::journal::{Entry, EventId, Known};
use super::latency::Latency;
use super::ledger::{Arrival, Ledger};
use super::marker::{Mark, Marker};
use super::topics::Group;

/// The longest block of an event stream.
const MAX_BLOCK: usize = 32 << 20;

/// What all streams together received. Names are those of the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub deliveries: u64,
    pub duplicated: u64,
    pub out_of_order: u64,
    /// Events whose id `<number>-<number>` is not greater than that of the event before. Such ids promise one order of
    /// all events.
    pub ids_out_of_order: u64,
    /// `event: gap`: the server reports that a stream misses events.
    pub gaps: u64,
    /// Payloads that were changed, and events of topics without a subscription.
    pub corrupted: u64,
    /// Invalid chunks and endless blocks.
    pub malformed: u64,
    pub heartbeats: u64,
    pub comments: u64,
    /// Events of other publishers or runs.
    pub foreign: u64,
}

/// Shared by all streams.
pub struct Checker {
    pub marker: Marker,
    pub tally: Tally,
    pub latency: Latency,
    /// From when an event was due until the last subscriber of its group received it.
    pub last_client: Latency,
    pub publishers: usize,
}

/// What a stream needs to check the bytes of one read.
pub struct Context<'a> {
    /// When the bytes arrived.
    pub now: u64,
    pub group: &'a mut Group,
    pub checker: &'a mut Checker,
}

impl Context<'_> {
    /// Counts one more subscriber that has the event of a journal entry.
    #[inline]
    fn reached(entry: &mut Entry, open: u32, checker: &mut Checker, now: u64) {
        entry.reached += 1;
        if entry.reached == open {
            checker.last_client.record(entry.known.due, now);
        }
    }
}

/// One event stream.
pub struct Stream {
    body: Body,
    /// The beginning of an incomplete block.
    text: Vec<u8>,
    /// Index into the journal of the block that probably comes next.
    next: u64,
    pub ledger: Ledger,
    /// The id of the newest event.
    last_id: EventId,
}

impl Stream {
    /// A stream that receives events of this many lanes.
    pub fn new(body: Body, lanes: usize) -> Self {
        Self { body, text: Vec::new(), next: 0, ledger: Ledger::new(lanes), last_id: None }
    }

    /// Checks the next `bytes` of the body. The error is the reason why the stream ended.
    pub fn receive(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), &'static str> {
        match self.check(bytes, cx) {
            Ok(()) if self.body.is_ended() => Err("the server ended the stream"),
            Ok(()) => Ok(()),
            Err(Malformed) => {
                cx.checker.tally.malformed += 1;
                Err("malformed chunk or endless event")
            }
        }
    }

    fn check(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Malformed> {
        let received = self.body.resume(bytes);
        let mut bytes = &received[..];
        loop {
            if self.text.is_empty() && self.body.is_between_chunks() {
                bytes = &bytes[self.known(bytes, Entry::chunk, cx)..];
            }
            let Some(content) = self.body.step(&mut bytes)? else { return Ok(()) };
            self.content(content, cx);
            if self.text.len() > MAX_BLOCK {
                return Err(Malformed);
            }
        }
    }

    fn content(&mut self, content: &[u8], cx: &mut Context<'_>) {
        if self.text.is_empty() {
            let complete = self.complete_blocks(content, cx);
            self.text.extend_from_slice(&content[complete..]);
        } else if !content.is_empty() {
            let mut text = std::mem::take(&mut self.text);
            text.extend_from_slice(content);
            let complete = self.complete_blocks(&text, cx);
            text.drain(..complete);
            self.text = text;
        }
    }

    /// Checks the complete blocks at the start of `text` and returns their length.
    fn complete_blocks(&mut self, text: &[u8], cx: &mut Context<'_>) -> usize {
        let mut at = 0;
        loop {
            at += self.known(&text[at..], Entry::block, cx);
            let Some(length) = block_end(&text[at..]) else { return at };
            self.block(&text[at..at + length], cx);
            at += length;
        }
    }

    /// Follows the journal while `bytes` are the `form` of its entries. Returns their length.
    #[inline]
    fn known(&mut self, bytes: &[u8], form: impl Fn(&Entry) -> &[u8], cx: &mut Context<'_>) -> usize {
        let Some(journal) = &mut cx.group.journal else { return 0 };
        let mut at = 0;
        while let Some(entry) = journal.get(self.next)
            && bytes[at..].starts_with(form(entry))
        {
            at += form(entry).len();
            self.next += 1;
            Context::reached(entry, cx.group.members, cx.checker, cx.now);
            self.deliver(entry.known, cx.now, cx.checker);
        }
        at
    }

    fn block(&mut self, text: &[u8], cx: &mut Context<'_>) {
        let Some((mark, end)) = cx.checker.marker.find(text) else { return cx.checker.tally.count_other(text) };
        let mut rest = &text[end..];
        let mut following = cx.checker.marker.find(rest);
        let block = following.is_none().then_some(text);
        self.payload(mark, event_id(text), block, cx);
        // A server may put several payloads into one event.
        while let Some((mark, end)) = following {
            self.payload(mark, None, None, cx);
            rest = &rest[end..];
            following = cx.checker.marker.find(rest);
        }
    }

    /// Checks one payload; `block` is the block that has no other.
    fn payload(&mut self, mark: Option<Mark>, id: EventId, block: Option<&[u8]>, cx: &mut Context<'_>) {
        let lane = mark.and_then(|mark| Some((mark, cx.group.lane(mark, cx.checker.publishers)?)));
        let Some((mark, lane)) = lane else {
            cx.checker.tally.corrupted += 1;
            return;
        };
        let known = Known { lane, number: mark.number, due: mark.due, id };
        if let Some(journal) = &mut cx.group.journal {
            let (next, entry) = journal.note(self.next, known, block);
            self.next = next;
            if let Some(entry) = entry {
                Context::reached(entry, cx.group.members, cx.checker, cx.now);
            }
        }
        self.deliver(known, cx.now, cx.checker);
    }

    #[inline]
    fn deliver(&mut self, known: Known, now: u64, checker: &mut Checker) {
        let tally = &mut checker.tally;
        match self.ledger.receive(known.lane as usize, known.number) {
            Arrival::Forward if known.id.is_none() => {}
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

/// Where the first block of `text` ends, after its blank line. Lines end with LF or CRLF.
fn block_end(text: &[u8]) -> Option<usize> {
    memchr_iter(b'\n', text).find_map(|at| match &text[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// The id of a block, if it has the form `<number>-<number>`, as those of fanline and of Redis streams.
fn event_id(block: &[u8]) -> EventId {
    let id = block.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"id:"))?;
    let (first, second) = str::from_utf8(id).ok()?.trim().split_once('-')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

impl Tally {
    /// Counts a block without a payload of this run.
    fn count_other(&mut self, text: &[u8]) {
        let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        match lines.clone().find_map(|line| line.strip_prefix(b"event:")).map(<[u8]>::trim_ascii_start) {
            Some(b"gap") => self.gaps += 1,
            Some(b"heartbeat") => self.heartbeats += 1,
            _ if lines.any(|line| line.starts_with(b"data")) => self.foreign += 1,
            _ => self.comments += 1,
        }
    }
}

#[cfg(test)]
mod tests;

//! Checks what one subscriber receives, as it arrives.
//!
//! Blocks and chunks that equal those of the [journal](super::journal) are only compared. All others are searched for
//! [markers](super::marker). Neither allocates for an event that another subscriber received before.

use std::borrow::Cow;

use serde::Serialize;

use super::http::Body;
use super::journal::{Entry, EventId, Known};
use super::latency::Latency;
use super::ledger::{Arrival, Ledger};
use super::marker::{Mark, Marker};
use super::syntax::{Kind, Syntax};
use super::topics::Group;
use crate::cli::gunzip::Gunzip;

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
    /// Invalid chunks, gzip and frames, and endless blocks.
    pub malformed: u64,
    pub heartbeats: u64,
    /// With pings and pongs of WebSocket.
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
    /// What the bytes of compressed streams decoded to.
    pub decoded_bytes: u64,
    /// Room for the decoded bytes of one piece.
    pub plain: Vec<u8>,
    pub lanes_per_place: usize,
    /// Whether streams have only the newest event of each lane.
    pub is_conflated: bool,
}

impl Checker {
    /// The ledger of a subscriber of so many `places`.
    pub fn ledger(&self, places: usize) -> Ledger {
        let lanes = places * self.lanes_per_place;
        if self.is_conflated { Ledger::conflated(lanes) } else { Ledger::new(lanes) }
    }
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
    syntax: Syntax,
    /// The decoder of a compressed body.
    gunzip: Option<Box<Gunzip>>,
    /// The beginning of an incomplete block.
    text: Vec<u8>,
    /// Index into the journal of the block that probably comes next.
    next: u64,
    pub ledger: Ledger,
    /// The id of the newest event.
    last_id: EventId,
    /// What the server wants now, if it is more than to send events.
    control: Option<Control>,
}

/// The newest control frame of a WebSocket connection that requires something.
enum Control {
    Ping(Vec<u8>),
    Close(String),
}

impl Stream {
    /// A stream that notes what it receives in `ledger`.
    pub fn new(body: Body, syntax: Syntax, ledger: Ledger) -> Self {
        Self { body, syntax, gunzip: None, text: Vec::new(), next: 0, ledger, last_id: None, control: None }
    }

    /// The same stream with a compressed body, if it `is_compressed`.
    pub fn gunzip(self, is_compressed: bool) -> Self {
        Self { gunzip: is_compressed.then(|| Box::new(Gunzip::new())), ..self }
    }

    pub fn is_compressed(&self) -> bool {
        self.gunzip.is_some()
    }

    /// Checks the next `bytes` of the body. The error is the reason why the stream ended.
    pub fn receive(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), Cow<'static, str>> {
        if let Err(why) = self.check(bytes, cx) {
            cx.checker.tally.malformed += 1;
            return Err(why.into());
        }
        match &self.control {
            Some(Control::Close(why)) => Err(why.clone().into()),
            _ if self.body.is_ended() => Err("the server ended the stream".into()),
            _ => Ok(()),
        }
    }

    /// The payload of the last ping, unless it was answered.
    pub fn take_ping(&mut self) -> Option<Vec<u8>> {
        match self.control.take_if(|control| matches!(control, Control::Ping(_)))? {
            Control::Ping(payload) => Some(payload),
            Control::Close(_) => None,
        }
    }

    fn check(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<(), &'static str> {
        let received = self.body.resume(bytes);
        let mut bytes = &received[..];
        loop {
            if self.text.is_empty() && self.gunzip.is_none() && self.body.is_between_chunks() {
                bytes = &bytes[self.known(bytes, Entry::chunk, cx)..];
            }
            let Some(content) = self.body.step(&mut bytes).map_err(|_| "malformed chunk")? else { return Ok(()) };
            self.coded(content, cx)?;
            if self.text.len() > MAX_BLOCK {
                return Err("an endless event");
            }
        }
    }

    /// Checks a piece of the body, which may be compressed.
    fn coded(&mut self, content: &[u8], cx: &mut Context<'_>) -> Result<(), &'static str> {
        let Some(gunzip) = &mut self.gunzip else { return self.content(content, cx) };
        let mut plain = std::mem::take(&mut cx.checker.plain);
        let decoded = gunzip.decode(content, &mut plain).map_err(|_| "invalid gzip");
        cx.checker.decoded_bytes += plain.len() as u64;
        let checked = self.content(&plain, cx);
        plain.clear();
        cx.checker.plain = plain;
        checked.and(decoded)
    }

    fn content(&mut self, content: &[u8], cx: &mut Context<'_>) -> Result<(), &'static str> {
        if self.text.is_empty() {
            let complete = self.complete_blocks(content, cx)?;
            self.text.extend_from_slice(&content[complete..]);
        } else if !content.is_empty() {
            let mut text = std::mem::take(&mut self.text);
            text.extend_from_slice(content);
            let complete = self.complete_blocks(&text, cx)?;
            text.drain(..complete);
            self.text = text;
        }
        Ok(())
    }

    /// Checks the complete blocks at the start of `text` and returns their length.
    fn complete_blocks(&mut self, text: &[u8], cx: &mut Context<'_>) -> Result<usize, &'static str> {
        let mut at = 0;
        loop {
            at += self.known(&text[at..], Entry::block, cx);
            let Some(length) = self.syntax.first_block(&text[at..])? else { return Ok(at) };
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
        let Some((mark, end)) = cx.checker.marker.find(text) else { return self.other(text, &mut cx.checker.tally) };
        let mut rest = &text[end..];
        let mut following = cx.checker.marker.find(rest);
        let block = following.is_none().then_some(text);
        self.payload(mark, self.syntax.event_id(text), block, cx);
        // A server may put several payloads into one event.
        while let Some((mark, end)) = following {
            self.payload(mark, None, None, cx);
            rest = &rest[end..];
            following = cx.checker.marker.find(rest);
        }
    }

    /// Counts a block without a payload of this run.
    fn other(&mut self, block: &[u8], tally: &mut Tally) {
        match self.syntax.kind(block) {
            Kind::Gap => tally.gaps += 1,
            Kind::Heartbeat => tally.heartbeats += 1,
            Kind::Comment => tally.comments += 1,
            Kind::Foreign => tally.foreign += 1,
            Kind::Snapshot => {}
            Kind::Ping(payload) => {
                tally.comments += 1;
                self.control = Some(Control::Ping(payload));
            }
            Kind::Close(why) => self.control = Some(Control::Close(why)),
        }
    }

    /// Checks one payload; `block` is the block that has no other.
    fn payload(&mut self, mark: Option<Mark>, id: EventId, block: Option<&[u8]>, cx: &mut Context<'_>) {
        let lane = mark.and_then(|mark| Some((mark, cx.group.lane(mark, cx.checker.lanes_per_place)?)));
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

#[cfg(test)]
mod tests;

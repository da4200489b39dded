//! Judges what clients were sent. It knows the promise, and nothing of the implementation.
//!
//! # The promise
//!
//! An id names one event, for ever. A client that follows the rules of `EventSource` gets every event of its filters
//! after its position, once, with rising sequences, or a gap whose range and filters cover what it does not get.
//!
//! # Why a forked history needs no exception
//!
//! A failover or a lost tail forks the order: some clients saw `E-100` to `E-150` on a branch that did not survive, and
//! other clients never do. The union of the branches (see [`Order`]) is still one order, because no id names two events: a
//! server that continues behind a fork does so in a new epoch. Every reader that crosses the fork is sent a gap from its own position, whichever branch that is on, up to
//! where the surviving branch continues. So for each client and each step from one position to the next, every event of
//! the union that is in between, matches the filters, and was not delivered must lie in a gap of that connection.
//! Events of a lost branch are not an exception to this, but an instance of it. What differs between a fork and a
//! healthy stream is only which reasons a gap may have ([`Terms::reasons`](crate::log::Terms)).
//!
//! # Why a life is judged by what was delivered
//!
//! A client's life is one subscription over many connections. The checker remembers the last position that the client
//! was sent. What the client names when it comes back is decided by the parser alone; a stream that makes the parser
//! forget its id, or that continues elsewhere, shows as events that are missing between two connections.
//!
//! A gap that names some of the filters may reach beyond the position at which the stream continues. It holds for its
//! connection only: a client that is cut before the end of the gap gets the rest, as events or as another gap.

mod gap;

use crate::filter::{belongs, takes};
use crate::id::Id;
use crate::log::{Content, End, Line, Recording, Start};
use crate::order::Order;
use crate::violation::Violation;

/// Judges all clients.
pub fn judge(recording: &Recording, order: &Order, violations: &mut Vec<Violation>) {
    for client in 0..recording.clients.len() {
        Judge::new(recording, order, client, violations).run();
    }
}

struct Judge<'a> {
    recording: &'a Recording,
    order: &'a Order,
    violations: &'a mut Vec<Violation>,
    client: usize,
    line: usize,
    filters: &'a [String],
    /// For each topic whether the client gets it.
    takes: Vec<bool>,
    closes_on_lag: bool,
    start: &'a Start,
    /// The last position of this life.
    have: Option<Id>,
    /// The last event id by the rules of `EventSource`.
    last_id: Option<Id>,
    /// Why a gap has to come before any event.
    owed: Option<&'static str>,
    /// A made-up id was not reported yet.
    is_made_up: bool,
    has_hello: bool,
    /// The server said that it would close the stream.
    has_farewell: bool,
    /// The id that this connection asked for.
    asked: Option<&'a str>,
    /// Gaps of this connection: no event is delivered in them.
    gaps: Vec<Covered<'a>>,
    /// Where this life was in the log.
    begin: usize,
}

/// The events of `topics` after `from` up to `to`.
struct Covered<'a> {
    from: Id,
    to: u64,
    topics: &'a [String],
}

impl<'a> Judge<'a> {
    fn new(recording: &'a Recording, order: &'a Order, client: usize, violations: &'a mut Vec<Violation>) -> Self {
        Self {
            recording,
            order,
            violations,
            client,
            line: 0,
            filters: &[],
            takes: Vec::new(),
            closes_on_lag: false,
            start: &Start::Live,
            have: None,
            last_id: None,
            owed: None,
            is_made_up: false,
            has_hello: false,
            has_farewell: false,
            asked: None,
            gaps: Vec::new(),
            begin: 0,
        }
    }

    fn run(mut self) {
        let recording = self.recording;
        for (number, (_, line)) in recording.clients[self.client].iter().enumerate() {
            self.line = number;
            match line {
                Line::Begin { filters, start, closes_on_lag, .. } => self.begin(filters, start, *closes_on_lag),
                Line::Connect { sent, .. } => self.connect(sent.as_deref()),
                Line::Refused { status } => {
                    if *status != 503 {
                        self.report("refused", None, format!("the stream was refused with {status}"));
                    }
                }
                Line::Hello { id, position } => self.hello(*id, *position),
                Line::Event { id, content } => self.event(*id, *content),
                Line::Gap(gap) => self.gap(gap),
                Line::Said { id, text } => {
                    self.has_farewell |= text.contains("restarting");
                    if let Some(id) = id {
                        self.advance(*id);
                    }
                }
                Line::Odd(text) => self.report("odd", None, text.clone()),
                Line::End(end) => self.end(end),
            }
        }
    }

    fn report(&mut self, rule: &'static str, id: Option<Id>, text: String) {
        self.violations.push(Violation::of_client(rule, self.client, self.line, id, text));
    }

    fn begin(&mut self, filters: &'a [String], start: &'a Start, closes_on_lag: bool) {
        let topics = self.recording.contents.topics();
        self.takes = topics.iter().map(|topic| takes(filters, topic)).collect();
        (self.filters, self.start, self.closes_on_lag) = (filters, start, closes_on_lag);
        (self.have, self.last_id, self.owed, self.begin) = (None, None, None, self.line);
        self.is_made_up = matches!(start, Start::MadeUp(_));
    }

    fn connect(&mut self, sent: Option<&'a str>) {
        self.asked = sent;
        (self.has_hello, self.has_farewell) = (false, false);
        self.gaps.clear();
    }

    fn hello(&mut self, id: Option<Id>, position: Option<Id>) {
        if std::mem::replace(&mut self.has_hello, true) {
            self.report("hello-twice", id, "a second hello".to_owned());
        }
        let Some(there) = id else {
            self.report("hello-without-id", self.have, "the hello has no id".to_owned());
            self.last_id = None;
            self.owed = Some("the hello has no position");
            return;
        };
        let asked = self.asked.filter(|&asked| asked != "earliest");
        let is_first = self.have.is_none() && !self.is_made_up;
        if let Some(position) = position.filter(|&position| position != there) {
            self.report("hello-position", id, format!("the hello has the id {there}, and names {position}"));
        }
        match (asked.and_then(Id::parse), position) {
            _ if self.is_made_up => {
                if position.is_some() && !self.is_plausible(asked) {
                    self.report("made-up-id", id, format!("{asked:?} was never given, and the hello accepts it"));
                }
                self.owed = Some("the client asked for an id that was never given");
            }
            (Some(asked), Some(position)) if asked != position => {
                self.report(
                    "hello-elsewhere",
                    id,
                    format!("the client asked for {asked}, and the hello names {there}"),
                );
            }
            (_, Some(_)) if is_first => {}
            // Also after a hello of another server that owed a gap: this one may continue on a branch that the other one
            // has left. What it does not deliver is found missing by its ids.
            (_, Some(_)) => self.owed = None,
            (Some(asked), None) => {
                self.owed = Some("the hello has no position");
                if asked != there && !there.is_nowhere() {
                    self.report("hello-elsewhere", id, format!("asked for {asked}, and the hello has the id {there}"));
                }
            }
            (None, None) => {
                self.owed = Some("the hello has no position");
                self.report("hello-position", id, "a hello without a position, and no id was asked for".to_owned());
            }
        }
        self.last_id = id;
        if position.is_some() && !self.is_made_up {
            match self.have {
                // The client had an id and lost it: what is in between is missing.
                Some(have) if have != there => self.advance(there),
                _ => self.have = Some(there),
            }
        }
    }

    /// Whether a made-up id is in the epoch of something known: a server may then know better, and says so with a gap.
    fn is_plausible(&self, asked: Option<&str>) -> bool {
        asked
            .and_then(Id::parse)
            .is_some_and(|asked| self.order.between(Id::new(asked.epoch, 0), u64::MAX).next().is_some())
    }

    fn event(&mut self, id: Id, content: Content) {
        if !self.has_hello {
            self.report("no-hello", Some(id), format!("{id} came before a hello"));
        }
        if !self.takes.get(self.recording.contents.topic_number(content)).is_some_and(|takes| *takes) {
            self.report("not-asked-for", Some(id), format!("{id} is of none of the client's filters"));
        }
        if let Some(why) = self.owed.take() {
            self.report("gap-omitted", Some(id), format!("{id} came without a gap before it: {why}"));
            (self.is_made_up, self.have) = (false, None);
        }
        let topic = self.recording.contents.topic(content);
        if self.is_covered(id, topic) {
            self.report("gap-of-delivered", Some(id), format!("{id} was delivered after a gap that covers it"));
        }
        if let Some(have) = self.have.filter(|have| have.epoch == id.epoch && have.sequence >= id.sequence) {
            let (rule, how) = if self.was_sent(id) { ("repeated", "again") } else { ("order", "out of order") };
            self.report(rule, Some(id), format!("{id} was delivered {how}: the client was at {have}"));
            self.last_id = Some(id);
            return;
        }
        self.step(id, false);
    }

    /// Whether this life has had the event already, on this connection or another.
    fn was_sent(&self, id: Id) -> bool {
        let lines = &self.recording.clients[self.client][self.begin..self.line];
        lines.iter().any(|(_, line)| matches!(line, Line::Event { id: there, .. } if *there == id))
    }

    /// The client is at `id` without having been sent an event there.
    fn advance(&mut self, id: Id) {
        if let Some(have) = self.have
            && have.epoch == id.epoch
            && have.sequence > id.sequence
        {
            self.report("order", Some(id), format!("the stream is at {id}, and the client was at {have}"));
            self.last_id = Some(id);
            return;
        }
        self.step(id, true);
    }

    /// From the last position to `id`: nothing may be missing in between.
    fn step(&mut self, id: Id, includes_end: bool) {
        let before = self.have.replace(id);
        self.last_id = Some(id);
        let Some(before) = before else { return };
        if before.epoch != id.epoch {
            let text = format!("from {before} to {id} without a gap: another epoch");
            self.report("epoch-without-gap", Some(id), text);
            return;
        }
        self.nothing_missing(before, if includes_end { id.sequence } else { id.sequence.saturating_sub(1) });
    }

    fn nothing_missing(&mut self, after: Id, to: u64) {
        let order = self.order;
        let missing = |(id, content): &(Id, Content)| {
            self.takes[order.topic_number(*content)] && !self.is_covered(*id, self.recording.contents.topic(*content))
        };
        let mut missing = order.between(after, to).filter(missing);
        if let Some((first, content)) = missing.next() {
            let more = missing.count();
            let text = format!(
                "{first} ({}) was not delivered, and no gap covers it: the stream went from {after} beyond {to}; {more} more are missing",
                self.recording.contents.shown(content)
            );
            self.report("missing", Some(first), text);
        }
    }

    fn is_covered(&self, id: Id, topic: &str) -> bool {
        self.gaps.iter().any(|gap| {
            gap.from.epoch == id.epoch
                && (gap.from.sequence < id.sequence || gap.from.sequence == 0)
                && id.sequence <= gap.to
                && (gap.topics.is_empty() || belongs(topic, gap.topics, self.filters))
        })
    }

    fn end(&mut self, end: &End) {
        let End::Closed { behind: Some(behind) } = *end else { return };
        if self.has_farewell {
            return;
        }
        let ring = self.recording.terms.smallest_ring;
        if behind < ring {
            let text = format!("the client was at most {behind} events behind, and {ring} are kept");
            self.report("closed-without-cause", self.have, text);
        } else if !self.closes_on_lag {
            self.report("closed-without-cause", self.have, "closed, and the client wants gaps instead".to_owned());
        }
    }
}

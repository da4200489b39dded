//! Checks what clients received against the delivery guarantee, without knowledge of the implementation.
//!
//! # The guarantee
//!
//! An id names one event forever. A client that follows the rules of `EventSource` receives every event of its filters after
//! its position exactly once, with rising sequences, or a gap whose range and filters cover the missing events.
//!
//! # Why a forked history needs no exception
//!
//! A failover or a lost tail forks the history: some clients received `E-100` to `E-150` on a branch that did not survive, and
//! other clients never do. The union of the branches (see [`Order`]) is still one order, because no id names two events: a
//! server that continues after a fork does so in a new epoch. Every reader that crosses the fork receives a gap from its own
//! position, on whichever branch, up to where the surviving branch continues. Therefore one rule covers forks and healthy
//! streams: for each step of a client from one position to the next, every event of the union in between that matches the
//! filters and was not delivered must lie in a gap of that connection. Only the allowed gap reasons differ
//! ([`Expectations::reasons`](crate::recording::Expectations)).
//!
//! # Why a subscription is checked by what was delivered
//!
//! A subscription spans many connections. The checker tracks the last position that the client received. The parser alone
//! decides which id the client sends when it reconnects: a stream that makes the parser lose its id, or that continues
//! elsewhere, shows as events missing between two connections.
//!
//! A gap for some of the filters may end after the position at which the stream continues. It is valid for its connection
//! only: a client that disconnects before the end of the gap receives the rest as events or as another gap.

mod gap;
mod latest;

use crate::filter::{belongs_to, matches_any};
use crate::id::Id;
use crate::order::Order;
use crate::recording::{Content, End, Line, Recording, Refusal, Start};
use crate::violation::Violation;

/// Checks all clients.
pub fn check(recording: &Recording, order: &Order, violations: &mut Vec<Violation>) {
    for client in 0..recording.clients.len() {
        Checker::new(recording, order, client, violations).run();
        latest::check(recording, order, client, violations);
    }
}

struct Checker<'a> {
    recording: &'a Recording,
    order: &'a Order,
    violations: &'a mut Vec<Violation>,
    client: usize,
    line: usize,
    filters: &'a [String],
    /// For each topic, whether the client subscribes to it.
    subscribed: Vec<bool>,
    closes_on_lag: bool,
    start: &'a Start,
    /// The client's last position in this subscription.
    current: Option<Id>,
    /// Why a gap must precede the next event, if it must.
    gap_required: Option<&'static str>,
    /// The client sent an id that the server never issued, and no gap has reported that yet.
    sent_unknown_id: bool,
    has_hello: bool,
    /// The server announced that it closes the stream.
    has_restart_notice: bool,
    /// The id that this connection resumes from.
    requested: Option<&'a str>,
    /// The gaps of this connection. No event may be delivered in them.
    gaps: Vec<GapRange<'a>>,
    /// Index of the subscription's first line.
    begin: usize,
}

/// The events of `topics` after `from` up to `to`.
struct GapRange<'a> {
    from: Id,
    to: u64,
    topics: &'a [String],
}

impl<'a> Checker<'a> {
    fn new(recording: &'a Recording, order: &'a Order, client: usize, violations: &'a mut Vec<Violation>) -> Self {
        Self {
            recording,
            order,
            violations,
            client,
            line: 0,
            filters: &[],
            subscribed: Vec::new(),
            closes_on_lag: false,
            start: &Start::Live,
            current: None,
            gap_required: None,
            sent_unknown_id: false,
            has_hello: false,
            has_restart_notice: false,
            requested: None,
            gaps: Vec::new(),
            begin: 0,
        }
    }

    fn run(mut self) {
        let recording = self.recording;
        let mut is_latest = false;
        for (number, (_, line)) in recording.clients[self.client].iter().enumerate() {
            self.line = number;
            if let Line::Begin { is_latest: latest, .. } = line {
                is_latest = *latest;
            }
            match line {
                _ if is_latest => {}
                Line::Begin { filters, start, closes_on_lag, .. } => self.begin(filters, start, *closes_on_lag),
                Line::Connect { sent, .. } => self.connect(sent.as_deref()),
                Line::Refused { why } => self.refused(why),
                Line::Hello { id, position } => self.hello(*id, *position),
                Line::Event { id, content } => self.event(*id, *content),
                Line::Gap(gap) => self.gap(gap),
                Line::Snapshot { id } => self.report("snapshot", Some(*id), "a snapshot of events".to_owned()),
                Line::System { id, text } => {
                    self.has_restart_notice |= text.contains("restarting");
                    if let Some(id) = id {
                        self.advance(*id);
                    }
                }
                Line::Malformed(text) => self.report("malformed", None, text.clone()),
                Line::End(end) => self.end(end),
            }
        }
    }

    fn report(&mut self, rule: &'static str, id: Option<Id>, text: String) {
        self.violations.push(Violation::of_client(rule, self.client, self.line, id, text));
    }

    /// Accepts only the refusals of a server without its backbone. One in band comes instead of a stream.
    fn refused(&mut self, why: &Refusal) {
        let is_expected = match why {
            Refusal::Status(status) => *status == 503,
            Refusal::InBand(reason) => reason == "unavailable" && !self.has_hello,
        };
        if !is_expected {
            self.report("refused", None, format!("the client was refused: {why:?}"));
        }
    }

    fn begin(&mut self, filters: &'a [String], start: &'a Start, closes_on_lag: bool) {
        let topics = self.recording.contents.topics();
        self.subscribed = topics.iter().map(|topic| matches_any(filters, topic)).collect();
        (self.filters, self.start, self.closes_on_lag) = (filters, start, closes_on_lag);
        (self.current, self.gap_required, self.begin) = (None, None, self.line);
        self.sent_unknown_id = matches!(start, Start::UnknownId(_));
    }

    fn connect(&mut self, sent: Option<&'a str>) {
        self.requested = sent;
        (self.has_hello, self.has_restart_notice) = (false, false);
        self.gaps.clear();
    }

    fn hello(&mut self, id: Option<Id>, position: Option<Id>) {
        if std::mem::replace(&mut self.has_hello, true) {
            self.report("hello-twice", id, "a second hello on one connection".to_owned());
        }
        let Some(hello_id) = id else {
            self.report("hello-without-id", self.current, "the hello has no id".to_owned());
            self.gap_required = Some("the hello has no position");
            return;
        };
        if let Some(position) = position.filter(|&position| position != hello_id) {
            self.report("hello-position", id, format!("the hello has the id {hello_id}, but the position {position}"));
        }
        self.check_position(hello_id, position);
        if position.is_some() && !self.sent_unknown_id {
            match self.current {
                // The client lost its id: events in between are missing.
                Some(current) if current != hello_id => self.advance(hello_id),
                _ => self.current = Some(hello_id),
            }
        }
    }

    /// Checks a hello's position against the one that the client requested, and whether a gap must follow.
    fn check_position(&mut self, hello_id: Id, position: Option<Id>) {
        let requested = self.requested.filter(|&requested| requested != "earliest");
        let elsewhere = |requested| format!("the client requested {requested}, but the hello has the id {hello_id}");
        match (requested.and_then(Id::parse), position) {
            _ if self.sent_unknown_id => {
                if position.is_some() && !self.is_plausible(requested) {
                    let text = format!("the server never issued {requested:?}, but the hello accepts it");
                    self.report("unknown-id-accepted", Some(hello_id), text);
                }
                self.gap_required = Some("the client sent an id that the server never issued");
            }
            (Some(requested), Some(position)) if requested != position => {
                self.report("hello-elsewhere", Some(hello_id), elsewhere(requested));
            }
            (_, Some(_)) if self.current.is_none() => {}
            // Also clears the requirement of an earlier hello from another server: this one may continue on a branch that
            // the other has left. Events that it skips are still reported as missing.
            (_, Some(_)) => self.gap_required = None,
            (Some(requested), None) => {
                self.gap_required = Some("the hello has no position");
                if requested != hello_id && !hello_id.is_zero() {
                    self.report("hello-elsewhere", Some(hello_id), elsewhere(requested));
                }
            }
            (None, None) => {
                self.gap_required = Some("the hello has no position");
                let text = "a hello without a position, although the client sent no id".to_owned();
                self.report("hello-position", Some(hello_id), text);
            }
        }
    }

    /// Whether an unknown id lies in a known epoch. The server may then accept it and report a gap.
    fn is_plausible(&self, requested: Option<&str>) -> bool {
        requested
            .and_then(Id::parse)
            .is_some_and(|requested| self.order.between(Id::new(requested.epoch, 0), u64::MAX).next().is_some())
    }

    fn event(&mut self, id: Id, content: Content) {
        if !self.has_hello {
            self.report("no-hello", Some(id), format!("{id} arrived before a hello"));
        }
        if !self.subscribed.get(self.recording.contents.topic_number(content)).is_some_and(|subscribed| *subscribed) {
            self.report("not-subscribed", Some(id), format!("{id} matches none of the client's filters"));
        }
        if let Some(why) = self.gap_required.take() {
            self.report("gap-omitted", Some(id), format!("{id} arrived without a gap before it: {why}"));
            (self.sent_unknown_id, self.current) = (false, None);
        }
        let topic = self.recording.contents.topic(content);
        if self.is_covered(id, topic) {
            self.report("gap-of-delivered", Some(id), format!("{id} was delivered after a gap that covers it"));
        }
        if let Some(current) =
            self.current.filter(|current| current.epoch == id.epoch && current.sequence >= id.sequence)
        {
            let (rule, how) = if self.was_sent(id) { ("repeated", "again") } else { ("order", "out of order") };
            self.report(rule, Some(id), format!("{id} was delivered {how}: the client was at {current}"));
            return;
        }
        self.step(id, false);
    }

    /// Whether this subscription has received the event before, on any connection.
    fn was_sent(&self, id: Id) -> bool {
        let lines = &self.recording.clients[self.client][self.begin..self.line];
        lines.iter().any(|(_, line)| matches!(line, Line::Event { id: sent, .. } if *sent == id))
    }

    /// Moves the client to `id` without an event at `id`.
    fn advance(&mut self, id: Id) {
        if let Some(current) = self.current
            && current.epoch == id.epoch
            && current.sequence > id.sequence
        {
            self.report("order", Some(id), format!("the stream is at {id}, but the client was at {current}"));
            return;
        }
        self.step(id, true);
    }

    /// Moves the client to `id`, and checks that no event in between is missing.
    fn step(&mut self, id: Id, includes_end: bool) {
        let before = self.current.replace(id);
        let Some(before) = before else { return };
        if before.epoch != id.epoch {
            let text = format!("from {before} to {id}: the epoch changed without a gap");
            self.report("epoch-without-gap", Some(id), text);
            return;
        }
        self.nothing_missing(before, if includes_end { id.sequence } else { id.sequence.saturating_sub(1) });
    }

    fn nothing_missing(&mut self, after: Id, to: u64) {
        let order = self.order;
        let missing = |(id, content): &(Id, Content)| {
            self.subscribed[order.topic_number(*content)]
                && !self.is_covered(*id, self.recording.contents.topic(*content))
        };
        let mut missing = order.between(after, to).filter(missing);
        if let Some((first, content)) = missing.next() {
            let more = missing.count();
            let text = format!(
                "{first} ({}) was not delivered and no gap covers it: the stream went from {after} past {to}; {more} more are missing",
                self.recording.contents.summary(content)
            );
            self.report("missing", Some(first), text);
        }
    }

    fn is_covered(&self, id: Id, topic: &str) -> bool {
        self.gaps.iter().any(|gap| {
            gap.from.epoch == id.epoch
                && (gap.from.sequence < id.sequence || gap.from.sequence == 0)
                && id.sequence <= gap.to
                && (gap.topics.is_empty() || belongs_to(topic, gap.topics, self.filters))
        })
    }

    fn end(&mut self, end: &End) {
        let End::Closed { behind: Some(behind) } = *end else { return };
        if self.has_restart_notice {
            return;
        }
        let ring = self.recording.expectations.smallest_ring;
        if behind < ring {
            let text = format!("the client was at most {behind} events behind, but the ring holds {ring}");
            self.report("closed-without-cause", self.current, text);
        } else if !self.closes_on_lag {
            self.report(
                "closed-without-cause",
                self.current,
                "closed, although the client asked for gaps with on_lag=skip".to_owned(),
            );
        }
    }
}

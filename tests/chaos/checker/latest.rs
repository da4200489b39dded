//! Checks subscriptions to latest values: here the last event of each topic.
//!
//! Within one connection ids rise, and each topic's values too across connections. A gap discards the values of its topics. The
//! snapshot is complete once after each hello and after each gap. When everything has settled, the table of each client that is
//! connected has the newest event of each of its topics.

use std::collections::HashMap;

use crate::filter::{belongs_to, matches_any};
use crate::id::Id;
use crate::order::Order;
use crate::recording::{Content, End, Gap, Line, Recording, Refusal};
use crate::violation::Violation;

struct Checker<'a> {
    recording: &'a Recording,
    client: usize,
    line: usize,
    violations: &'a mut Vec<Violation>,
    filters: &'a [String],
    /// The newest event of each topic.
    table: HashMap<usize, Id>,
    /// The last id of this connection.
    last: Option<Id>,
    is_connected: bool,
    is_complete: bool,
    has_restart_notice: bool,
}

/// Checks one client.
pub fn check(recording: &Recording, order: &Order, client: usize, violations: &mut Vec<Violation>) {
    let mut checker = Checker {
        recording,
        client,
        line: 0,
        violations,
        filters: &[],
        table: HashMap::new(),
        last: None,
        is_connected: false,
        is_complete: false,
        has_restart_notice: false,
    };
    let mut is_latest = false;
    for (number, (_, line)) in recording.clients[client].iter().enumerate() {
        checker.line = number;
        if let Line::Begin { filters, is_latest: latest, .. } = line {
            is_latest = *latest;
            (checker.filters, checker.table, checker.is_connected) = (filters, HashMap::new(), false);
        }
        if is_latest {
            checker.apply(line);
        }
    }
    if is_latest {
        checker.settled(order);
    }
}

impl Checker<'_> {
    fn report(&mut self, rule: &'static str, id: Option<Id>, text: String) {
        self.violations.push(Violation::of_client(rule, self.client, self.line, id, text));
    }

    fn apply(&mut self, line: &Line) {
        match line {
            Line::Begin { .. } => {}
            Line::Connect { .. } => {
                (self.last, self.is_connected, self.is_complete, self.has_restart_notice) = (None, false, false, false);
            }
            Line::Refused { why: Refusal::Status(503) } => {}
            Line::Refused { why: Refusal::InBand(reason) } if reason == "unavailable" => {}
            Line::Refused { why } => self.report("refused", None, format!("the client was refused: {why:?}")),
            Line::Hello { .. } => self.is_connected = true,
            Line::Event { id, content } => self.event(*id, *content),
            Line::Gap(gap) => self.gap(gap),
            Line::Snapshot { id } => {
                if std::mem::replace(&mut self.is_complete, true) {
                    self.report("snapshot-twice", Some(*id), "the values were complete before".to_owned());
                }
                self.note(*id);
            }
            Line::System { text, .. } => self.has_restart_notice |= text.contains("restarting"),
            Line::Malformed(text) => self.report("malformed", None, text.clone()),
            Line::End(end) => {
                self.is_connected = false;
                if matches!(end, End::Closed { behind: Some(_) }) && !self.has_restart_notice {
                    self.report("closed-without-cause", self.last, "a reader of latest values never lags".to_owned());
                }
            }
        }
    }

    /// Notes an id, which follows the last one of this connection.
    fn note(&mut self, id: Id) {
        if let Some(last) = self.last.replace(id)
            && (last.epoch != id.epoch || last.sequence > id.sequence)
        {
            self.report("order", Some(id), format!("{id} came after {last}"));
        }
    }

    fn event(&mut self, id: Id, content: Content) {
        let contents = &self.recording.contents;
        let (topic, number) = (contents.topic(content), contents.topic_number(content));
        if !self.is_connected {
            self.report("no-hello", Some(id), format!("{id} arrived before a hello"));
        }
        if !matches_any(self.filters, topic) {
            self.report("not-subscribed", Some(id), format!("{id} matches none of the client's filters"));
        }
        self.note(id);
        if let Some(before) = self.table.insert(number, id)
            && before.epoch == id.epoch
            && before.sequence >= id.sequence
        {
            self.report("value-went-back", Some(id), format!("{id} of {topic} came after {before}"));
        }
    }

    fn gap(&mut self, gap: &Gap) {
        if gap.reason == "lagged" {
            self.report("gap-reason", gap.id, "a reader of latest values never lags".to_owned());
        }
        (self.last, self.is_complete) = (None, false);
        let topics = self.recording.contents.topics();
        match &gap.topics {
            None => self.table.clear(),
            Some(named) => self.table.retain(|&topic, _| !belongs_to(&topics[topic], named, self.filters)),
        }
    }

    /// Compares the table with the newest events. A client that has not connected again is reported by another rule.
    fn settled(&mut self, order: &Order) {
        let Some(epoch) = self.table.values().map(|id| id.epoch).max().filter(|_| self.is_connected) else { return };
        if !self.is_complete {
            self.report("snapshot-missing", self.last, "the values were never complete".to_owned());
        }
        let mut newest = HashMap::new();
        for (id, content) in order.between(Id::new(epoch, 0), u64::MAX) {
            newest.insert(order.topic_number(content), id);
        }
        for (number, topic) in self.recording.contents.topics().iter().enumerate() {
            let (found, expected) = (self.table.get(&number).copied(), newest.get(&number).copied());
            if matches_any(self.filters, topic) && found != expected {
                let text =
                    format!("the value of {topic} is {found:?} at the end, but its newest event is {expected:?}");
                self.report("stale-value", expected.or(found), text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::Start;

    fn id(sequence: u64) -> Id {
        Id::new(7, sequence)
    }

    /// The rules that a client violates which receives `lines` of the events a, b and a. It reads everything.
    fn rules(lines: impl FnOnce([Content; 3]) -> Vec<Line>) -> Vec<&'static str> {
        let mut recording = Recording::default();
        let contents = [("a", "1"), ("b", "2"), ("a", "3")].map(|(topic, text)| recording.contents.number(topic, text));
        let begin = |is_latest| Line::Begin {
            filters: Vec::new(),
            start: Start::Live,
            closes_on_lag: false,
            is_latest,
            speed: "fast",
        };
        let hello = Line::Hello { id: Some(id(0)), position: Some(id(0)) };
        let event = |sequence: u64| Line::Event { id: id(sequence), content: contents[sequence as usize - 1] };
        let witness = [begin(false), hello.clone(), event(1), event(2), event(3)];
        let client = [begin(true), Line::Connect { server: 0, sent: None, transport: Default::default() }, hello];
        let logs = [witness.to_vec(), [client.to_vec(), lines(contents)].concat()];
        recording.clients = logs.map(|lines| lines.into_iter().map(|line| (0, line)).collect()).to_vec();
        let mut violations = Vec::new();
        let order = Order::of(&recording, &mut violations);
        check(&recording, &order, 1, &mut violations);
        violations.iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn each_rule_is_checked() {
        let event = |sequence: u64, contents: [Content; 3]| Line::Event {
            id: id(sequence),
            content: contents[sequence as usize - 1],
        };
        let snapshot = |sequence| Line::Snapshot { id: id(sequence) };
        assert_eq!(rules(|all| vec![event(2, all), event(3, all), snapshot(3)]), [""; 0]);
        assert_eq!(rules(|all| vec![event(1, all), event(2, all), snapshot(2), event(3, all)]), [""; 0]);
        assert_eq!(rules(|all| vec![event(1, all), event(2, all), snapshot(2)]), ["stale-value"]);
        assert_eq!(rules(|all| vec![event(3, all), snapshot(3)]), ["stale-value"]);
        assert_eq!(rules(|all| vec![event(2, all), event(3, all)]), ["snapshot-missing"]);
        assert_eq!(rules(|all| vec![event(3, all), event(2, all), snapshot(3)]), ["order"]);
        assert_eq!(rules(|all| vec![event(2, all), event(3, all), snapshot(3), snapshot(3)]), ["snapshot-twice"]);
        let closed = Line::End(End::Closed { behind: Some(5) });
        assert_eq!(rules(|all| vec![event(2, all), event(3, all), snapshot(3), closed]), ["closed-without-cause"]);
    }
}

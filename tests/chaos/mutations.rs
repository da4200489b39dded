//! Tests of the checker: a valid recording with one mutation violates a rule.

use crate::filter::matches_any;
use crate::id::Id;
use crate::recording::{Answer, Content, End, Expectations, Gap, Line, Recording, Start, Transport, Unpublished};
use crate::run::check;

const TOPICS: [&str; 4] = ["a", "b:1", "b:2", "log"];

/// A recording under construction, and the order of events behind it.
struct Tape {
    recording: Recording,
    order: Vec<(Id, Content)>,
}

impl Tape {
    /// Starts with 100 events of one epoch and 40 of the next, on all topics in turn.
    fn new() -> Self {
        let reasons = vec!["evicted", "lagged", "epoch"];
        let expectations = Expectations { reasons, is_lossless: true, smallest_ring: 50 };
        let mut tape = Self { recording: Recording { expectations, ..Recording::default() }, order: Vec::new() };
        let ids = (1..=100).map(|sequence| Id::new(1, sequence)).chain((1..=40).map(|sequence| Id::new(2, sequence)));
        for (number, id) in ids.enumerate() {
            let content = tape.recording.contents.number(TOPICS[number % 4], &format!("text {number}"));
            tape.order.push((id, content));
            tape.answer(&[content], Some((id, id)), 1, Unpublished::Unknown);
        }
        tape
    }

    fn answer(&mut self, contents: &[Content], ids: Option<(Id, Id)>, published: usize, unpublished: Unpublished) {
        let contents = contents.to_vec();
        let (at, server, text) = (self.recording.answers.len() as u32, 0, "200".to_owned());
        self.recording.answers.push(Answer {
            at,
            server,
            is_ndjson: false,
            contents,
            published,
            ids,
            unpublished,
            has_retry_after: false,
            text,
        });
    }

    fn client(&mut self, filters: &[&str], start: Start) {
        let filters = filters.iter().map(|&filter| filter.to_owned()).collect();
        let begin = Line::Begin { filters, start, closes_on_lag: true, is_latest: false, speed: "fast" };
        self.recording.clients.push(vec![(0, begin)]);
    }

    fn line(&mut self, line: Line) {
        let lines = self.recording.clients.last_mut().expect("a client");
        lines.push((lines.len() as u32, line));
    }

    fn connect(&mut self, sent: Option<&str>, id: Id, position: Option<Id>) {
        self.line(Line::Connect { server: 0, sent: sent.map(str::to_owned), transport: Transport::default() });
        self.line(Line::Hello { id: Some(id), position });
    }

    /// Delivers the events of `filters` after `from` up to `to`.
    fn events(&mut self, filters: &[&str], from: Id, to: Id) {
        for (id, content) in self.between(filters, from, to) {
            self.line(Line::Event { id, content });
        }
    }

    fn between(&self, filters: &[&str], from: Id, to: Id) -> Vec<(Id, Content)> {
        let filters: Vec<_> = filters.iter().map(|&filter| filter.to_owned()).collect();
        let is_of = |content| matches_any(&filters, self.recording.contents.topic(content));
        self.order.iter().copied().filter(|&(id, content)| id > from && id <= to && is_of(content)).collect()
    }

    /// Adds a client that sends an id that the server never issued.
    fn client_with_unknown_id(&mut self) {
        let (nowhere, begin) = (Id::new(0, 0), Id::new(1, 0));
        self.client(&[], Start::UnknownId("garbage".to_owned()));
        self.connect(Some("garbage"), nowhere, None);
        self.line(Line::End(End::Cut));
        self.connect(Some("0-0"), nowhere, None);
        self.gap("unknown_id", (None, begin), begin, None, None);
        self.events(&[], begin, Id::new(1, 100));
    }

    fn gap(&mut self, reason: &str, range: (Option<Id>, Id), id: Id, missed: Option<u64>, topics: Option<&[&str]>) {
        let topics = topics.map(|topics| topics.iter().map(|&topic| topic.to_owned()).collect());
        let (reason, behind) = (reason.to_owned(), Some(100));
        let gap = Gap { id: Some(id), reason, from: range.0, to: Some(range.1), missed, topics, behind };
        self.line(Line::Gap(Box::new(gap)));
    }
}

/// Returns a recording without violations.
fn healthy() -> Recording {
    let mut tape = Tape::new();
    let at = |sequence| Id::new(1, sequence);
    let (begin, next, end) = (Id::new(1, 0), Id::new(2, 0), Id::new(2, 40));

    // Everything, across a restart of the server.
    tape.client(&[], Start::Live);
    tape.connect(None, begin, Some(begin));
    tape.events(&[], begin, at(100));
    tape.line(Line::System { id: Some(at(100)), text: "server restarting".to_owned() });
    tape.line(Line::End(End::Closed { behind: None }));
    tape.connect(Some("1-100"), at(100), None);
    tape.line(Line::End(End::Cut));
    tape.connect(Some("1-100"), at(100), None);
    tape.gap("epoch", (Some(at(100)), next), next, None, None);
    tape.events(&[], next, end);

    // Two topics, with a reconnect after eviction.
    let filters = &["a", "b:1"];
    tape.client(filters, Start::Live);
    tape.connect(None, begin, Some(begin));
    tape.events(filters, begin, at(38));
    tape.line(Line::End(End::Cut));
    tape.connect(Some("1-38"), at(38), Some(at(38)));
    let missed = tape.between(filters, at(38), at(60)).len() as u64;
    tape.gap("evicted", (Some(at(38)), at(60)), at(60), Some(missed), None);
    tape.events(filters, at(60), at(100));

    // A topic and a pattern, where only the pattern lags.
    let filters = &["log", "b:*"];
    tape.client(filters, Start::Earliest);
    tape.connect(None, begin, Some(begin));
    tape.events(filters, begin, at(32));
    let missed = tape.between(&["b:*"], at(32), at(70)).len() as u64;
    tape.gap("lagged", (Some(at(32)), at(70)), at(32), Some(missed), Some(&["b:*"]));
    tape.events(&["log"], at(32), at(70));
    tape.events(filters, at(70), at(100));

    tape.client_with_unknown_id();
    let never = tape.recording.contents.number("a", "never");
    tape.answer(&[never], None, 0, Unpublished::Never);
    tape.recording
}

/// Returns the rules that a recording violates.
fn violated(recording: &Recording) -> Vec<&'static str> {
    let mut violations = Vec::new();
    check(recording, &mut violations);
    violations.iter().map(|violation| violation.rule).collect()
}

/// Returns the client and index of each line that matches.
fn lines_of(recording: &Recording, matches: impl Fn(&Line) -> bool) -> Vec<(usize, usize)> {
    let clients = recording.clients.iter().enumerate();
    clients
        .flat_map(|(client, lines)| lines.iter().enumerate().map(move |(number, line)| (client, number, &line.1)))
        .filter(|(.., line)| matches(line))
        .map(|(client, number, _)| (client, number))
        .collect()
}

/// Returns all events but each client's last: only the deadline for the last events detects a missing last event.
fn events(recording: &Recording) -> Vec<(usize, usize)> {
    let mut events = lines_of(recording, |line| matches!(line, Line::Event { .. }));
    events.retain(|(client, number)| number + 1 < recording.clients[*client].len());
    events
}

/// Mutates each line of a valid recording on its own, and expects a violation of one of `rules` each time.
fn each_violates(places: &[(usize, usize)], rules: &[&str], change: impl Fn(&mut Recording, usize, usize)) {
    assert!(!places.is_empty());
    for &(client, line) in places {
        let mut recording = healthy();
        let was = recording.clients[client][line].1.clone();
        change(&mut recording, client, line);
        let violated = violated(&recording);
        assert!(
            rules.iter().any(|rule| violated.contains(rule)),
            "client {client}, {}: none of {rules:?}, but {violated:?}",
            was.describe(&recording.contents)
        );
    }
}

/// Mutates each matching gap.
fn each_gap_violates(matches: impl Fn(&Gap) -> bool, rules: &[&str], change: impl Fn(&mut Gap)) {
    let places = lines_of(&healthy(), |line| matches!(line, Line::Gap(gap) if matches(gap)));
    each_violates(&places, rules, |recording, client, line| {
        if let Line::Gap(gap) = &mut recording.clients[client][line].1 {
            change(gap);
        }
    });
}

#[test]
fn valid_recording_violates_no_rule() {
    assert_eq!(violated(&healthy()), [""; 0]);
}

#[test]
fn dropped_event_is_missing() {
    let recording = healthy();
    each_violates(&events(&recording), &["missing"], |recording, client, line| {
        recording.clients[client].remove(line);
    });
}

#[test]
fn repeated_event_is_detected() {
    each_violates(&events(&healthy()), &["repeated"], |recording, client, line| {
        let again = recording.clients[client][line].clone();
        recording.clients[client].insert(line + 1, again);
    });
}

#[test]
fn swapped_events_are_detected() {
    let recording = healthy();
    let mut pairs = events(&recording);
    pairs.retain(|&(client, line)| matches!(recording.clients[client][line + 1].1, Line::Event { .. }));
    each_violates(&pairs, &["missing"], |recording, client, line| recording.clients[client].swap(line, line + 1));
}

#[test]
fn altered_event_is_detected() {
    each_violates(&events(&healthy()), &["two-events"], |recording, client, line| {
        let other = recording.contents.number("a", "text 0 ");
        if let Line::Event { content, .. } = &mut recording.clients[client][line].1 {
            *content = other;
        }
    });
}

#[test]
fn removed_gap_is_detected() {
    let gaps = lines_of(&healthy(), |line| matches!(line, Line::Gap(_)));
    each_violates(&gaps, &["missing", "epoch-without-gap", "gap-omitted"], |recording, client, line| {
        recording.clients[client].remove(line);
    });
}

#[test]
fn wrong_gap_count_is_detected() {
    each_gap_violates(|gap| gap.missed.is_some(), &["gap-count"], |gap| gap.missed = gap.missed.map(|count| count + 1));
    each_gap_violates(|gap| gap.missed.is_some(), &["gap-count"], |gap| gap.missed = gap.missed.map(|count| count - 1));
    each_gap_violates(|gap| gap.missed.is_none(), &["gap-count"], |gap| gap.missed = Some(0));
}

#[test]
fn gap_over_delivered_events_is_detected() {
    let is_counted = |gap: &Gap| gap.missed.is_some();
    each_gap_violates(is_counted, &["gap-of-delivered"], |gap| {
        gap.to = gap.to.map(|to| Id::new(to.epoch, to.sequence + 10));
        gap.missed = None;
    });
    each_gap_violates(is_counted, &["gap-of-delivered"], |gap| {
        gap.from = gap.from.map(|from| Id::new(from.epoch, from.sequence - 10));
        gap.missed = None;
    });
}

#[test]
fn wrong_gap_filters_are_detected() {
    each_gap_violates(|gap| gap.topics.is_some(), &["gap-of-delivered"], |gap| (gap.topics, gap.missed) = (None, None));
    each_gap_violates(|gap| gap.topics.is_some(), &["gap-topics"], |gap| gap.topics = Some(vec!["c".to_owned()]));
}

#[test]
fn wrong_gap_range_is_detected() {
    each_gap_violates(
        |gap| gap.missed.is_some(),
        &["missing"],
        |gap| {
            (gap.to, gap.missed) = (gap.to.map(|to| Id::new(to.epoch, to.sequence - 8)), None);
        },
    );
    each_gap_violates(
        |gap| gap.missed.is_some(),
        &["missing"],
        |gap| {
            (gap.from, gap.missed) = (gap.from.map(|from| Id::new(from.epoch, from.sequence + 8)), None);
        },
    );
    each_gap_violates(|gap| gap.from.is_some(), &["gap-range"], |gap| gap.from = gap.to);
    each_gap_violates(|gap| gap.from.is_some(), &["gap-range"], |gap| gap.from = None);
    each_gap_violates(|_| true, &["gap-without-id"], |gap| gap.id = None);
}

#[test]
fn wrong_gap_reason_is_detected() {
    each_gap_violates(|gap| gap.from.is_some(), &["unknown-id"], |gap| gap.reason = "unknown_id".to_owned());
    each_gap_violates(|gap| gap.from.is_some(), &["gap-without-cause"], |gap| gap.reason = "mislaid".to_owned());
    each_gap_violates(|gap| gap.reason == "lagged", &["lag-without-cause"], |gap| gap.behind = Some(10));
}

#[test]
fn hello_without_id_is_detected() {
    let hellos = lines_of(&healthy(), |line| matches!(line, Line::Hello { .. }));
    each_violates(&hellos, &["hello-without-id"], |recording, client, line| {
        recording.clients[client][line].1 = Line::Hello { id: None, position: None };
    });
}

#[test]
fn hello_at_wrong_position_is_detected() {
    let hellos = lines_of(&healthy(), |line| matches!(line, Line::Hello { position: Some(_), .. }));
    each_violates(&hellos, &["hello-elsewhere", "missing"], |recording, client, line| {
        let Line::Hello { id: Some(id), .. } = recording.clients[client][line].1 else { return };
        // Four events on, one of each topic.
        let id = Some(Id::new(id.epoch, id.sequence + 4));
        let sent = matches!(&recording.clients[client][line - 1].1, Line::Connect { sent: Some(_), .. });
        if sent {
            recording.clients[client][line].1 = Line::Hello { id, position: id };
        } else {
            let first = Line::Event { id: Id::new(1, 4), content: 3 };
            recording.clients[client].insert(line + 1, (0, first));
        }
    });
}

#[test]
fn return_to_older_epoch_is_detected() {
    let mut recording = healthy();
    let (at, id, back) = (1_000, Id::new(2, 40), Id::new(1, 0));
    let (sent, reason) = (Some(id.to_string()), "epoch".to_owned());
    let gap = Gap { id: Some(back), reason, from: Some(id), to: Some(back), missed: None, topics: None, behind: None };
    recording.clients[0].extend([
        (at, Line::End(End::Cut)),
        (at, Line::Connect { server: 1, sent, transport: Transport::default() }),
        (at, Line::Hello { id: Some(id), position: None }),
        (at, Line::Gap(Box::new(gap))),
    ]);
    assert_eq!(violated(&recording), ["epoch-backwards"]);
}

#[test]
fn stream_closed_without_lag_is_detected() {
    for (behind, expected) in [(Some(10), &["closed-without-cause"][..]), (Some(60), &[]), (None, &[])] {
        let mut recording = healthy();
        recording.clients[1].push((0, Line::End(End::Closed { behind })));
        assert_eq!(violated(&recording), expected);
    }
}

#[test]
fn false_publish_response_is_detected() {
    let mutated = |change: fn(&mut Recording)| {
        let mut recording = healthy();
        change(&mut recording);
        violated(&recording)
    };
    // One id for two publishers, even with the same text.
    assert_eq!(mutated(|r| r.answers.push(r.answers[0].clone()))[0], "two-events");
    // Not published according to the response, but in the stream.
    let never = mutated(|r| {
        (r.answers[3].ids, r.answers[3].published, r.answers[3].unpublished) = (None, 0, Unpublished::Never)
    });
    assert_eq!(never, ["never-published"]);
    // Acknowledged with an id that names another event.
    let elsewhere = mutated(|r| r.answers[3].ids = Some((Id::new(1, 5), Id::new(1, 5))));
    assert!(elsewhere.contains(&"two-events"), "{elsewhere:?}");
    let twice = mutated(|r| {
        let content = r.answers[139].contents[0];
        let event = Line::Event { id: Id::new(2, 41), content };
        r.clients[0].push((0, event));
    });
    assert_eq!(twice, ["published-twice"]);
    // Contradicting counts and ids.
    assert_eq!(mutated(|r| r.answers[3].published = 0)[0], "answer");
    assert_eq!(mutated(|r| r.answers[3].published = 2)[0], "answer");
    assert_eq!(mutated(|r| r.answers[3].ids = None)[0], "answer");
    // A detail that contradicts the counts, and a retry that would publish twice.
    assert_eq!(mutated(|r| r.answers[3].text = "503 nothing was published".to_owned())[0], "answer");
    assert_eq!(mutated(|r| r.answers[140].text = "503 published up to 1-6".to_owned())[0], "answer");
    assert_eq!(mutated(|r| r.answers[3].has_retry_after = true)[0], "answer");
}

#[test]
fn acknowledged_event_without_delivery_is_lost() {
    let mut recording = healthy();
    let content = recording.contents.number("a", "lost");
    let mut answer = recording.answers[0].clone();
    // The response to NDJSON has no id for events between the first and the last.
    answer.contents = vec![recording.answers[0].contents[0], content, recording.answers[8].contents[0]];
    (answer.is_ndjson, answer.published, answer.ids) = (true, 3, Some((Id::new(1, 1), Id::new(1, 9))));
    recording.answers.remove(8);
    recording.answers[0] = answer;
    assert_eq!(violated(&recording), ["acknowledged-lost"]);
}

//! Spoiled streams: a recording without a violation, changed in one place, has one.

use crate::filter::takes;
use crate::id::Id;
use crate::log::{Answer, Content, End, Gap, Line, Recording, Rest, Start, Terms};
use crate::run::judge;

const TOPICS: [&str; 4] = ["a", "b:1", "b:2", "log"];

/// A recording that is being made, and the order that it is made from.
struct Tape {
    recording: Recording,
    order: Vec<(Id, Content)>,
}

impl Tape {
    /// 100 events of one epoch and 40 of the next, of all topics in turn.
    fn new() -> Self {
        let reasons = vec!["evicted", "lagged", "epoch"];
        let terms = Terms { reasons, is_lossless: true, smallest_ring: 50 };
        let mut tape = Self { recording: Recording { terms, ..Recording::default() }, order: Vec::new() };
        let ids = (1..=100).map(|sequence| Id::new(1, sequence)).chain((1..=40).map(|sequence| Id::new(2, sequence)));
        for (number, id) in ids.enumerate() {
            let content = tape.recording.contents.number(TOPICS[number % 4], &format!("text {number}"));
            tape.order.push((id, content));
            tape.answer(&[content], Some((id, id)), 1, Rest::Unknown);
        }
        tape
    }

    fn answer(&mut self, contents: &[Content], ids: Option<(Id, Id)>, published: usize, rest: Rest) {
        let contents = contents.to_vec();
        let (at, server, text) = (self.recording.answers.len() as u32, 0, "200".to_owned());
        self.recording.answers.push(Answer {
            at,
            server,
            is_ndjson: false,
            contents,
            published,
            ids,
            rest,
            has_retry_after: false,
            text,
        });
    }

    fn client(&mut self, filters: &[&str], start: Start) {
        let filters = filters.iter().map(|&filter| filter.to_owned()).collect();
        let begin = Line::Begin { filters, start, closes_on_lag: true, speed: "fast" };
        self.recording.clients.push(vec![(0, begin)]);
    }

    fn line(&mut self, line: Line) {
        let lines = self.recording.clients.last_mut().expect("a client");
        lines.push((lines.len() as u32, line));
    }

    fn connect(&mut self, sent: Option<&str>, id: Id, position: Option<Id>) {
        self.line(Line::Connect { server: 0, sent: sent.map(str::to_owned) });
        self.line(Line::Hello { id: Some(id), position });
    }

    /// The events of `filters` after `from` up to `to`.
    fn events(&mut self, filters: &[&str], from: Id, to: Id) {
        for (id, content) in self.between(filters, from, to) {
            self.line(Line::Event { id, content });
        }
    }

    fn between(&self, filters: &[&str], from: Id, to: Id) -> Vec<(Id, Content)> {
        let filters: Vec<_> = filters.iter().map(|&filter| filter.to_owned()).collect();
        let is_of = |content| takes(&filters, self.recording.contents.topic(content));
        self.order.iter().copied().filter(|&(id, content)| id > from && id <= to && is_of(content)).collect()
    }

    fn gap(&mut self, reason: &str, range: (Option<Id>, Id), id: Id, missed: Option<u64>, topics: Option<&[&str]>) {
        let topics = topics.map(|topics| topics.iter().map(|&topic| topic.to_owned()).collect());
        let (reason, behind) = (reason.to_owned(), Some(100));
        let gap = Gap { id: Some(id), reason, from: range.0, to: Some(range.1), missed, topics, behind };
        self.line(Line::Gap(Box::new(gap)));
    }
}

/// What a server without a fault sends.
fn healthy() -> Recording {
    let mut tape = Tape::new();
    let at = |sequence| Id::new(1, sequence);
    let (begin, next, end) = (Id::new(1, 0), Id::new(2, 0), Id::new(2, 40));

    // Everything, over a restart of the server.
    tape.client(&[], Start::Live);
    tape.connect(None, begin, Some(begin));
    tape.events(&[], begin, at(100));
    tape.line(Line::Said { id: Some(at(100)), text: "server restarting".to_owned() });
    tape.line(Line::End(End::Closed { behind: None }));
    tape.connect(Some("1-100"), at(100), None);
    tape.line(Line::End(End::Cut));
    tape.connect(Some("1-100"), at(100), None);
    tape.gap("epoch", (Some(at(100)), next), next, None, None);
    tape.events(&[], next, end);

    // Two topics, cut, and back too late.
    let filters = &["a", "b:1"];
    tape.client(filters, Start::Live);
    tape.connect(None, begin, Some(begin));
    tape.events(filters, begin, at(38));
    tape.line(Line::End(End::Cut));
    tape.connect(Some("1-38"), at(38), Some(at(38)));
    let missed = tape.between(filters, at(38), at(60)).len() as u64;
    tape.gap("evicted", (Some(at(38)), at(60)), at(60), Some(missed), None);
    tape.events(filters, at(60), at(100));

    // A topic and a pattern, of which the pattern lags.
    let filters = &["log", "b:*"];
    tape.client(filters, Start::Earliest);
    tape.connect(None, begin, Some(begin));
    tape.events(filters, begin, at(32));
    let missed = tape.between(&["b:*"], at(32), at(70)).len() as u64;
    tape.gap("lagged", (Some(at(32)), at(70)), at(32), Some(missed), Some(&["b:*"]));
    tape.events(&["log"], at(32), at(70));
    tape.events(filters, at(70), at(100));

    // An id that was never given.
    let nowhere = Id::new(0, 0);
    tape.client(&[], Start::MadeUp("garbage".to_owned()));
    tape.connect(Some("garbage"), nowhere, None);
    tape.line(Line::End(End::Cut));
    tape.connect(Some("0-0"), nowhere, None);
    tape.gap("unknown_id", (None, begin), begin, None, None);
    tape.events(&[], begin, at(100));

    let never = tape.recording.contents.number("a", "never");
    tape.answer(&[never], None, 0, Rest::Never);
    tape.recording
}

/// The rules that a recording breaks.
fn broken(recording: &Recording) -> Vec<&'static str> {
    let mut violations = Vec::new();
    judge(recording, &mut violations);
    violations.iter().map(|violation| violation.rule).collect()
}

/// Where a client's log has lines of a kind.
fn lines_of(recording: &Recording, is_it: impl Fn(&Line) -> bool) -> Vec<(usize, usize)> {
    let clients = recording.clients.iter().enumerate();
    clients
        .flat_map(|(client, lines)| lines.iter().enumerate().map(move |(number, line)| (client, number, &line.1)))
        .filter(|(.., line)| is_it(line))
        .map(|(client, number, _)| (client, number))
        .collect()
}

/// All events but the last of a client: what comes after that, nothing shows but the deadline of the last events.
fn events(recording: &Recording) -> Vec<(usize, usize)> {
    let mut events = lines_of(recording, |line| matches!(line, Line::Event { .. }));
    events.retain(|(client, number)| number + 1 < recording.clients[*client].len());
    events
}

/// Changes one line after the other, and expects one of `rules` to be broken each time.
fn each_shows(places: &[(usize, usize)], rules: &[&str], change: impl Fn(&mut Recording, usize, usize)) {
    assert!(!places.is_empty());
    for &(client, line) in places {
        let mut recording = healthy();
        let was = recording.clients[client][line].1.clone();
        change(&mut recording, client, line);
        let broken = broken(&recording);
        assert!(
            rules.iter().any(|rule| broken.contains(rule)),
            "client {client}, {}: none of {rules:?}, but {broken:?}",
            was.shown(&recording.contents)
        );
    }
}

/// Changes each gap that `is_it`.
fn each_gap_shows(is_it: impl Fn(&Gap) -> bool, rules: &[&str], change: impl Fn(&mut Gap)) {
    let places = lines_of(&healthy(), |line| matches!(line, Line::Gap(gap) if is_it(gap)));
    each_shows(&places, rules, |recording, client, line| {
        if let Line::Gap(gap) = &mut recording.clients[client][line].1 {
            change(gap);
        }
    });
}

#[test]
fn a_stream_without_a_fault_breaks_no_rule() {
    assert_eq!(broken(&healthy()), [""; 0]);
}

#[test]
fn a_dropped_event_is_missing() {
    let recording = healthy();
    each_shows(&events(&recording), &["missing"], |recording, client, line| {
        recording.clients[client].remove(line);
    });
}

#[test]
fn a_repeated_event_shows() {
    each_shows(&events(&healthy()), &["repeated"], |recording, client, line| {
        let again = recording.clients[client][line].clone();
        recording.clients[client].insert(line + 1, again);
    });
}

#[test]
fn swapped_events_show() {
    let recording = healthy();
    let mut pairs = events(&recording);
    pairs.retain(|&(client, line)| matches!(recording.clients[client][line + 1].1, Line::Event { .. }));
    each_shows(&pairs, &["missing"], |recording, client, line| recording.clients[client].swap(line, line + 1));
}

#[test]
fn an_altered_event_shows() {
    each_shows(&events(&healthy()), &["two-events"], |recording, client, line| {
        let other = recording.contents.number("a", "text 0 ");
        if let Line::Event { content, .. } = &mut recording.clients[client][line].1 {
            *content = other;
        }
    });
}

#[test]
fn a_removed_gap_shows() {
    let gaps = lines_of(&healthy(), |line| matches!(line, Line::Gap(_)));
    each_shows(&gaps, &["missing", "epoch-without-gap", "gap-omitted"], |recording, client, line| {
        recording.clients[client].remove(line);
    });
}

#[test]
fn a_wrong_count_shows() {
    each_gap_shows(|gap| gap.missed.is_some(), &["gap-count"], |gap| gap.missed = gap.missed.map(|count| count + 1));
    each_gap_shows(|gap| gap.missed.is_some(), &["gap-count"], |gap| gap.missed = gap.missed.map(|count| count - 1));
    each_gap_shows(|gap| gap.missed.is_none(), &["gap-count"], |gap| gap.missed = Some(0));
}

#[test]
fn a_gap_over_delivered_events_shows() {
    let is_counted = |gap: &Gap| gap.missed.is_some();
    each_gap_shows(is_counted, &["gap-of-delivered"], |gap| {
        gap.to = gap.to.map(|to| Id::new(to.epoch, to.sequence + 10));
        gap.missed = None;
    });
    each_gap_shows(is_counted, &["gap-of-delivered"], |gap| {
        gap.from = gap.from.map(|from| Id::new(from.epoch, from.sequence - 10));
        gap.missed = None;
    });
}

#[test]
fn a_gap_that_does_not_name_its_filters_shows() {
    each_gap_shows(|gap| gap.topics.is_some(), &["gap-of-delivered"], |gap| (gap.topics, gap.missed) = (None, None));
    each_gap_shows(|gap| gap.topics.is_some(), &["gap-topics"], |gap| gap.topics = Some(vec!["c".to_owned()]));
}

#[test]
fn a_gap_with_a_wrong_range_shows() {
    each_gap_shows(
        |gap| gap.missed.is_some(),
        &["missing"],
        |gap| {
            (gap.to, gap.missed) = (gap.to.map(|to| Id::new(to.epoch, to.sequence - 8)), None);
        },
    );
    each_gap_shows(
        |gap| gap.missed.is_some(),
        &["missing"],
        |gap| {
            (gap.from, gap.missed) = (gap.from.map(|from| Id::new(from.epoch, from.sequence + 8)), None);
        },
    );
    each_gap_shows(|gap| gap.from.is_some(), &["gap-range"], |gap| gap.from = gap.to);
    each_gap_shows(|gap| gap.from.is_some(), &["gap-range"], |gap| gap.from = None);
    each_gap_shows(|_| true, &["gap-without-id"], |gap| gap.id = None);
}

#[test]
fn a_gap_for_a_wrong_reason_shows() {
    each_gap_shows(|gap| gap.from.is_some(), &["unknown-id"], |gap| gap.reason = "unknown_id".to_owned());
    each_gap_shows(|gap| gap.from.is_some(), &["gap-without-cause"], |gap| gap.reason = "mislaid".to_owned());
    each_gap_shows(|gap| gap.reason == "lagged", &["lag-without-cause"], |gap| gap.behind = Some(10));
}

#[test]
fn a_hello_without_an_id_shows() {
    let hellos = lines_of(&healthy(), |line| matches!(line, Line::Hello { .. }));
    each_shows(&hellos, &["hello-without-id"], |recording, client, line| {
        recording.clients[client][line].1 = Line::Hello { id: None, position: None };
    });
}

#[test]
fn a_hello_that_leads_elsewhere_shows() {
    let hellos = lines_of(&healthy(), |line| matches!(line, Line::Hello { position: Some(_), .. }));
    each_shows(&hellos, &["hello-elsewhere", "missing"], |recording, client, line| {
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
fn an_older_epoch_after_a_newer_one_shows() {
    let mut recording = healthy();
    let (at, id, back) = (1_000, Id::new(2, 40), Id::new(1, 0));
    let (sent, reason) = (Some(id.to_string()), "epoch".to_owned());
    let gap = Gap { id: Some(back), reason, from: Some(id), to: Some(back), missed: None, topics: None, behind: None };
    recording.clients[0].extend([
        (at, Line::End(End::Cut)),
        (at, Line::Connect { server: 1, sent }),
        (at, Line::Hello { id: Some(id), position: None }),
        (at, Line::Gap(Box::new(gap))),
    ]);
    assert_eq!(broken(&recording), ["epoch-backwards"]);
}

#[test]
fn a_stream_closed_although_its_reader_keeps_up_shows() {
    for (behind, expected) in [(Some(10), &["closed-without-cause"][..]), (Some(60), &[]), (None, &[])] {
        let mut recording = healthy();
        recording.clients[1].push((0, Line::End(End::Closed { behind })));
        assert_eq!(broken(&recording), expected);
    }
}

#[test]
fn an_answer_that_is_not_true_shows() {
    let spoiled = |change: fn(&mut Recording)| {
        let mut recording = healthy();
        change(&mut recording);
        broken(&recording)
    };
    // An id that was given to two publishers, even of the same text.
    assert_eq!(spoiled(|r| r.answers.push(r.answers[0].clone()))[0], "two-events");
    // Nothing was published, and it is in the stream.
    let never = spoiled(|r| (r.answers[3].ids, r.answers[3].published, r.answers[3].rest) = (None, 0, Rest::Never));
    assert_eq!(never, ["never-published"]);
    // Acknowledged, and not in the stream where it is said to be.
    let elsewhere = spoiled(|r| r.answers[3].ids = Some((Id::new(1, 5), Id::new(1, 5))));
    assert!(elsewhere.contains(&"two-events"), "{elsewhere:?}");
    let twice = spoiled(|r| {
        let content = r.answers[139].contents[0];
        let event = Line::Event { id: Id::new(2, 41), content };
        r.clients[0].push((0, event));
    });
    assert_eq!(twice, ["published-twice"]);
    // Numbers that contradict each other.
    assert_eq!(spoiled(|r| r.answers[3].published = 0)[0], "answer");
    assert_eq!(spoiled(|r| r.answers[3].published = 2)[0], "answer");
    assert_eq!(spoiled(|r| r.answers[3].ids = None)[0], "answer");
    // Words that contradict the numbers, and a retry that would publish twice.
    assert_eq!(spoiled(|r| r.answers[3].text = "503 nothing was published".to_owned())[0], "answer");
    assert_eq!(spoiled(|r| r.answers[140].text = "503 published up to 1-6".to_owned())[0], "answer");
    assert_eq!(spoiled(|r| r.answers[3].has_retry_after = true)[0], "answer");
}

#[test]
fn an_acknowledged_event_that_no_reader_gets_is_lost() {
    let mut recording = healthy();
    let content = recording.contents.number("a", "lost");
    let mut answer = recording.answers[0].clone();
    // Between the first and the last of a body of lines there is no id to miss it at.
    answer.contents = vec![recording.answers[0].contents[0], content, recording.answers[8].contents[0]];
    (answer.is_ndjson, answer.published, answer.ids) = (true, 3, Some((Id::new(1, 1), Id::new(1, 9))));
    recording.answers.remove(8);
    recording.answers[0] = answer;
    assert_eq!(broken(&recording), ["acknowledged-lost"]);
}

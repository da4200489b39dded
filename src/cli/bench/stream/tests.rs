//! Each fault of a stream is counted as what it is, wherever its bytes are cut.

use super::super::http::Head;
use super::super::journal::Journal;
use super::*;

const PUBLISHERS: usize = 2;

/// A run in which the first publisher sent events 0 to 3 to one topic.
struct Run {
    checker: Checker,
    group: Group,
}

impl Run {
    fn new(members: u32) -> Self {
        let mut checker = Checker {
            marker: Marker::new(7, 60),
            tally: Tally::default(),
            latency: Latency::new(1),
            last_client: Latency::new(1),
            publishers: PUBLISHERS,
        };
        checker.latency.measure(0, u64::MAX);
        checker.last_client.measure(0, u64::MAX);
        let journal = (members > 1).then(|| Journal::new(1));
        Self { checker, group: Group { topics: [5].into(), members, journal } }
    }

    /// A stream that got `bytes` in pieces of at most `piece` bytes.
    fn stream(&mut self, chunked: bool, bytes: &[u8], piece: usize) -> Stream {
        self.stream_and_end(chunked, bytes, piece).0
    }

    /// The stream, and why it ended.
    fn stream_and_end(&mut self, chunked: bool, bytes: &[u8], piece: usize) -> (Stream, Option<&'static str>) {
        let framing = if chunked { "transfer-encoding: chunked\r\n" } else { "" };
        let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n");
        let body = Head::parse(head.as_bytes()).unwrap().unwrap().body();
        let mut stream = Stream::new(body, PUBLISHERS);
        let mut cx = Context { now: 0, group: &mut self.group, checker: &mut self.checker };
        let end = bytes.chunks(piece).try_for_each(|part| stream.receive(part, &mut cx)).err();
        (stream, end)
    }

    fn event(&self, number: u32) -> Vec<u8> {
        let mut event = format!("id: 9-{number}\nevent: data\ndata: {{\"a\":\"").into_bytes();
        event
            .extend_from_slice(self.checker.marker.payload(Mark { topic: 5, publisher: 0, number, due: 0 }).as_bytes());
        event.extend_from_slice(b"\"}\n\n");
        event
    }

    fn events(&self, numbers: &[u32]) -> Vec<Vec<u8>> {
        numbers.iter().map(|number| self.event(*number)).collect()
    }
}

fn chunk(content: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", content.len()).as_bytes(), content, b"\r\n"].concat()
}

const HELLO: &[u8] = b"retry: 5000\nid: 9-0\nevent: system\ndata: {\"message\":\"connected\"}\n\n";

/// The ways to frame the same blocks.
fn framings(blocks: &[Vec<u8>]) -> Vec<(&'static str, bool, Vec<u8>)> {
    let all = blocks.concat();
    let crlf = String::from_utf8(all.clone()).unwrap().replace('\n', "\r\n").into_bytes();
    vec![
        ("a chunk for each block", true, blocks.iter().flat_map(|block| chunk(block)).collect()),
        ("one chunk", true, chunk(&all)),
        ("chunks that cut blocks", true, all.chunks(37).flat_map(chunk).collect()),
        ("no chunks", false, all),
        ("no chunks, lines end with CRLF", false, crlf),
    ]
}

/// Tally and lost events of a stream with these blocks: the same in each framing and size of reads, with or without a
/// journal.
fn judged(blocks: impl Fn(&Run) -> Vec<Vec<u8>>) -> (Tally, u64) {
    let mut verdict = None;
    for members in [1, 2] {
        for way in 0..5 {
            for piece in [1, 7, 100, 4096] {
                let mut run = Run::new(members);
                let blocks = blocks(&run);
                if members == 2 {
                    let whole = [vec![HELLO.to_vec()], run.events(&[0, 1, 2, 3])].concat();
                    let (_, chunked, bytes) = framings(&whole).swap_remove(way);
                    let leader = run.stream(chunked, &bytes, 4096);
                    assert_eq!(leader.ledger.missing(Some(&[4, 0]), |_, _| false), 0);
                    assert_eq!(run.checker.tally, Tally { deliveries: 4, foreign: 1, ..Tally::default() });
                    run.checker.tally = Tally::default();
                }
                let (name, chunked, bytes) = framings(&blocks).swap_remove(way);
                let stream = run.stream(chunked, &bytes, piece);
                let now = (run.checker.tally, stream.ledger.missing(Some(&[4, 0]), |_, _| false));
                let first = *verdict.get_or_insert(now);
                assert_eq!(now, first, "{name}, in pieces of {piece}, {members} members");
            }
        }
    }
    verdict.unwrap()
}

#[test]
fn complete_stream_has_no_fault() {
    let (tally, lost) = judged(|run| [vec![HELLO.to_vec()], run.events(&[0, 1, 2, 3])].concat());
    assert_eq!((tally, lost), (Tally { deliveries: 4, foreign: 1, ..Tally::default() }, 0));
}

#[test]
fn skipped_event_is_lost() {
    let (tally, lost) = judged(|run| run.events(&[0, 2, 3]));
    assert_eq!((tally, lost), (Tally { deliveries: 3, ..Tally::default() }, 1));
}

#[test]
fn events_missing_at_either_end_are_lost() {
    assert_eq!(judged(|run| run.events(&[2])).1, 3);
}

#[test]
fn event_received_twice_is_a_duplicate() {
    let (tally, lost) = judged(|run| run.events(&[0, 1, 1, 2, 0, 3]));
    assert_eq!((tally, lost), (Tally { deliveries: 4, duplicated: 2, ..Tally::default() }, 0));
}

#[test]
fn late_event_is_out_of_order_and_not_lost() {
    let (tally, lost) = judged(|run| run.events(&[0, 2, 1, 3]));
    // The event after the late one has a greater id and is not counted again.
    assert_eq!((tally, lost), (Tally { deliveries: 4, out_of_order: 1, ..Tally::default() }, 0));
}

#[test]
fn decreasing_ids_are_out_of_order() {
    let renumbered = |run: &Run| {
        let ids = [1, 3, 2, 4];
        let rename = |(number, id): (u32, u32)| {
            let event = String::from_utf8(run.event(number)).unwrap();
            event.replacen(&format!("id: 9-{number}"), &format!("id: 9-{id}"), 1).into_bytes()
        };
        (0..4).zip(ids).map(rename).collect()
    };
    let (tally, lost) = judged(renumbered);
    assert_eq!((tally, lost), (Tally { deliveries: 4, ids_out_of_order: 1, ..Tally::default() }, 0));
}

#[test]
fn gap_and_its_missing_events_are_counted() {
    let gap = b"id: 9-2\nevent: gap\ndata: {\"reason\":\"lagged\"}\n\n";
    let (tally, lost) = judged(|run| [vec![gap.to_vec()], run.events(&[2, 3])].concat());
    assert_eq!((tally, lost), (Tally { deliveries: 2, gaps: 1, ..Tally::default() }, 2));
}

#[test]
fn keep_alives_change_nothing() {
    let others = |run: &Run| {
        let mut blocks = run.events(&[0, 1, 2, 3]);
        blocks.insert(1, b":\n\n".to_vec());
        blocks.insert(3, b"event: heartbeat\ndata: {\"timestamp\":1}\n\n".to_vec());
        blocks.insert(4, b": ping\n\n".to_vec());
        blocks
    };
    let (tally, lost) = judged(others);
    assert_eq!((tally, lost), (Tally { deliveries: 4, heartbeats: 1, comments: 2, ..Tally::default() }, 0));
}

#[test]
fn changed_payload_is_corrupted_and_one_of_another_run_is_foreign() {
    let changed = |run: &Run| {
        let mut blocks = run.events(&[0, 1, 2, 3]);
        let pad = blocks[1].len() - 6;
        blocks[1][pad] = b'y';
        let other = Run { checker: Checker { marker: Marker::new(8, 60), ..Run::new(1).checker }, ..Run::new(1) };
        blocks.push(other.event(3));
        blocks
    };
    let (tally, lost) = judged(changed);
    assert_eq!((tally, lost), (Tally { deliveries: 3, corrupted: 1, foreign: 1, ..Tally::default() }, 1));
}

#[test]
fn event_of_unsubscribed_topic_is_corrupted() {
    let other_topic = |run: &Run| {
        let payload = run.checker.marker.payload(Mark { topic: 6, publisher: 0, number: 0, due: 0 });
        [run.events(&[0, 1, 2, 3]), vec![format!("data: {payload}\n\n").into_bytes()]].concat()
    };
    assert_eq!(judged(other_topic), (Tally { deliveries: 4, corrupted: 1, ..Tally::default() }, 0));
}

#[test]
fn each_payload_of_an_event_is_a_delivery() {
    let joined = |run: &Run| {
        let first = run.event(0);
        // Without its blank line.
        vec![[&first[..first.len() - 1], &run.event(1)].concat(), run.event(2), run.event(3)]
    };
    let (tally, lost) = judged(joined);
    assert_eq!((tally.deliveries, tally.duplicated, lost), (4, 0, 0));
}

#[test]
fn event_longer_than_any_read_is_checked() {
    let mut run = Run::new(1);
    run.checker.marker = Marker::new(7, 300_000);
    let blocks = run.events(&[0, 1]);
    for (name, chunked, bytes) in framings(&blocks) {
        run.checker.tally = Tally::default();
        let stream = run.stream(chunked, &bytes, 50_000);
        let lost = stream.ledger.missing(Some(&[2, 0]), |_, _| false);
        assert_eq!((run.checker.tally, lost), (Tally { deliveries: 2, ..Tally::default() }, 0), "{name}");
    }
}

#[test]
fn body_ends_with_its_last_chunk_or_a_malformed_one() {
    let mut run = Run::new(1);
    let bytes = [chunk(&run.event(0)), b"0\r\n\r\n".to_vec()].concat();
    assert_eq!(run.stream_and_end(true, &bytes, 4096).1, Some("the server ended the stream"));
    assert_eq!(run.checker.tally.malformed, 0);
    assert_eq!(run.stream_and_end(true, b"nonsense", 4096).1, Some("malformed chunk or endless event"));
    assert_eq!(run.checker.tally.malformed, 1);
}

#[test]
fn ids_are_compared_as_numbers() {
    assert!(event_id(b"id: 9-10\ndata: x\n\n") > event_id(b"data: x\r\nid:9-9\r\n\r\n"));
    assert!(event_id(b"retry: 1\nid: 10-1\n\n") > event_id(b"id: 9-9\n\n"));
}

#[test]
fn id_of_another_form_is_none() {
    for block in [&b"data: 1-2\n\n"[..], b"id: 7\n\n", b"id: 1-2-3\n\n", b"id: a-1\n\n", b"id: -\n\n", b"id:"] {
        assert_eq!(event_id(block), None, "{block:?}");
    }
}

#[test]
fn last_member_of_a_group_completes_the_journal_entry() {
    let mut run = Run::new(3);
    let bytes: Vec<u8> = run.events(&[0, 1]).iter().flat_map(|block| chunk(block)).collect();
    for done in 1..=3 {
        run.stream(true, &bytes, 4096);
        assert_eq!(run.group.journal.as_mut().unwrap().get(1).unwrap().reached, done);
    }
    assert_eq!(run.checker.last_client.end_interval().counts.iter().sum::<u64>(), 2);
}

//! Each fault of a stream is counted as what it is, wherever its bytes are cut.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

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
            decoded_bytes: 0,
            plain: Vec::new(),
            lanes_per_place: PUBLISHERS,
            is_conflated: false,
        };
        checker.latency.measure(0, u64::MAX);
        checker.last_client.measure(0, u64::MAX);
        let journal = (members > 1).then(|| Journal::new(1));
        Self { checker, group: Group { topics: [5].into(), members, journal } }
    }

    /// A stream that got bytes in pieces of at most `piece` bytes.
    fn stream(&mut self, wire: &Wire, piece: usize) -> Stream {
        self.stream_and_end(wire, piece).0
    }

    /// The stream, and why it ended.
    fn stream_and_end(&mut self, wire: &Wire, piece: usize) -> (Stream, Option<Cow<'static, str>>) {
        let framing = if wire.is_chunked { "transfer-encoding: chunked\r\n" } else { "" };
        let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n");
        let body = Head::parse(head.as_bytes()).unwrap().unwrap().body();
        let mut stream = Stream::new(body, wire.syntax, Ledger::new(PUBLISHERS)).gunzip(wire.is_compressed);
        let mut cx = Context { now: 0, group: &mut self.group, checker: &mut self.checker };
        let end = wire.bytes.chunks(piece).try_for_each(|part| stream.receive(part, &mut cx)).err();
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

/// Blocks as one way to send them.
struct Wire {
    way: &'static str,
    is_chunked: bool,
    is_compressed: bool,
    syntax: Syntax,
    bytes: Vec<u8>,
}

impl Wire {
    fn chunked(way: &'static str, bytes: Vec<u8>) -> Self {
        Self { way, is_chunked: true, is_compressed: false, syntax: Syntax::EventStream, bytes }
    }

    fn plain(way: &'static str, bytes: Vec<u8>) -> Self {
        Self { way, is_chunked: false, is_compressed: false, syntax: Syntax::EventStream, bytes }
    }

    fn of_frames(bytes: Vec<u8>) -> Self {
        Self { way: "WebSocket", is_chunked: false, is_compressed: false, syntax: Syntax::WebSocket, bytes }
    }

    /// Visible after each block, in chunks that cut blocks.
    fn compressed(blocks: &[Vec<u8>]) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        for block in blocks {
            encoder.write_all(block).unwrap();
            encoder.flush().unwrap();
        }
        let bytes = encoder.finish().unwrap().chunks(37).flat_map(chunk).collect();
        Self { is_compressed: true, ..Self::chunked("gzip", bytes) }
    }
}

/// The number of ways to send blocks.
const WAYS: usize = 7;

/// All ways to send the same blocks.
fn wires(blocks: &[Vec<u8>]) -> [Wire; WAYS] {
    let all = blocks.concat();
    let crlf = String::from_utf8(all.clone()).unwrap().replace('\n', "\r\n").into_bytes();
    [
        Wire::chunked("a chunk for each block", blocks.iter().flat_map(|block| chunk(block)).collect()),
        Wire::chunked("one chunk", chunk(&all)),
        Wire::chunked("chunks that cut blocks", all.chunks(37).flat_map(chunk).collect()),
        Wire::compressed(blocks),
        Wire::plain("no chunks", all),
        Wire::plain("no chunks, lines end with CRLF", crlf),
        Wire::of_frames(blocks.iter().flat_map(|block| frame(block)).collect()),
    ]
}

/// A block as a frame of WebSocket: a ping in place of a comment.
fn frame(block: &[u8]) -> Vec<u8> {
    let block = str::from_utf8(block).unwrap();
    let values = |name| block.lines().filter_map(move |line: &str| line.strip_prefix(name));
    let data: Vec<&str> = values("data: ").collect();
    let name = values("event: ").next().unwrap_or("data");
    let kind = if name == "data" { "event" } else { name };
    let id = values("id: ").next().map_or(String::new(), |id| format!(r#","id":"{id}""#));
    let message = format!(r#"{{"type":"{kind}"{id},"data":{}}}"#, data.join(" "));
    let (first, payload) = if data.is_empty() { (0x89, "") } else { (0x81, &*message) };
    let length = match payload.len() {
        short @ 0..126 => vec![short as u8],
        long @ 126..65_536 => [&[126][..], &(long as u16).to_be_bytes()].concat(),
        longer => [&[127][..], &(longer as u64).to_be_bytes()].concat(),
    };
    [&[first], &length[..], payload.as_bytes()].concat()
}

/// Tally and lost events of a stream with these blocks: the same in each framing and size of reads, with or without a
/// journal.
fn judged(blocks: impl Fn(&Run) -> Vec<Vec<u8>>) -> (Tally, u64) {
    let mut verdict = None;
    for members in [1, 2] {
        for way in 0..WAYS {
            for piece in [1, 7, 100, 4096] {
                let mut run = Run::new(members);
                let blocks = blocks(&run);
                if members == 2 {
                    let whole = [vec![HELLO.to_vec()], run.events(&[0, 1, 2, 3])].concat();
                    let leader = run.stream(&wires(&whole)[way], 4096);
                    assert_eq!(leader.ledger.missing(Some(&[4, 0]), |_, _| false), 0);
                    assert_eq!(run.checker.tally, Tally { deliveries: 4, foreign: 1, ..Tally::default() });
                    run.checker.tally = Tally::default();
                }
                let wire = &wires(&blocks)[way];
                let stream = run.stream(wire, piece);
                let now = (run.checker.tally, stream.ledger.missing(Some(&[4, 0]), |_, _| false));
                let first = *verdict.get_or_insert(now);
                assert_eq!(now, first, "{}, in pieces of {piece}, {members} members", wire.way);
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
    for wire in wires(&blocks) {
        run.checker.tally = Tally::default();
        let stream = run.stream(&wire, 50_000);
        let lost = stream.ledger.missing(Some(&[2, 0]), |_, _| false);
        assert_eq!((run.checker.tally, lost), (Tally { deliveries: 2, ..Tally::default() }, 0), "{}", wire.way);
    }
}

#[test]
fn body_ends_with_its_last_chunk_or_a_malformed_one() {
    let mut run = Run::new(1);
    let wire = Wire::chunked("", [chunk(&run.event(0)), b"0\r\n\r\n".to_vec()].concat());
    assert_eq!(run.stream_and_end(&wire, 4096).1, Some("the server ended the stream".into()));
    assert_eq!(run.checker.tally.malformed, 0);
    assert_eq!(run.stream_and_end(&Wire::chunked("", b"nonsense".to_vec()), 4096).1, Some("malformed chunk".into()));
    assert_eq!(run.checker.tally.malformed, 1);
}

#[test]
fn changed_compressed_stream_is_malformed() {
    let mut run = Run::new(1);
    let mut wire = Wire::compressed(&run.events(&[0, 1]));
    // The last byte of a checksum, before the length and the line end of the chunk.
    let checksum = wire.bytes.len() - 7;
    wire.bytes[checksum] ^= 1;
    assert_eq!(run.stream_and_end(&wire, 4096).1, Some("invalid gzip".into()));
    assert_eq!((run.checker.tally.malformed, run.checker.tally.deliveries), (1, 2));
}

#[test]
fn last_member_of_a_group_completes_the_journal_entry() {
    let run = Run::new(3);
    let [first, .., last] = wires(&run.events(&[0, 1]));
    for wire in [first, last] {
        let mut run = Run::new(3);
        for done in 1..=3 {
            run.stream(&wire, 4096);
            assert_eq!(run.group.journal.as_mut().unwrap().get(1).unwrap().reached, done);
        }
        assert_eq!(run.checker.last_client.end_interval().counts.iter().sum::<u64>(), 2);
    }
}

#[test]
fn websocket_ends_with_a_close_or_a_frame_that_cannot_be_checked() {
    let mut run = Run::new(1);
    let mut end = |frames: &[&[u8]]| {
        let (_, end) = run.stream_and_end(&Wire::of_frames(frames.concat()), 3);
        (end.unwrap().into_owned(), std::mem::take(&mut run.checker.tally).malformed)
    };
    let close = b"\x88\x06\x0f\xa0slow";
    assert_eq!(end(&[b"\x89\0", close]), ("the server closed it with code 4000: slow".into(), 0));
    assert_eq!(end(&[b"\x01\x01a"]), ("a fragmented message, which cannot be checked".into(), 1));
    assert_eq!(end(&[b"\x81\0", b"HTTP"]), ("malformed frame".into(), 1));
}

#[test]
fn last_ping_is_to_be_answered_once() {
    let mut run = Run::new(1);
    let mut stream = run.stream(&Wire::of_frames(b"\x89\x01a\x89\x01b".to_vec()), 100);
    assert_eq!((stream.take_ping(), stream.take_ping()), (Some(b"b".to_vec()), None));
}

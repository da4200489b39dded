//! From standard input to a client: bursts with and without room in the ring.

use std::env;
use std::io::{BufWriter, Write};
use std::process::{ChildStdin, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Process, Server, TIMEOUT, fanline, serve};

/// The number of lines in a burst. scripts/test sets `TEST_BURST` to a million, which is slow in an unoptimized build.
static BURST: LazyLock<u64> = LazyLock::new(|| {
    env::var("TEST_BURST").map_or(100_000, |lines| lines.parse().expect("TEST_BURST is a number of lines"))
});

/// A server that reads its standard input, which the test writes.
fn reading_server(args: &[&str]) -> (Server, ChildStdin) {
    let mut command = serve(&[&["--listen", "127.0.0.1:0", "--stdin"], args].concat());
    command.stdin(Stdio::piped());
    let mut server = Server::launch(command);
    let stdin = server.stdin();
    (server, stdin)
}

fn tail(server: &Server, args: &[&str]) -> Process {
    Process::start(fanline(&[&["tail", "--url", &server.url()], args].concat()))
}

/// Writes the numbers from 1 to `last` as lines, like `seq`.
fn count_to(last: u64, stdin: ChildStdin) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut stdin = BufWriter::new(stdin);
        for number in 1..=last {
            writeln!(stdin, "{number}").expect("the server reads");
        }
        stdin.flush().expect("the server reads");
    })
}

/// Checks that the lines are the numbers from 1 to `last`.
fn assert_numbers(lines: &Receiver<String>, last: u64) {
    for number in 1..=last {
        let line = lines.recv_timeout(TIMEOUT).unwrap_or_else(|_| panic!("{number} did not arrive"));
        assert_eq!(line, number.to_string());
    }
}

fn ring_for(lines: u64) -> [String; 6] {
    let lines = lines.to_string();
    ["--history", &lines, "--firehose-history", &lines, "--history-bytes", "1GiB"].map(str::to_owned)
}

#[test]
fn burst_reaches_a_connected_client_once_in_order() {
    let ring = ring_for(*BURST);
    let (server, stdin) = reading_server(&[&["--topic", "n"], &ring.each_ref().map(|arg| &**arg)[..]].concat());
    let mut tail = tail(&server, &["--topics", "n", "--count", &BURST.to_string()]);
    server.wait_for_streams(1);
    let counting = count_to(*BURST, stdin);
    assert_numbers(&tail.lines(), *BURST);
    counting.join().unwrap();
    assert!(tail.wait(TIMEOUT).success());
    assert_eq!(tail.log.count("gap"), 0);
}

#[test]
fn burst_is_replayed_whole_from_earliest() {
    let ring = ring_for(*BURST);
    let (server, stdin) = reading_server(&[&["--topic", "n"], &ring.each_ref().map(|arg| &**arg)[..]].concat());
    count_to(*BURST, stdin).join().unwrap();
    server.log.wait_for("standard input has ended");
    let mut tail = tail(&server, &["--topics", "n", "--from", "earliest", "--count", &BURST.to_string()]);
    assert_numbers(&tail.lines(), *BURST);
    assert!(tail.wait(TIMEOUT).success());
}

/// The output of `fanline tail --format json`.
#[derive(Debug, Default)]
struct Tally {
    received: u64,
    missed: u64,
    gaps: u64,
    connections: u64,
    newest: u64,
}

impl Tally {
    fn line(&mut self, line: &str) {
        let line: Value = serde_json::from_str(line).expect("each line is JSON");
        match line["type"].as_str().expect("a line has a type") {
            "event" => {
                let number: u64 = line["text"].as_str().expect("a text").parse().expect("a number");
                assert!(number > self.newest, "{number} came after {}", self.newest);
                // Gaps before the second event counted all events between the two.
                assert_eq!(self.received + self.missed + 1, number, "after {self:?}");
                (self.received, self.newest) = (self.received + 1, number);
            }
            "gap" => {
                let gap = &line["data"];
                assert!(matches!(gap["reason"].as_str(), Some("evicted" | "lagged")), "{gap}");
                self.missed += gap["missed"].as_u64().unwrap_or_else(|| panic!("not counted: {gap}"));
                self.gaps += 1;
            }
            "system" => self.connections += 1,
            other => panic!("unexpected event {other:?}"),
        }
    }
}

/// Writes the numbers to `last` to a server whose ring is too small for them, and follows with `tail_args`.
fn overflow_ring(server_args: &[&str], tail_args: &[&str], last: u64) -> Tally {
    let (server, stdin) = reading_server(&[&["--topic", "n", "--retry", "100ms"], server_args].concat());
    let mut tail = tail(&server, &[&["--format", "json"], tail_args].concat());
    server.wait_for_streams(1);
    let counting = count_to(last, stdin);
    let lines = tail.lines();
    let mut tally = Tally::default();
    while tally.received + tally.missed < last {
        tally.line(&lines.recv_timeout(TIMEOUT).unwrap_or_else(|_| panic!("no event after {tally:?}")));
    }
    counting.join().unwrap();
    // One more event, so that no error after the last one goes unnoticed.
    server.publish("n", &(last + 1).to_string());
    while tally.newest <= last {
        tally.line(&lines.recv_timeout(TIMEOUT).unwrap_or_else(|_| panic!("no event after {tally:?}")));
    }
    assert_eq!(tally.received + tally.missed, last + 1, "{tally:?}");
    tail.signal(Signal::TERM);
    assert!(tail.wait(TIMEOUT).success());
    assert!(lines.iter().next().is_none());
    eprintln!("{server_args:?} {tail_args:?}: {tally:?}");
    tally
}

#[test]
fn burst_beyond_the_default_history_is_counted_in_gaps() {
    overflow_ring(&[], &["--topics", "n"], *BURST);
}

#[test]
fn burst_beyond_a_history_of_one_event_is_counted_in_gaps() {
    let tally = overflow_ring(&["--history", "1"], &["--topics", "n"], *BURST);
    assert!(tally.gaps > 0, "{tally:?}");
}

#[test]
fn burst_beyond_the_firehose_history_is_counted_in_gaps() {
    overflow_ring(&["--firehose-history", "64"], &[], *BURST);
}

#[test]
fn skipping_client_keeps_its_stream_and_counts_missed_events() {
    let tally = overflow_ring(&["--history", "64"], &["--topics", "n", "--on-lag", "skip"], *BURST);
    assert_eq!(tally.connections, 1, "{tally:?}");
}

#[test]
fn json_lines_name_their_topics_and_invalid_ones_are_skipped() {
    let (server, mut stdin) = reading_server(&["--stdin-format", "ndjson"]);
    let mut stream = server.stream("topics=a,b:c");
    let lines =
        "{\"topic\":\"a\",\"data\":{\"x\": 1.0}}\nnonsense\n\n{\"topic\":\"b:c\",\"event\":\"e\",\"text\":\"1\\n2\"}\n";
    stdin.write_all(lines.as_bytes()).unwrap();
    let event = stream.next();
    assert_eq!((event.name.as_str(), event.data.as_str()), ("message", "{\"x\": 1.0}"));
    let event = stream.next();
    assert_eq!((event.name.as_str(), event.data.as_str()), ("e", "1\n2"));
    let warning: Value = serde_json::from_str(&server.log.wait_for("line refused")).unwrap();
    assert_eq!((&warning["level"], &warning["fields"]["line"]), (&"WARN".into(), &2.into()));
}

#[test]
fn server_continues_after_the_end_of_its_input() {
    let (server, mut stdin) = reading_server(&["--topic", "n"]);
    let mut stream = server.stream("topics=n");
    let producer = |server: &Server| server.get("/health").json()["producers"]["stdin_producer"].clone();
    assert_eq!(producer(&server), "running");
    // The last line needs no line end.
    stdin.write_all(b"one\ntwo").unwrap();
    assert_eq!(stream.next().data, "one");
    drop(stdin);
    assert_eq!(stream.next().data, "two");
    server.log.wait_for("the server continues");
    while producer(&server) != "stopped" {
        assert!(server.log.count("panic") == 0);
    }
    assert_eq!(server.get("/health").json()["status"], "healthy");
    server.publish("n", "three");
    assert_eq!(stream.next().data, "three");
}

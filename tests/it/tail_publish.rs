//! `fanline publish` and `fanline tail` with a server.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;

use rustix::process::Signal;

use crate::process::{Process, Server, Stream, TIMEOUT, fanline, pseudo_terminal};

fn publish(server: &Server, args: &[&str]) -> Command {
    fanline(&[&["publish", "--url", &server.url()], args].concat())
}

/// Runs `fanline publish` with `input` on its standard input.
fn publish_input(server: &Server, args: &[&str], input: &str) -> (Option<i32>, Vec<String>, Vec<String>) {
    let mut command = publish(server, args);
    command.stdin(Stdio::piped());
    let mut process = Process::start(command);
    process.feed(input);
    let code = process.wait(TIMEOUT).code();
    (code, process.lines().iter().collect(), process.log.whole())
}

fn tail(server: &Server, args: &[&str]) -> (Process, Receiver<String>) {
    let mut process = Process::start(fanline(&[&["tail", "--url", &server.url()], args].concat()));
    let lines = process.lines();
    (process, lines)
}

fn next(lines: &Receiver<String>) -> String {
    lines.recv_timeout(TIMEOUT).expect("another line")
}

/// The data of the next events.
fn data<const N: usize>(stream: &mut Stream) -> [String; N] {
    std::array::from_fn(|_| stream.next().data)
}

#[test]
fn publish_sends_one_event_and_prints_its_id() {
    let server = Server::start(&[]);
    let mut stream = server.stream("");
    let (code, stdout, stderr) = Process::run(publish(&server, &["--topic", "chat:7", "hello\nworld"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let event = stream.next();
    assert_eq!((event.name.as_str(), event.data.as_str()), ("message", "hello\nworld"));
    assert_eq!(Some(stdout.trim_end()), event.id.as_deref());

    let json = r#"{"b": 1.0, "a":1e3}"#;
    let (code, ..) = Process::run(publish(&server, &["-t", "chat:7", "-e", "update", "--json", json]));
    let event = stream.next();
    assert_eq!((code, event.name.as_str(), event.data.as_str()), (Some(0), "update", json));
}

#[test]
fn publish_repeated_with_a_key_prints_the_first_id() {
    let server = Server::start(&[]);
    let mut stream = server.stream("topics=orders");
    let command = || publish(&server, &["-t", "orders", "--idempotency-key", "order-17", "order 17"]);
    let (code, first, _) = Process::run(command());
    assert_eq!((code, Process::run(command()).1), (Some(0), first));
    let (code, _, stderr) = Process::run(publish(&server, &["-t", "orders", "--idempotency-key", "order-17", "18"]));
    assert!(code == Some(1) && stderr.contains("used for other events"), "{stderr}");
    server.publish("orders", "end");
    assert_eq!(data(&mut stream), ["order 17", "end"]);
}

#[test]
fn publish_rejects_invalid_arguments_before_connecting() {
    let server = Server::start(&[]);
    for args in [&["hello"][..], &["-t", "a*", "x"], &["-t", "t", "--json", "{"], &["-t", "t", "-e", "a\nb", "x"]] {
        let (code, stdout, stderr) = Process::run(publish(&server, args));
        assert!(code == Some(2) && stdout.is_empty() && !stderr.is_empty(), "{args:?}: {code:?} {stderr}");
    }
    assert_eq!(server.get("/").json()["history_size"], 0);
}

#[test]
fn publish_prints_the_rejection_of_the_server() {
    let server = Server::start(&["--max-event-bytes", "10"]);
    let (code, stdout, stderr) = Process::run(publish(&server, &["-t", "t", "12345678901"]));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("413") && stderr.contains("limit is 10"), "{stderr}");
}

#[test]
fn publish_sends_input_lines_as_they_arrive() {
    let server = Server::start(&[]);
    let mut stream = server.stream("topics=log");
    let mut command = publish(&server, &["--topic", "log"]);
    command.stdin(Stdio::piped());
    let mut process = Process::start(command);
    let mut stdin = process.stdin();
    stdin.write_all(b"one\n\nthr").unwrap();
    // Before the end of the input.
    assert_eq!(data(&mut stream), ["one", ""]);
    stdin.write_all(b"ee\nfour").unwrap();
    assert_eq!(data(&mut stream), ["three"]);
    drop(stdin);
    assert_eq!(data(&mut stream), ["four"]);
    assert!(process.wait(TIMEOUT).success());
    let printed = next(&process.lines());
    assert!(printed.ends_with("(4 events)"), "{printed}");
}

#[test]
fn publish_stops_at_an_invalid_line_and_reports_progress() {
    let server = Server::start(&[]);
    let mut stream = server.stream("");
    let input =
        "{\"topic\":\"a\",\"data\":1}\n{\"topic\":\"b\",\"text\":\"2\"}\nnonsense\n{\"topic\":\"a\",\"data\":3}\n";
    let (code, stdout, stderr) = publish_input(&server, &["--format", "ndjson"], input);
    assert_eq!(code, Some(1));
    assert!(stdout.len() == 1 && stdout[0].ends_with("(2 events)"), "{stdout:?}");
    assert!(stderr.iter().any(|line| line.contains("line 3")), "{stderr:?}");
    assert_eq!(data(&mut stream), ["1", "2"]);

    // Rejected only by the server.
    let input = format!("{{\"topic\":\"a\",\"data\":4}}\n{{\"topic\":\"a\",\"text\":\"{}\"}}\n", "x".repeat(70_000));
    let (code, _, stderr) = publish_input(&server, &["--format", "ndjson"], &input);
    assert!(code == Some(1) && stderr.iter().any(|line| line.contains("413")), "{code:?} {stderr:?}");
    assert!(stderr.iter().any(|line| line.contains("line 2")), "{stderr:?}");
    assert_eq!(data(&mut stream), ["4"]);
}

#[test]
fn publish_without_a_server_names_the_url() {
    let mut server = Server::start_restartable(&[]);
    server.signal(Signal::TERM);
    server.wait(TIMEOUT);
    let (code, stdout, stderr) = Process::run(publish(&server, &["-t", "t", "x"]));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains(&server.url()), "{stderr}");
}

#[test]
fn a_million_bytes_of_lines_pass_through_publish_and_tail_unchanged() {
    let server = Server::start(&["--history", "20000"]);
    let (mut tailing, lines) = tail(&server, &["--topics", "t", "--count", "10000"]);
    server.wait_for_streams(1);
    let line = |number: usize| format!("{number} größe \"\\{}", "y".repeat(number % 200));
    let input: String = (0..10_000).map(|number| line(number) + "\n").collect();
    let (code, stdout, _) = publish_input(&server, &["-t", "t"], &input);
    assert!(code == Some(0) && stdout[0].ends_with("(10000 events)"), "{stdout:?}");
    for number in 0..10_000 {
        assert_eq!(next(&lines), line(number));
    }
    assert!(tailing.wait(TIMEOUT).success());
}

#[test]
fn tail_starts_at_the_requested_position() {
    let server = Server::start(&[]);
    let ids: Vec<_> = (1..=5).map(|number| server.publish("t", &number.to_string())).collect();
    for (args, expected) in [
        (&["--from", "earliest"][..], &["1", "2", "3", "4", "5"][..]),
        (&["--from", &ids[2]], &["4", "5"]),
        (&["--history", "1"], &["5"]),
    ] {
        let count = expected.len().to_string();
        let (mut tailing, lines) = tail(&server, &[args, &["--count", &count]].concat());
        assert!(tailing.wait(TIMEOUT).success());
        assert_eq!(lines.iter().collect::<Vec<_>>(), expected, "{args:?}");
    }
}

#[test]
fn tail_prints_topics_as_json_and_for_people() {
    let server = Server::start(&[]);
    let formats = ["json", "log"].map(|format| {
        let (tailing, lines) = tail(&server, &["--topics", "a,b.*", "--format", format, "--count", "2"]);
        if format == "json" {
            assert!(next(&lines).starts_with("{\"type\":\"system\",\"id\":\""));
        }
        (tailing, lines)
    });
    server.wait_for_streams(2);
    let publish = |args: &[&str]| Process::run(publish(&server, args)).1.trim().to_owned();
    let ids = [publish(&["-t", "a", "--json", "{\"x\":\n1}"]), publish(&["-t", "b.c", "-e", "update", "text"])];
    let [(mut json, json_lines), (mut log, log_lines)] = formats;
    assert_eq!(
        json_lines.iter().collect::<Vec<_>>(),
        [
            format!(r#"{{"type":"event","id":"{}","topic":"a","event":"message","data":{{"x": 1}}}}"#, ids[0]),
            format!(r#"{{"type":"event","id":"{}","topic":"b.c","event":"update","text":"text"}}"#, ids[1]),
        ]
    );
    let without_time = |line: String| line.split_once("Z ").expect("a time").1.to_owned();
    assert_eq!(log_lines.iter().map(without_time).collect::<Vec<_>>(), ["a {\"x\": 1}", "b.c update text"]);
    assert!(json.wait(TIMEOUT).success() && log.wait(TIMEOUT).success());
}

#[test]
fn tail_on_a_terminal_shows_topics_in_colours_unless_no_color_is_set() {
    let server = Server::start(&[]);
    server.publish("a.b", "hello");
    for (variable, shown) in [(None, "\u{1b}[36ma.b\u{1b}[0m hello"), (Some("1"), "Z a.b hello")] {
        let (terminal, end_of_tail) = pseudo_terminal();
        let mut command = fanline(&["tail", "--url", &server.url(), "--from", "earliest", "--count", "1", "--quiet"]);
        command.envs(variable.map(|value| ("NO_COLOR", value))).stdout(end_of_tail);
        let mut tailing = command.spawn().unwrap();
        // The only other end is that of tail: reading fails when it exits.
        drop(command);
        let lines: Vec<_> = BufReader::new(terminal).lines().map_while(Result::ok).collect();
        assert!(tailing.wait().unwrap().success());
        assert!(lines.len() == 1 && lines[0].contains(shown), "NO_COLOR={variable:?}: {lines:?}");
    }
}

#[test]
fn tail_reconnects_after_a_restart_and_reports_the_new_epoch() {
    let args = &["--retry", "100ms", "--drain", "0s"];
    let mut server = Server::start_restartable(args);
    let (mut tailing, lines) = tail(&server, &["--format", "json"]);
    let hello = next(&lines);
    assert!(hello.contains("connected"), "{hello}");
    let before = server.publish("t", "before");
    assert!(next(&lines).contains("\"before\""));

    server.signal(Signal::TERM);
    let announcement = next(&lines);
    assert!(announcement.contains("server restarting"), "{announcement}");
    assert_eq!(server.wait(TIMEOUT).code(), Some(0));
    tailing.log.wait_for("disconnected: the server ended the stream");
    // No server listens for a while.
    tailing.log.wait_for("cannot connect");

    let server = server.restart(args);
    assert!(next(&lines).contains("connected"));
    let gap: serde_json::Value = serde_json::from_str(&next(&lines)).unwrap();
    assert_eq!(gap["type"], "gap");
    let gap = &gap["data"];
    assert_eq!((&gap["reason"], gap["from"].as_str(), &gap["missed"]), (&"epoch".into(), Some(&*before), &().into()));
    let after = server.publish("t", "after");
    assert_ne!(before.split('-').next(), after.split('-').next());
    assert!(next(&lines).contains("\"after\""));
    tailing.signal(Signal::INT);
    assert!(tailing.wait(TIMEOUT).success());
}

#[test]
fn tail_reconnects_after_a_kill_and_logs_it() {
    let mut server = Server::start_restartable(&["--retry", "100ms"]);
    let (tailing, lines) = tail(&server, &[]);
    tailing.log.wait_for("connected, as ");
    server.publish("t", "before");
    assert_eq!(next(&lines), "before");
    server.signal(Signal::KILL);
    server.wait(TIMEOUT);
    tailing.log.wait_for("disconnected: ");
    let server = server.restart(&["--retry", "100ms"]);
    tailing.log.wait_for("gap: epoch, missed an unknown number of events");
    server.publish("t", "after");
    assert_eq!(next(&lines), "after");
}

#[test]
fn tail_exits_when_its_output_is_closed() {
    let server = Server::start(&[]);
    server.publish("t", "only one");
    let (mut tailing, lines) = tail(&server, &["--from", "earliest"]);
    assert_eq!(next(&lines), "only one");
    tailing.signal(Signal::TERM);
    assert_eq!(tailing.wait(TIMEOUT).code(), Some(0));
    server.wait_for_streams(0);
}

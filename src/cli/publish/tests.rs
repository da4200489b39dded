use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc as blocking;

use clap::Parser;

use super::*;
use crate::cli::tests::scripted::ScriptedServer;

#[derive(clap::Parser)]
struct CommandLine {
    #[command(flatten)]
    args: PublishArgs,
}

fn parse(flags: &[&str]) -> Result<PublishArgs, clap::Error> {
    let line = ["publish"].iter().chain(flags);
    CommandLine::try_parse_from(line).map(|line| line.args)
}

fn args(server: &ScriptedServer, flags: &[&str]) -> PublishArgs {
    let mut args = parse(flags).unwrap();
    args.server.url = server.url();
    args
}

/// An input whose reads block until the test types something, as a terminal's do.
struct Typed(blocking::Receiver<&'static str>);

impl Read for Typed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let text = self.0.recv().unwrap_or_default();
        buffer[..text.len()].copy_from_slice(text.as_bytes());
        Ok(text.len())
    }
}

#[tokio::test]
async fn one_event_is_sent_as_one_json_object() {
    for (flags, body) in [
        (&["--topic=t", "say \"hi\"\n"][..], r#"{"topic":"t","text":"say \"hi\"\n"}"#),
        (&["--topic=t", "--event=größe", "x"], r#"{"topic":"t","event":"größe","text":"x"}"#),
        (&["--topic=t", "--key=a b", "x"], r#"{"topic":"t","key":"a b","text":"x"}"#),
        (&["--topic=t", "--json", "--key-pointer=/id", "{\"id\":7}"], r#"{"topic":"t","key":"7","data":{"id":7}}"#),
        (&["--topic=t", "--key=k", "--delete"], r#"{"topic":"t","key":"k","delete":true}"#),
        (&["--topic=t", "--delete", "--json", "null"], r#"{"topic":"t","delete":true,"data":null}"#),
        (&["--topic=t", "--json", "{\"b\": 1.0,\n \"a\":1e3}"], "{\"topic\":\"t\",\"data\":{\"b\": 1.0,\n \"a\":1e3}}"),
    ] {
        let server = ScriptedServer::start().await;
        let args = args(&server, flags);
        let event = args.one_event().unwrap().unwrap();
        let publishing = tokio::spawn(async move { publish_one(&args, event).await });
        let mut peer = server.accept().await;
        peer.receive_until(body.as_bytes()).await;
        assert_eq!((peer.target(), peer.header("content-type")), ("POST /publish", Some("application/json")));
        assert_eq!(peer.header("content-length"), Some(body.len().to_string().as_str()));
        peer.answer("200 OK", "application/json", r#"{"id": "7-42", "published": 1}"#).await;
        assert_eq!(publishing.await.unwrap().unwrap().to_string(), "7-42");
    }
}

#[tokio::test]
async fn refused_event_is_reported_with_problem_detail() {
    let server = ScriptedServer::start().await;
    let args = args(&server, &["--topic=t", "x"]);
    let publishing = tokio::spawn(async move { publish_one(&args, args.one_event()?.unwrap()).await });
    let problem = r#"{"title":"Payload Too Large","status":413,"detail":"an event has at most 65536 bytes"}"#;
    server.accept().await.answer("413 Payload Too Large", "application/problem+json", problem).await;
    let error = publishing.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the server answered 413 Payload Too Large: an event has at most 65536 bytes");
    assert_eq!(error.exit_code(), 1);
}

#[tokio::test]
async fn each_line_is_sent_before_the_next_is_typed() {
    let server = ScriptedServer::start().await;
    let args = args(&server, &["--topic=t"]);
    let (keyboard, typed) = blocking::channel();
    let publishing = tokio::spawn(async move {
        publish_lines(&args.server, args.input_format().unwrap(), Typed(typed), pending()).await
    });
    keyboard.send("one\n").unwrap();
    let mut peer = server.accept().await;
    peer.receive_until(b"one").await;
    keyboard.send("tw").unwrap();
    keyboard.send("o\n").unwrap();
    peer.receive_until(b"two").await;
    keyboard.send("three").unwrap();
    drop(keyboard);
    peer.receive_until(b"\r\n0\r\n\r\n").await;
    assert_eq!(peer.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(
        peer.unchunked(),
        "{\"topic\":\"t\",\"text\":\"one\"}\n{\"topic\":\"t\",\"text\":\"two\"}\n{\"topic\":\"t\",\"text\":\"three\"}\n"
    );
    peer.answer("200 OK", "application/json", r#"{"first_id":"7-1","last_id":"7-3","published":3}"#).await;
    let (published, fault) = publishing.await.unwrap().unwrap();
    assert_eq!(published.unwrap().to_string(), "7-1–7-3 (3 events)");
    assert!(fault.is_none());
}

#[tokio::test]
async fn stop_ends_the_request_and_waits_for_the_answer() {
    let server = ScriptedServer::start().await;
    let args = args(&server, &["--topic=t"]);
    let (keyboard, typed) = blocking::channel();
    let (stop, stopped) = oneshot::channel();
    let publishing = tokio::spawn(async move {
        let stopped = async { stopped.await.unwrap() };
        publish_lines(&args.server, args.input_format().unwrap(), Typed(typed), stopped).await
    });
    keyboard.send("one\n").unwrap();
    let mut peer = server.accept().await;
    peer.receive_until(b"one").await;
    stop.send(()).unwrap();
    peer.receive_until(b"\r\n0\r\n\r\n").await;
    peer.answer("200 OK", "application/json", r#"{"first_id":"7-1","last_id":"7-1","published":1}"#).await;
    let (published, _) = publishing.await.unwrap().unwrap();
    assert_eq!(published.unwrap().to_string(), "7-1 (1 event)");
}

#[tokio::test]
async fn invalid_line_ends_the_input_after_the_lines_before_it() {
    let server = ScriptedServer::start().await;
    let args = args(&server, &["--format=ndjson"]);
    let input = &b"{\"topic\":\"t\",\"data\":1}\n{\"topic\":\"t\"}\n{\"topic\":\"t\",\"data\":3}\n"[..];
    let publishing =
        tokio::spawn(async move { publish_lines(&args.server, args.input_format().unwrap(), input, pending()).await });
    let mut peer = server.accept().await;
    peer.receive_until(b"\r\n0\r\n\r\n").await;
    assert_eq!(peer.unchunked(), "{\"topic\":\"t\",\"data\":1}\n");
    peer.answer("200 OK", "application/json", r#"{"first_id":"7-1","last_id":"7-1","published":1}"#).await;
    let (published, fault) = publishing.await.unwrap().unwrap();
    assert_eq!(published.unwrap().published, 1);
    let sentence = Error::Input(fault.unwrap()).to_string();
    assert!(sentence.starts_with("line 2: an event has a payload"), "{sentence}");
    assert!(sentence.ends_with("; the lines before it have been published"), "{sentence}");
}

#[tokio::test]
async fn invalid_first_line_makes_no_connection() {
    let server = ScriptedServer::start().await;
    let args = args(&server, &["--topic=t"]);
    let refused = publish_lines(&args.server, args.input_format().unwrap(), &b"\xff\n"[..], pending()).await.unwrap();
    assert!(matches!(refused, (None, Some(InputError::Line { line: 1, .. }))));
    let empty = publish_lines(&args.server, args.input_format().unwrap(), &b""[..], pending()).await.unwrap();
    assert!(matches!(empty, (None, None)));
}

#[tokio::test]
async fn server_error_is_reported_while_input_continues() {
    let server = ScriptedServer::start().await;
    let args = args(&server, &["--topic=t"]);
    let (keyboard, typed) = blocking::channel();
    let publishing = tokio::spawn(async move {
        publish_lines(&args.server, args.input_format().unwrap(), Typed(typed), pending()).await
    });
    keyboard.send("one\ntwo\n").unwrap();
    let mut peer = server.accept().await;
    peer.receive_until(b"two").await;
    let problem = r#"{"title":"Bad Request","detail":"line 2: too long; 1 event before it was published"}"#;
    peer.answer("400 Bad Request", "application/problem+json", problem).await;
    let error = publishing.await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server answered 400 Bad Request: line 2: too long; 1 event before it was published"
    );
    drop(keyboard);
}

#[tokio::test]
async fn endless_input_is_read_at_the_pace_of_the_server() {
    /// Counts what is read of an endless input.
    struct Endless(Arc<AtomicUsize>);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(b'x');
            buffer[buffer.len() - 1] = b'\n';
            self.0.fetch_add(buffer.len(), Ordering::Relaxed);
            Ok(buffer.len())
        }
    }
    let server = ScriptedServer::start().await;
    let args = args(&server, &["--topic=t"]);
    let read = Arc::default();
    let input = Endless(Arc::clone(&read));
    let publishing =
        tokio::spawn(async move { publish_lines(&args.server, args.input_format().unwrap(), input, pending()).await });
    let mut peer = server.accept().await;
    for received in (0..32).map(|mebibyte| mebibyte << 20) {
        peer.receive_bytes(1 << 20).await;
        let lead = read.load(Ordering::Relaxed).saturating_sub(received);
        assert!(lead < 24 << 20, "the input is {lead} bytes ahead of the server");
    }
    publishing.abort();
    peer.closed().await;
}

#[tokio::test]
async fn broken_connection_leaves_the_outcome_unknown() {
    let server = ScriptedServer::start().await;
    let args = args(&server, &["--topic=t", "x"]);
    let publishing = tokio::spawn(async move { publish_one(&args, args.one_event()?.unwrap()).await });
    drop(server.accept().await);
    let sentence = publishing.await.unwrap().unwrap_err().to_string();
    assert!(sentence.starts_with("no answer from http://127.0.0.1:"), "{sentence}");
    assert!(sentence.ends_with("; events may have been published"), "{sentence}");
}

#[test]
fn wrong_command_line_is_refused_before_connecting() {
    for (flags, sentence) in [
        (&["--topic=a*", "x"][..], "topics cannot contain '*'; patterns are only for subscribing"),
        (&["--topic=a", "--event=a\nb", "x"], "event names cannot contain control characters"),
        (&["--event=a", "x"], "--topic <TOPIC>"),
        (&["--topic=a", "--json"], "required"),
        (&["--topic=a", "--format=lines", "x"], "cannot be used with"),
        (&["--url=unix:fanline.sock", "--topic=a", "x"], "the path of a Unix socket must be absolute"),
    ] {
        let error = parse(flags).unwrap_err();
        assert!(error.to_string().contains(sentence), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
    let no_topic = parse(&["x"]).unwrap().head().unwrap_err();
    assert_eq!((no_topic.exit_code(), parse(&[]).unwrap().input_format().is_err()), (2, true));
    let not_json = parse(&["--topic=t", "--json", "{a:1}"]).unwrap().one_event().unwrap_err();
    assert_eq!(
        not_json.to_string(),
        "DATA is not one JSON value: key must be a string at column 2; without --json it is sent as text"
    );
    assert_eq!(not_json.exit_code(), 2);
}

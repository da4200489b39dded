mod compression;
mod websocket;

use std::future::pending;

use clap::Parser;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::cli::tests::scripted::{ScriptedServer, Written, output};

#[derive(clap::Parser)]
struct CommandLine {
    #[command(flatten)]
    args: TailArgs,
}

fn parse(flags: &[&str]) -> Result<TailArgs, clap::Error> {
    let line = ["tail"].iter().chain(flags);
    CommandLine::try_parse_from(line).map(|line| line.args)
}

/// The style of an output that is no terminal.
fn style(args: &TailArgs) -> Style {
    Style { format: args.format.unwrap_or(Format::Data), is_coloured: false, is_quiet: args.quiet }
}

/// A running `fanline tail`.
struct Tail {
    events: Written,
    notices: Written,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), Error>>,
}

fn tail(server: &ScriptedServer, flags: &[&str]) -> Tail {
    let mut args = parse(flags).unwrap();
    args.server.url = server.url();
    let (stop, stopped) = oneshot::channel();
    let ((out, events), (err, notices)) = (output(), output());
    let ended = tokio::spawn(async move {
        let stopped = async {
            if stopped.await.is_err() {
                pending().await
            }
        };
        follow(&args, style(&args), out, err, stopped).await
    });
    Tail { events, notices, stop, ended }
}

/// The two outputs of a tail whose stream comes in these parts.
fn taken(flags: &[&str], longest_event: usize, parts: &[&[u8]]) -> (String, String) {
    let args = parse(flags).unwrap();
    let ((out, mut events), (err, mut notices)) = (output(), output());
    let style = style(&args);
    let mut follower = Follower::new(&args, style.format, Printer::new(out, err, style));
    follower.decoder = SseDecoder::with_limit(NonZeroUsize::new(longest_event).unwrap());
    for part in parts {
        follower.print(Bytes::copy_from_slice(part)).unwrap();
    }
    follower.printer.finish().unwrap();
    (events.text().to_string(), notices.text().to_string())
}

/// A refusal whose detail would change the terminal.
const UNAVAILABLE: &str = "retry: 100000\nevent: system\ndata: {\"message\":\"unavailable\",\"reason\":\"connections\",\
                           \"detail\":\"the server is full\\u001b\",\"retry\":100000}\n\n";

const HELLO: &str = "id: 7-1\nevent: system\nretry: 5000\ndata: {\"message\":\"connected\"}\n\n";

#[tokio::test]
async fn request_has_all_flags() {
    let server = ScriptedServer::start().await;
    let _tail = tail(
        &server,
        &[
            "--topics=a:*,b/größe",
            "--name=my tail",
            "--tags=x,y",
            "--from=7-41",
            "--on-lag=skip",
            "--heartbeat=10",
            "--token=s3cret",
        ],
    );
    let peer = server.accept().await;
    assert_eq!(
        peer.target(),
        "GET /stream?topics=a%3A*%2Cb%2Fgr%C3%B6%C3%9Fe&client_name=my+tail&tags=x%2Cy&on_lag=skip&heartbeat=10"
    );
    assert_eq!(peer.header("last-event-id"), Some("7-41"));
    assert_eq!(peer.header("accept"), Some("text/event-stream"));
    assert_eq!(peer.header("authorization"), Some("Bearer s3cret"));
    assert_eq!(peer.header("host"), Some(&server.url().to_string()["http://".len()..]));
}

#[tokio::test]
async fn tail_without_flags_follows_all_topics_from_now_on() {
    let server = ScriptedServer::start().await;
    let _tail = tail(&server, &[]);
    let peer = server.accept().await;
    assert_eq!((peer.target(), peer.header("last-event-id")), ("GET /stream", None));
}

#[tokio::test]
async fn formats_with_topics_ask_for_envelopes() {
    for (flags, target) in [
        (&["--format=json"][..], "GET /stream?format=envelope"),
        (&["--format=log", "--topics=a"], "GET /stream?topics=a&format=envelope"),
        (&["--format=data"], "GET /stream"),
        (&["--format=sse"], "GET /stream"),
    ] {
        let server = ScriptedServer::start().await;
        let _tail = tail(&server, flags);
        assert_eq!(server.accept().await.target(), target);
    }
}

#[tokio::test]
async fn lone_event_is_printed_while_the_stream_is_open() {
    let server = ScriptedServer::start().await;
    let mut tail = tail(&server, &[]);
    let mut peer = server.accept_stream().await;
    peer.send(HELLO).await;
    peer.send("id: 7-2\nevent: data\ndata: one\ndata: two\n\n").await;
    tail.events.until("one\ntwo\n").await;
    tail.notices.until("connected\n").await;
}

/// The end is read together with the last event: no wait in between flushes the event.
#[tokio::test]
async fn last_event_is_printed_before_the_next_attempt() {
    let server = ScriptedServer::start().await;
    let mut tail = tail(&server, &[]);
    server.accept().await.answer("200 OK", "text/event-stream", "data: the last\n\n").await;
    tail.notices.until("disconnected: the server ended the stream; next attempt in 3.0 s\n").await;
    assert_eq!(tail.events.text(), "the last\n");
}

#[test]
fn events_are_the_same_wherever_the_bytes_are_cut() {
    let wire = "\u{feff}id: 7-1\r\nevent: größe\r\ndata: eins\rdata:zwei – drei\n\r\n: comment\n\nid: 7-2\ndata\n\n";
    let wire = wire.as_bytes();
    for first in 0..=wire.len() {
        for second in first..=wire.len() {
            let parts = [&wire[..first], &wire[first..second], &wire[second..]];
            let (out, _) = taken(&["--format=json"], 100, &parts);
            assert_eq!(
                out,
                "{\"type\":\"event\",\"id\":\"7-1\",\"event\":\"größe\",\"text\":\"eins\\nzwei – drei\"}\n\
                 {\"type\":\"event\",\"id\":\"7-2\",\"event\":\"message\",\"text\":\"\"}\n",
                "cut at {first} and {second}"
            );
        }
    }
}

#[test]
fn sse_format_is_the_stream_byte_for_byte_wherever_it_is_cut() {
    let wire = "retry: 5\r\n: hi\r\nid: 7-1\r\ndata:  x \r\n\r\n:\n\ndata: ü\n\n:\r\r";
    for cut in 0..=wire.len() {
        let (before, after) = wire.as_bytes().split_at(cut);
        let (out, _) = taken(&["--format=sse"], 100, &[before, after, b"data: never comp"]);
        assert_eq!(out, wire, "cut at {cut}");
    }
}

#[tokio::test]
async fn chunks_of_one_byte_each_are_put_together() {
    let server = ScriptedServer::start().await;
    let mut tail = tail(&server, &["--count=2", "--quiet"]);
    let mut peer = server.accept().await;
    peer.send(
        "HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n",
    )
    .await;
    for byte in "data: größe\r\n\r\nevent: x\rdata: 日本\r\rdata: third\n\n".bytes() {
        peer.send([b"1\r\n", &[byte][..], b"\r\n"].concat()).await;
    }
    tail.ended.await.unwrap().unwrap();
    assert_eq!(tail.events.text(), "größe\n日本\n");
}

#[tokio::test(start_paused = true)]
async fn tail_resumes_after_the_last_id_it_printed() {
    let server = ScriptedServer::start().await;
    let mut tail = tail(&server, &["--from=7-1", "--topics=a"]);
    let mut peer = server.accept_stream().await;
    peer.send("id: 7-2\ndata: two\nretry: 1234\n\nid: 7-3\ndata: cut off\n").await;
    tail.events.until("two\n").await;
    drop(peer);
    let begin = Instant::now();
    let mut peer = server.accept_stream().await;
    assert!(begin.elapsed() >= Duration::from_millis(1234) && begin.elapsed() < Duration::from_millis(1300));
    assert_eq!((peer.target(), peer.header("last-event-id")), ("GET /stream?topics=a", Some("7-2")));
    peer.send("id: 7-3\ndata: three\n\n").await;
    tail.events.until("three\n").await;
    assert_eq!(tail.events.text(), "two\nthree\n");
    assert_eq!(tail.notices.text(), "disconnected: the server ended the stream; next attempt in 1.2 s\n");
}

#[tokio::test(start_paused = true)]
async fn tail_without_an_id_waits_three_seconds_and_starts_as_before() {
    let server = ScriptedServer::start().await;
    let _tail = tail(&server, &["--from=earliest"]);
    drop(server.accept_stream().await);
    let begin = Instant::now();
    let peer = server.accept_stream().await;
    assert_eq!(begin.elapsed().as_secs(), 3);
    assert_eq!(peer.header("last-event-id"), Some("earliest"));
}

#[tokio::test(start_paused = true)]
async fn id_that_fits_no_header_goes_into_the_query() {
    let server = ScriptedServer::start().await;
    let mut tail = tail(&server, &["--topics=a"]);
    let mut peer = server.accept_stream().await;
    peer.send("id: a\u{1}ü\ndata: x\n\n").await;
    tail.events.until("x\n").await;
    drop(peer);
    let peer = server.accept().await;
    assert_eq!(peer.target(), "GET /stream?topics=a&last_event_id=a%01%C3%BC");
    assert_eq!(peer.header("last-event-id"), None);
}

#[tokio::test(start_paused = true)]
async fn silent_connection_is_replaced() {
    let server = ScriptedServer::start().await;
    let mut tail = tail(&server, &[]);
    let mut peer = server.accept_stream().await;
    peer.send(HELLO).await;
    tail.notices.until("connected").await;
    let begin = Instant::now();
    let again = server.accept().await;
    assert_eq!(begin.elapsed().as_secs(), 95);
    assert_eq!(again.header("last-event-id"), Some("7-1"));
    tail.notices.until("disconnected: silent for 90 s; next attempt in 5.0 s\n").await;
    peer.closed().await;
}

#[tokio::test(start_paused = true)]
async fn comment_ends_the_silence() {
    let server = ScriptedServer::start().await;
    let mut tail = tail(&server, &["--format=sse", "--idle-timeout=40"]);
    let mut peer = server.accept_stream().await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(39)).await;
        peer.send(":\n\n").await;
    }
    tail.events.until(":\n\n:\n\n:\n\n").await;
    assert_eq!(tail.notices.text(), "");
}

#[test]
fn idle_timeout_follows_the_heartbeat_unless_it_is_given() {
    let of = |flags: &[&str]| parse(flags).unwrap().idle_timeout().as_secs();
    assert_eq!(of(&[]), 90);
    assert_eq!([of(&["--heartbeat=60"]), of(&["--heartbeat=1m"])], [150, 150]);
    assert_eq!(of(&["--heartbeat=1"]), 15);
    assert_eq!(of(&["--heartbeat=60", "--idle-timeout=7"]), 7);
}

#[tokio::test(start_paused = true)]
async fn failed_attempts_are_repeated_with_growing_waits() {
    let server = ScriptedServer::start().await;
    let mut tail = tail(&server, &[]);
    for ceiling in [6, 12, 24] {
        drop(server.accept().await);
        let begin = Instant::now();
        tail.notices.until("disconnected: no answer from http://127.0.0.1:").await;
        let peer = server.accept().await;
        assert!(begin.elapsed().as_secs() >= 3 && begin.elapsed().as_secs() <= ceiling, "{:?}", begin.elapsed());
        peer.answer("502 Bad Gateway", "text/html", "<h1>no</h1>").await;
        tail.notices.until("disconnected: the server answered 502 Bad Gateway; next attempt in").await;
        server.accept_stream().await.send(HELLO.replace("5000", "3000")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_respected() {
    let server = ScriptedServer::start().await;
    let mut tail = tail(&server, &[]);
    for status in ["503 Service Unavailable", "429 Too Many Requests"] {
        let mut peer = server.accept().await;
        let problem = r#"{"title":"Busy","status":503,"detail":"the connection limit is reached"}"#;
        peer.send(format!("HTTP/1.1 {status}\r\nretry-after: 100\r\ncontent-type: application/problem+json\r\n\r\n"))
            .await;
        peer.send(problem).await;
        drop(peer);
        let begin = Instant::now();
        server.accept_stream().await;
        assert!(begin.elapsed().as_secs() >= 100 && begin.elapsed().as_secs() <= 120, "{:?}", begin.elapsed());
    }
    assert!(
        tail.notices.text().starts_with(
            "disconnected: the server answered 503 Busy: the connection limit is reached; next attempt in 1"
        ),
        "{}",
        tail.notices.text()
    );
}

#[tokio::test(start_paused = true)]
async fn refusal_in_band_is_repeated_when_the_server_asks_for_it() {
    let server = ScriptedServer::start().await;
    let mut tail = tail(&server, &["--from=7-1"]);
    for _ in 0..2 {
        let mut peer = server.accept_stream().await;
        assert_eq!(peer.header("last-event-id"), Some("7-1"));
        peer.send(UNAVAILABLE).await;
        drop(peer);
        let begin = Instant::now();
        tail.notices.until("the server refused the stream: the server is full\\u{1b}; next attempt in ").await;
        server.accept_stream().await.send("retry: 1\n\n").await;
        assert!(begin.elapsed().as_secs() >= 100 && begin.elapsed().as_secs() <= 120, "{:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn refusal_in_band_fails_a_tail_of_one_stream() {
    let server = ScriptedServer::start().await;
    let tail = tail(&server, &["--once"]);
    server.accept_stream().await.send(UNAVAILABLE).await;
    let error = tail.ended.await.unwrap().unwrap_err().to_string();
    assert_eq!(error, "the server refused the stream: the server is full\\u{1b}");
}

#[tokio::test]
async fn no_content_ends_the_tail() {
    let server = ScriptedServer::start().await;
    let mut tail = tail(&server, &[]);
    server.accept().await.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    tail.ended.await.unwrap().unwrap();
    assert_eq!(tail.notices.text(), "the server ended the subscription (204 No Content)\n");
}

#[tokio::test]
async fn fatal_answer_ends_the_tail_with_its_reason() {
    for (answer, sentence) in [
        (
            "403 Forbidden\r\ncontent-type: application/problem+json\r\n\r\n\
             {\"title\":\"Forbidden\",\"status\":403,\"detail\":\"topic secret needs a token that grants it\"}",
            "the server answered 403 Forbidden: topic secret needs a token that grants it",
        ),
        ("404 Not Found\r\ncontent-type: text/plain\r\n\r\nnope", "the server answered 404 Not Found"),
        (
            "200 OK\r\ncontent-type: text/html; charset=utf-8\r\n\r\n<p>",
            "not an event stream: the server answered with content type \"text/html\" instead of text/event-stream",
        ),
        (
            "200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: br\r\n\r\n",
            "the stream has the content encoding \"br\", which was not requested; expected gzip or none",
        ),
        (
            "301 Moved Permanently\r\nlocation: http://other/stream\r\n\r\n",
            "the server answered 301 Moved Permanently and points to \"http://other/stream\"; \
             give that server's address as --url",
        ),
    ] {
        let server = ScriptedServer::start().await;
        let tail = tail(&server, &[]);
        server.accept().await.send(format!("HTTP/1.1 {answer}")).await;
        assert_eq!(tail.ended.await.unwrap().unwrap_err().to_string(), sentence);
    }
}

#[tokio::test]
async fn once_ends_with_the_stream_and_fails_with_the_attempt() {
    let server = ScriptedServer::start().await;
    let mut good = tail(&server, &["--once"]);
    server.accept_stream().await.send("data: x\n\n").await;
    good.ended.await.unwrap().unwrap();
    assert_eq!(good.events.text(), "x\n");

    let bad = tail(&server, &["--no-reconnect"]);
    server.accept().await.answer("503 Service Unavailable", "text/plain", "").await;
    let error = bad.ended.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the server answered 503 Service Unavailable");
}

#[tokio::test]
async fn stop_flushes_events_and_reports_missed_ones() {
    let server = ScriptedServer::start().await;
    let mut tail = tail(&server, &["--quiet"]);
    let mut peer = server.accept_stream().await;
    peer.send(HELLO).await;
    peer.send("id: 7-5\nevent: gap\ndata: {\"reason\":\"evicted\",\"from\":\"7-2\",\"to\":\"7-5\",\"missed\":3}\n\n")
        .await;
    peer.send("id: 7-6\ndata: x\n\n").await;
    tail.events.until("x\n").await;
    tail.stop.send(()).unwrap();
    tail.ended.await.unwrap().unwrap();
    assert_eq!(tail.notices.text(), "gap: evicted, missed 3 events (from 7-2 to 7-5)\nreceived 1, missed 3\n");
    peer.closed().await;
}

#[tokio::test]
async fn closed_output_ends_the_tail_quietly() {
    let server = ScriptedServer::start().await;
    let Tail { events, mut notices, ended, .. } = tail(&server, &[]);
    let mut peer = server.accept_stream().await;
    drop(events);
    peer.send("data: x\n\n").await;
    ended.await.unwrap().unwrap();
    assert_eq!(notices.text(), "");
}

#[tokio::test]
async fn busy_stream_can_be_stopped() {
    let server = ScriptedServer::start().await;
    let mut tail = tail(&server, &[]);
    let mut peer = server.accept_stream().await;
    let endless = tokio::spawn(async move {
        loop {
            peer.send("data: x\n\n".repeat(1000)).await;
        }
    });
    tail.events.until("x\n").await;
    tail.stop.send(()).unwrap();
    tail.ended.await.unwrap().unwrap();
    assert!(endless.await.unwrap_err().is_panic(), "the server's write fails once the client is gone");
}

#[test]
fn event_over_the_limit_is_skipped_and_counted() {
    let (out, notices) = taken(&[], 10, &[b"data: 01234567890\n\ndata: short\n\n"]);
    assert_eq!(out, "short\n");
    assert!(notices.ends_with("skipped\nreceived 1, missed 1\n"), "{notices}");
}

#[test]
fn invalid_flag_is_refused_before_connecting() {
    for (flags, sentence) in [
        (&["--topics=a,b c"][..], "topics cannot contain spaces, commas or control characters, this one contains ' '"),
        (&["--topics=a*"], "in a pattern '*' must be a whole segment"),
        (&["--from=42"], "a position is <epoch>-<sequence> in decimal, like 1795186660483920175-42, or earliest"),
        (&["--heartbeat=0"], "expected whole seconds, from 1s to 7days"),
        (&["--count=0"], "0 is not in 1.."),
        (&["--url=host:8000"], "it must begin with http://, https:// or unix:"),
        (&["--from=earliest", "--history=5"], "cannot be used with"),
    ] {
        let error = parse(flags).unwrap_err();
        assert!(error.to_string().contains(sentence), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn event_keeps_the_last_id_until_another_comes() {
    let (out, _) =
        taken(&["--format=json"], 100, &[b"id: 1\ndata: a\n\ndata: b\n\nid: 2\n\nid: \0\ndata: c\n\nid\ndata: d\n\n"]);
    let ids: Vec<_> = out.lines().map(|line| line.split(',').nth(1).unwrap()).collect();
    assert_eq!(ids, ["\"id\":\"1\"", "\"id\":\"1\"", "\"id\":\"2\"", "\"id\":null"]);
}

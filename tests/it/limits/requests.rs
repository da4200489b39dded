//! Limits on the size and duration of requests.

use std::time::{Duration, Instant};

use fanline::server::HttpOptions;
use serde_json::json;

use super::accepting;
use crate::support::{Client, Response, Server, assert_problem, request, run};

/// The head of a request with a body of `length` bytes, or a chunked one.
fn upload(content_type: &str, length: Option<usize>) -> String {
    let length = length.map_or("transfer-encoding: chunked".to_owned(), |length| format!("content-length: {length}"));
    format!("POST /publish HTTP/1.1\r\nhost: test\r\ncontent-type: {content_type}\r\n{length}\r\n\r\n")
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

const LINE: &str = "{\"topic\":\"t\",\"data\":1}\n";

async fn rejected(server: &Server, reason: &str) -> serde_json::Value {
    server.get("/metrics/json").await.ok()["connections"]["rejected"][reason].clone()
}

#[test]
fn head_size_and_field_count_are_limited() {
    run(async {
        let server = accepting(HttpOptions { max_head_bytes: 2000, max_headers: 10, ..HttpOptions::default() });
        let long = |length: usize| request("GET", "/health", &[("cookie", &"x".repeat(length))], b"");
        let names: Vec<String> = (0..20).map(|number| format!("x-{number}")).collect();
        let many = |count: usize| {
            let headers: Vec<_> = names[..count].iter().map(|name| (name.as_str(), "1")).collect();
            request("GET", "/health", &headers, b"")
        };
        // `host` is one of the fields.
        for (head, status) in
            [(long(1900), 200), (long(2000), 431), (long(100_000), 431), (many(9), 200), (many(10), 431)]
        {
            let mut client = server.connect().await;
            client.send(head).await;
            assert_eq!(client.head().await.status, status);
        }
        // A connection is counted after its response. The limit on the test's time ends this.
        while rejected(&server, "head_too_large").await != 3 {}
    });
}

#[test]
fn field_limit_can_be_raised() {
    run(async {
        let server = accepting(HttpOptions { max_headers: 200, ..HttpOptions::default() });
        let names: Vec<String> = (0..199).map(|number| format!("x-{number}")).collect();
        let headers: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
        server.ask(request("GET", "/health", &headers, b"")).await.ok();
    });
}

#[test]
fn long_query_gets_414_on_every_route() {
    run(async {
        let server = accepting(HttpOptions { max_query_bytes: 100, ..HttpOptions::default() });
        let query = |length: usize| format!("topics={}", "a".repeat(length - 7));
        for path in ["/stream", "/clients", "/health", "/nowhere"] {
            let answer = server.get(&format!("{path}?{}", query(101))).await;
            assert_problem(&answer, 414, &["the query has 101 bytes", "the limit is 100 (setting max_query_bytes)"]);
        }
        server.follow(&format!("/stream?{}", query(100))).await;
        assert_eq!(server.get("/metrics/json").await.ok()["refusals_by_reason"], json!({"query_too_long": 4}));
    });
}

#[test]
fn late_body_gets_408_and_the_next_connection_is_served() {
    run(async {
        let server = accepting(HttpOptions { body_timeout: Duration::from_millis(300), ..HttpOptions::default() });
        let mut client = server.connect().await;
        client.send(upload("application/json", Some(1000)) + "{\"topic\":").await;
        let answer = client.response().await;
        assert_problem(&answer, 408, &["did not come within 0.3 s", "body_timeout"]);
        assert_eq!(client.rest().await, "", "late input would be read as a request");
        assert_eq!(server.get("/metrics/json").await.ok()["events"]["publish_errors"], json!({"body_timeout": 1}));
        assert_eq!(server.hub.stats().published, 0);
    });
}

#[test]
fn dripping_body_does_not_extend_its_deadline() {
    run(async {
        let server = accepting(HttpOptions { body_timeout: Duration::from_millis(500), ..HttpOptions::default() });
        for content_type in ["application/json", "application/x-ndjson"] {
            let mut client = server.connect().await;
            client.send(upload(content_type, Some(100_000)) + "[").await;
            let began = Instant::now();
            let answer = drip_until_answered(&mut client).await;
            assert_problem(&answer, 408, &["body_timeout"]);
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        }
    });
}

/// Sends a space now and then until a response arrives.
async fn drip_until_answered(client: &mut Client) -> Response {
    let mut drops = tokio::time::interval(Duration::from_millis(50));
    while client.received().is_empty() {
        tokio::select! {
            _ = drops.tick() => client.send(" ").await,
            is_open = client.read() => assert!(is_open),
        }
    }
    client.response().await
}

#[test]
fn line_must_end_in_time_but_the_next_may_start_late() {
    run(async {
        let options = HttpOptions { body_timeout: Duration::from_millis(300), ..HttpOptions::default() };
        let server = accepting(options);
        let mut patient = server.connect().await;
        patient.send(upload("application/x-ndjson", None) + &chunk(LINE)).await;
        let mut stream = server.follow("/stream?topics=t&history=10").await;
        stream.data_at(1).await;

        let mut late = server.connect().await;
        late.send(upload("application/x-ndjson", None) + &chunk(LINE) + &chunk("{\"topic\"")).await;
        let problem = assert_problem(&late.response().await, 408, &["line 2 did not end within 0.3 s", "body_timeout"]);
        assert_eq!((&problem["published"], &problem["last_id"]), (&json!(1), &json!("7-2")));

        // The first upload was idle all that time.
        patient.send(chunk(&LINE.repeat(2)) + "0\r\n\r\n").await;
        assert_eq!(patient.response().await.ok()["published"], 3);
    });
}

#[test]
fn idle_upload_is_ended_and_reports_progress() {
    run(async {
        let options = HttpOptions { upload_timeout: Duration::from_millis(300), ..HttpOptions::default() };
        let server = accepting(options);
        let mut quiet = server.connect().await;
        quiet.send(upload("application/x-ndjson", None) + &chunk(LINE)).await;
        let problem = assert_problem(&quiet.response().await, 408, &["nothing came for 0.3 s", "upload_timeout"]);
        assert_eq!(problem["published"], 1);
    });
}

#[test]
fn line_length_is_limited() {
    run(async {
        let server = accepting(HttpOptions { max_line_bytes: Some(60), ..HttpOptions::default() });
        let line = |length: usize| format!("{{\"topic\":\"t\",\"data\":\"{}\"}}\n", "x".repeat(length - 23));
        assert_eq!(line(60).len(), 61);
        let body = line(60) + &line(61);
        let answer = server.post("/publish", "application/x-ndjson", body).await;
        let problem = assert_problem(&answer, 413, &["line 2", "more than 60 bytes (setting max_line_bytes)"]);
        assert_eq!(problem["published"], 1);
    });
}

#[test]
fn dripping_head_does_not_extend_its_deadline() {
    run(async {
        const TIME: Duration = Duration::from_secs(2);
        let server = accepting(HttpOptions { head_timeout: TIME, ..HttpOptions::default() });
        let began = Instant::now();
        let silent = server.connect().await;
        let mut dripping = server.connect().await;
        // This one starts when its time is almost over, which does not extend it.
        let mut late = server.connect().await;
        // This one has completed a request before.
        let mut used = server.connect().await;
        used.get("/health").await.ok();
        let mut drops = tokio::time::interval(Duration::from_millis(50));
        let mut ends = [None; 3];
        while ends.contains(&None) {
            tokio::select! {
                _ = drops.tick() => {
                    let elapsed = began.elapsed();
                    for (client, begins) in [(&mut dripping, Duration::ZERO), (&mut late, TIME * 3 / 4), (&mut used, Duration::ZERO)] {
                        if elapsed >= begins {
                            // The connection is already closed.
                            let _ = client.try_send("G").await;
                        }
                    }
                }
                is_open = dripping.read(), if ends[0].is_none() => ends[0] = (!is_open).then(|| began.elapsed()),
                is_open = late.read(), if ends[1].is_none() => ends[1] = (!is_open).then(|| began.elapsed()),
                is_open = used.read(), if ends[2].is_none() => ends[2] = (!is_open).then(|| began.elapsed()),
            }
        }
        assert_eq!(silent.rest().await, "");
        for end in ends.into_iter().flatten().chain([began.elapsed()]) {
            assert!((TIME..TIME * 3 / 2).contains(&end), "closed after {end:?}");
        }
    });
}

//! Rejected publishes: status, problem and progress.

use fanline::server::HttpOptions;
use serde_json::json;

use crate::support::{JSON, NDJSON, Server, TEXT, assert_problem, request, run};

#[test]
fn unsupported_content_type_gets_415_with_the_supported_ones() {
    run(async {
        let server = Server::start();
        let of_events = ["application/json (one event or an array)", "application/x-ndjson (one event a line)"];
        let of_payload = ["application/json (a value)", "text/plain (raw text)"];
        for (target, what) in [("/publish", of_events), ("/publish/t", of_payload)] {
            for content_type in ["application/xml", "json", "", "application/json; charset=latin1"] {
                let response = server.post(target, content_type, "1").await;
                assert_problem(&response, 415, &what);
            }
            assert_problem(&server.ask(request("POST", target, &[], b"1")).await, 415, &what);
        }
        assert_problem(&server.post("/publish", TEXT, "1").await, 415, &of_events);
        assert_problem(&server.post("/publish/t", NDJSON, "1").await, 415, &of_payload);
        assert_eq!(server.hub.stats().published, 0);
    });
}

/// Invalid events, and parts of the problem's detail.
const INVALID_EVENTS: &[(&str, &[&str])] = &[
    (r#"{"topic":"","data":1}"#, &["\"topic\"", "topics cannot be empty"]),
    (r#"{"topic":"a b","data":1}"#, &["\"topic\"", "' '"]),
    (r#"{"topic":"a,b","data":1}"#, &["\"topic\"", "','"]),
    (r#"{"topic":"a\nb","data":1}"#, &["\"topic\"", "'\\n'"]),
    (r#"{"topic":"a\rb","data":1}"#, &["\"topic\"", "'\\r'"]),
    (r#"{"topic":"a\u0000b","data":1}"#, &["\"topic\"", "'\\0'"]),
    (r#"{"topic":"a:*","data":1}"#, &["\"topic\"", "'*'"]),
    (r#"{"topic":"t","event":"a\nb","data":1}"#, &["\"event\"", "'\\n'"]),
    (r#"{"topic":"t","event":"a\rb","data":1}"#, &["\"event\"", "'\\r'"]),
    (r#"{"topic":"t","event":"a\u0000b","data":1}"#, &["\"event\"", "'\\0'"]),
    (r#"{"topic":"t","event":"","data":1}"#, &["\"event\"", "event names cannot be empty"]),
    (r#"{"topic":"t","event":"gap","data":1}"#, &["\"event\"", "\"gap\"", "system, gap, heartbeat"]),
    (r#"{"topic":"t"}"#, &["\"data\"", "\"text\""]),
    (r#"{"topic":"t","data":1,"text":"x"}"#, &["either \"data\" or \"text\""]),
    (r#"{"data":1}"#, &["missing field `topic`"]),
    (r#"{"topic":"t","data":1,"dta":2}"#, &["unknown field `dta`", "line 1 column 27"]),
    (r#"{"topic":"t","data":1,"topic":"u"}"#, &["duplicate field `topic`"]),
    (r#"{"topic":7,"data":1}"#, &["invalid type: integer `7`", "line 1 column 10"]),
    (r#"{"topic":"t","text":7}"#, &["invalid type: integer `7`"]),
    (r#"{"topic":"t","data":1"#, &["line 1 column 21"]),
    (r#"{"topic":"t","data":01}"#, &["line 1 column 22"]),
    (r#"{"topic":"t","data":1} {}"#, &["trailing characters", "line 1 column 24"]),
    (r#""t""#, &["line 1 column 3"]),
    ("null", &["line 1 column 4"]),
];

#[test]
fn invalid_event_is_rejected_with_reason() {
    run(async {
        let server = Server::start();
        for (body, what) in INVALID_EVENTS {
            assert_problem(&server.post("/publish", JSON, body).await, 400, what);
        }
        for (body, what) in [
            (&b""[..], "line 1 column 0"),
            (b" \n ", "line 2 column 1"),
            (b"{\"topic\": \"t\",\n  \"data\": tru }", "line 2 column 14"),
            (b"\xef\xbb\xbf{\"topic\":\"t\",\"data\":1}", "line 1 column 1"),
            (b"{\"topic\":\"\xff\",\"data\":1}", "line 1 column 11"),
            (b"{\"topic\":\"t\",\"data\":\"\xff\"}", "line 1 column 22"),
        ] {
            assert_problem(&server.post("/publish", JSON, body).await, 400, &[what]);
        }
        assert_eq!(server.hub.stats().published, 0);
    });
}

#[test]
fn array_is_published_whole_or_not_at_all() {
    run(async {
        let server = Server::start();
        for (body, what) in INVALID_EVENTS {
            let array = format!(r#"[{{"topic":"t","data":1}},{body}]"#);
            // In an array the position differs, and another event may follow.
            let in_array = |&what: &&'static str| match what {
                "trailing characters" => Some("expected `,` or `]`"),
                place if place.starts_with("line") => None,
                what => Some(what),
            };
            let what: Vec<_> = what.iter().filter_map(in_array).collect();
            assert_problem(&server.post("/publish", JSON, array).await, 400, &what);
        }
        let array = r#"[{"topic":"t","data":1},{"topic":"t","data":2},{"topic":"a b","data":3}]"#;
        assert_problem(&server.post("/publish", JSON, array).await, 400, &["event 2 of the array", "\"topic\""]);
        assert_problem(
            &server.post("/publish", JSON, r#"[{"topic":"t","data":1},]"#).await,
            400,
            &["line 1 column 25"],
        );
        assert_eq!(server.hub.stats().published, 0);
    });
}

#[test]
fn line_upload_stops_at_the_first_invalid_line_and_reports_progress() {
    run(async {
        let server = Server::start();
        for (body, what) in INVALID_EVENTS {
            let mut stream = server.follow("/stream?topics=lines,t").await;
            let before = server.hub.position().sequence;
            let good = |n| format!("{{\"topic\":\"lines\",\"data\":{n}}}\n");
            let lines = format!("{}\r\n\n{}{}{body}\n{}", good(1).trim(), good(2), good(3), good(4));
            let response = server.post("/publish", NDJSON, lines).await;
            let what: Vec<_> = what.iter().copied().chain(["line 5: "]).collect();
            let problem = assert_problem(&response, 400, &what);
            assert_eq!(problem["line"], 5);
            assert_eq!(problem["published"], 3);
            assert_eq!(problem["first_id"], format!("7-{}", before + 1));
            assert_eq!(problem["last_id"], format!("7-{}", before + 3));
            server.publish_marker("lines").await;
            for n in 1..=3 {
                assert_eq!(stream.data_at(before + n).await, n.to_string());
            }
            stream.marker().await;
        }
    });
}

#[test]
fn invalid_first_line_publishes_nothing() {
    run(async {
        let server = Server::start();
        let problem = assert_problem(&server.post("/publish", NDJSON, "nonsense").await, 400, &["line 1: "]);
        let rest = json!({"line": 1, "published": 0, "first_id": null, "last_id": null});
        for (member, value) in rest.as_object().unwrap() {
            assert_eq!(problem[member], *value);
        }
        assert_eq!(server.hub.stats().published, 0);
    });
}

#[test]
fn interrupted_upload_publishes_its_whole_lines() {
    run(async {
        let server = Server::start();
        let mut stream = server.follow("/stream").await;
        let mut client = server.connect().await;
        let head = "POST /publish HTTP/1.1\r\nhost: test\r\ncontent-type: application/x-ndjson\r\n";
        let lines = "{\"topic\":\"t\",\"data\":1}\n{\"topic\":\"t\",\"data\":2}";
        client.send(format!("{head}content-length: 1000\r\n\r\n{lines}")).await;
        assert_eq!(stream.data_at(1).await, "1");
        drop(client);
        until_no_other_connection(&server, 1).await;
        server.publish_marker("t").await;
        stream.marker().await;
    });
}

async fn until_no_other_connection(server: &Server, expected: u64) {
    crate::support::until(|| server.stats().connections == expected).await;
}

#[test]
fn event_size_limit_is_exact() {
    run(async {
        let server = Server::with(Server::hub_options(), |builder| {
            builder.http(HttpOptions { max_event_bytes: 1000, ..HttpOptions::default() })
        });
        let what = ["1001 bytes", "the limit is 1000", "max_event_bytes"];
        for (length, fits) in [(1000, true), (1001, false)] {
            let text = "x".repeat(length);
            let string = format!("\"{}\"", "x".repeat(length - 2));
            for (target, content_type, body, place) in [
                ("/publish", JSON, format!(r#"{{"topic":"t","text":"{text}"}}"#), ""),
                ("/publish", JSON, format!(r#"{{"topic":"t","data":{string}}}"#), ""),
                ("/publish", JSON, format!(r#"[{{"topic":"t","data":{string}}}]"#), "event 0 of the array"),
                ("/publish", NDJSON, format!(r#"{{"topic":"t","data":{string}}}"#), "line 1"),
                ("/publish/t", JSON, string.clone(), ""),
                ("/publish/t", TEXT, text.clone(), ""),
            ] {
                let response = server.post(target, content_type, &body).await;
                if fits {
                    assert_eq!(response.ok()["published"], 1);
                } else {
                    assert_problem(&response, 413, &[&what[..], &[place]].concat());
                }
            }
        }
        assert_eq!(server.hub.stats().published, 6);
    });
}

#[test]
fn body_size_limit_is_exact() {
    run(async {
        let server = Server::with(Server::hub_options(), |builder| {
            builder.http(HttpOptions { max_event_bytes: 500, max_body_bytes: 1000, ..HttpOptions::default() })
        });
        let event = r#"{"topic":"t","data":1}"#;
        let padded = |length: usize| format!("{event}{}", " ".repeat(length - event.len()));
        assert_eq!(server.post("/publish", JSON, padded(1000)).await.ok()["published"], 1);
        let what = ["larger than 1000 bytes", "max_body_bytes"];
        assert_problem(&server.post("/publish", JSON, padded(1001)).await, 413, &what);
        let text = "x".repeat(1001);
        assert_problem(&server.post("/publish/t", TEXT, &text).await, 413, &what);
        let head =
            "POST /publish/t HTTP/1.1\r\nhost: test\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n";
        let chunked = format!("{head}\r\n3e8\r\n{}\r\n1\r\nx\r\n0\r\n\r\n", &text[1..]);
        assert_problem(&server.ask(chunked).await, 413, &what);
        assert_eq!(server.hub.stats().published, 1);
    });
}

/// The client reads the response only after it has sent everything. A socket that is closed with unread input resets
/// the connection, and the response is lost (RFC 9112, section 9.6).
#[test]
fn rejection_reaches_a_client_that_is_still_sending() {
    run(async {
        let server = Server::start();
        let large = "x".repeat(8 << 20);
        let line = r#"{"topic":"t","data":1}"#;
        let lines = format!("{line}\nnonsense\n{}", format!("{line}\n").repeat(200_000));
        for (target, content_type, body, status) in [
            ("/publish/t", TEXT, &large, 413),
            ("/publish", JSON, &large, 413),
            ("/publish", NDJSON, &lines, 400),
            ("/publish", "application/xml", &large, 415),
            ("/nothing", JSON, &large, 404),
            ("/stream", JSON, &large, 405),
        ] {
            let chunked = [("content-type", content_type), ("transfer-encoding", "chunked")];
            let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
            let sized = request("POST", target, &[("content-type", content_type)], body.as_bytes());
            let head = format!("POST {target} HTTP/1.1\r\nhost: test\r\n");
            let head = chunked.iter().fold(head, |head, (name, value)| format!("{head}{name}: {value}\r\n"));
            for request in [sized, format!("{head}\r\n{chunks}").into_bytes()] {
                assert_problem(&server.ask(request).await, status, &[]);
            }
        }
        assert_eq!(server.hub.stats().published, 2);
    });
}

#[test]
fn long_line_is_rejected_before_it_ends() {
    run(async {
        let server = Server::with(Server::hub_options(), |builder| {
            builder.http(HttpOptions { max_event_bytes: 1000, ..HttpOptions::default() })
        });
        let mut client = server.connect().await;
        let head = "POST /publish HTTP/1.1\r\nhost: test\r\ncontent-type: application/x-ndjson\r\n";
        client.send(format!("{head}transfer-encoding: chunked\r\n\r\n")).await;
        let lines = format!("{{\"topic\":\"t\",\"data\":1}}\n{}", "x".repeat(100_000));
        client.send(format!("{:x}\r\n{lines}\r\n", lines.len())).await;
        let what = ["line 2: ", "too long for an event of 1000 bytes", "max_event_bytes"];
        let problem = assert_problem(&client.response().await, 413, &what);
        assert_eq!(problem["published"], 1);
        assert_eq!(server.hub.stats().published, 1);
    });
}

#[test]
fn topic_in_the_path_is_decoded_and_validated() {
    run(async {
        let server = Server::start();
        for (path, what) in [
            ("/publish/a%20b", &["the topic in the path", "' '"][..]),
            ("/publish/a,b", &["the topic in the path", "','"]),
            ("/publish/a%2Cb", &["the topic in the path", "','"]),
            ("/publish/a%00", &["the topic in the path", "'\\0'"]),
            ("/publish/a%0D", &["the topic in the path", "'\\r'"]),
            ("/publish/*", &["the topic in the path", "'*'"]),
            ("/publish/%ff", &["the topic in the path", "UTF-8"]),
        ] {
            assert_problem(&server.post(path, TEXT, "x").await, 400, what);
        }
        for event in ["a%0Ab", "a%0Db", "a%00b"] {
            let response = server.post(&format!("/publish/t?event={event}"), TEXT, "x").await;
            assert_problem(&response, 400, &["parameter event", "control character"]);
        }
        assert_problem(&server.post("/publish/t?event=", TEXT, "x").await, 400, &["parameter event"]);
        assert_eq!(server.hub.stats().published, 0);
    });
}

#[test]
fn payload_must_match_its_content_type() {
    run(async {
        let server = Server::start();
        let response = server.post("/publish/t", TEXT, b"ab\xffcd").await;
        assert_problem(&response, 400, &["not valid UTF-8", "byte 2"]);
        for (body, place) in [("", "line 1 column 0"), ("{\n\"a\":}", "line 2 column 5"), ("1 2", "line 1 column 3")] {
            assert_problem(&server.post("/publish/t", JSON, body).await, 400, &[place]);
        }
        assert_eq!(server.hub.stats().published, 0);
    });
}

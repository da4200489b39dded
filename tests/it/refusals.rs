//! What the server refuses, with which status, and in which words.

use fanline::server::HttpOptions;
use serde_json::json;

use crate::support::{Client, Server, assert_problem, request, run};

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
const TEXT: &str = "text/plain";

#[test]
fn a_subscription_that_cannot_be_granted_is_refused_by_the_name_of_its_parameter() {
    run(async {
        let server = Server::start();
        let long = format!("/stream?topic={}", "x".repeat(256));
        let many = format!("/stream?topics={}", vec!["t"; 101].join(","));
        let tags = format!("/stream?tags={}", vec!["t"; 33].join(","));
        for (target, what) in [
            ("/stream?topics=a%20b", ["parameter topics", "\"a b\""]),
            ("/stream?topics=ok,a%09b", ["parameter topics", "'\\t'"]),
            ("/stream?topic=a%00b", ["parameter topic", "'\\0'"]),
            ("/stream?topic=a%0Ab", ["parameter topic", "'\\n'"]),
            (&long, ["parameter topic", "255"]),
            ("/stream?topics=a*b", ["parameter topics", "'*' stands for a whole segment"]),
            ("/stream?topics=a:***", ["parameter topics", "'*' stands for a whole segment"]),
            ("/events?topics=**.a", ["parameter topics", "\"**.a\""]),
            (&many, ["parameter topics", "101 topics are asked for, and the limit is 100 (setting max_topics)"]),
            ("/stream?history=x", ["parameter history", "a number of events"]),
            ("/stream?history=-1", ["parameter history", "a number of events"]),
            ("/stream?on_lag=x", ["parameter on_lag", "close (the default) or skip"]),
            ("/stream?heartbeat=0", ["parameter heartbeat", "from 1 to 3600"]),
            ("/stream?heartbeat=3601", ["parameter heartbeat", "from 1 to 3600"]),
            ("/stream?heartbeat=soon", ["parameter heartbeat", "from 1 to 3600"]),
            ("/stream?client_name=a%0Ab", ["parameter client_name", "'\\n'"]),
            (&tags, ["parameter tags", "the limit is 32"]),
        ] {
            assert_problem(&server.get(target).await, 400, &what);
        }
        assert_eq!(server.stats().streams, 0);
    });
}

#[test]
fn the_limit_on_topics_is_the_servers_setting() {
    run(async {
        let server = Server::with(Server::hub_options(), |builder| {
            builder.http(HttpOptions { max_topics: 2, ..HttpOptions::default() })
        });
        assert_problem(&server.get("/stream?topic=a&topics=b,c").await, 400, &["3 topics", "the limit is 2"]);
        server.follow("/stream?topic=a&topics=b").await;
    });
}

#[test]
fn an_accept_header_that_excludes_event_streams_gets_406() {
    run(async {
        let server = Server::start();
        for accept in [JSON, "text/event-stream;q=0", "*/*, text/event-stream; q=0.0", "text/html, image/*"] {
            let response = server.ask(request("GET", "/stream", &[("accept", accept)], b"")).await;
            assert_problem(&response, 406, &["text/event-stream", "Accept"]);
        }
        for accept in ["text/event-stream", "*/*", "text/*;q=0.1", "application/json, */*;q=0.5"] {
            server.subscribe_with("/stream", &[("accept", accept)]).await.hello().await;
        }
    });
}

#[test]
fn a_subscription_with_a_body_is_refused() {
    run(async {
        let server = Server::start();
        for (header, body) in [("content-length: 2", "{}"), ("transfer-encoding: chunked", "2\r\n{}\r\n0\r\n\r\n")] {
            let request = format!("GET /stream HTTP/1.1\r\nhost: test\r\n{header}\r\n\r\n{body}");
            assert_problem(&server.ask(request).await, 400, &["no body", "query"]);
        }
        let empty = "GET /stream HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n";
        let mut client = server.connect().await;
        client.send(empty).await;
        client.into_stream().await.hello().await;
    });
}

#[test]
fn an_unknown_path_gets_404_that_names_it() {
    run(async {
        let server = Server::start();
        for path in ["/nothing", "/publish/", "/streams", "/stream/", "/health/", "/health/x", "//"] {
            assert_problem(&server.get(path).await, 404, &[&format!("{path:?}"), "GET /"]);
            assert_problem(&server.post(path, JSON, "{}").await, 404, &[&format!("{path:?}")]);
        }
        let in_full = server.ask(request("OPTIONS", "*", &[], b"")).await;
        assert_problem(&in_full, 404, &["\"*\""]);
    });
}

#[test]
fn a_wrong_method_gets_405_with_the_methods_that_the_path_has() {
    run(async {
        let server = Server::start();
        for (path, allow) in [
            ("/stream", "GET"),
            ("/events", "GET"),
            ("/publish", "POST"),
            ("/publish/t", "POST"),
            ("/", "GET, HEAD"),
            ("/health", "GET, HEAD"),
            ("/health/live", "GET, HEAD"),
            ("/health/ready", "GET, HEAD"),
        ] {
            for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "FANCY"] {
                if allow.split(", ").any(|allowed| allowed == method) {
                    continue;
                }
                let response = server.ask(request(method, path, &[], b"")).await;
                assert_problem(&response, 405, &[allow]);
                assert_eq!(response.head.header("allow"), Some(allow), "{method} {path}");
            }
        }
    });
}

#[test]
fn a_publish_of_another_content_type_gets_415_that_names_those_it_takes() {
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

/// Bodies that are no event, and what is said of them.
const NO_EVENTS: &[(&str, &[&str])] = &[
    (r#"{"topic":"","data":1}"#, &["\"topic\"", "at least one character"]),
    (r#"{"topic":"a b","data":1}"#, &["\"topic\"", "' '"]),
    (r#"{"topic":"a,b","data":1}"#, &["\"topic\"", "','"]),
    (r#"{"topic":"a\nb","data":1}"#, &["\"topic\"", "'\\n'"]),
    (r#"{"topic":"a\rb","data":1}"#, &["\"topic\"", "'\\r'"]),
    (r#"{"topic":"a\u0000b","data":1}"#, &["\"topic\"", "'\\0'"]),
    (r#"{"topic":"a:*","data":1}"#, &["\"topic\"", "'*'"]),
    (r#"{"topic":"t","event":"a\nb","data":1}"#, &["\"event\"", "'\\n'"]),
    (r#"{"topic":"t","event":"a\rb","data":1}"#, &["\"event\"", "'\\r'"]),
    (r#"{"topic":"t","event":"a\u0000b","data":1}"#, &["\"event\"", "'\\0'"]),
    (r#"{"topic":"t","event":"","data":1}"#, &["\"event\"", "at least one character"]),
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
fn a_body_that_is_no_event_is_refused_with_what_is_wrong_and_nothing_is_published() {
    run(async {
        let server = Server::start();
        for (body, what) in NO_EVENTS {
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
fn an_array_is_published_as_a_whole_or_not_at_all() {
    run(async {
        let server = Server::start();
        for (body, what) in NO_EVENTS {
            let array = format!(r#"[{{"topic":"t","data":1}},{body}]"#);
            // The place is another one, and behind an event of an array there may come another.
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
fn a_stream_of_lines_stops_at_the_first_bad_one_and_says_what_went_out_before_it() {
    run(async {
        let server = Server::start();
        for (body, what) in NO_EVENTS {
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
fn a_stream_whose_first_line_is_bad_says_that_nothing_went_out() {
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
fn a_stream_of_lines_that_breaks_off_has_published_what_came_whole() {
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
fn an_event_may_be_as_large_as_the_limit_and_no_larger() {
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
fn a_body_may_be_as_large_as_the_limit_and_no_larger() {
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

/// The client does not look for an answer before it has sent all. A socket that is closed with bytes unread resets the
/// connection, and takes the answer with it (RFC 9112, section 9.6).
#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
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
fn a_line_that_is_too_long_is_refused_before_it_ends() {
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
fn a_topic_in_the_path_is_percent_decoded_and_checked() {
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
fn a_payload_that_is_not_what_its_content_type_says_is_refused() {
    run(async {
        let server = Server::start();
        let response = server.post("/publish/t", TEXT, b"ab\xffcd").await;
        assert_problem(&response, 400, &["not UTF-8", "byte 2"]);
        for (body, place) in [("", "line 1 column 0"), ("{\n\"a\":}", "line 2 column 5"), ("1 2", "line 1 column 3")] {
            assert_problem(&server.post("/publish/t", JSON, body).await, 400, &[place]);
        }
        assert_eq!(server.hub.stats().published, 0);
    });
}

/// hyper answers before there is a request that a handler could see: without a problem as its body.
#[test]
fn a_head_that_is_too_large_gets_431_and_the_connection_is_closed() {
    run(async {
        let server = Server::start();
        for length in [70_000, 1 << 20] {
            let mut client = server.connect().await;
            client.send(format!("GET / HTTP/1.1\r\nhost: test\r\nx: {}\r\n\r\n", "x".repeat(length))).await;
            assert_status_and_end(client, 431).await;
        }
        let mut client = server.connect().await;
        let fields: String = (0..200).map(|n| format!("x-{n}: x\r\n")).collect();
        client.send(format!("GET / HTTP/1.1\r\nhost: test\r\n{fields}\r\n")).await;
        assert_status_and_end(client, 431).await;
    });
}

#[test]
fn what_is_no_http_gets_400_and_the_connection_is_closed() {
    run(async {
        let server = Server::start();
        for nonsense in
            ["\x16\x03\x01\x02\x00\x01", "GET /\r\n\r\n", "GET / HTTP/1.1\r\nno field\r\n\r\n", "{}\r\n\r\n"]
        {
            let mut client = server.connect().await;
            client.send(nonsense).await;
            assert_status_and_end(client, 400).await;
        }
        let mut client = server.connect().await;
        let smuggled = "POST /publish HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n";
        client.send(smuggled).await;
        assert_status_and_end(client, 400).await;
    });
}

async fn assert_status_and_end(mut client: Client, status: u16) {
    let response = client.response().await;
    assert_eq!(response.head.status, status);
    assert_eq!(client.rest().await, "");
}

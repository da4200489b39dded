//! Publishing over HTTP: requests, responses, and the events that subscribers receive.

mod coded;
mod idempotency;
mod keys;
mod rejections;
mod unacknowledged;

use fanline::hub::HubOptions;
use serde_json::json;

use crate::support::{Event, JSON, NDJSON, Server, TEXT, request, run};

#[test]
fn ids_are_consecutive_across_topics_and_request_forms() {
    run(async {
        let server = Server::start();
        let event = |n: u32| format!(r#"{{"topic":"t{n}","data":{n}}}"#);
        let one = server.post("/publish", JSON, event(1)).await.ok();
        assert_eq!(one, json!({"id": "7-1", "published": 1}));
        let array = server.post("/publish", JSON, format!(" [{},{}]", event(2), event(3))).await.ok();
        assert_eq!(array, json!({"first_id": "7-2", "last_id": "7-3", "published": 2}));
        let array_of_one = server.post("/publish", JSON, format!("[{}]", event(4))).await.ok();
        assert_eq!(array_of_one, json!({"first_id": "7-4", "last_id": "7-4", "published": 1}));
        let lines = server.post("/publish", NDJSON, format!("{}\n{}\n", event(5), event(6))).await.ok();
        assert_eq!(lines, json!({"first_id": "7-5", "last_id": "7-6", "published": 2}));
        let text = server.post("/publish/t7", TEXT, "7").await.ok();
        assert_eq!(text, json!({"id": "7-7", "published": 1}));
        let mut stream = server.subscribe("/stream?last_event_id=earliest").await;
        assert_eq!(stream.hello().await["replayed"], 7);
        for n in 1..=7 {
            assert_eq!(stream.data_at(n).await, n.to_string());
        }
    });
}

#[test]
fn empty_batch_publishes_nothing() {
    run(async {
        let server = Server::start();
        let nothing = json!({"first_id": null, "last_id": null, "published": 0});
        assert_eq!(server.post("/publish", JSON, "[]").await.ok(), nothing);
        assert_eq!(server.post("/publish", NDJSON, "").await.ok(), nothing);
        assert_eq!(server.post("/publish", NDJSON, "\n\r\n \n").await.ok(), nothing);
        assert_eq!(server.hub.stats().published, 0);
    });
}

#[test]
fn content_types_ignore_case_and_parameters() {
    run(async {
        let server = Server::start();
        for content_type in
            ["application/json; charset=utf-8", "Application/JSON;charset=\"UTF-8\"", "application/json;x=y"]
        {
            assert_eq!(server.post("/publish", content_type, r#"{"topic":"t","data":1}"#).await.ok()["published"], 1);
        }
        assert_eq!(
            server.post("/publish", "application/ndjson", r#"{"topic":"t","data":1}"#).await.ok()["published"],
            1
        );
        assert_eq!(server.post("/publish/t", "text/plain;charset=UTF-8", "x").await.ok()["published"], 1);
    });
}

#[test]
fn json_payload_reaches_subscribers_byte_for_byte() {
    run(async {
        let server = Server::start();
        let mut stream = server.follow("/stream").await;
        for value in [
            "1.0",
            "1e400",
            "-0",
            "0.1000000000000000055511151231257827",
            "123456789012345678901234567890",
            "null",
            "false",
            r#""""#,
            r#""\u00fc \ud83d\ude00 \/ ü 😀""#,
            "\"\u{2028}\u{feff}\"",
            r#"{"b":1, "a" :2,"b":3}"#,
            "[1 ,\t2]",
            "[]",
        ] {
            let body = format!(r#"{{"data" :  {value} , "topic":"t"}}"#);
            server.post("/publish", JSON, &body).await.ok();
            assert_eq!(stream.event().await.data, value);
            server.post("/publish", JSON, format!("[ {body} ]")).await.ok();
            assert_eq!(stream.event().await.data, value);
            server.post("/publish", NDJSON, &body).await.ok();
            assert_eq!(stream.event().await.data, value);
            server.post("/publish/t", JSON, format!(" {value}\n")).await.ok();
            assert_eq!(stream.event().await.data, value);
        }
    });
}

#[test]
fn payload_lines_become_data_lines() {
    run(async {
        let server = Server::start();
        let mut stream = server.follow("/stream").await;
        for (text, wire) in [
            ("", "data: \n"),
            ("one", "data: one\n"),
            ("a\nb", "data: a\ndata: b\n"),
            ("a\r\nb\rc", "data: a\ndata: b\ndata: c\n"),
            ("\n\n", "data: \ndata: \ndata: \n"),
            (" led by a space", "data:  led by a space\n"),
            ("id: 9\nevent: x\n:", "data: id: 9\ndata: event: x\ndata: :\n"),
            ("\u{feff}\0\u{2028}", "data: \u{feff}\0\u{2028}\n"),
        ] {
            server.post("/publish/t?event=e", TEXT, text).await.ok();
            let id = server.hub.position();
            let chunk = stream.client().chunk().await.unwrap();
            assert_eq!(chunk, format!("id: {id}\nevent: e\n{wire}\n"));
        }
        let value = "{\n  \"a\": [\r\n 1 ]\n}";
        server.post("/publish", JSON, format!("{{\"topic\":\"t\",\"data\":{value}}}")).await.ok();
        assert_eq!(stream.event().await.data, "{\n  \"a\": [\n 1 ]\n}");
    });
}

#[test]
fn event_without_a_name_is_a_message() {
    run(async {
        let server = Server::start();
        let mut stream = server.follow("/stream").await;
        let mut published = async |target: &str, content_type: &str, body: &str| {
            server.post(target, content_type, body).await.ok();
            let Event { event, data, .. } = stream.event().await;
            (event, data)
        };
        let expected = |event: &str, data: &str| (event.to_owned(), data.to_owned());
        assert_eq!(published("/publish", JSON, r#"{"topic":"t","data":1}"#).await, expected("message", "1"));
        let named = r#"{"topic":"t","event":"größer, als: 1","text":"a \"b\" \u00fc"}"#;
        assert_eq!(published("/publish", JSON, named).await, expected("größer, als: 1", "a \"b\" ü"));
        let null = r#"{"topic":"t","event":null,"data":null}"#;
        assert_eq!(published("/publish", JSON, null).await, expected("message", "null"));
        assert_eq!(published("/publish/t", TEXT, "x").await, expected("message", "x"));
        assert_eq!(published("/publish/t?event=an%20event", TEXT, "x").await, expected("an event", "x"));
        assert_eq!(published("/publish/t?event=a+b", JSON, "{}").await, expected("a b", "{}"));
    });
}

#[test]
fn topic_separators_in_the_path_may_be_escaped() {
    run(async {
        let server = Server::start();
        for (path, topic) in [
            ("/publish/a%2Fb", "a/b"),
            ("/publish/a/b", "a/b"),
            ("/publish/eu/plant-3/line.2:x", "eu/plant-3/line.2:x"),
            ("/publish/gr%C3%B6%C3%9Fe", "größe"),
            ("/publish/a%3Ab%3F%23", "a:b?#"),
            ("/publish/a+b", "a+b"),
            ("/publish/%2525", "%25"),
        ] {
            let query: String = form_urlencoded::byte_serialize(topic.as_bytes()).collect();
            let mut stream = server.follow(&format!("/stream?topic={query}")).await;
            server.post(path, TEXT, path).await.ok();
            assert_eq!(stream.event().await.data, path);
        }
    });
}

/// Cuts `body` into chunks of 1, 2, 3 … 7, 1, 2 … bytes.
fn chunked(target: &str, content_type: &str, body: &[u8], trailer: &str) -> Vec<u8> {
    let mut request = format!(
        "POST {target} HTTP/1.1\r\nhost: test\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    let mut rest = body;
    for length in (1..8).cycle() {
        let (chunk, behind) = rest.split_at(rest.len().min(length));
        if chunk.is_empty() {
            break;
        }
        request.extend_from_slice(format!("{:X};x=y\r\n", chunk.len()).as_bytes());
        request.extend_from_slice(&[chunk, b"\r\n"].concat());
        rest = behind;
    }
    request.extend_from_slice(format!("0\r\n{trailer}\r\n").as_bytes());
    request
}

#[test]
fn lines_may_span_chunks_and_packets() {
    run(async {
        let server = Server::start();
        let mut stream = server.follow("/stream").await;
        let lines = "\n{\"topic\":\"t\",\"data\":\"größe\"}\r\n\r\n  {\"data\":2,\"topic\":\"t\"}  \n{\"topic\":\"t\",\"text\":\"3\"}";
        let whole = chunked("/publish", NDJSON, lines.as_bytes(), "x-trailer: y\r\n");
        for piece in [whole.len(), 1, 2, 3, 5, 8, 13] {
            let mut client = server.connect().await;
            for piece in whole.chunks(piece) {
                client.send(piece).await;
            }
            let answer = client.response().await.ok();
            assert_eq!(answer["published"], 3);
            for data in ["\"größe\"", "2", "3"] {
                assert_eq!(stream.event().await.data, data);
            }
        }
        let text = chunked("/publish/t", TEXT, b"one text", "");
        server.ask(text).await.ok();
        assert_eq!(stream.event().await.data, "one text");
    });
}

#[test]
fn lines_are_published_before_the_body_ends() {
    run(async {
        let server = Server::start();
        let mut stream = server.follow("/stream").await;
        let mut client = server.connect().await;
        let head = "POST /publish HTTP/1.1\r\nhost: test\r\ncontent-type: application/x-ndjson\r\n";
        client.send(format!("{head}transfer-encoding: chunked\r\n\r\n")).await;
        for n in 1..=3 {
            let line = format!("{{\"topic\":\"t\",\"data\":{n}}}\n");
            client.send(format!("{:x}\r\n{line}\r\n", line.len())).await;
            assert_eq!(stream.data_at(n).await, n.to_string());
        }
        client.send("0\r\n\r\n").await;
        let answer = client.response().await.ok();
        assert_eq!(answer, json!({"first_id": "7-1", "last_id": "7-3", "published": 3}));
    });
}

#[test]
fn one_request_publishes_a_hundred_thousand_lines() {
    const LINES: u64 = 100_000;
    run(async {
        let server = Server::with(HubOptions { history: 1000, ..Server::hub_options() }, |builder| builder);
        let mut stream = server.follow("/stream?topics=last&on_lag=skip").await;
        let mut lines: String = (1..LINES).map(|n| format!("{{\"topic\":\"t\",\"data\":{n}}}\n")).collect();
        lines += &format!("{{\"topic\":\"last\",\"data\":{LINES}}}");
        let answer = server.post("/publish", NDJSON, lines).await.ok();
        assert_eq!(answer, json!({"first_id": "7-1", "last_id": format!("7-{LINES}"), "published": LINES}));
        assert_eq!(stream.data_at(LINES).await, LINES.to_string());
        let mut replay = server.follow("/stream?topics=t&last_event_id=earliest").await;
        for n in LINES - 1000..LINES {
            assert_eq!(replay.data_at(n).await, n.to_string());
        }
    });
}

#[test]
fn subscriber_keeps_up_with_a_long_upload() {
    const LINES: u64 = 20_000;
    run(async {
        // The ring holds all events: this thread may read late without being cut off.
        let server = Server::with(HubOptions { history: LINES as usize, ..Server::hub_options() }, |builder| builder);
        let mut stream = server.follow("/stream?topics=t").await;
        let publish = async {
            let mut client = server.connect().await;
            let head = "POST /publish HTTP/1.1\r\nhost: test\r\ncontent-type: application/x-ndjson\r\n";
            client.send(format!("{head}transfer-encoding: chunked\r\n\r\n")).await;
            for first in (1..=LINES).step_by(100) {
                let lines: String =
                    (first..first + 100).map(|n| format!("{{\"topic\":\"t\",\"data\":{n}}}\n")).collect();
                client.send(format!("{:x}\r\n{lines}\r\n", lines.len())).await;
            }
            client.send("0\r\n\r\n").await;
            assert_eq!(client.response().await.ok()["published"], LINES);
        };
        let follow = async {
            for n in 1..=LINES {
                assert_eq!(stream.data_at(n).await, n.to_string());
            }
        };
        tokio::join!(publish, follow);
    });
}

#[test]
fn expect_100_continue_is_answered() {
    run(async {
        let server = Server::start();
        for content_type in [JSON, NDJSON] {
            let mut client = server.connect().await;
            let body = r#"{"topic":"t","data":1}"#;
            let headers = [("content-type", content_type), ("expect", "100-continue")];
            let whole = request("POST", "/publish", &headers, body.as_bytes());
            let (head, body) = whole.split_at(whole.len() - body.len());
            client.send(head).await;
            assert_eq!(client.through(b"\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
            client.send(body).await;
            assert_eq!(client.response().await.ok()["published"], 1);
        }
    });
}

#[test]
fn expect_100_continue_is_rejected_before_the_body() {
    run(async {
        let server = Server::start();
        for (target, content_type, length, status) in [
            ("/publish", "application/xml", "10", 415),
            ("/publish", JSON, "1048577", 413),
            ("/publish/t", TEXT, "999999999999", 413),
            ("/nothing", JSON, "10", 404),
        ] {
            let mut client = server.connect().await;
            client
                .send(format!(
                    "POST {target} HTTP/1.1\r\nhost: test\r\ncontent-type: {content_type}\r\nexpect: 100-continue\r\n\
                     content-length: {length}\r\n\r\n"
                ))
                .await;
            let response = client.response().await;
            crate::support::assert_problem(&response, status, &[]);
        }
    });
}

#[test]
fn one_connection_publishes_many_times() {
    run(async {
        let server = Server::start();
        let mut client = server.connect().await;
        let publish = |n: u64| request("POST", "/publish/t", &[("content-type", JSON)], n.to_string().as_bytes());
        for n in 1..=50 {
            client.send(publish(n)).await;
            assert_eq!(client.response().await.ok()["id"], format!("7-{n}"));
        }
        let pipelined: Vec<u8> = (51..=100).flat_map(publish).collect();
        client.send(pipelined).await;
        for n in 51..=100 {
            assert_eq!(client.response().await.ok()["id"], format!("7-{n}"));
        }
        assert_eq!(server.stats().accepted, 1);
    });
}

//! JSON that is valid but harmful: deep, huge, or ambiguous.

use std::io::{Read, Write};
use std::net::TcpStream;

use fanline::server::HttpOptions;

use super::Bystander;
use crate::process;
use crate::support::{JSON, NDJSON, Server, assert_problem, run};

fn nested(open: &str, inner: &str, close: &str, depth: usize) -> String {
    [&open.repeat(depth), inner, &close.repeat(depth)].concat()
}

/// A recursive parser needs some 100 bytes of stack per level, and a server's thread has 2 MiB.
#[test]
fn nesting_of_payloads_is_limited_only_by_their_size() {
    run(async {
        let server = Server::with(Server::hub_options(), |builder| {
            builder.http(HttpOptions { max_event_bytes: 1 << 20, max_body_bytes: 4 << 20, ..HttpOptions::default() })
        });
        let mut bystander = Bystander::connect(&server).await;
        for data in [
            nested("[", "", "]", 100_000),
            nested("{\"a\":", "null", "}", 100_000),
            nested("[{\"a\":", "1e400", "}]", 50_000),
        ] {
            let object = format!(r#"{{"topic":"t","data":{data}}}"#);
            for (target, content_type, body) in [
                ("/publish", JSON, object.clone()),
                ("/publish", JSON, format!("[{object}]")),
                ("/publish", NDJSON, object),
                ("/publish/t", JSON, data.clone()),
            ] {
                server.post(target, content_type, body).await.ok();
                bystander.assert_received(&server, content_type, &[("message", &data)]).await;
            }
        }
    });
}

/// Each chunk that is kept separately takes some 40 bytes.
#[test]
fn one_byte_chunks_use_no_more_memory_than_their_bytes() {
    const BYTES: usize = 512 << 10;
    let limits = ["--max-event-bytes=512KiB", "--max-body-bytes=1MiB", "--body-timeout=5m"];
    let server = process::Server::start(&limits);
    let mut stream = server.stream("topics=t");
    let before = process::peak_resident_bytes(server.pid());
    let mut socket = TcpStream::connect(server.address()).unwrap();
    let head = "POST /publish/t HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: text/plain\r\n";
    socket.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes()).unwrap();
    socket.write_all("1\r\nx\r\n".repeat(BYTES).as_bytes()).unwrap();
    socket.write_all(b"0\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let grown = process::peak_resident_bytes(server.pid()) - before;
    assert!(grown < 8 << 20, "{grown} bytes");
    while stream.next().data.len() != BYTES {}
}

#[test]
fn deeply_nested_json_that_is_not_an_event_is_rejected() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let deep = 30_000;
        for body in [
            "[".repeat(deep),
            "{\"a\":".repeat(deep),
            nested("[", "", "]", deep),
            nested("[", r#"{"topic":"t","data":1}"#, "]", 2),
            nested("{\"topic\":", "\"t\"", "}", deep),
            format!(r#"{{"topic":{},"data":1}}"#, nested("[", "", "]", deep)),
            format!(r#"{{"topic":"t","event":{},"data":1}}"#, nested("[", "", "]", deep)),
            format!(r#"{{"topic":"t","text":{}}}"#, nested("[", "", "]", deep)),
            format!(r#"{{"topic":"t","data":1,"x":{}}}"#, nested("[", "", "]", deep)),
            format!(r#"{{"topic":"t","data":{}"#, "[".repeat(deep)),
            format!(r#"{{"topic":"t","data":{}"#, "{\"a\":[".repeat(deep)),
        ] {
            for content_type in [JSON, NDJSON] {
                let what = &body[..60.min(body.len())];
                assert_eq!(server.post("/publish", content_type, &body).await.head.status, 400, "{what}");
                bystander.assert_undisturbed(&server, what).await;
            }
            let response = server.post("/publish/t", JSON, &body[..body.len() - 1]).await;
            assert_eq!(response.head.status, 400);
        }
        // Deep, and over the size limit.
        let data = nested("[", "", "]", 100_000);
        let response = server.post("/publish", JSON, format!(r#"{{"topic":"t","data":{data}}}"#)).await;
        assert_problem(&response, 413, &["200000 bytes", "max_event_bytes"]);
        bystander.assert_undisturbed(&server, "all of them").await;
    });
}

#[test]
fn numbers_keep_their_spelling() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let long = "9".repeat(60_000);
        for number in ["1e400", "-1E+99999999999999999999", "18446744073709551616", "-0", "0.1e-400", "1E0000", &long] {
            server.post("/publish", JSON, format!(r#"{{"topic":"t","data":{number}}}"#)).await.ok();
            server.post("/publish/t", JSON, number).await.ok();
            bystander.assert_received(&server, number, &[("message", number), ("message", number)]).await;
        }
        for number in ["01", "+1", ".1", "1.", "1e", "0x1", "NaN", "Infinity", "-Infinity", "1_000", "--1", "\u{661}"] {
            for (target, body) in
                [("/publish", format!(r#"{{"topic":"t","data":{number}}}"#)), ("/publish/t", number.to_owned())]
            {
                assert_problem(&server.post(target, JSON, body).await, 400, &["line 1 column"]);
            }
            bystander.assert_undisturbed(&server, number).await;
        }
    });
}

#[test]
fn invalid_numbers_in_queries_are_rejected() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let numbers = ["18446744073709551616", "-1", "1e400", "1e3", "1.5", "NaN", "%2b-1", "0x10", "\u{661}", "1%00"];
        for number in numbers {
            for target in ["/clients?limit=", "/topics?limit=", "/stream?history=", "/stream?heartbeat="] {
                let response = server.get(&format!("{target}{number}")).await;
                let (_, parameter) = target.split_once('?').unwrap();
                assert_problem(&response, 400, &[parameter.trim_end_matches('=')]);
            }
            bystander.assert_undisturbed(&server, number).await;
        }
        // The largest number requests everything.
        server.publish("t", 1..=3).await;
        let mut stream = server.subscribe("/stream?history=18446744073709551615&topic=t").await;
        assert_eq!(stream.hello().await["replayed"], 3);
        server.get("/topics?limit=1000").await.ok();
    });
}

/// Of two equal keys, parsers take either the first or the last: the validated one must be the published one.
#[test]
fn duplicate_keys_are_rejected_in_every_spelling() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        for object in [
            r#"{"topic":"t","topic":"t","data":1}"#,
            r#"{"topic":"t","data":1,"\u0074opic":"u"}"#,
            r#"{"topic":"t","data":1,"data":2}"#,
            r#"{"topic":"t","data":1,"d\u0061ta":null}"#,
            r#"{"topic":"t","text":"1","text":"2"}"#,
            r#"{"topic":"t","event":"a","event":"b","data":1}"#,
            r#"{"topic":"t","event":null,"event":"b","data":1}"#,
        ] {
            for (content_type, body) in
                [(JSON, object.to_owned()), (JSON, format!("[{object}]")), (NDJSON, object.into())]
            {
                assert_problem(&server.post("/publish", content_type, body).await, 400, &["duplicate field"]);
            }
            bystander.assert_undisturbed(&server, object).await;
        }
        for object in [
            r#"{"Topic":"t","data":1}"#,
            r#"{"topic\u0000":"t","data":1}"#,
            r#"{"topic":"t","data":1,"":2}"#,
            r#"{"topic":"t","data":1,"__proto__":{}}"#,
            r#"{"topic":"t","data":1,"\u001b[31m\n":{}}"#,
        ] {
            let problem = assert_problem(&server.post("/publish", JSON, object).await, 400, &["unknown field"]);
            assert!(!problem["detail"].as_str().unwrap().contains(char::is_control), "{problem}");
            bystander.assert_undisturbed(&server, object).await;
        }
        // A payload may repeat keys.
        let data = r#"{"a":1,"a":2,"__proto__":{"x":1}}"#;
        server.post("/publish", JSON, format!(r#"{{"\u0074opic":"t","data":{data}}}"#)).await.ok();
        bystander.assert_received(&server, "a key that is escaped", &[("message", data)]).await;
    });
}

/// The fields of an event are named.
#[test]
fn array_in_place_of_an_event_is_rejected() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        for array in [r#"["t","e",1,null]"#, r#"["t",null,1]"#, r#"["t",null,null,"text"]"#, r#"["t"]"#] {
            for (content_type, body) in [(JSON, format!("[{array}]")), (NDJSON, array.to_owned())] {
                assert_problem(&server.post("/publish", content_type, &body).await, 400, &["line 1 column", "object"]);
                bystander.assert_undisturbed(&server, &body).await;
            }
        }
    });
}

#[test]
fn huge_array_is_published_in_order_or_rejected_whole() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let object = r#"{"topic":"t","data":1}"#;
        let most = ((1 << 20) - 1) / (object.len() + 1);
        let array = |count: usize| format!("[{}]", vec![object; count].join(","));
        let broken = array(most).replacen(object, r#"{"topic":"t","data":2"#, 1);
        assert_problem(&server.post("/publish", JSON, broken).await, 400, &["line 1 column"]);
        assert_problem(&server.post("/publish", JSON, array(most + 1)).await, 413, &["max_body_bytes"]);
        bystander.assert_undisturbed(&server, "arrays").await;
        // A slow reader would get a gap, so this one follows another topic.
        let mut other = server.follow("/stream?topic=u").await;
        assert_eq!(server.post("/publish", JSON, array(most)).await.ok()["published"], most);
        server.publish_marker("u").await;
        other.marker().await;
    });
}

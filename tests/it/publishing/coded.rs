//! `Content-Encoding` of publishes: gzip is decoded within the limits on bodies and lines, anything else is rejected.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::support::{JSON, NDJSON, Response, Server, TEXT, assert_problem, request, run};

fn gzip(plain: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain.as_ref()).unwrap();
    encoder.finish().unwrap()
}

async fn publish(server: &Server, target: &str, content_type: &str, coding: &str, body: &[u8]) -> Response {
    let headers = [("content-type", content_type), ("content-encoding", coding)];
    server.ask(request("POST", target, &headers, body)).await
}

#[test]
fn gzip_body_is_decoded_for_every_content_type() {
    run(async {
        let server = Server::start();
        let mut stream = server.follow("/stream").await;
        let event = |n: u32| format!(r#"{{"topic":"t","data":{n}}}"#);
        let one = publish(&server, "/publish", JSON, "gzip", &gzip(event(1))).await.ok();
        assert_eq!(one, json!({"id": "7-1", "published": 1}));
        publish(&server, "/publish", JSON, "GZip", &gzip(format!("[{},{}]", event(2), event(3)))).await.ok();
        let lines = format!("{}\n{}\n", event(4), event(5));
        publish(&server, "/publish", NDJSON, "x-gzip", &gzip(lines)).await.ok();
        publish(&server, "/publish/t", TEXT, "gzip", &gzip("6")).await.ok();
        publish(&server, "/publish/t", TEXT, "identity", b"7").await.ok();
        publish(&server, "/publish/t", JSON, "gzip", &[gzip("8"), gzip("8")].concat()).await.ok();
        for n in [1, 2, 3, 4, 5, 6, 7, 88] {
            assert_eq!(stream.event().await.data, n.to_string());
        }
    });
}

#[test]
fn other_codings_get_415_with_the_supported_one() {
    run(async {
        let server = Server::start();
        for coding in ["br", "deflate", "zstd", "gzip, gzip", "gzip, br", "gzip;q=1", "", "utf-8"] {
            for (target, content_type) in [("/publish", JSON), ("/publish", NDJSON), ("/publish/t", TEXT)] {
                let answer = publish(&server, target, content_type, coding, b"1").await;
                assert_problem(&answer, 415, &["Content-Encoding", "gzip"]);
                assert_eq!(answer.head.header("accept-encoding"), Some("gzip"), "{coding:?}");
            }
        }
        let twice = [("content-type", TEXT), ("content-encoding", "gzip"), ("content-encoding", "gzip")];
        assert_eq!(server.ask(request("POST", "/publish/t", &twice, &gzip("1"))).await.head.status, 415);
        assert_eq!(server.hub.stats().published, 0);
    });
}

#[test]
fn damaged_gzip_publishes_nothing() {
    run(async {
        let server = Server::start();
        let whole = gzip("text that is published as a whole or not at all");
        let mut damaged = whole.clone();
        damaged[20] ^= 0x55;
        let mut bodies = vec![b"plain text".to_vec(), damaged, [&whole[..], b"more"].concat()];
        bodies.extend((0..whole.len()).map(|length| whole[..length].to_vec()));
        for body in bodies {
            let answer = publish(&server, "/publish/t", TEXT, "gzip", &body).await;
            assert_problem(&answer, 400, &["gzip"]);
        }
        assert_eq!(server.hub.stats().published, 0);
    });
}

#[test]
fn body_limit_applies_to_the_decoded_bytes() {
    run(async {
        let server = Server::start();
        let fits = " ".repeat((1 << 20) - 1) + "1";
        publish(&server, "/publish/t", JSON, "gzip", &gzip(&fits)).await.ok();
        let more = publish(&server, "/publish/t", JSON, "gzip", &gzip(format!(" {fits}"))).await;
        assert_problem(&more, 413, &["1048576 bytes", "max_body_bytes"]);
        // A gibibyte in one megabyte.
        let bomb = gzip(vec![b' '; 1 << 20]).repeat(1024);
        assert!(bomb.len() < 2 << 20);
        for (target, content_type, detail) in [
            ("/publish", JSON, "max_body_bytes"),
            ("/publish/t", TEXT, "max_body_bytes"),
            ("/publish", NDJSON, "max_event_bytes"),
        ] {
            assert_problem(&publish(&server, target, content_type, "gzip", &bomb).await, 413, &[detail]);
        }
        assert_eq!(server.hub.stats().published, 1);
    });
}

#[test]
fn gzip_lines_are_published_as_they_arrive() {
    run(async {
        let server = Server::start();
        let mut stream = server.follow("/stream").await;
        let mut client = server.connect().await;
        let head = "POST /publish HTTP/1.1\r\nhost: test\r\ncontent-type: application/x-ndjson\r\n";
        client.send(format!("{head}content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n")).await;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        for n in 1..=3 {
            writeln!(encoder, r#"{{"topic":"t","data":{n}}}"#).unwrap();
            encoder.flush().unwrap();
            let block = std::mem::take(encoder.get_mut());
            client.send([format!("{:x}\r\n", block.len()).as_bytes(), &block, b"\r\n"].concat()).await;
            assert_eq!(stream.event().await.data, n.to_string());
        }
        let end = encoder.finish().unwrap();
        client.send([format!("{:x}\r\n", end.len()).as_bytes(), &end, b"\r\n0\r\n\r\n"].concat()).await;
        assert_eq!(client.response().await.ok()["published"], 3);
        // The body was read to its end.
        client.get("/health/live").await.ok();
    });
}

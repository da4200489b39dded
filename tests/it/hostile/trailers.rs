//! Request smuggling through the trailers of a chunked body. A request inside what the server takes for trailers must not
//! change which bytes are executed: a body that has trailers, or that was not read, is the last on its connection.
//!
//! The text of a report for hyper (1.12.0, with httparse 1.10.1), which was not sent yet:
//!
//! > **Chunked request bodies: the trailer section is framed by CRLF CRLF but parsed as if a bare LF could end it.**
//! >
//! > After the last chunk `0\r\n`, the state machine of `proto::h1::decode` (`EndCr`, `Trailer`, `TrailerLf`, `EndCr`, `EndLf`)
//! > collects bytes until it reads an empty line that ends with CRLF. A line may contain bare LFs, and the first line may begin
//! > with one. `decode_trailers` then calls `httparse::parse_headers`, which accepts a bare LF as the end of a line and an empty
//! > line of one LF as the end of the section, and drops the number of bytes that it has parsed. Hence, after
//! >
//! > ```text
//! > POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nZ\r\n0\r\n\n
//! > POST /inner HTTP/1.1\r\nhost: a\r\ncontent-length: 35\r\n\r\n
//! > GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n
//! > ```
//! >
//! > the body of the first request is `Z` with an empty `HeaderMap` of trailers, the head of `/inner` is dropped without an error,
//! > and its *body* is executed as a request. An intermediary that accepts a bare LF at the end of the trailer section, as RFC 9112,
//! > section 2.2 permits for fields, forwards two requests and gets the responses of two others. The same happens with
//! > `0\r\nx: y\n\n`, and with `0\r\nx: y\r\n\n`. A service that never polls the body is affected as well:
//! > `poll_drain_or_close_read` decodes the trailers, drops them, and keeps the connection alive.
//! >
//! > Proposed: in `decode_trailers`, return an error unless `Status::Complete((parsed, _))` has `parsed == buf.len()`; better,
//! > reject LF in the states `EndCr` and `Trailer`, as is done for chunk extensions since #2600.

use super::Bystander;
use crate::support::{JSON, NDJSON, Server, TEXT, run};

/// A request that the client never makes: its bytes are the body of [`inner`].
const SMUGGLED: &str =
    "POST /publish/t HTTP/1.1\r\nhost: test\r\ncontent-type: text/plain\r\ncontent-length: 8\r\n\r\nsmuggled";

/// Ends of a chunked body after which a lenient reader sees a request, and hyper more trailers.
const ENDS: [&str; 9] = [
    "0\r\n\n",
    "0\r\nx: y\n\n",
    "0\r\nx: y\r\n\n",
    "0\r\nx: y\nz: y\n\n",
    "0\r\ncontent-length: 5\ntransfer-encoding: chunked\n\n",
    "000\r\n\n",
    "0;extension\r\n\n",
    "0 \r\n\n",
    "0\r\n\n\n",
];

/// A harmless request whose body is [`SMUGGLED`].
fn inner() -> String {
    format!("POST /nothing HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len())
}

fn chunked(line: &str, content_type: &str, chunks: &str) -> String {
    let head = format!("{line} HTTP/1.1\r\nhost: test\r\ncontent-type: {content_type}\r\n");
    format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}")
}

/// Sends `request` and the inner one, and checks that only the first is answered.
async fn assert_last(server: &Server, request: &str, status: u16) {
    let mut client = server.connect().await;
    // The server may close the connection before everything is sent.
    let _ = client.try_send(format!("{request}{}", inner())).await;
    let response = client.response().await;
    assert_eq!(response.head.status, status, "{request:?}: {response:?}");
    assert_eq!(response.head.header("connection"), Some("close"), "{request:?}");
    assert_eq!(client.rest().await, "", "{request:?}");
}

#[test]
fn body_with_trailers_is_the_last_on_its_connection() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let event = r#"{"topic":"t","data":1}"#;
        for end in ENDS {
            let text = chunked("POST /publish/t", TEXT, &format!("1\r\nZ\r\n{end}"));
            let json = chunked("POST /publish", JSON, &format!("{:x}\r\n{event}\r\n{end}", event.len()));
            let lines = chunked("POST /publish", NDJSON, &format!("{:x}\r\n{event}\r\n{end}", event.len()));
            for (request, data) in [(text, "Z"), (json, "1"), (lines, "1")] {
                assert_last(&server, &request, 200).await;
                bystander.assert_received(&server, &format!("{request:?}"), &[("message", data)]).await;
            }
        }
    });
}

#[test]
fn unread_chunked_body_is_the_last_on_its_connection() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        for end in ENDS.into_iter().chain(["0\r\n\r\n", "0\r\nx: y\r\n\r\n"]) {
            for (line, status) in [
                ("GET /health/live", 200),
                ("GET /", 200),
                ("POST /publish", 415),
                ("POST /publish/a,b", 400),
                ("POST /publish/t?event=%ff", 400),
                ("POST /nothing", 404),
                ("PUT /publish", 405),
                ("DELETE /clients/x", 400),
            ] {
                assert_last(&server, &chunked(line, TEXT, end), status).await;
            }
            bystander.assert_undisturbed(&server, end).await;
        }
    });
}

#[test]
fn oversized_body_with_trailers_is_the_last_on_its_connection() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let chunk = "x".repeat((1 << 20) + 1);
        for end in ENDS {
            let chunks = format!("{:x}\r\n{chunk}\r\n{end}", chunk.len());
            assert_last(&server, &chunked("POST /publish/t", TEXT, &chunks), 413).await;
            bystander.assert_undisturbed(&server, end).await;
        }
    });
}

/// The decoder may stop between any two bytes.
#[test]
fn trailers_that_arrive_in_pieces_end_the_connection() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let request = chunked("POST /publish/t", TEXT, "1\r\nZ\r\n0\r\n\n");
        let pieces = format!("{request}{}", inner());
        for split in request.len() - 6..request.len() + 6 {
            let mut client = server.connect().await;
            let (before, after) = pieces.split_at(split);
            client.send(before).await;
            // Another request is served meanwhile, so that the server has read the first piece.
            server.get("/health/live").await.ok();
            let _ = client.try_send(after).await;
            assert_eq!(client.response().await.head.status, 200, "split at {split}");
            assert_eq!(client.rest().await, "", "split at {split}");
            bystander.assert_received(&server, "pieces", &[("message", "Z")]).await;
        }
    });
}

#[test]
fn chunked_body_without_trailers_keeps_the_connection() {
    run(async {
        let server = Server::start();
        let mut client = server.connect().await;
        for _ in 0..3 {
            client.send(chunked("POST /publish/t", TEXT, "1\r\nZ\r\n0\r\n\r\n")).await;
            let response = client.response().await;
            assert_eq!((response.head.status, response.head.header("connection")), (200, None));
        }
    });
}

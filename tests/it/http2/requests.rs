//! Requests and responses over HTTP/2 are those of HTTP/1.1.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use fanline::server::HttpOptions;

use crate::support::{Head, Http2, JSON, NDJSON, Server, TEXT, assert_problem, complete, request, run, until};

/// Fields of HTTP/1.1 connections, and those that differ from response to response.
const OTHER_FIELDS: [&str; 4] = ["connection", "transfer-encoding", "date", "keep-alive"];

fn fields(head: &Head) -> BTreeSet<(&str, &str)> {
    let fields = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    fields.filter(|(name, _)| !OTHER_FIELDS.contains(name)).collect()
}

#[test]
fn endpoints_respond_as_over_http1() {
    run(async {
        let server = Server::start();
        let mut http2 = Http2::connect(server.address).await;
        let html = [("accept", "text/html")];
        let preflight = [("origin", "http://a.example"), ("access-control-request-method", "GET")];
        for (method, target, headers, body) in [
            ("GET", "/", &[][..], ""),
            ("GET", "/", &html, ""),
            ("HEAD", "/", &[], ""),
            ("GET", "/health/live", &[], ""),
            ("HEAD", "/health/live", &[], ""),
            ("GET", "/openapi.json", &[], ""),
            ("GET", "/fanline.js", &[], ""),
            ("GET", "/fanline.js", &[("if-none-match", "*")], ""),
            ("GET", "/topics", &[], ""),
            ("GET", "/clients", &[], ""),
            ("GET", "/nothing", &[], ""),
            ("GET", "/publish", &[], ""),
            ("PUT", "/publish/t", &[("content-type", TEXT)], "x"),
            ("POST", "/publish", &[("content-type", JSON)], "{"),
            ("POST", "/publish", &[("content-type", JSON)], "{\"topic\":\"\"}"),
            ("POST", "/publish/t", &[("content-type", "text/css")], "x"),
            ("DELETE", "/clients/0000000000000000", &[], ""),
            ("DELETE", "/clients/x", &[], ""),
            ("GET", "/stream?topics=a%00", &[], ""),
            ("OPTIONS", "/publish", &[], ""),
            ("OPTIONS", "/publish", &preflight, ""),
            ("TRACE", "/", &[], ""),
        ] {
            let new = http2.ask(method, target, headers, body.as_bytes()).await;
            let mut client = server.connect().await;
            client.send(request(method, target, headers, body.as_bytes())).await;
            // The length of a response to HEAD is that of the body which it does not have.
            let (head, body) = if method == "HEAD" {
                (client.head().await, Bytes::new())
            } else {
                let response = client.response().await;
                (response.head, response.body)
            };
            assert_eq!((new.head.status, fields(&new.head)), (head.status, fields(&head)), "{method} {target}");
            assert_eq!(new.body, body, "{method} {target}");
        }
    });
}

#[test]
fn response_of_many_frames_is_whole() {
    run(async {
        let server = Server::start();
        let expected = server.get("/openapi.json").await.body;
        // The window is smaller than the document, and updated while it arrives.
        let mut http2 = Http2::with_window(server.address, 1000).await;
        assert!(expected.len() > 20_000);
        assert_eq!(http2.get("/openapi.json").await.body, expected);
    });
}

#[test]
fn events_are_published_in_every_form() {
    run(async {
        let server = Server::start();
        let mut stream = server.follow("/stream?topics=t").await;
        let mut http2 = Http2::connect(server.address).await;
        for (target, content_type, body) in [
            ("/publish", JSON, "{\"topic\":\"t\",\"data\":1}"),
            ("/publish", JSON, "[{\"topic\":\"t\",\"data\":1}]"),
            ("/publish", NDJSON, "{\"topic\":\"t\",\"data\":1}\n"),
            ("/publish/t", JSON, "1"),
            ("/publish/t", TEXT, "1"),
        ] {
            assert_eq!(http2.post(target, content_type, body).await.ok()["published"], 1, "{content_type}");
            assert_eq!(stream.event().await.data, "1");
        }
    });
}

#[test]
fn concurrent_publishes_of_one_connection_are_all_answered() {
    run(async {
        let server = Server::start();
        let mut stream = server.follow("/stream?topics=t").await;
        let mut http2 = Http2::connect(server.address).await;
        let mut responses = Vec::new();
        for number in 0..90 {
            let body = format!("{number}");
            responses.push(http2.start("POST", "/publish/t", &[("content-type", TEXT)], body.as_bytes()).await);
        }
        let mut ids = BTreeSet::new();
        for response in responses {
            ids.insert(complete(response).await.unwrap().ok()["id"].as_str().unwrap().to_owned());
        }
        assert_eq!(ids.len(), 90);
        let mut data = BTreeSet::new();
        for sequence in 1..=90 {
            data.insert(stream.data_at(sequence).await);
        }
        assert_eq!(data.len(), 90);
    });
}

#[test]
fn lines_of_an_upload_are_published_as_they_arrive() {
    run(async {
        let server = Server::start();
        let mut stream = server.follow("/stream?topics=t").await;
        let mut http2 = Http2::connect(server.address).await;
        let (response, mut body) = http2.send("POST", "/publish", &[("content-type", NDJSON)], false).await.unwrap();
        for number in 1..=3 {
            let line = format!("{{\"topic\":\"t\",\"data\":{number}}}\n");
            body.send_data(line.into(), false).unwrap();
            assert_eq!(stream.data_at(number).await, number.to_string());
        }
        body.send_data(Bytes::new(), true).unwrap();
        assert_eq!(complete(response).await.unwrap().ok()["published"], 3);
    });
}

/// The window of the connection is not used up by bodies that are rejected before they are read.
#[test]
fn rejected_bodies_do_not_use_up_the_window() {
    run(async {
        let server = Server::start();
        let mut http2 = Http2::connect(server.address).await;
        let body = "x".repeat(60_000);
        for _ in 0..50 {
            let response = http2.start("POST", "/nothing", &[("content-type", TEXT)], body.as_bytes()).await;
            // The server may reset the rest of the body after its response.
            assert_eq!(response.await.unwrap().status(), 404);
        }
        let response = http2.post("/publish/t", TEXT, &body).await;
        assert_eq!(response.ok()["published"], 1);
    });
}

#[test]
fn body_over_the_limit_is_rejected() {
    run(async {
        let server = Server::start();
        let mut http2 = Http2::connect(server.address).await;
        let response = http2.start("POST", "/publish/t", &[("content-type", TEXT)], &vec![b'x'; 9 << 20]).await;
        assert_eq!(response.await.unwrap().status(), 413);
        http2.get("/health/live").await.ok();
    });
}

#[test]
fn body_that_stops_arriving_times_out_alone() {
    run(async {
        let http = HttpOptions { body_timeout: Duration::from_millis(200), ..HttpOptions::default() };
        let server = Server::with(Server::hub_options(), |builder| builder.http(http));
        let mut http2 = Http2::connect(server.address).await;
        let mut stream = http2.follow("/stream?topics=t").await;
        let (response, mut body) = http2.send("POST", "/publish/t", &[("content-type", TEXT)], false).await.unwrap();
        body.send_data("x".into(), false).unwrap();
        assert_eq!(response.await.unwrap().status(), 408);
        server.publish("t", [1]).await;
        stream.data_at(1).await;
    });
}

#[test]
fn upload_that_the_client_resets_leaves_the_connection() {
    run(async {
        let server = Server::start();
        let mut http2 = Http2::connect(server.address).await;
        for _ in 0..30 {
            let (response, mut body) =
                http2.send("POST", "/publish/t", &[("content-type", TEXT)], false).await.unwrap();
            body.send_data("x".into(), false).unwrap();
            body.send_reset(h2::Reason::CANCEL);
            drop(response);
            // Many resets at once would be a flood.
            http2.get("/health/live").await.ok();
        }
        http2.get("/health/live").await.ok();
        assert_eq!(server.hub.position().sequence, 0, "an incomplete body is not published");
    });
}

#[test]
fn authority_takes_the_place_of_the_host() {
    run(async {
        let server = Server::start();
        let mut http2 = Http2::connect(server.address).await;
        for authority in ["localhost", "localhost:8000", "127.0.0.1", "[::1]:80", "evil.example", "10.0.0.1", "a.local"]
        {
            let old = server.ask(request("GET", "/clients", &[("host", authority)], b"")).await;
            let new = http2.get(&format!("http://{authority}/clients")).await;
            assert_eq!((new.head.status, &new.body), (old.head.status, &old.body), "{authority}");
        }
        let rebound = http2.get("http://evil.example/clients").await;
        assert_problem(&rebound, 403, &["admin endpoints"]);
    });
}

#[test]
fn connection_that_is_closed_is_counted_out() {
    run(async {
        let server = Server::start();
        let mut http2 = Http2::connect(server.address).await;
        http2.get("/health/live").await.ok();
        assert_eq!(server.stats().connections, 1);
        drop(http2);
        until(|| server.stats().connections == 0).await;
    });
}

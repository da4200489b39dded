//! Bodies of the application over HTTP/1.1.

use std::io;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::HeaderMap;
use hyper::body::Frame;

use super::{Once, PART, app, body, chunk, chunked, download, failing, serve};
use crate::support::{Client, Server, request, run, until};

const CHUNKED_POST: &str = "POST /echo HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";

#[test]
fn bodies_are_streamed_in_both_directions_at_once() {
    run(async {
        let server = serve(app());
        let mut client = server.connect().await;
        client.send(CHUNKED_POST).await;
        let head = client.head().await;
        assert_eq!(head.status, 200);
        for part in ["one", "two", "three"] {
            client.send(chunked(part.as_bytes())).await;
            assert_eq!(chunk(&mut client).await.unwrap(), part);
        }
        client.send("0\r\n\r\n").await;
        assert_eq!(chunk(&mut client).await, None);
    });
}

#[test]
fn connection_is_kept_only_if_the_end_of_the_body_is_certain() {
    run(async {
        let count = async |body: Body| body.collect().await.unwrap().to_bytes().len().to_string();
        let server = serve(app().route("/count", post(count)).route("/ignore", post(async || "ignored")));
        let mut client = server.connect().await;
        client.send(request("POST", "/echo", &[], b"hello")).await;
        let head = client.head().await;
        assert_eq!((head.header("connection"), &body(&mut client, &head).await[..]), (None, &b"hello"[..]));
        client.send(CHUNKED_POST.replace("/echo", "/count") + "3\r\nabc\r\n0\r\n\r\n").await;
        let counted = client.response().await;
        assert_eq!((counted.head.header("connection"), &counted.body[..]), (None, &b"3"[..]));
        assert_eq!(client.get("/hello").await.body, "hello");
        // The rest may be trailers that two servers read differently.
        for (path, rest) in [("/count", "3\r\nabc\r\n0\r\nx: y\r\n\r\n"), ("/ignore", "3\r\nabc\r\n0\r\n\r\n")] {
            let mut client = server.connect().await;
            client.send(CHUNKED_POST.replace("/echo", path) + rest).await;
            assert_eq!(client.response().await.head.header("connection"), Some("close"), "{path}");
            assert_eq!(client.rest().await, "");
        }
    });
}

#[test]
fn refusal_reaches_a_client_that_is_still_sending() {
    run(async {
        let server = serve(Router::new().route("/refuse", post(async || StatusCode::PAYLOAD_TOO_LARGE)));
        let mut client = server.connect().await;
        client.send(format!("POST /refuse HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", 64 << 20)).await;
        for _ in 0..64 {
            if client.try_send(vec![0; 1 << 20]).await.is_err() {
                break;
            }
        }
        assert_eq!(client.head().await.status, 413);
    });
}

#[test]
fn body_is_asked_for_when_a_handler_reads_it() {
    run(async {
        let count = async |body: Body| body.collect().await.unwrap().to_bytes().len().to_string();
        let server =
            serve(Router::new().route("/count", post(count)).route("/refuse", post(async || StatusCode::FORBIDDEN)));
        let expect = |path| request("POST", path, &[("expect", "100-continue"), ("content-length", "5")], b"");
        let head = |path| String::from_utf8(expect(path)).unwrap().replace("content-length: 0\r\n", "");
        let mut client = server.connect().await;
        client.send(head("/count")).await;
        assert_eq!(client.head().await.status, 100);
        client.send("hello").await;
        assert_eq!(client.response().await.body, "5");
        let mut client = server.connect().await;
        client.send(head("/refuse")).await;
        assert_eq!(client.head().await.status, 403, "without 100");
    });
}

#[test]
fn slow_reader_of_a_download_neither_fills_memory_nor_delays_streams() {
    const PARTS: u64 = 256;
    run(async {
        let (app, produced) = download(PARTS);
        let server = Server::with(Server::hub_options(), |builder| builder.shards(1).send_buffer(4096).fallback(app));
        let mut stream = server.follow("/stream").await;
        let mut client = Client::connect_narrow(server.address).await;
        client.send(request("GET", "/large", &[], b"")).await;
        let head = client.head().await;
        for number in 1..=100 {
            server.publish("t", [number]).await;
            stream.data_at(number).await;
            assert_eq!(server.get("/hello").await.body, "hello");
        }
        let ahead = produced.load(Ordering::Relaxed);
        assert!((1..PARTS / 8).contains(&ahead), "{ahead} parts were produced for a client that reads nothing");
        let whole = body(&mut client, &head).await;
        assert_eq!(whole.len(), PARTS as usize * PART);
        assert!(whole.chunks(PART).enumerate().all(|(part, bytes)| bytes.iter().all(|&byte| byte == part as u8)));
    });
}

#[test]
fn upload_that_is_not_read_waits_in_the_clients_socket() {
    run(async {
        let (open, opened) = tokio::sync::oneshot::channel::<()>();
        let opened = Once::new(opened);
        let app = Router::new().route(
            "/upload",
            post(async move |body: Body| {
                opened.take().await.unwrap();
                body.collect().await.unwrap().to_bytes().len().to_string()
            }),
        );
        let server = Server::with(Server::hub_options(), |builder| builder.fallback(app));
        let mut client = server.connect().await;
        const LENGTH: usize = 32 << 20;
        client.send(format!("POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: {LENGTH}\r\n\r\n")).await;
        let sent = std::cell::Cell::new(0);
        let sending = async {
            while sent.get() < LENGTH {
                client.send(vec![0; PART]).await;
                sent.set(sent.get() + PART);
            }
        };
        let opening = async {
            for _ in 0..50 {
                server.get("/health").await.ok();
            }
            assert!(sent.get() < LENGTH / 2, "{} bytes were taken", sent.get());
            open.send(()).unwrap();
        };
        tokio::join!(sending, opening);
        assert_eq!(client.response().await.body, LENGTH.to_string());
    });
}

#[test]
fn body_that_fails_breaks_the_response_off() {
    run(async {
        let app = app()
            .route("/broken", get(async || failing(|| Err(io::Error::other("on purpose")))))
            .route("/panicking", get(async || failing(|| panic!("on purpose"))));
        let server = Server::with(Server::hub_options(), |builder| builder.shards(1).fallback(app));
        let mut stream = server.follow("/stream").await;
        for path in ["/broken", "/panicking"] {
            let mut client = server.connect().await;
            client.send(request("GET", path, &[], b"")).await;
            assert_eq!(client.head().await.status, 200);
            assert_eq!(client.rest().await, "3\r\none\r\n", "{path}: the last chunk is missing");
        }
        assert_eq!(server.get("/hello").await.body, "hello");
        server.publish("t", [1]).await;
        stream.data_at(1).await;
    });
}

#[test]
fn trailers_reach_the_application_and_its_client() {
    run(async {
        let echo = async |body: Body| {
            let collected = body.collect().await.unwrap();
            let trailers: HeaderMap = collected.trailers().cloned().unwrap_or_default();
            let frames = [Frame::data(collected.to_bytes()), Frame::trailers(trailers)].map(Ok::<_, io::Error>);
            ([("trailer", "x-sum")], Body::new(StreamBody::new(stream::iter(frames))))
        };
        let server = serve(Router::new().route("/trailers", post(echo)));
        let mut client = server.connect().await;
        let head = "POST /trailers HTTP/1.1\r\nhost: test\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n";
        client.send([head, "3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n"].concat()).await;
        assert_eq!(client.head().await.status, 200);
        assert_eq!(client.rest().await, "3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n");
    });
}

/// hyper cannot represent the two largest lengths, and the server replaces them in heads. A body is not a head.
#[test]
fn bytes_of_a_body_are_not_changed() {
    run(async {
        let server = serve(app());
        let mut client = server.connect().await;
        client.send(CHUNKED_POST).await;
        assert_eq!(client.head().await.status, 200);
        let part = "content-length: 18446744073709551615\r\n";
        for _ in 0..10 {
            client.send(chunked(part.as_bytes())).await;
            assert_eq!(chunk(&mut client).await.unwrap(), part);
        }
    });
}

#[test]
fn body_is_dropped_after_its_client_has_gone() {
    run(async {
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        let held = Once::new(held);
        let endless = async move || {
            let parts = stream::unfold(held.take(), |held| async {
                tokio::task::yield_now().await;
                Some((Ok::<_, io::Error>(Bytes::from_static(b"tick")), held))
            });
            Body::from_stream(parts)
        };
        let server = serve(Router::new().route("/endless", get(endless)));
        let mut client = server.connect().await;
        client.send(request("GET", "/endless", &[], b"")).await;
        assert_eq!(client.head().await.status, 200);
        drop(client);
        assert!(dropped.await.is_err());
        until(|| server.stats().connections == 0).await;
    });
}

//! The first bytes of a connection choose its protocol, in whatever pieces they arrive.

use std::time::Duration;

use fanline::server::HttpOptions;

use super::Bystander;
use super::raw::{DATA, END_STREAM, HEADERS, PREFACE, Raw, get, settings};
use crate::support::{Http2, Server, request, run, until};

/// Everything up to the request, as a client may send it without waiting.
fn opening() -> Vec<u8> {
    [PREFACE, &settings(&[]), &get(1, "/health/live")].concat()
}

#[test]
fn http1_and_http2_share_a_port() {
    run(async {
        let server = Server::start();
        let mut http2 = Http2::connect(server.address).await;
        let (new, old) = (http2.get("/health/live").await, server.get("/health/live").await);
        assert_eq!((new.ok(), new.head.version.as_str()), (old.ok(), "HTTP/2"));
    });
}

#[test]
fn preface_may_arrive_in_two_pieces_cut_anywhere() {
    run(async {
        let server = Server::start();
        let opening = opening();
        for cut in 1..opening.len() {
            let mut client = server.connect().await;
            client.send(&opening[..cut]).await;
            // Another connection is served in between, so that the server has probably seen the first piece.
            server.get("/health/live").await.ok();
            client.send(&opening[cut..]).await;
            let mut raw = Raw::greeted(client).await;
            assert!(raw.frame(HEADERS).await.is_success(), "cut at {cut}");
        }
    });
}

#[test]
fn preface_may_arrive_byte_by_byte() {
    run(async {
        let server = Server::start();
        let mut client = server.connect().await;
        for byte in opening() {
            client.send([byte]).await;
        }
        let mut raw = Raw::greeted(client).await;
        assert!(raw.frame(HEADERS).await.is_success());
        assert_eq!(raw.frame(DATA).await.flags, END_STREAM);
    });
}

#[test]
fn connection_that_ends_within_the_preface_leaves_nothing() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let opening = opening();
        for cut in 1..opening.len() {
            let mut client = server.connect().await;
            client.send(&opening[..cut]).await;
            if cut % 2 == 0 {
                client.half_close().await;
                client.rest().await;
            }
        }
        until(|| server.stats().connections == 1).await;
        bystander.assert_undisturbed(&server).await;
    });
}

#[test]
fn incomplete_preface_counts_against_the_head_timeout() {
    run(async {
        let http = HttpOptions { head_timeout: Duration::from_millis(200), ..HttpOptions::default() };
        let server = Server::with(Server::hub_options(), |builder| builder.http(http));
        let mut bystander = Bystander::connect(&server).await;
        for cut in [1, 4, 16, 23] {
            let mut client = server.connect().await;
            client.send(&PREFACE[..cut]).await;
            assert_eq!(client.rest().await, "", "after {cut} bytes");
        }
        until(|| server.stats().connections == 1).await;
        bystander.assert_undisturbed(&server).await;
    });
}

#[test]
fn request_that_begins_like_the_preface_is_http1() {
    run(async {
        let server = Server::start();
        for (method, status) in [("POST", 200), ("PUT", 405), ("PATCH", 405), ("P", 405), ("PR", 405), ("PRI", 405)] {
            let mut client = server.connect().await;
            let text = request(method, "/publish/t", &[("content-type", "text/plain")], b"1");
            for byte in &text[..6] {
                client.send([*byte]).await;
            }
            client.send(&text[6..]).await;
            assert_eq!(client.response().await.head.status, status, "{method}");
        }
    });
}

#[test]
fn almost_a_preface_is_rejected_as_http1() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        for almost in [
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\n\n\n",
            "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
            "PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n",
            "PRI * HTTP/2.0\r\nhost: test\r\n\r\n",
            "PRI /x HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "pri * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            let mut client = server.connect().await;
            client.send(almost).await;
            let response = client.rest().await;
            let is_refused = [&b"HTTP/1.1 400 "[..], b"HTTP/1.1 405 ", b"HTTP/1.0 400 ", b"HTTP/1.1 505 "];
            assert!(
                response.is_empty() || is_refused.iter().any(|status| response.starts_with(status)),
                "{almost:?}: {:?}",
                String::from_utf8_lossy(&response)
            );
        }
        bystander.assert_undisturbed(&server).await;
    });
}

#[test]
fn upgrade_from_http1_is_not_offered() {
    run(async {
        let server = Server::start();
        let upgrade = [("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABk")];
        let response = server.ask(request("GET", "/health/live", &upgrade, b"")).await;
        assert_eq!((response.head.status, response.head.header("upgrade")), (200, None));
    });
}

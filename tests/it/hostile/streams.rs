//! Input after a request for a stream, and half-closed sockets.
//!
//! A request for a stream is the last of its connection, and the response says so (`connection: close`). Input after
//! it, in the same packet or later, is discarded up to 16 KiB; more ends the stream. A client that half-closes has
//! disconnected.

use super::{Bystander, publish};
use crate::support::{Server, request, run, until};

const STREAM: &str = "GET /stream HTTP/1.1\r\nhost: test\r\n\r\n";
const PUBLISH: &str =
    "POST /publish/t HTTP/1.1\r\nhost: test\r\ncontent-type: text/plain\r\ncontent-length: 1\r\n\r\nx";

#[test]
fn request_pipelined_after_a_stream_is_never_answered() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        for behind in [
            PUBLISH,
            "DELETE /clients/1 HTTP/1.1\r\nhost: test\r\n\r\n",
            STREAM,
            "\0\0\0",
            "\r\n\r\n",
            "0\r\n\r\n",
            "data: forged\n\n",
            "\x16\x03\x01",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            for is_together in [true, false] {
                let mut client = server.connect().await;
                if is_together {
                    client.send([STREAM, behind].concat()).await;
                } else {
                    client.send(STREAM).await;
                }
                let mut stream = client.into_stream().await;
                assert_eq!(stream.head.header("connection"), Some("close"));
                stream.hello().await;
                if !is_together {
                    stream.client().send(behind).await;
                }
                server.publish("own", [1]).await;
                assert_eq!(stream.event().await.data, "{\"n\":1}", "{behind:?}");
                bystander.assert_received(&server, behind, &[("message", "{\"n\":1}")]).await;
                assert_eq!(stream.event().await.data, "all is well");
                // Too much input would have ended the stream.
                server.publish_marker("own").await;
                stream.marker().await;
                bystander.assert_received(&server, behind, &[("marker", "null")]).await;
            }
        }
        until(|| server.stats().streams == 1).await;
    });
}

#[test]
fn requests_pipelined_before_a_stream_are_answered_in_order() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let mut client = server.connect().await;
        client.send([PUBLISH, PUBLISH, STREAM, PUBLISH].concat()).await;
        for _ in 0..2 {
            assert_eq!(client.response().await.ok()["published"], 1);
        }
        let mut stream = client.into_stream().await;
        stream.hello().await;
        bystander.assert_received(&server, "two of three", &[("message", "x"), ("message", "x")]).await;
        assert_eq!(stream.event().await.data, "all is well");
    });
}

#[test]
fn unrelated_headers_do_not_change_the_stream() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        for headers in [
            &[("connection", "close")][..],
            &[("connection", "keep-alive, upgrade"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABkAAQAAP__")],
            &[("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "x")],
            &[("expect", "100-continue")],
            &[("range", "bytes=0-10"), ("if-none-match", "*")],
            &[("accept-encoding", "gzip"), ("te", "trailers"), ("trailer", "x")],
            &[("content-length", "0")],
            &[("x-accel-buffering", "yes"), ("x-forwarded-host", "a\tb")],
        ] {
            let mut stream = server.subscribe_with("/stream", headers).await;
            stream.hello().await;
            server.publish_marker("t").await;
            stream.marker().await;
            bystander.assert_received(&server, &format!("{headers:?}"), &[("marker", "null")]).await;
        }
    });
}

#[test]
fn half_close_ends_the_stream() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        // At once, and after the hello.
        let mut client = server.connect().await;
        client.send(STREAM).await;
        client.half_close().await;
        client.rest().await;
        until(|| server.stats().streams == 1).await;
        let mut stream = server.follow("/stream").await;
        stream.client().half_close().await;
        assert_eq!(stream.try_block().await, None);
        until(|| server.stats().connections == 1).await;
        bystander.assert_undisturbed(&server, "hanging up").await;
    });
}

/// `nc -N` and similar clients send a request, half-close, and wait for the response.
#[test]
fn half_closed_client_gets_its_response() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        for bytes in [
            request("POST", "/publish/t", &[("content-type", "text/plain")], b"x"),
            request("POST", "/publish", &[("content-type", "application/json")], br#"{"topic":"t","text":"x"}"#),
            request("POST", "/publish", &[("content-type", "application/x-ndjson")], br#"{"topic":"t","text":"x"}"#),
        ] {
            let mut client = server.connect().await;
            client.send(bytes).await;
            client.half_close().await;
            assert_eq!(client.response().await.ok()["published"], 1);
            assert_eq!(client.rest().await, "");
            bystander.assert_received(&server, "a publish", &[("message", "x")]).await;
        }
        let mut client = server.connect().await;
        client.send(request("GET", "/health/live", &[], b"")).await;
        client.half_close().await;
        client.response().await.ok();
        assert_eq!(client.rest().await, "");
        bystander.assert_undisturbed(&server, "a look at its health").await;
    });
}

#[test]
fn body_truncated_by_half_close_is_not_published() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let head = "POST /publish/t HTTP/1.1\r\nhost: test\r\ncontent-type: text/plain\r\n";
        for body in [
            "content-length: 3\r\n\r\nab",
            "transfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
            "content-length: 1\r\n\r\n",
        ] {
            let mut client = server.connect().await;
            client.send([head, body].concat()).await;
            client.half_close().await;
            client.rest().await;
            bystander.assert_undisturbed(&server, body).await;
        }
    });
}

#[test]
fn silent_disconnects_do_not_affect_other_clients() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let before = server.stats().accepted;
        let requests = ["", "G", "\r\n", STREAM, PUBLISH];
        for bytes in requests {
            let mut client = server.connect().await;
            client.send(bytes).await;
            drop(client);
        }
        let all = before + requests.len() as u64;
        until(|| server.stats().accepted == all && server.stats().connections == 1).await;
        // The last request may or may not have been answered before the client closed.
        let count = server.hub.stats().published;
        let events = [("message", "x")];
        bystander.assert_received(&server, "closing", &events[..count as usize]).await;
        let mut client = server.connect().await;
        publish(&mut client, "/publish/t", "text/plain", b"y").await.ok();
        bystander.assert_received(&server, "publishing", &[("message", "y")]).await;
    });
}

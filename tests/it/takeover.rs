//! Taking a connection over from hyper: earlier responses are written whole, and the client's input and disconnect are
//! noticed.

use crate::support::{Client, Server, request, run, until};

const STREAM: &str = "GET /stream HTTP/1.1\r\nhost: test\r\n\r\n";

/// While the socket accepts no more, hyper keeps responses in its buffer and parses the next request. Taking the socket
/// at that moment would lose the responses, or write the stream's head into one of them. Their number decides how much
/// is buffered when the stream's request is parsed, so many numbers are tried.
#[test]
fn pipelined_responses_precede_the_stream_whole() {
    run(async {
        let server = Server::with(Server::hub_options(), |builder| builder.shards(1).send_buffer(4096));
        for count in (0..20).chain((20..200).step_by(9)).chain([250, 300, 400]) {
            let mut client = Client::connect_narrow(server.address).await;
            let page = request("GET", "/", &[("accept", "text/html")], b"");
            client.send([page.repeat(count), STREAM.into()].concat()).await;
            // The server has one shard: when it has answered this, it has already written what it can to the client that
            // does not read.
            let mut other = server.connect().await;
            for _ in 0..3 {
                other.get("/health/live").await.ok();
            }
            for _ in 0..count {
                let response = client.response().await;
                assert_eq!(response.head.header("content-type"), Some("text/html; charset=utf-8"));
                assert!(response.body.ends_with(b"</html>\n"));
            }
            let mut stream = client.into_stream().await;
            stream.hello().await;
            server.publish_marker("t").await;
            stream.marker().await;
        }
    });
}

#[test]
fn response_larger_than_the_send_buffer_precedes_the_stream_whole() {
    run(async {
        let server = Server::with(Server::hub_options(), |builder| builder.send_buffer(4096));
        let mut client = Client::connect_narrow(server.address).await;
        let path = format!("/{}", "x".repeat(50_000));
        client.send([request("GET", &path, &[], b""), STREAM.into()].concat()).await;
        until(|| server.stats().connections == 1).await;
        server.get("/health/live").await.ok();
        let response = client.response().await;
        assert!(response.body.len() > 50_000);
        client.into_stream().await.hello().await;
    });
}

#[test]
fn connection_serves_requests_until_it_becomes_a_stream() {
    run(async {
        let server = Server::start();
        let mut client = server.connect().await;
        client.get("/health").await.ok();
        assert_eq!(client.get("/stream?heartbeat=0").await.head.status, 400);
        client.send(request("POST", "/publish/t", &[("content-type", "application/json")], b"1")).await;
        client.response().await.ok();
        client.send("GET /stream?last_event_id=earliest HTTP/1.1\r\nhost: test\r\n\r\n").await;
        let mut stream = client.into_stream().await;
        stream.hello().await;
        assert_eq!(stream.data_at(1).await, "1");
        assert_eq!(server.stats().accepted, 1);
    });
}

#[test]
fn request_may_arrive_byte_by_byte() {
    run(async {
        let server = Server::start();
        let mut client = server.connect().await;
        for byte in STREAM.bytes() {
            client.send([byte]).await;
        }
        client.into_stream().await.hello().await;
    });
}

#[test]
fn input_after_the_request_does_not_affect_the_stream() {
    run(async {
        let server = Server::start();
        let mut client = server.connect().await;
        client.send(format!("{STREAM}{STREAM}")).await;
        let mut stream = client.into_stream().await;
        stream.hello().await;
        for n in 1..=20 {
            stream.client().send("\r\nGET / HTTP/1.1\r\n\r\n").await;
            server.publish("t", [n]).await;
            assert_eq!(stream.data_at(n).await, format!("{{\"n\":{n}}}"));
        }
        assert_eq!(server.stats().streams, 1);
    });
}

#[test]
fn more_than_16_kib_of_input_ends_the_stream() {
    run(async {
        let server = Server::start();
        let mut stream = server.follow("/stream").await;
        stream.client().send(vec![b'x'; 16 << 10]).await;
        server.publish("t", [1]).await;
        stream.data_at(1).await;
        stream.client().send("x").await;
        assert_eq!(stream.try_block().await, None);
        until(|| server.stats().streams == 0).await;
        assert_eq!(server.stats().closed_by_server, 1);
    });
}

/// Earlier requests make hyper's read buffer grow, so that it takes all of the input and leaves nothing in the socket
/// that would wake the stream's task.
#[test]
fn input_buffered_by_hyper_counts_as_input_of_the_stream() {
    run(async {
        let server = Server::start();
        for length in [17_000, 20_000, 30_000, 40_000, 100_000] {
            let mut client = server.connect().await;
            let padding = "p".repeat(8000);
            let page = request("GET", "/health/live", &[("x-padding", &padding)], b"");
            client.send(page.repeat(8)).await;
            for _ in 0..8 {
                client.response().await.ok();
            }
            let _ = client.try_send([STREAM.into(), vec![b'x'; length]].concat()).await;
            while client.read().await {}
        }
        until(|| server.stats().streams == 0).await;
    });
}

#[test]
fn http_1_0_client_gets_the_same_stream_without_chunks() {
    run(async {
        let mut server = Server::start();
        for keep_alive in ["", "connection: keep-alive\r\n"] {
            let mut client = server.connect().await;
            client.send(format!("GET /stream?topics=t HTTP/1.0\r\n{keep_alive}\r\n")).await;
            let mut stream = client.into_stream().await;
            assert_eq!(stream.head.version, "HTTP/1.0");
            assert_eq!(stream.head.header("connection"), Some("close"));
            assert_eq!(stream.head.header("transfer-encoding"), None);
            assert_eq!(stream.head.header("content-length"), None);
            stream.hello().await;
            let next = server.hub.position().sequence + 1;
            server.publish("t", next..next + 100).await;
            for n in next..next + 100 {
                assert_eq!(stream.data_at(n).await, format!("{{\"n\":{n}}}"));
            }
        }
        let mut last = server.connect().await;
        last.send("GET /stream HTTP/1.0\r\n\r\n").await;
        let mut last = last.into_stream().await;
        last.hello().await;
        server.stop();
        assert_eq!(last.event().await.json()["message"], "server restarting");
        last.end().await;
    });
}

#[test]
fn disconnect_is_detected_without_traffic() {
    run(async {
        let server = Server::start();
        let mut half_closed = server.follow("/stream").await;
        let dropped = server.follow("/stream?topics=t").await;
        assert_eq!(server.stats().streams, 2);
        drop(dropped);
        until(|| server.stats().streams == 1).await;
        half_closed.client().half_close().await;
        assert_eq!(half_closed.try_block().await, None);
        until(|| server.stats().streams == 0).await;
        assert_eq!(server.stats().closed_by_peer, 2);
    });
}

#[test]
fn disconnect_before_takeover_releases_everything() {
    run(async {
        let server = Server::with(Server::hub_options(), |builder| builder.shards(1).send_buffer(4096));
        for count in [0, 1, 50, 300] {
            let mut client = Client::connect_narrow(server.address).await;
            client.send([request("GET", "/", &[], b"").repeat(count), STREAM.into()].concat()).await;
            server.get("/health/live").await.ok();
            drop(client);
        }
        until(|| server.stats().streams == 0 && server.stats().connections == 0).await;
        // No subscription is left to be notified.
        server.publish("t", [1]).await;
    });
}

#[test]
fn head_request_gets_the_head_without_a_body() {
    run(async {
        let server = Server::start();
        let mut client = server.connect().await;
        for path in ["/", "/health", "/health/live", "/health/ready"] {
            let whole = client.get(path).await;
            client.send(request("HEAD", path, &[], b"")).await;
            let head = client.head().await;
            assert_eq!((head.status, head.header("content-type")), (200, whole.head.header("content-type")));
            assert_eq!(head.header("content-length"), Some(whole.body.len().to_string().as_str()), "{path}");
        }
        for (path, status) in [("/stream", 405), ("/publish", 405), ("/nothing", 404)] {
            client.send(request("HEAD", path, &[], b"")).await;
            assert_eq!(client.head().await.status, status);
        }
        client.get("/health/live").await.ok();
        assert_eq!(server.stats().accepted, 1);
    });
}

//! The limits that apply to the application's requests as well: those of connections, heads and times.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::routing::get;
use fanline::server::{HttpOptions, Limits, StreamOptions};
use tokio::sync::Notify;

use super::{app, chunk, chunked, download};
use crate::support::{Client, Server, assert_problem, request, run, until};

#[test]
fn connection_over_a_limit_gets_the_limits_error_on_every_path() {
    run(async {
        let limits = Limits { max_connections: Some(1), ..Limits::default() };
        let server = Server::with(Server::hub_options(), |builder| builder.limits(limits).fallback(app()));
        let stream = server.follow("/stream").await;
        assert_problem(&server.get("/hello").await, 503, &["max_connections"]);
        drop(stream);
        until(|| server.stats().connections == 0).await;
        assert_eq!(server.get("/hello").await.body, "hello");
    });
}

#[test]
fn head_that_is_too_large_or_too_slow_is_refused() {
    run(async {
        let http =
            HttpOptions { max_head_bytes: 2000, head_timeout: Duration::from_millis(300), ..HttpOptions::default() };
        let server = Server::with(Server::hub_options(), |builder| builder.http(http).fallback(app()));
        let large = request("GET", "/hello", &[("x-padding", &"p".repeat(3000))], b"");
        assert_eq!(server.ask(large).await.head.status, 431);
        let mut slow = server.connect().await;
        slow.send("GET /hello HTTP/1.1\r\n").await;
        assert_eq!(slow.rest().await, "");
        let mut idle = server.connect().await;
        assert_eq!(idle.get("/hello").await.body, "hello");
        assert_eq!(idle.rest().await, "", "an idle connection is closed");
    });
}

#[test]
fn request_in_flight_is_no_wait_for_a_head() {
    run(async {
        let http = HttpOptions { head_timeout: Duration::from_millis(300), ..HttpOptions::default() };
        let proceed = Arc::new(Notify::new());
        let handler = {
            let proceed = proceed.clone();
            async move |_keeps_the_body: Body| {
                proceed.notified().await;
                "done"
            }
        };
        let router = app().route("/wait", get(handler.clone()).post(handler));
        let server = Server::with(Server::hub_options(), |builder| builder.http(http).fallback(router));
        let [mut handled, mut unread, mut echoed] =
            [server.connect().await, server.connect().await, server.connect().await];
        handled.send(request("GET", "/wait", &[], b"")).await;
        unread.send("POST /wait HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 2\r\n\r\n1").await;
        echoed.send("POST /echo HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n").await;
        echoed.send(chunked(b"one")).await;
        assert_eq!(echoed.head().await.status, 200);
        assert_eq!(chunk(&mut echoed).await.unwrap(), "one");
        // Two times pass.
        for _ in 0..2 {
            assert_eq!(server.connect().await.rest().await, "");
        }
        proceed.notify_waiters();
        assert_eq!(handled.response().await.body, "done");
        assert_eq!(unread.response().await.body, "done");
        echoed.send([chunked(b"two"), chunked(b"")].concat()).await;
        assert_eq!(chunk(&mut echoed).await.unwrap(), "two");
        assert_eq!(chunk(&mut echoed).await, None);
        // The next wait is limited, from its beginning.
        let closing = Instant::now();
        assert_eq!(handled.get("/hello").await.body, "hello");
        for idle in [handled, echoed] {
            assert_eq!(idle.rest().await, "");
        }
        assert!(closing.elapsed() >= Duration::from_millis(300));
    });
}

/// The kernel closes the connection: hyper waits for as long as the socket exists.
#[cfg(target_os = "linux")]
#[test]
fn client_that_reads_nothing_for_the_write_timeout_is_disconnected() {
    run(async {
        let (app, _) = download(256);
        let streams = StreamOptions { write_timeout: Duration::from_secs(1), ..StreamOptions::default() };
        let server =
            Server::with(Server::hub_options(), |builder| builder.streams(streams).send_buffer(4096).fallback(app));
        let mut client = Client::connect_narrow(server.address).await;
        client.send(request("GET", "/large", &[], b"")).await;
        assert_eq!(client.head().await.status, 200);
        until(|| server.stats().connections == 0).await;
    });
}

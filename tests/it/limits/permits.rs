//! Permits are released however a connection ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use fanline::auth::{Access, AuthRequest, Authorize, Grant, Refusal};
use fanline::hub::HubOptions;
use fanline::server::{HttpOptions, Limits, StreamOptions};

use super::{Outcome, admitted, ask, with};
use crate::support::{Block, Client, Server, assert_problem, event, request, run, until};

/// Permits for two connections, of which one may be a firehose stream.
fn two_permits() -> Limits {
    Limits {
        max_connections: Some(2),
        max_firehose: Some(1),
        max_connections_per_address: Some(2),
        ..Limits::default()
    }
}

/// Both connection limits are reached, and the response may name either.
fn is_full(status: u16) -> bool {
    [429, 503].contains(&status)
}

async fn assert_full(server: &Server) {
    assert!(matches!(ask(server, "/stream").await, Outcome::Rejected(head) if is_full(head.status)));
}

/// Both permits are free again, and no more than both.
async fn assert_free(server: &Server) {
    until(|| server.stats().connections == 0).await;
    let _stream = admitted(server, "/stream").await;
    let mut client = server.connect().await;
    assert_problem(&client.get("/stream").await, 503, &["max_firehose"]);
    assert_full(server).await;
}

/// Connects a client that reads nothing, and a second one that takes the last permit.
async fn flood(server: &Server) -> (Client, Client) {
    let mut client = Client::connect_narrow(server.address).await;
    client.send(request("GET", "/stream", &[], b"")).await;
    until(|| server.stats().streams == 1).await;
    let silent = server.connect().await;
    assert_full(server).await;
    let payload = format!("\"{}\"", "x".repeat(4000));
    for _ in 0..1000 {
        server.hub.publish(event("t", &payload)).await.unwrap();
    }
    (client, silent)
}

#[test]
fn disconnect_releases_permits() {
    run(async {
        let server = with(two_permits(), |builder| builder);
        let stream = admitted(&server, "/stream").await;
        let silent = server.connect().await;
        assert_full(&server).await;
        drop((stream, silent));
        assert_free(&server).await;
    });
}

#[test]
fn lag_releases_permits() {
    run(async {
        let options = HubOptions { history: 32, firehose_history: 64, ..Server::hub_options() };
        let server = Server::with(options, |builder| builder.shards(4).limits(two_permits()).send_buffer(4096));
        let (client, _silent) = flood(&server).await;
        until(|| server.stats().cut_off_lagged == 1).await;
        // The client that was cut off has not closed its end.
        let _stream = admitted(&server, "/stream?history=0").await;
        drop(client);
    });
}

/// Grants everything, and panics on the cookie `panic`.
#[derive(Default)]
pub struct StubAuthenticator {
    pub expires_in: Option<Duration>,
    pub calls: Arc<AtomicU32>,
}

impl Authorize for StubAuthenticator {
    async fn authorize(&self, request: &AuthRequest<'_>) -> Result<Option<Grant>, Refusal> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        // Not at the first poll, so that the connection has been polled by then.
        tokio::task::yield_now().await;
        assert!(request.cookie("panic").is_none(), "on purpose");
        let (everything, expires) = (|| "**".parse().unwrap(), self.expires_in.map(|time| SystemTime::now() + time));
        let mut grant =
            Grant::new().with_subscribe(everything()).with_publish(everything()).with_admin(true).with_user("user");
        grant.expires = expires;
        Ok(Some(grant))
    }
}

fn guarded(expires_in: Option<Duration>) -> (Server, Arc<AtomicU32>) {
    let calls = Arc::<AtomicU32>::default();
    let access = Access::new().accept(StubAuthenticator { expires_in, calls: calls.clone() });
    (with(two_permits(), |builder| builder.access(access)), calls)
}

#[test]
fn token_expiry_releases_permits() {
    run(async {
        let (server, _) = guarded(Some(Duration::from_secs(2)));
        let stream = admitted(&server, "/stream").await;
        let _silent = server.connect().await;
        assert_full(&server).await;
        until(|| server.stats().streams == 0).await;
        // The expired grant ended the stream, and the client has not closed its end.
        let _again = admitted(&server, "/stream").await;
        drop(stream);
    });
}

#[test]
fn revocation_releases_permits() {
    run(async {
        let (server, _) = guarded(None);
        let stream = admitted(&server, "/stream").await;
        let _silent = server.connect().await;
        assert_full(&server).await;
        // The new rules do not contain this authenticator.
        server.access.replace(Access::new().anonymous_subscribe("".parse().unwrap()));
        until(|| server.stats().streams == 0).await;
        server.access.replace(Access::new());
        let _again = admitted(&server, "/stream").await;
        drop(stream);
    });
}

#[test]
fn stall_releases_permits() {
    run(async {
        let write_timeout = Duration::from_secs(1);
        let options = HubOptions { history: 10_000, ..Server::hub_options() };
        let server = Server::with(options, |builder| {
            let streams = StreamOptions { write_timeout, ..StreamOptions::default() };
            builder.shards(4).limits(two_permits()).send_buffer(4096).streams(streams)
        });
        let (client, _silent) = flood(&server).await;
        until(|| server.stats().cut_off_stalled == 1).await;
        let _again = admitted(&server, "/stream").await;
        drop(client);
    });
}

#[test]
fn unread_responses_release_permits() {
    run(async {
        let write_timeout = Duration::from_secs(1);
        let server = with(two_permits(), |builder| {
            builder.send_buffer(4096).streams(StreamOptions { write_timeout, ..StreamOptions::default() })
        });
        let mut client = Client::connect_narrow(server.address).await;
        let silent = server.connect().await;
        assert_full(&server).await;
        let asked = async { while client.try_send(request("GET", "/openapi.json", &[], b"")).await.is_ok() {} };
        asked.await;
        drop(silent);
        // The client's end is still open.
        until(|| server.stats().connections == 0).await;
        assert_free(&server).await;
    });
}

#[test]
fn request_timeout_releases_permits() {
    run(async {
        let http = HttpOptions { head_timeout: Duration::from_millis(300), ..HttpOptions::default() };
        let server = with(two_permits(), |builder| builder.http(http));
        let (silent, mut slow) = (server.connect().await, server.connect().await);
        slow.send("GET / HTTP/1.1\r\n").await;
        assert_full(&server).await;
        assert_eq!((silent.rest().await, slow.rest().await), ("".into(), "".into()));
        assert_free(&server).await;
    });
}

#[test]
fn operator_delete_releases_permits() {
    run(async {
        let server = with(two_permits(), |builder| builder);
        let mut operator = server.connect().await;
        operator.get("/").await.ok();
        let mut stream = admitted(&server, "/stream").await;
        let id = stream.hello().await["client_id"].as_str().unwrap().to_owned();
        assert_full(&server).await;
        operator.send(request("DELETE", &format!("/clients/{id}"), &[], b"")).await;
        operator.response().await.ok();
        while stream.try_block().await.is_some() {}
        let _again = admitted(&server, "/stream").await;
        drop(operator);
    });
}

#[test]
fn drain_releases_permits() {
    run(async {
        let mut server = with(two_permits(), |builder| builder.drain(Duration::from_secs(2)));
        let (mut stream, mut idle) = (admitted(&server, "/stream").await, server.connect().await);
        idle.get("/").await.ok();
        assert_full(&server).await;
        server.stop();
        while let Some(block) = stream.try_block().await {
            let Block::Event(event) = block else { continue };
            assert_eq!(event.event, "system");
        }
        assert_eq!(idle.rest().await, "");
        // Connections own their permits: the server exits when the last one is closed.
        until(|| server.stats().connections == 0).await;
        drop(server);
    });
}

#[test]
fn handler_panic_releases_permits_and_affects_no_other_client() {
    run(async {
        let (server, calls) = guarded(None);
        let mut stream = admitted(&server, "/stream?topics=t").await;
        stream.hello().await;
        let panics = |path| request("GET", path, &[("cookie", "panic=1")], b"");
        for round in 0..20 {
            let before = calls.load(Ordering::Relaxed);
            let answer = admitted_answer(&server, &panics(["/stream", "/clients"][round % 2])).await;
            assert_problem(&answer, 500, &["internal error"]);
            assert!(calls.load(Ordering::Relaxed) > before);
        }
        // The connection of such a request stays usable.
        let mut client = loop {
            let mut client = server.connect().await;
            client.send(panics("/topics")).await;
            if client.response().await.head.status == 500 {
                break client;
            }
        };
        client.get("/topics").await.ok();
        server.publish("t", [1]).await;
        stream.data_at(1).await;
        let metrics = client.get("/metrics/json").await.ok();
        assert_eq!(metrics["refusals_by_reason"]["panic"], 21);
        drop((client, stream));
        assert_free(&server).await;
    });
}

/// The response to `request`, once a permit is free.
async fn admitted_answer(server: &Server, request: &[u8]) -> crate::support::Response {
    loop {
        let answer = server.ask(request).await;
        if !is_full(answer.head.status) {
            return answer;
        }
    }
}

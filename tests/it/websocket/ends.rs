//! The close code of each end that is not the client's (`docs/websocket.md`).

use std::time::Duration;

use fanline::auth::{Access, Claims};
use fanline::hub::HubOptions;
use fanline::server::StreamOptions;
use serde_json::json;

use crate::access::{claims, guarded, now, serve, signed};
use crate::support::websocket::{CLOSE, Closed, TEXT};
use crate::support::{Client, Server, WebSocket, event, request, run, until};

/// Reads up to the close frame, and checks that the server closes the connection after it.
async fn ended(socket: &mut WebSocket) -> Closed {
    let closed = socket.close_frame().await;
    assert!(!closed.reason.is_empty(), "a reason says why: {closed:?}");
    assert_eq!(socket.try_frame().await, None, "nothing follows a close frame");
    closed
}

async fn open_with_token(server: &Server, claims: &Claims) -> WebSocket {
    let bearer = format!("Bearer {}", signed(claims));
    let client = Client::connect(server.address).await;
    let mut socket = WebSocket::on(client, "/ws?topics=orders:1", &[("authorization", &bearer)], b"").await;
    socket.hello().await;
    socket
}

async fn count_of(server: &Server, reason: &str) -> u64 {
    server.get("/metrics/json").await.ok()["connections"]["ended"][reason].as_u64().unwrap()
}

#[test]
fn drain_announces_the_restart_then_closes_with_1001() {
    run(async {
        let mut server = Server::start();
        let mut socket = server.websocket("/ws?topics=t").await;
        server.publish("t", [1]).await;
        socket.data_at(1).await;
        server.stop();
        let notice = socket.of_type("system").await;
        assert_eq!((&notice["data"]["message"], &notice["id"]), (&json!("server restarting"), &json!("7-1")));
        assert_eq!(ended(&mut socket).await.code, Some(1001));
    });
}

#[test]
fn operator_disconnects_with_4002() {
    run(async {
        let server = Server::start();
        let mut socket = WebSocket::connect(server.address, "/ws").await;
        let id = socket.hello().await["data"]["client_id"].as_str().unwrap().to_owned();
        server.ask(request("DELETE", &format!("/clients/{id}"), &[], b"")).await.ok();
        assert_eq!(socket.of_type("system").await["data"]["message"], "disconnected");
        assert_eq!(ended(&mut socket).await.code, Some(4002));
        until(|| server.stats().streams == 0).await;
        assert_eq!(count_of(&server, "disconnected").await, 1);
    });
}

#[test]
fn expired_token_ends_with_1008() {
    run(async {
        let server = serve(guarded());
        let mut socket = open_with_token(&server, &Claims { exp: now() + 2, ..claims() }).await;
        let mut notices = Vec::new();
        while notices.last() != Some(&json!("token expired")) {
            notices.push(socket.of_type("system").await["data"]["message"].take());
        }
        assert_eq!(notices, ["token expires", "token expired"]);
        assert_eq!(ended(&mut socket).await.code, Some(1008));
        until(|| server.stats().streams == 0).await;
    });
}

#[test]
fn revoked_grant_ends_with_1008() {
    run(async {
        let server = serve(guarded());
        let mut socket = open_with_token(&server, &claims()).await;
        server.access.replace(Access::new().accept(fanline::auth::ApiKeys::new([])));
        assert_eq!(socket.of_type("system").await["data"]["message"], "access revoked");
        assert_eq!(ended(&mut socket).await.code, Some(1008));
        until(|| server.stats().streams == 0).await;
    });
}

const HISTORY: usize = 32;

/// A server with small send buffers and small rings.
fn tiny(streams: StreamOptions) -> Server {
    let options = HubOptions { history: HISTORY, firehose_history: HISTORY, ..Server::hub_options() };
    Server::with(options, |builder| builder.send_buffer(4096).streams(streams))
}

async fn open_without_reading(server: &Server, target: &str) -> WebSocket {
    let mut socket = WebSocket::on(Client::connect_narrow(server.address).await, target, &[], b"").await;
    socket.hello().await;
    socket
}

/// Publishes far more than the kernel and the rings hold, and returns the last sequence.
async fn flood(server: &Server) -> u64 {
    let payload = format!("\"{}\"", "x".repeat(4000));
    for _ in 0..HISTORY * 10 {
        server.hub.publish(event("t", &payload)).await.unwrap();
    }
    server.hub.position().sequence
}

/// Reads whole frames with consecutive events. Returns the last sequence, and the close code if there was a close frame.
async fn events_to_the_end(socket: &mut WebSocket) -> (u64, Option<u16>) {
    let mut last = 0;
    loop {
        let Some(frame) = socket.try_frame_or_cut().await else { return (last, None) };
        match frame.opcode {
            TEXT => {
                last += 1;
                let event: serde_json::Value = serde_json::from_slice(&frame.payload).expect("a message is JSON");
                assert_eq!(event["id"], format!("7-{last}"));
            }
            CLOSE => {
                assert_eq!(socket.try_frame().await, None, "nothing follows a close frame");
                return (last, Some(u16::from_be_bytes([frame.payload[0], frame.payload[1]])));
            }
            _ => {}
        }
    }
}

/// The socket accepts no bytes when the ring overtakes its reader, so the close frame may not get through.
#[test]
fn lagging_reader_is_closed_with_4000_and_resumes_after_its_last_event() {
    run(async {
        let server = tiny(StreamOptions::default());
        let mut socket = open_without_reading(&server, "/ws?topics=t").await;
        let last = flood(&server).await;
        let (seen, code) = events_to_the_end(&mut socket).await;
        until(|| server.stats().cut_off_lagged == 1).await;
        assert!(seen < last - HISTORY as u64, "{seen} of {last}");
        assert!([None, Some(4000)].contains(&code), "{code:?}");
        let mut again = server.websocket(&format!("/ws?topics=t&last_event_id=7-{seen}")).await;
        let gap = again.of_type("gap").await;
        assert_eq!(gap["data"]["reason"], "evicted");
        assert_eq!(gap["data"]["missed"], last - HISTORY as u64 - seen);
        for sequence in last - HISTORY as u64 + 1..=last {
            again.data_at(sequence).await;
        }
    });
}

#[test]
fn reader_that_skips_gets_exact_gaps() {
    run(async {
        let server = tiny(StreamOptions::default());
        let mut socket = open_without_reading(&server, "/ws?topics=t&on_lag=skip").await;
        let last = flood(&server).await;
        let (mut seen, mut gaps) = (0, 0);
        while seen < last {
            let message = socket.message().await;
            if message["type"] == "event" {
                seen += 1;
            } else {
                assert_eq!((&message["type"], &message["data"]["reason"]), (&json!("gap"), &json!("lagged")));
                assert_eq!(message["data"]["from"], format!("7-{seen}"));
                seen += message["data"]["missed"].as_u64().expect("the count is known");
                gaps += 1;
            }
            assert_eq!(message["id"], format!("7-{seen}"), "{message:.100}");
        }
        assert!(gaps > 0);
        assert_eq!((server.stats().gaps, server.stats().cut_off_lagged), (gaps, 0));
        socket.assert_alive().await;
    });
}

/// Nothing can be written to a socket that accepts nothing, so only the server knows the code.
#[test]
fn reader_that_accepts_nothing_is_cut_off_as_stalled() {
    run(async {
        let streams = StreamOptions { write_timeout: Duration::from_secs(1), ..StreamOptions::default() };
        let options = HubOptions { history: 10_000, ..Server::hub_options() };
        let server = Server::with(options, |builder| builder.send_buffer(4096).streams(streams));
        let mut socket = open_without_reading(&server, "/ws?topics=t").await;
        flood(&server).await;
        until(|| server.stats().streams == 0).await;
        assert_eq!(server.stats().cut_off_stalled, 1);
        let (_, code) = events_to_the_end(&mut socket).await;
        assert!([None, Some(4001)].contains(&code), "{code:?}");
    });
}

#[test]
fn drain_does_not_wait_for_clients_that_do_not_answer() {
    run(async {
        let mut server = Server::start();
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(server.websocket("/ws?topics=t").await);
        }
        server.stop();
        until(|| server.stats().streams == 0).await;
        for mut socket in silent {
            assert_eq!(socket.of_type("system").await["data"]["message"], "server restarting");
            assert_eq!(ended(&mut socket).await.code, Some(1001));
        }
    });
}

#[test]
fn metrics_and_client_list_show_the_transport() {
    run(async {
        let server = Server::start();
        let _socket = server.websocket("/ws?topics=t&client_name=bidirectional").await;
        let _stream = server.follow("/stream?topics=t&client_name=one-way").await;
        let clients = server.get("/clients").await.ok()["clients"].take();
        let of = |name: &str| {
            let client = clients.as_array().unwrap().iter().find(|client| client["client_name"] == name);
            client.expect("the client is listed")["transport"].clone()
        };
        assert_eq!((of("bidirectional"), of("one-way")), (json!("websocket"), json!("sse")));
    });
}

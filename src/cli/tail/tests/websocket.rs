//! `fanline tail --transport ws`.

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::*;
use crate::cli::tests::scripted::Peer;

/// Accepts a connection and completes its handshake.
async fn accept(server: &ScriptedServer) -> Peer {
    let mut peer = server.accept().await;
    let accept = derive_accept_key(peer.header("sec-websocket-key").unwrap().as_bytes());
    peer.send(format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
    ))
    .await;
    peer
}

/// A frame of a server, with a payload of less than 126 bytes.
fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    [&[first, payload.len() as u8], payload].concat()
}

fn text(json: &str) -> Vec<u8> {
    frame(0x81, json)
}

const HELLO: &str = r#"{"type":"system","id":"7-1","data":{"message":"connected","client_id":"c1","retry":200}}"#;
const EVENT: &str = r#"{"type":"event","id":"7-2","topic":"a","event":"message","data":{"n": 1}}"#;

#[tokio::test]
async fn request_is_a_handshake_with_all_flags() {
    let server = ScriptedServer::start().await;
    let _tail = tail(
        &server,
        &["--transport=ws", "--name=me", "--from=7-41", "--on-lag=skip", "--token=s3cret", "--format=json"],
    );
    let peer = server.accept().await;
    assert_eq!(peer.target(), "GET /ws?topics=**&client_name=me&on_lag=skip");
    for (name, value) in [
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-version", "13"),
        ("last-event-id", "7-41"),
        ("authorization", "Bearer s3cret"),
    ] {
        assert_eq!(peer.header(name), Some(value));
    }
}

#[tokio::test(start_paused = true)]
async fn tail_over_websocket_resumes_after_the_last_id_it_printed() {
    let server = ScriptedServer::start().await;
    let mut tail = tail(&server, &["--transport=ws", "--topics=a"]);
    let mut peer = accept(&server).await;
    peer.send([text(HELLO), text(EVENT), text(r#"{"type":"event","id":"7-3","text":"x\ny"}"#)].concat()).await;
    tail.events.until("{\"n\": 1}\nx\ny\n").await;
    peer.send(frame(0x88, b"\x03\xe9restarting")).await;
    tail.notices.until("connected, as c1\ndisconnected: the server closed the connection: 1001 restarting; next attempt in 0.2 s\n").await;
    let mut peer = accept(&server).await;
    assert_eq!((peer.target(), peer.header("last-event-id")), ("GET /ws?topics=a", Some("7-3")));
    peer.send(text(r#"{"type":"gap","id":"7-9","data":{"reason":"evicted","from":"7-4","to":"7-9","missed":6}}"#))
        .await;
    tail.notices.until("gap: evicted, missed 6 events (from 7-4 to 7-9)\n").await;
    drop(peer);
    assert_eq!(accept(&server).await.header("last-event-id"), Some("7-9"));
}

#[tokio::test]
async fn messages_are_printed_as_with_envelopes() {
    let server = ScriptedServer::start().await;
    let mut tail = tail(&server, &["--transport=ws", "--format=json", "--count=1"]);
    let mut peer = accept(&server).await;
    peer.send([text(HELLO), text(r#"{"type":"pong"}"#), text(EVENT)].concat()).await;
    tail.ended.await.unwrap().unwrap();
    assert_eq!(tail.events.text(), format!("{HELLO}\n{EVENT}\n"));
}

#[tokio::test]
async fn ping_is_answered() {
    let server = ScriptedServer::start().await;
    let _tail = tail(&server, &["--transport=ws"]);
    let mut peer = accept(&server).await;
    peer.send(frame(0x89, "")).await;
    // A pong without a payload, and with a mask.
    peer.receive_until(b"\x8a\x80").await;
}

#[tokio::test(start_paused = true)]
async fn silent_websocket_is_replaced_and_a_ping_ends_the_silence() {
    let server = ScriptedServer::start().await;
    let mut tail = tail(&server, &["--transport=ws", "--idle-timeout=40"]);
    let mut peer = accept(&server).await;
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(39)).await;
        peer.send(frame(0x89, "")).await;
        peer.receive_until(b"\x8a\x80").await;
    }
    assert_eq!(tail.notices.text(), "");
    tail.notices.until("disconnected: silent for 40 s; next attempt in 3.0 s\n").await;
    peer.closed().await;
}

#[tokio::test]
async fn wrong_handshake_is_retried_and_another_response_is_fatal() {
    let server = ScriptedServer::start().await;
    let mut tail = tail(&server, &["--transport=ws"]);
    let mut peer = server.accept().await;
    peer.send("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n").await;
    tail.notices.until("disconnected: the handshake has a wrong sec-websocket-accept; next attempt in ").await;

    let server = ScriptedServer::start().await;
    let tail = super::tail(&server, &["--transport=ws"]);
    server.accept().await.answer("200 OK", "text/event-stream", "data: a\n\n").await;
    let error = tail.ended.await.unwrap().unwrap_err().to_string();
    assert_eq!(error, "no handshake of WebSocket: the server or a proxy before it answered 200 OK");
}

#[tokio::test]
async fn format_of_event_streams_is_refused() {
    let args = parse(&["--transport=ws", "--format=sse"]).unwrap();
    let error = run(args).await.unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().contains("choose data, log or json")), (2, true));
}

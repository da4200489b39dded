//! Sizes of messages (Autobahn, group 9), and clients that send without reading.

use std::time::Duration;

use fanline::server::{HttpOptions, Limits, StreamOptions};
use serde_json::json;

use super::echo;
use crate::support::websocket::{CONTINUATION, Closed, Frame, PING, TEXT, text};
use crate::support::{Client, Server, WebSocket, run, until};

const MAX_EVENT: usize = 20_000;

/// A server whose messages are much smaller than a socket's buffer.
fn small() -> Server {
    let options = HttpOptions { max_event_bytes: MAX_EVENT, ..HttpOptions::default() };
    Server::with(Server::hub_options(), |builder| builder.http(options))
}

/// A message that publishes a text of `length` bytes.
fn publication(length: usize) -> String {
    json!({"type": "publish", "topic": "t", "data": "x".repeat(length), "ref": length}).to_string()
}

/// Sixteen megabytes come back as the event that was published, whatever the pieces they arrive in.
#[test]
fn sixteen_megabytes_arrive_in_odd_pieces() {
    const LENGTH: usize = 16 << 20;
    run(async {
        let options = HttpOptions { max_event_bytes: LENGTH + 2, ..HttpOptions::default() };
        let server = Server::with(Server::hub_options(), |builder| builder.http(options));
        let mut socket = server.websocket("/ws?topics=t").await;
        let message = publication(LENGTH);
        let whole = text(&message);
        for piece in whole.chunks(1009) {
            socket.send(piece).await;
        }
        assert_published(&mut socket, LENGTH).await;
        let parts: Vec<_> = message.as_bytes().chunks(65_537).collect();
        for (number, part) in parts.iter().enumerate() {
            let opcode = if number == 0 { TEXT } else { CONTINUATION };
            socket.send_frame(Frame { is_final: number + 1 == parts.len(), ..Frame::new(opcode, part) }).await;
        }
        assert_published(&mut socket, LENGTH).await;
    });
}

/// Reads the event and the answer, in any order.
async fn assert_published(socket: &mut WebSocket, length: usize) {
    let mut types = Vec::new();
    for _ in 0..2 {
        let message = socket.message().await;
        match message["type"].as_str() {
            Some("event") => assert!(message["data"].as_str().is_some_and(|data| data.len() == length)),
            Some("published") => assert_eq!(message["ref"], length),
            _ => panic!("{message:.200}"),
        }
        types.push(message["type"].as_str().map(str::to_owned));
    }
    assert_ne!(types[0], types[1]);
}

#[test]
fn event_of_the_largest_size_is_published() {
    run(async {
        let server = small();
        let mut socket = server.websocket("/ws").await;
        // The quotes of the JSON text count.
        socket.send(text(&publication(MAX_EVENT - 2))).await;
        assert_eq!(socket.of_type("published").await["id"], "7-1");
        socket.send(text(&publication(MAX_EVENT - 1))).await;
        assert_eq!(socket.of_type("error").await["code"], "too_large");
        socket.assert_alive().await;
    });
}

#[test]
fn message_above_the_limit_ends_the_connection() {
    run(async {
        let server = small();
        let too_big = publication(MAX_EVENT * 8);
        let bytes = too_big.as_bytes();
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let frames = [Frame::part(TEXT, first), Frame::new(CONTINUATION, second)].map(|frame| frame.encode());
        let small_frames = [Frame::part(TEXT, &bytes[..1]).encode()]
            .into_iter()
            .chain(bytes[1..].chunks(100).map(|part| Frame::part(CONTINUATION, part).encode()));
        for (bytes, what) in [
            (text(&too_big), "one frame"),
            (frames.concat(), "two frames"),
            (small_frames.collect::<Vec<_>>().concat(), "many frames"),
        ] {
            server.websocket("/ws").await.assert_refuses(bytes, 1009, what).await;
        }
    });
}

/// Nothing of the payload is needed, and no memory is reserved for it.
#[test]
fn announced_length_above_the_limit_ends_the_connection_at_once() {
    run(async {
        let server = small();
        for length in [MAX_EVENT as u64 * 8, 1 << 32, 1 << 62] {
            let socket = server.websocket("/ws").await;
            let head = Frame::new(TEXT, b"").head(length);
            socket.assert_refuses(head, 1009, &format!("{length} bytes")).await;
        }
        let socket = server.websocket("/ws").await;
        let head = Frame::new(CONTINUATION, b"").head(MAX_EVENT as u64 * 8);
        socket.assert_refuses([Frame::part(TEXT, b"{").encode(), head].concat(), 1009, "in the second frame").await;
    });
}

#[test]
fn reason_of_the_end_names_the_limit() {
    run(async {
        let server = small();
        let mut socket = server.websocket("/ws").await;
        socket.send(Frame::new(TEXT, b"").head(1 << 40)).await;
        let Closed { code, reason } = socket.closed().await;
        assert_eq!(code, Some(1009));
        assert!(reason.chars().any(|c| c.is_ascii_digit()), "the reason is {reason:?}");
    });
}

/// The server reads no further while its answers are not accepted, so what a client sends without reading stays in the
/// buffers of two sockets.
#[test]
fn client_that_never_reads_cannot_make_answers_grow() {
    const BUFFERS: usize = 16 << 20;
    run(async {
        let streams = StreamOptions { write_timeout: Duration::from_secs(2), ..StreamOptions::default() };
        let server = Server::with(Server::hub_options(), |builder| builder.streams(streams).send_buffer(4096));
        for frame in [Frame::new(PING, &[b'x'; 125]).encode(), text(&echo(125).0)] {
            let client = Client::connect_narrow(server.address).await;
            let mut socket = WebSocket::on(client, "/ws", &[], b"").await;
            let frames = frame.repeat(100);
            let mut accepted = 0;
            while socket.client.try_send(&frames).await.is_ok() {
                accepted += frames.len();
                assert!(accepted < BUFFERS, "the server continues to read");
            }
        }
        until(|| server.stats().streams == 0).await;
        assert_eq!(server.stats().cut_off_stalled, 2);
    });
}

#[test]
fn client_that_reads_late_gets_every_answer_in_order() {
    const MESSAGES: usize = 20_000;
    run(async {
        let limits = Limits { websocket_message_rate: None, ..Limits::default() };
        let server = Server::with(Server::hub_options(), |builder| builder.send_buffer(4096).limits(limits));
        let client = Client::connect_narrow(server.address).await;
        let mut socket = WebSocket::on(client, "/ws", &[], b"").await;
        socket.hello().await;
        let messages: Vec<_> =
            (0..MESSAGES).flat_map(|n| text(&json!({"type": "ping", "ref": n}).to_string())).collect();
        socket.client.exchange(&messages).await;
        for n in 0..MESSAGES {
            assert_eq!(socket.message().await, json!({"type": "pong", "ref": n}));
        }
    });
}

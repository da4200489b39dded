//! Frames of every form of length (RFC 6455, section 5.2), in any number of pieces.

use serde_json::json;

use super::echo;
use crate::support::websocket::{Frame, TEXT, text};
use crate::support::{Client, Server, WebSocket, run};

/// Around each border between two forms of length.
const LENGTHS: [usize; 9] = [24, 125, 126, 127, 128, 4096, 65_535, 65_536, 100_000];

#[test]
fn message_of_each_form_of_length_is_answered() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        for length in LENGTHS {
            let (message, answer) = echo(length);
            assert_eq!(message.len(), length);
            socket.send(text(&message)).await;
            assert_eq!(socket.message().await, answer, "{length} bytes");
        }
    });
}

#[test]
fn messages_may_share_a_packet() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        let messages = LENGTHS.map(echo);
        socket.send(messages.iter().flat_map(|(message, _)| text(message)).collect::<Vec<_>>()).await;
        for (_, answer) in messages {
            assert_eq!(socket.message().await, answer);
        }
    });
}

#[test]
fn message_may_arrive_in_pieces_of_any_size() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        for (length, piece) in [(24, 1), (125, 1), (126, 1), (200, 7), (65_535, 997), (65_536, 1460), (100_000, 64)] {
            let (message, answer) = echo(length);
            for piece in text(&message).chunks(piece) {
                socket.send(piece).await;
            }
            assert_eq!(socket.message().await, answer, "{length} bytes in pieces of {piece}");
        }
    });
}

#[test]
fn frames_may_follow_the_handshake_at_once() {
    run(async {
        let server = Server::start();
        let early = [text(r#"{"type":"ping","ref":1}"#), text(&echo(50_000).0)].concat();
        let client = Client::connect(server.address).await;
        let mut socket = WebSocket::on(client, "/ws", &[], &early).await;
        socket.hello().await;
        assert_eq!(socket.message().await, json!({"type": "pong", "ref": 1}));
        assert_eq!(socket.message().await, echo(50_000).1);
        // The beginning of a frame with the handshake, and its rest later.
        for cut in [1, 2, 5, 20] {
            let message = text(r#"{"type":"ping","ref":2}"#);
            let client = Client::connect(server.address).await;
            let mut socket = WebSocket::on(client, "/ws", &[], &message[..cut]).await;
            socket.hello().await;
            socket.send(&message[cut..]).await;
            assert_eq!(socket.message().await, json!({"type": "pong", "ref": 2}), "cut after {cut} bytes");
        }
    });
}

#[test]
fn any_mask_is_removed() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        for mask in [[0; 4], [255; 4], [0, 0, 0, 1], *b"mask"] {
            for length in 24..33 {
                let (message, answer) = echo(length);
                socket.send_frame(Frame { mask: Some(mask), ..Frame::new(TEXT, message.as_bytes()) }).await;
                assert_eq!(socket.message().await, answer, "{mask:?}");
            }
        }
    });
}

#[test]
fn unmasked_frame_ends_the_connection() {
    run(async {
        let server = Server::start();
        for payload in ["", r#"{"type":"ping"}"#] {
            let socket = server.websocket("/ws").await;
            let frame = Frame { mask: None, ..Frame::new(TEXT, payload.as_bytes()) };
            socket.assert_refuses(frame.encode(), 1002, "an unmasked frame").await;
        }
    });
}

#[test]
fn empty_message_gets_an_error_and_the_connection_stays() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        socket.send(text("")).await;
        assert_eq!(socket.of_type("error").await["code"], "malformed");
        socket.assert_alive().await;
    });
}

/// The highest bit of a length of 64 bits is zero.
#[test]
fn length_beyond_63_bits_ends_the_connection() {
    run(async {
        let server = Server::start();
        for length in [1 << 63, u64::MAX] {
            let mut socket = server.websocket("/ws").await;
            socket.send(Frame::new(TEXT, b"").head(length)).await;
            let code = socket.closed().await.code;
            assert!([Some(1002), Some(1009)].contains(&code), "{length:x}: {code:?}");
        }
    });
}

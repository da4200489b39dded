//! Reserved bits and opcodes, which only extensions use (RFC 6455, section 5.2), and binary messages.

use super::echo;
use crate::support::websocket::{BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, TEXT, text};
use crate::support::{Server, run};

#[test]
fn reserved_bit_ends_the_connection() {
    run(async {
        let server = Server::start();
        for reserved in 1..8 {
            for opcode in [TEXT, BINARY, PING, PONG, CLOSE] {
                let socket = server.websocket("/ws").await;
                let frame = Frame { reserved, ..Frame::new(opcode, b"") };
                socket.assert_refuses(frame.encode(), 1002, &format!("bits {reserved} and opcode {opcode}")).await;
            }
        }
    });
}

#[test]
fn message_before_a_reserved_bit_is_answered() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        let (message, answer) = echo(60);
        let refused = Frame { reserved: 4, ..Frame::new(TEXT, message.as_bytes()) };
        socket.send([text(&message), refused.encode(), text(&message)].concat()).await;
        assert_eq!(socket.message().await, answer);
        socket.assert_closed(1002, "a reserved bit").await;
    });
}

#[test]
fn reserved_opcode_ends_the_connection() {
    run(async {
        let server = Server::start();
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            for payload in ["", "a payload"] {
                let mut socket = server.websocket("/ws").await;
                socket.send([text(&echo(30).0), Frame::new(opcode, payload.as_bytes()).encode()].concat()).await;
                assert_eq!(socket.message().await, echo(30).1);
                socket.assert_closed(1002, &format!("opcode {opcode}")).await;
            }
        }
    });
}

#[test]
fn binary_message_ends_the_connection_as_unsupported() {
    run(async {
        let server = Server::start();
        for payload in [&b""[..], b"\xff\x00", br#"{"type":"ping"}"#, &[b'x'; 5000]] {
            let socket = server.websocket("/ws").await;
            socket.assert_refuses(Frame::new(BINARY, payload).encode(), 1003, "a binary message").await;
        }
        let socket = server.websocket("/ws").await;
        let frames = [Frame::part(BINARY, b"a"), Frame::new(CONTINUATION, b"b")].map(|frame| frame.encode());
        socket.assert_refuses(frames.concat(), 1003, "a binary message in two frames").await;
    });
}

//! Messages of several frames (RFC 6455, section 5.4).

use super::echo;
use crate::support::websocket::{BINARY, CONTINUATION, Frame, TEXT, text};
use crate::support::{Server, run};

/// A text message in frames of these payloads.
fn frames<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let parts: Vec<_> = parts.into_iter().collect();
    let last = parts.len() - 1;
    let frame = |(number, payload): (usize, &&[u8])| {
        let opcode = if number == 0 { TEXT } else { CONTINUATION };
        Frame { is_final: number == last, ..Frame::new(opcode, payload) }.encode()
    };
    parts.iter().enumerate().map(frame).collect()
}

#[test]
fn message_may_be_cut_into_frames_anywhere() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        let (message, answer) = echo(40);
        for cut in 0..=message.len() {
            let (first, second) = message.as_bytes().split_at(cut);
            socket.send(frames([first, second]).concat()).await;
            assert_eq!(socket.message().await, answer, "cut at {cut}");
        }
    });
}

#[test]
fn frames_of_one_byte_and_empty_frames_are_joined() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        let (message, answer) = echo(2000);
        socket.send(frames(message.as_bytes().chunks(1)).concat()).await;
        assert_eq!(socket.message().await, answer);
        let empty: &[u8] = b"";
        for frame in frames([empty, message.as_bytes(), empty, empty]) {
            socket.send(frame).await;
        }
        assert_eq!(socket.message().await, answer);
        socket.send(frames([empty, empty, empty]).concat()).await;
        assert_eq!(socket.of_type("error").await["code"], "malformed");
        socket.assert_alive().await;
    });
}

#[test]
fn frames_may_arrive_in_pieces() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        let (message, answer) = echo(300);
        for piece in [1, 3, 64] {
            for piece in frames(message.as_bytes().chunks(50)).concat().chunks(piece) {
                socket.send(piece).await;
            }
            assert_eq!(socket.message().await, answer, "pieces of {piece}");
        }
    });
}

#[test]
fn continuation_without_a_message_ends_the_connection() {
    run(async {
        let server = Server::start();
        for frame in [Frame::new(CONTINUATION, b"x"), Frame::part(CONTINUATION, b"x"), Frame::new(CONTINUATION, b"")] {
            let socket = server.websocket("/ws").await;
            socket.assert_refuses(frame.encode(), 1002, "at the start").await;
            let mut socket = server.websocket("/ws").await;
            // After a complete message, too.
            socket.send([frames([&b"{"[..], b"}"]).concat(), frame.encode()].concat()).await;
            socket.of_type("error").await;
            socket.assert_closed(1002, "after a message").await;
        }
    });
}

#[test]
fn message_within_a_message_ends_the_connection() {
    run(async {
        let server = Server::start();
        for second in [Frame::new(TEXT, b"{}"), Frame::part(TEXT, b"{}"), Frame::new(BINARY, b"x")] {
            let socket = server.websocket("/ws").await;
            let bytes = [Frame::part(TEXT, br#"{"type":"#).encode(), second.encode()].concat();
            socket.assert_refuses(bytes, 1002, &format!("{second:?}")).await;
        }
    });
}

#[test]
fn incomplete_message_is_discarded_with_its_connection() {
    run(async {
        let server = Server::start();
        let message = r#"{"type":"publish","topic":"t","data":1}"#;
        let mut reader = server.websocket("/ws?topics=t").await;
        let mut writer = server.websocket("/ws").await;
        writer.send_frame(Frame::part(TEXT, message.as_bytes())).await;
        writer.assert_pong().await;
        drop(writer);
        let mut writer = server.websocket("/ws").await;
        writer.send(&text(message)[..20]).await;
        drop(writer);
        server.publish("t", [1]).await;
        assert_eq!(reader.data_at(1).await, serde_json::json!({"n": 1}), "nothing was published before");
    });
}

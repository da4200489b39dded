//! Text is UTF-8 (RFC 6455, section 8.1), and the connection fails as soon as it is not.

use serde_json::json;

use crate::support::websocket::{CONTINUATION, Frame, PING, TEXT, text};
use crate::support::{Server, run};

/// One character of each length, the first and last of each range, and noncharacters.
const VALID: &str =
    "κόσμε \u{7f}\u{80}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{fffd}\u{fffe}\u{ffff}\u{10000}\u{1fffe}\u{10ffff}";

/// Sequences that are not UTF-8, each with the number of bytes after which this is certain.
const INVALID: &[(&[u8], usize, &str)] = &[
    (b"\x80", 1, "a continuation byte alone"),
    (b"\xbf", 1, "a continuation byte alone"),
    (b"\xc0\x80", 1, "an overlong form of two bytes"),
    (b"\xc1\xbf", 1, "an overlong form of two bytes"),
    (b"\xc3\x28", 2, "two bytes, the second is no continuation"),
    (b"\xe0\x80\x80", 2, "an overlong form of three bytes"),
    (b"\xe0\x9f\xbf", 2, "an overlong form of three bytes"),
    (b"\xed\xa0\x80", 2, "the first surrogate"),
    (b"\xed\xbf\xbf", 2, "the last surrogate"),
    (b"\xe1\x80\x28", 3, "three bytes, the third is no continuation"),
    (b"\xf0\x80\x80\x80", 2, "an overlong form of four bytes"),
    (b"\xf0\x8f\xbf\xbf", 2, "an overlong form of four bytes"),
    (b"\xf4\x90\x80\x80", 2, "beyond the last code point"),
    (b"\xf5\x80\x80\x80", 1, "beyond the last code point"),
    (b"\xf8\x88\x80\x80\x80", 1, "five bytes"),
    (b"\xfe", 1, "a byte that is never used"),
    (b"\xff", 1, "a byte that is never used"),
];

const BEFORE: &str = r#"{"type":"ping","ref":""#;

#[test]
fn text_of_any_characters_is_echoed() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        let answer = json!({"type": "pong", "ref": VALID});
        socket.send(text(&format!("{BEFORE}{VALID}\"}}"))).await;
        assert_eq!(socket.message().await, answer);
    });
}

#[test]
fn frames_may_end_within_a_character() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        let message = format!("{BEFORE}{VALID}\"}}").into_bytes();
        let answer = json!({"type": "pong", "ref": VALID});
        for cut in BEFORE.len()..message.len() {
            let (first, second) = message.split_at(cut);
            let frames = [Frame::part(TEXT, first), Frame::new(CONTINUATION, second)].map(|frame| frame.encode());
            socket.send(frames.concat()).await;
            assert_eq!(socket.message().await, answer, "cut at {cut}");
        }
        let (bytes, last) = message.split_at(message.len() - 1);
        for (number, byte) in bytes.chunks(1).enumerate() {
            let opcode = if number == 0 { TEXT } else { CONTINUATION };
            socket.send_frame(Frame::part(opcode, byte)).await;
        }
        socket.send_frame(Frame::new(CONTINUATION, last)).await;
        assert_eq!(socket.message().await, answer, "one byte in each frame");
    });
}

#[test]
fn invalid_text_ends_the_connection() {
    run(async {
        let server = Server::start();
        for (bytes, _, what) in INVALID {
            let socket = server.websocket("/ws").await;
            let message = [BEFORE.as_bytes(), bytes, b"\"}"].concat();
            socket.assert_refuses(Frame::new(TEXT, &message).encode(), 1007, what).await;
        }
    });
}

#[test]
fn text_that_ends_within_a_character_ends_the_connection() {
    run(async {
        let server = Server::start();
        for bytes in [&b"\xc3"[..], b"\xe1\x80", b"\xf0\x9f\x98"] {
            let socket = server.websocket("/ws").await;
            socket.assert_refuses(Frame::new(TEXT, bytes).encode(), 1007, "in one frame").await;
            let socket = server.websocket("/ws").await;
            let frames = [Frame::part(TEXT, bytes), Frame::new(CONTINUATION, b"")].map(|frame| frame.encode());
            socket.assert_refuses(frames.concat(), 1007, "with an empty frame at the end").await;
        }
    });
}

/// The rest of the message never arrives.
#[test]
fn invalid_text_fails_before_its_message_is_complete() {
    run(async {
        let server = Server::start();
        for (bytes, certain, what) in INVALID {
            let socket = server.websocket("/ws").await;
            let message = [BEFORE.as_bytes(), &bytes[..*certain]].concat();
            socket.assert_refuses(Frame::part(TEXT, &message).encode(), 1007, what).await;
            let mut socket = server.websocket("/ws").await;
            socket.send_frame(Frame::part(TEXT, &message[..message.len() - 1])).await;
            socket.assert_pong().await;
            let last = Frame::part(CONTINUATION, &message[message.len() - 1..]);
            socket.assert_refuses(last.encode(), 1007, &format!("{what}, in the second frame")).await;
        }
    });
}

/// Nothing after a character that is begun makes the text invalid.
#[test]
fn control_frame_within_a_character_changes_nothing() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        socket.send_frame(Frame::part(TEXT, &[BEFORE.as_bytes(), b"\xf0\x9f"].concat())).await;
        socket.send_frame(Frame::new(PING, b"\xff\xfe")).await;
        assert_eq!(socket.frame().await.payload, &b"\xff\xfe"[..]);
        socket.send_frame(Frame::new(CONTINUATION, b"\x98\x80\"}")).await;
        assert_eq!(socket.message().await, json!({"type": "pong", "ref": "😀"}));
    });
}

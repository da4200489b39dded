//! The close handshake that a client begins (RFC 6455, sections 5.5.1 and 7).

use super::echo;
use crate::support::websocket::{CLOSE, CONTINUATION, Closed, Frame, PING, TEXT, closing, text};
use crate::support::{Server, run, until};

/// Codes that a client may send: registered ones, those of libraries, and those of applications.
const VALID: [u16; 16] =
    [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4001, 4999];
const INVALID: [u16; 12] = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000];

#[test]
fn close_is_answered_with_its_code() {
    run(async {
        let server = Server::start();
        for code in VALID {
            for reason in ["", "going away", "grüße", &"x".repeat(123)] {
                let mut socket = server.websocket("/ws").await;
                socket.send_frame(Frame::new(CLOSE, &closing(code, reason))).await;
                assert_eq!(socket.closed().await.code, Some(code));
            }
        }
        until(|| server.stats().streams == 0).await;
    });
}

#[test]
fn close_without_a_code_is_answered() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        socket.send_frame(Frame::new(CLOSE, b"")).await;
        let Closed { code, reason } = socket.closed().await;
        assert!([None, Some(1000)].contains(&code) && reason.is_empty(), "{code:?} {reason:?}");
    });
}

#[test]
fn close_with_an_invalid_code_is_a_protocol_error() {
    run(async {
        let server = Server::start();
        for code in INVALID.into_iter().chain([u16::MAX]) {
            for reason in ["", "why"] {
                let socket = server.websocket("/ws").await;
                let frame = Frame::new(CLOSE, &closing(code, reason)).encode();
                socket.assert_refuses(frame, 1002, &format!("code {code}")).await;
            }
        }
    });
}

#[test]
fn malformed_close_is_a_protocol_error() {
    run(async {
        let server = Server::start();
        let parts = [Frame::part(CLOSE, b"\x03\xe8"), Frame::new(CONTINUATION, b"")].map(|frame| frame.encode());
        for (bytes, what) in [
            (Frame::new(CLOSE, b"\x03").encode(), "half a code"),
            (Frame::new(CLOSE, &closing(1000, &"x".repeat(124))).encode(), "126 bytes"),
            (parts.concat(), "two frames"),
        ] {
            server.websocket("/ws").await.assert_refuses(bytes, 1002, what).await;
        }
        let mut socket = server.websocket("/ws").await;
        socket.send_frame(Frame::new(CLOSE, b"\x03\xe8\xff\xfe")).await;
        let code = socket.closed().await.code;
        assert!([Some(1002), Some(1007)].contains(&code), "a reason that is not UTF-8: {code:?}");
    });
}

#[test]
fn messages_before_a_close_are_answered_first() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        let messages = [25, 300, 70_000].map(echo);
        let mut bytes: Vec<u8> = messages.iter().flat_map(|(message, _)| text(message)).collect();
        bytes.extend(Frame::new(CLOSE, &closing(1000, "")).encode());
        socket.send(bytes).await;
        for (_, answer) in messages {
            assert_eq!(socket.message().await, answer);
        }
        assert_eq!(socket.closed().await.code, Some(1000));
    });
}

#[test]
fn everything_after_a_close_is_ignored() {
    run(async {
        let server = Server::start();
        let mut reader = server.websocket("/ws?topics=t").await;
        for after in [
            text(r#"{"type":"publish","topic":"t","data":1}"#),
            Frame::new(PING, b"after").encode(),
            Frame::new(CLOSE, &closing(1001, "again")).encode(),
            Frame { reserved: 7, ..Frame::new(TEXT, b"") }.encode(),
            vec![0; 50_000],
        ] {
            let mut socket = server.websocket("/ws").await;
            socket.send([Frame::new(CLOSE, &closing(1000, "")).encode(), after].concat()).await;
            assert_eq!(socket.closed().await.code, Some(1000));
        }
        server.publish("t", [1]).await;
        assert_eq!(reader.data_at(1).await, serde_json::json!({"n": 1}), "nothing was published before");
    });
}

#[test]
fn close_within_a_message_ends_it() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        socket.send_frame(Frame::part(TEXT, b"{")).await;
        socket.send_frame(Frame::new(CLOSE, &closing(1000, ""))).await;
        assert_eq!(socket.closed().await.code, Some(1000));
    });
}

#[test]
fn no_event_follows_the_answer_to_a_close() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws?topics=t").await;
        socket.send_frame(Frame::new(CLOSE, &closing(1000, ""))).await;
        while server.stats().streams > 0 {
            server.publish("t", [1]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(socket.close_frame().await.code, Some(1000));
        assert_eq!(socket.try_frame().await, None);
    });
}

#[test]
fn connection_that_ends_without_a_close_releases_everything() {
    run(async {
        let server = Server::start();
        let aborted = server.websocket("/ws?topics=t").await;
        let mut half_closed = server.websocket("/ws?topics=t").await;
        assert_eq!(server.stats().streams, 2);
        drop(aborted);
        until(|| server.stats().streams == 1).await;
        half_closed.client.half_close().await;
        until(|| server.stats().streams == 0).await;
        assert_eq!(server.stats().closed_by_peer, 2);
        server.publish("t", [1]).await;
    });
}

//! Protocol pings and pongs (RFC 6455, sections 5.5.2 and 5.5.3).

use super::echo;
use crate::support::websocket::{CONTINUATION, Frame, PING, PONG, TEXT, text};
use crate::support::{Server, run};

#[test]
fn pong_repeats_the_payload_of_its_ping() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        for length in 0..=125 {
            let payload: Vec<u8> = (0..length).map(|n: u8| n.wrapping_mul(37) ^ 0xfe).collect();
            socket.send_frame(Frame::new(PING, &payload)).await;
            let pong = socket.frame().await;
            assert_eq!((pong.opcode, &pong.payload[..]), (PONG, &payload[..]));
        }
    });
}

#[test]
fn ping_may_arrive_byte_by_byte() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        for byte in Frame::new(PING, &[0xfe; 125]).encode() {
            socket.send([byte]).await;
        }
        let pong = socket.frame().await;
        assert_eq!((pong.opcode, &pong.payload[..]), (PONG, &[0xfe; 125][..]));
    });
}

/// An endpoint may answer only the most recent of several pings.
#[test]
fn last_of_several_pings_is_answered() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        socket.send((0..100).flat_map(|n| Frame::new(PING, &[n]).encode()).collect::<Vec<_>>()).await;
        let mut answered = None;
        while answered != Some(99) {
            let pong = socket.frame().await;
            assert_eq!((pong.opcode, pong.payload.len()), (PONG, 1), "{pong:?}");
            assert!(answered.is_none_or(|last| last < pong.payload[0]), "{} after {answered:?}", pong.payload[0]);
            answered = Some(pong.payload[0]);
        }
        socket.assert_alive().await;
    });
}

#[test]
fn pong_without_a_ping_is_ignored() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        for payload in ["", "unsolicited"] {
            socket.send_frame(Frame::new(PONG, payload.as_bytes())).await;
            socket.assert_alive().await;
        }
    });
}

#[test]
fn control_frame_between_the_parts_of_a_message_is_handled_at_once() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws").await;
        let (message, answer) = echo(1000);
        let parts = [&message[..10], &message[10..500], &message[500..]].map(str::as_bytes);
        socket.send_frame(Frame::part(TEXT, parts[0])).await;
        for (number, part) in parts[1..].iter().enumerate() {
            socket.send_frame(Frame::new(PONG, b"ignored")).await;
            socket.send_frame(Frame::new(PING, b"between")).await;
            let pong = socket.frame().await;
            assert_eq!((pong.opcode, &pong.payload[..]), (PONG, &b"between"[..]), "before the message is complete");
            socket.send_frame(Frame { is_final: number == 1, ..Frame::new(CONTINUATION, part) }).await;
        }
        assert_eq!(socket.message().await, answer);
    });
}

#[test]
fn control_frame_above_125_bytes_ends_the_connection() {
    run(async {
        let server = Server::start();
        for opcode in [PING, PONG] {
            for length in [126, 65_536] {
                let socket = server.websocket("/ws").await;
                let frame = Frame::new(opcode, &vec![0; length]).encode();
                socket.assert_refuses(frame, 1002, &format!("opcode {opcode} with {length} bytes")).await;
            }
        }
    });
}

#[test]
fn fragmented_control_frame_ends_the_connection() {
    run(async {
        let server = Server::start();
        for opcode in [PING, PONG] {
            let socket = server.websocket("/ws").await;
            let frames = [Frame::part(opcode, b"a"), Frame::new(CONTINUATION, b"b")].map(|frame| frame.encode());
            socket.assert_refuses(frames.concat(), 1002, &format!("opcode {opcode}")).await;
        }
    });
}

#[test]
fn events_and_pongs_of_one_connection_are_whole() {
    run(async {
        let server = Server::start();
        let mut socket = server.websocket("/ws?topics=t").await;
        for n in 1..=50 {
            socket.send([Frame::new(PING, b"p").encode(), text(r#"{"type":"ping"}"#)].concat()).await;
            server.publish("t", [n]).await;
            let mut seen = [false; 3];
            while seen != [true; 3] {
                let frame = socket.frame().await;
                let part = match frame.opcode {
                    PONG => 0,
                    TEXT if frame.payload.starts_with(br#"{"type":"pong""#) => 1,
                    _ => {
                        let text = std::str::from_utf8(&frame.payload).unwrap();
                        assert!(text.contains(&format!("\"7-{n}\"")), "{text}");
                        2
                    }
                };
                assert!(!std::mem::replace(&mut seen[part], true), "{frame:?} again");
            }
        }
    });
}

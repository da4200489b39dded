//! The frames of WebSocket that a server sends (RFC 6455, section 5). They are not masked, so that all readers share them.
//!
//! What clients send is read by [`reader`].

pub(crate) mod reader;

use bytes::{Bytes, BytesMut};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::chunk;

/// The longest payload of a control frame.
const MAX_CONTROL: usize = 125;

/// The longest head of a frame that is not masked.
const MAX_HEAD: usize = 10;

/// Adds the frame of a text message to `out`.
pub(crate) fn push_text(text: &[u8], out: &mut chunk::Builder) {
    let (head, length) = head(OpCode::Data(Data::Text), text.len());
    out.push_frame(&head[..length], |out| out.extend_from_slice(text));
}

/// The frame of a text message.
pub(crate) fn text(text: &str) -> Bytes {
    frame(OpCode::Data(Data::Text), text.as_bytes())
}

/// The frame of a binary message.
pub(crate) fn binary(data: &[u8]) -> Bytes {
    frame(OpCode::Data(Data::Binary), data)
}

/// A ping without payload.
pub(crate) fn ping() -> Bytes {
    Bytes::from_static(&[0x89, 0])
}

/// The reply to a ping with this payload.
pub(crate) fn pong(payload: &[u8]) -> Bytes {
    frame(OpCode::Control(Control::Pong), payload)
}

/// A close frame. Without a code it is empty. A reason that is too long for a control frame is cut.
pub(crate) fn close(code: Option<u16>, reason: &str) -> Bytes {
    let mut payload = BytesMut::with_capacity(MAX_CONTROL);
    if let Some(code) = code {
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(&reason.as_bytes()[..reason.floor_char_boundary(MAX_CONTROL - 2)]);
    }
    frame(OpCode::Control(Control::Close), &payload)
}

fn frame(opcode: OpCode, payload: &[u8]) -> Bytes {
    let (head, length) = head(opcode, payload.len());
    [&head[..length], payload].concat().into()
}

/// The head of a frame that is a whole message, and its length.
fn head(opcode: OpCode, payload: usize) -> ([u8; MAX_HEAD], usize) {
    let mut head = [0; MAX_HEAD];
    let mut rest = &mut head[..];
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    header.format(payload as u64, &mut rest).expect("there is room for the longest head");
    let length = MAX_HEAD - rest.len();
    (head, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_encoded_in_the_fewest_bytes() {
        for (length, head) in [
            (0, &[0x81, 0][..]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 0xff, 0xff]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let payload = "x".repeat(length);
            let frame = [head, payload.as_bytes()].concat();
            assert_eq!(text(&payload), frame);
            let mut block = chunk::Builder::default();
            push_text(payload.as_bytes(), &mut block);
            let chunk = block.finish().next().unwrap();
            assert_eq!((chunk.as_ref().framed(), chunk.body()), (&frame[..], payload.as_bytes()));
        }
    }

    #[test]
    fn control_frames_have_their_opcodes() {
        assert_eq!(ping(), frame(OpCode::Control(Control::Ping), b""));
        assert_eq!(pong(b"ab"), b"\x8a\x02ab"[..]);
        assert_eq!(binary(b"\xff"), b"\x82\x01\xff"[..]);
        assert_eq!(close(None, "is not sent"), b"\x88\x00"[..]);
        assert_eq!(close(Some(1001), "drained"), b"\x88\x09\x03\xe9drained"[..]);
    }

    #[test]
    fn long_reason_is_cut_between_characters() {
        let close = close(Some(4000), &"ü".repeat(100));
        assert_eq!(close.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&close[4..]).unwrap().chars().all(|c| c == 'ü'));
    }
}

//! The part of WebSocket (RFC 6455) that a load generator needs: the handshake, the frames of a server, and pongs.
//!
//! A frame of a server has no mask, so that equal messages are equal bytes, which the [journal](super::journal) compares.

use std::borrow::Cow;

use serde::Deserialize;

use super::http::Head;
use super::journal::EventId;
use super::syntax::Kind;

/// The headers of the handshake, as lines. The key may be any: it shows that the server speaks WebSocket. This one is that of
/// RFC 6455, section 1.3.
pub const HANDSHAKE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// The only correct answer to the key.
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// How the envelope of an event begins, which fanline sends.
const ENVELOPE: &[u8] = br#"{"type":"event","id":""#;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// The bit of a length byte that announces a mask.
const MASKED: u8 = 0x80;

/// Whether a response completes the handshake.
pub fn is_accepted(head: &Head<'_>) -> bool {
    head.status == 101 && head.header("sec-websocket-accept") == Some(ACCEPT)
}

/// The length of the first frame of `bytes` with its header, or `None` while the header is incomplete.
#[inline]
pub fn frame_length(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    match bytes.first() {
        None | Some(&(TEXT | BINARY | CLOSE | PING | PONG)) => {}
        Some(0..=2 | 0x80) => return Err("a fragmented message, which cannot be checked"),
        Some(_) => return Err("malformed frame"),
    }
    let Some((header, payload)) = lengths(bytes) else { return Ok(None) };
    if bytes[1] & MASKED != 0 {
        return Err("malformed frame: a server's frames have no mask");
    }
    Ok(Some(payload.saturating_add(header)))
}

/// The lengths of a frame's header and of its payload, or `None` while the header is incomplete.
fn lengths(frame: &[u8]) -> Option<(usize, usize)> {
    let (short, rest) = (frame.get(1)? & !MASKED, &frame[2..]);
    Some(match short {
        126 => (4, u16::from_be_bytes(*rest.first_chunk()?) as usize),
        127 => (10, u64::from_be_bytes(*rest.first_chunk()?) as usize),
        short => (2, short as usize),
    })
}

/// The payload of a complete frame.
fn payload(frame: &[u8]) -> &[u8] {
    lengths(frame).map_or(&[], |(header, _)| &frame[header..])
}

/// The id of an event in fanline's envelope.
pub fn event_id(frame: &[u8]) -> EventId {
    let id = payload(frame).strip_prefix(ENVELOPE)?;
    super::journal::event_id(&id[..memchr::memchr(b'"', id)?])
}

/// What a frame without a payload of this run is.
pub fn kind(frame: &[u8]) -> Kind {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
    }
    let payload = payload(frame);
    match frame[0] {
        CLOSE => Kind::Close(close_reason(payload)),
        PING => Kind::Ping(payload.to_vec()),
        PONG => Kind::Comment,
        _ => match serde_json::from_slice::<Message<'_>>(payload).map(|message| message.r#type).as_deref() {
            Ok("gap") => Kind::Gap,
            Ok("heartbeat") => Kind::Heartbeat,
            Ok("snapshot") => Kind::Snapshot,
            _ => Kind::Foreign,
        },
    }
}

fn close_reason(payload: &[u8]) -> String {
    let Some((code, reason)) = payload.split_first_chunk() else { return "the server closed it without a code".into() };
    let (code, reason) = (u16::from_be_bytes(*code), String::from_utf8_lossy(reason));
    let separator = if reason.is_empty() { "" } else { ": " };
    format!("the server closed it with code {code}{separator}{reason}")
}

/// The frame that answers a ping with this payload. Frames of a client have a random mask.
pub fn pong(payload: &[u8]) -> Vec<u8> {
    let mask = fastrand::u32(..).to_ne_bytes();
    let masked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    // The payload of a control frame has at most 125 bytes.
    [PONG, MASKED | payload.len() as u8].into_iter().chain(mask).chain(masked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let length = match payload.len() {
            short @ 0..126 => vec![short as u8],
            long @ 126..65_536 => [&[126][..], &(long as u16).to_be_bytes()].concat(),
            longer => [&[127][..], &(longer as u64).to_be_bytes()].concat(),
        };
        [&[first], &length[..], payload].concat()
    }

    #[test]
    fn frame_ends_where_its_header_says() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let frame = frame(TEXT, &vec![b'x'; length]);
            let header = frame.len() - length;
            assert_eq!(frame_length(&frame), Ok(Some(frame.len())));
            assert_eq!(frame_length(&frame[..header]), Ok(Some(frame.len())));
            assert!((0..header).all(|part| frame_length(&frame[..part]) == Ok(None)), "{length}");
            assert_eq!(payload(&frame).len(), length);
        }
    }

    #[test]
    fn frame_that_no_server_sends_is_an_error() {
        for (frame, why) in [
            (&[0x01, 0][..], "fragmented"),
            (&[0x80, 0], "fragmented"),
            (&[0xc1, 0], "malformed"),
            (&[0x83, 0], "malformed"),
            (&[0x81, 0x80], "no mask"),
        ] {
            assert!(frame_length(frame).unwrap_err().contains(why), "{frame:?}");
        }
        assert_eq!(frame_length(&frame(TEXT, b"")[..1]), Ok(None));
    }

    #[test]
    fn id_is_that_of_the_envelope() {
        let id = |json: &str| event_id(&frame(TEXT, json.as_bytes()));
        assert_eq!(id(r#"{"type":"event","id":"9-10","topic":"t"}"#), Some((9, 10)));
        assert_eq!(id(r#"{"id":"9-10"}"#), None);
        assert_eq!(id(r#"{"type":"event","id":"9-10"#), None);
    }

    #[test]
    fn other_frames_are_told_apart() {
        let of_json = |json: &str| kind(&frame(TEXT, json.as_bytes()));
        assert_eq!(of_json(r#"{"type":"gap","id":"1-2"}"#), Kind::Gap);
        assert_eq!(of_json(r#"{"type":"heartbeat"}"#), Kind::Heartbeat);
        assert_eq!(of_json(r#"{"type":"system"}"#), Kind::Foreign);
        assert_eq!(of_json("hello"), Kind::Foreign);
        assert_eq!(kind(&frame(PING, b"abc")), Kind::Ping(b"abc".to_vec()));
        assert_eq!(kind(&frame(PONG, b"")), Kind::Comment);
        assert_eq!(kind(&frame(CLOSE, b"\x03\xe9bye")), Kind::Close("the server closed it with code 1001: bye".into()));
        assert_eq!(kind(&frame(CLOSE, b"")), Kind::Close("the server closed it without a code".into()));
    }

    #[test]
    fn pong_repeats_the_payload_behind_a_mask() {
        let pong = pong(b"abcde");
        assert_eq!((pong[0], pong[1], pong.len()), (PONG, 0x85, 11));
        let unmasked: Vec<u8> =
            pong[6..].iter().zip(pong[2..6].iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(unmasked, b"abcde");
    }
}

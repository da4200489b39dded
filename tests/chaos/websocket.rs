//! The client's side of a WebSocket (RFC 6455) after its handshake, and the messages of the server.

use serde::Deserialize;
use serde_json::Value;

use crate::parser::{Block, Dispatch};

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The codes with which a server may end the connection of a client that breaks no rule: a drain, lag, and a client that
/// accepts nothing.
const CODES: [u16; 3] = [1001, 4000, 4001];

/// Frames of one connection, in pieces.
#[derive(Debug, Default)]
pub struct WebSocket {
    /// An incomplete frame.
    received: Vec<u8>,
    /// Answers to pings and to the close frame.
    pub pending: Vec<u8>,
    /// The server has sent a close frame.
    pub is_closed: bool,
}

impl WebSocket {
    /// Parses bytes from the socket, and calls `dispatch` for each message that the client records.
    ///
    /// # Errors
    /// When the bytes are not what a server may send.
    pub fn feed(&mut self, bytes: &[u8], mut dispatch: impl FnMut(Dispatch)) -> Result<(), String> {
        self.received.extend_from_slice(bytes);
        let received = std::mem::take(&mut self.received);
        let mut rest = &received[..];
        while let Some((opcode, payload, after)) = frame(rest)? {
            if self.is_closed {
                return Err("a frame follows the close frame".to_owned());
            }
            rest = after;
            match opcode {
                TEXT => dispatch(Dispatch::Event(block(payload)?)),
                PING => self.answer(PONG, payload),
                PONG => {}
                _ => self.close(payload)?,
            }
        }
        self.received = rest.to_vec();
        Ok(())
    }

    fn close(&mut self, payload: &[u8]) -> Result<(), String> {
        self.is_closed = true;
        let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        if code.is_none_or(|code| !CODES.contains(&code)) {
            return Err(format!("closed with {code:?} {:?}", String::from_utf8_lossy(payload.get(2..).unwrap_or(b""))));
        }
        self.answer(CLOSE, payload);
        Ok(())
    }

    /// A frame with the mask 0, which changes no byte.
    fn answer(&mut self, opcode: u8, payload: &[u8]) {
        self.pending.extend_from_slice(&[0x80 | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0]);
        self.pending.extend_from_slice(payload);
    }
}

/// The first frame: its opcode, its payload, and the bytes after it. `None` if it is incomplete.
fn frame(bytes: &[u8]) -> Result<Option<(u8, &[u8], &[u8])>, String> {
    let Some((&[first, second], rest)) = bytes.split_first_chunk() else { return Ok(None) };
    if !matches!(first, 0x81 | 0x88 | 0x89 | 0x8a) {
        return Err(format!("a frame begins with {first:#04x}"));
    }
    let (length, rest) = match second {
        0..126 => (u64::from(second), rest),
        126 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from_be_bytes(*length), rest),
            None => return Ok(None),
        },
        _ => return Err("a server masks a frame".to_owned()),
    };
    if first != 0x81 && length > 125 {
        return Err(format!("a control frame of {length} bytes"));
    }
    Ok(rest.split_at_checked(length as usize).map(|(payload, after)| (first & 15, payload, after)))
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum Message {
    Event { id: String, topic: String, event: String, text: String },
    System { id: Option<String>, data: Value },
    Gap { id: Option<String>, data: Value },
    Heartbeat { data: Value },
}

/// The same block as on an event stream. Each event's name is its topic here.
fn block(message: &[u8]) -> Result<Block, String> {
    let malformed = |error: &dyn std::fmt::Display| format!("{error}: {:?}", String::from_utf8_lossy(message));
    let (id, name, data) = match serde_json::from_slice(message).map_err(|error| malformed(&error))? {
        Message::Event { topic, event, .. } if topic != event => {
            return Err(malformed(&"another name than its topic's"));
        }
        Message::Event { id, topic, text, .. } => (Some(id), topic, text),
        Message::System { id, data } => (id, "system".to_owned(), data.to_string()),
        Message::Gap { id, data } => (id, "gap".to_owned(), data.to_string()),
        Message::Heartbeat { data } => (None, "heartbeat".to_owned(), data.to_string()),
    };
    Ok(Block { has_id: id.is_some(), last_id: id.unwrap_or_default(), name, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(message: &str) -> Vec<u8> {
        let length = message.len() as u16;
        [&[0x81, 126][..], &length.to_be_bytes(), message.as_bytes()].concat()
    }

    const EVENT: &str = r#"{"type":"event","id":"7-1","topic":"a:1","event":"a:1","text":"x\n"}"#;

    #[test]
    fn messages_are_parsed_at_any_split() {
        let gap = r#"{"type":"gap","id":"7-3","data":{"reason":"lagged"}}"#;
        let bytes = [&text(EVENT)[..], &[0x89, 1, b'p'], &text(gap), &[0x88, 2, 0x03, 0xe9]].concat();
        for cut in 0..bytes.len() {
            let (mut socket, mut blocks) = (WebSocket::default(), Vec::new());
            for piece in [&bytes[..cut], &bytes[cut..]] {
                socket.feed(piece, |block| blocks.push(block)).unwrap();
            }
            let block = |last_id: &str, name: &str, data: &str| {
                let [last_id, name, data] = [last_id, name, data].map(str::to_owned);
                Dispatch::Event(Block { last_id, has_id: true, name, data })
            };
            assert_eq!(blocks, [block("7-1", "a:1", "x\n"), block("7-3", "gap", r#"{"reason":"lagged"}"#)], "{cut}");
            assert_eq!(socket.pending, b"\x8a\x81\0\0\0\0p\x88\x82\0\0\0\0\x03\xe9");
            assert!(socket.is_closed && socket.received.is_empty());
        }
    }

    #[test]
    fn bytes_that_a_server_may_not_send_are_errors() {
        let renamed = EVENT.replace("\"a:1\",\"event", "\"a:2\",\"event");
        for bytes in [
            &[0x82, 0][..],
            &[0x01, 0],
            &[0xc1, 0],
            &[0x81, 0x80],
            &[0x89, 126, 0, 126],
            &[0x88, 0],
            &[0x88, 2, 0x03, 0xea],
            &[0x88, 2, 0x03, 0xe9, 0x89, 0],
            &text("{}"),
            &text(&renamed),
            &text(&EVENT.replace("event\",\"id", "published\",\"id")),
            &text(&EVENT.replace("}", ",\"more\":1}")),
        ] {
            assert!(WebSocket::default().feed(bytes, |_| {}).is_err(), "{bytes:?}");
        }
    }
}

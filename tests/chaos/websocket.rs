//! The client's side of a WebSocket (RFC 6455) after its handshake, and the messages of the server.

use serde::Deserialize;
use serde_json::{Value, json};

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
    /// Answers to pings and to the close frame, and the request to subscribe.
    pub pending: Vec<u8>,
    /// A connection without topics sends this when the server has greeted it.
    subscribe: Option<String>,
    /// The subscription was requested and is not confirmed: ids before that do not belong to it.
    is_subscribing: bool,
    /// That of the last message which had one, or of the request.
    last_id: String,
    /// The server has sent a close frame.
    pub is_closed: bool,
}

impl WebSocket {
    /// A connection that resumes from `last_id`.
    pub fn new(subscribe: Option<String>, last_id: String) -> Self {
        Self { subscribe, last_id, ..Self::default() }
    }

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
                TEXT => match self.subscribe.take() {
                    // The greeting says nothing about a subscription.
                    Some(message) => {
                        self.is_subscribing = true;
                        self.send(TEXT, message.as_bytes());
                    }
                    None => dispatch(Dispatch::Event(self.block(payload)?)),
                },
                PING => self.send(PONG, payload),
                PONG => {}
                _ => self.close(payload)?,
            }
        }
        self.received = rest.to_vec();
        Ok(())
    }

    /// The same block as on an event stream. Each event's name is its topic here.
    fn block(&mut self, message: &[u8]) -> Result<Block, String> {
        let malformed = |error: &dyn std::fmt::Display| format!("{error}: {:?}", String::from_utf8_lossy(message));
        let (id, name, data) = match serde_json::from_slice(message).map_err(|error| malformed(&error))? {
            Message::Event { topic, event, .. } if topic != event => {
                return Err(malformed(&"another name than its topic's"));
            }
            Message::Event { id, topic, text, .. } => (Some(id), topic, text),
            Message::System { id, data } => (id, "system".to_owned(), data.to_string()),
            Message::Gap { id, data } => (id, "gap".to_owned(), data.to_string()),
            Message::Snapshot { id, data } => (Some(id), "snapshot".to_owned(), data.to_string()),
            Message::Heartbeat { data } => (None, "heartbeat".to_owned(), data.to_string()),
            Message::Subscribed { id, .. } => {
                self.is_subscribing = false;
                // The position of the subscription, as in the hello of a connection that has topics.
                let data = format!(r#"{{"message":"connected","position":"{id}"}}"#);
                (Some(id), "system".to_owned(), data)
            }
            // The refusal of an event stream, in the words of a WebSocket.
            Message::Error { code, .. } if self.is_subscribing && code == "unavailable" => {
                let data = json!({"message": "unavailable", "reason": code});
                (None, "system".to_owned(), data.to_string())
            }
            Message::Error { .. } => return Err(malformed(&"an error that no message of this client may have")),
        };
        let id = id.filter(|_| !self.is_subscribing);
        let has_id = id.is_some();
        self.last_id = id.unwrap_or(std::mem::take(&mut self.last_id));
        Ok(Block { has_id, last_id: self.last_id.clone(), name, data })
    }

    fn close(&mut self, payload: &[u8]) -> Result<(), String> {
        self.is_closed = true;
        let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        if code.is_none_or(|code| !CODES.contains(&code)) {
            return Err(format!("closed with {code:?} {:?}", String::from_utf8_lossy(payload.get(2..).unwrap_or(b""))));
        }
        self.send(CLOSE, payload);
        Ok(())
    }

    /// A frame with the mask 0, which changes no byte.
    fn send(&mut self, opcode: u8, payload: &[u8]) {
        let length = payload.len() as u16;
        let head = [&[0x80 | opcode, 0x80 | 126][..], &length.to_be_bytes()].concat();
        let short = [0x80 | opcode, 0x80 | length as u8];
        self.pending.extend_from_slice(if length < 126 { &short } else { &head });
        self.pending.extend_from_slice(&[0; 4]);
        self.pending.extend_from_slice(payload);
    }
}

/// The opcode and the payload of a frame, and the bytes after it.
type Frame<'a> = (u8, &'a [u8], &'a [u8]);

/// The first frame: its opcode, its payload, and the bytes after it. `None` if it is incomplete.
fn frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, String> {
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
    Event {
        id: String,
        topic: String,
        event: String,
        text: String,
    },
    System {
        id: Option<String>,
        data: Value,
    },
    Gap {
        id: Option<String>,
        data: Value,
    },
    Snapshot {
        id: String,
        data: Value,
    },
    Heartbeat {
        data: Value,
    },
    Subscribed {
        #[serde(rename = "topics")]
        _topics: Vec<String>,
        id: String,
    },
    Error {
        code: String,
        #[serde(rename = "message")]
        _message: String,
        #[serde(rename = "retry")]
        _retry: Option<u64>,
    },
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
    fn connection_without_topics_subscribes_after_the_greeting() {
        let message = "x".repeat(200);
        let mut socket = WebSocket::new(Some(message.clone()), "7-2".to_owned());
        let hello = text(r#"{"type":"system","id":"7-9","data":{"message":"connected"}}"#);
        socket.feed(&hello, |one| panic!("{one:?} is not of the subscription")).unwrap();
        assert_eq!(socket.pending, [b"\x81\xfe\0\xc8\0\0\0\0", message.as_bytes()].concat());
        let mut blocks = Vec::new();
        let notice = text(r#"{"type":"system","id":"7-9","data":{"message":"server restarting"}}"#);
        socket.feed(&notice, |one| blocks.push(one)).unwrap();
        let Some(Dispatch::Event(Block { last_id, has_id, .. })) = blocks.pop() else { panic!("no event") };
        assert_eq!((&*last_id, has_id), ("7-2", false), "the subscription has not begun");
        socket.feed(&text(r#"{"type":"subscribed","topics":["a"],"id":"7-3"}"#), |one| blocks.push(one)).unwrap();
        let Some(Dispatch::Event(Block { last_id, name, data, .. })) = blocks.pop() else { panic!("no event") };
        assert_eq!((&*last_id, &*name), ("7-3", "system"));
        assert_eq!(data, r#"{"message":"connected","position":"7-3"}"#);
    }

    #[test]
    fn refused_subscription_is_a_refusal_that_keeps_the_last_id() {
        let refusal = text(r#"{"type":"error","code":"unavailable","message":"later","retry":900}"#);
        let mut socket = WebSocket::new(Some(String::new()), "7-2".to_owned());
        socket.feed(&text(r#"{"type":"system","id":"7-9","data":{"message":"connected"}}"#), |_| {}).unwrap();
        let mut blocks = Vec::new();
        socket.feed(&refusal, |one| blocks.push(one)).unwrap();
        let Some(Dispatch::Event(Block { last_id, has_id, name, data })) = blocks.pop() else { panic!("no event") };
        assert_eq!((&*last_id, has_id, &*name), ("7-2", false, "system"));
        assert_eq!(data, r#"{"message":"unavailable","reason":"unavailable"}"#);
        assert!(WebSocket::default().feed(&refusal, |_| {}).is_err(), "nothing was requested");
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

use std::net::SocketAddr;

use bytes::{Buf, Bytes};
use serde_json::{Value, json};

use super::{Client, Head, Server, request};

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The key and the proof of RFC 6455, section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The fields of a handshake (RFC 6455, section 4.1), besides the host.
pub const HANDSHAKE: [(&str, &str); 4] =
    [("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-version", "13"), ("sec-websocket-key", KEY)];

/// A frame of a client, with the bits that a test chooses.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub is_final: bool,
    /// The three reserved bits, 4 for the first.
    pub reserved: u8,
    pub opcode: u8,
    pub mask: Option<[u8; 4]>,
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// A valid frame.
    pub fn new(opcode: u8, payload: &'a [u8]) -> Self {
        Self { is_final: true, reserved: 0, opcode, mask: Some([0x37, 0xfa, 0x21, 0x3d]), payload }
    }

    /// A part of a message that is not its last.
    pub fn part(opcode: u8, payload: &'a [u8]) -> Self {
        Self { is_final: false, ..Self::new(opcode, payload) }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.head(self.payload.len() as u64);
        let mask = self.mask.unwrap_or_default();
        bytes.extend(self.payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// The bytes before the payload, which announce `length` bytes.
    pub fn head(&self, length: u64) -> Vec<u8> {
        let mut head = vec![u8::from(self.is_final) << 7 | self.reserved << 4 | self.opcode];
        let is_masked = u8::from(self.mask.is_some()) << 7;
        match length {
            0..126 => head.push(is_masked | length as u8),
            126..0x1_0000 => {
                head.push(is_masked | 126);
                head.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                head.push(is_masked | 127);
                head.extend_from_slice(&length.to_be_bytes());
            }
        }
        head.extend_from_slice(self.mask.as_ref().map_or(&[], |mask| mask));
        head
    }
}

/// A text message in one frame.
pub fn text(text: &str) -> Vec<u8> {
    Frame::new(TEXT, text.as_bytes()).encode()
}

/// The payload of a close frame.
pub fn closing(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// A frame of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub opcode: u8,
    pub payload: Bytes,
}

/// A close frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// `None` for a frame without a payload.
    pub code: Option<u16>,
    pub reason: String,
}

/// A WebSocket connection whose frames are checked strictly: those of a server are whole, unmasked, without reserved bits,
/// and have the shortest length field.
pub struct WebSocket {
    pub head: Head,
    pub client: Client,
}

impl WebSocket {
    pub async fn connect(address: SocketAddr, target: &str) -> Self {
        Self::on(Client::connect(address).await, target, &[], b"").await
    }

    /// Sends a handshake with these fields, followed by `early`, and checks the response.
    pub async fn on(mut client: Client, target: &str, headers: &[(&str, &str)], early: &[u8]) -> Self {
        let handshake = request("GET", target, &[&HANDSHAKE[..], headers].concat(), b"");
        client.send([&handshake[..], early].concat()).await;
        let head = client.head().await;
        assert_eq!(head.status, 101, "{head:?}");
        assert_eq!(head.reason, "Switching Protocols");
        assert!(head.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")), "{head:?}");
        assert!(head.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")), "{head:?}");
        assert_eq!(head.header("sec-websocket-accept"), Some(ACCEPT));
        assert_eq!(head.header("content-length"), None);
        assert_eq!(head.header("transfer-encoding"), None);
        Self { head, client }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.client.send(bytes).await;
    }

    pub async fn send_frame(&mut self, frame: Frame<'_>) {
        self.send(frame.encode()).await;
    }

    pub async fn send_json(&mut self, message: &Value) {
        self.send(text(&message.to_string())).await;
    }

    /// The next frame, or none at the end of the connection, which must not be within a frame.
    pub async fn try_frame(&mut self) -> Option<Received> {
        let frame = self.try_frame_or_cut().await;
        assert!(frame.is_some() || self.client.received().is_empty(), "the connection ended within a frame");
        frame
    }

    /// The next frame, or none at the end of the connection.
    pub async fn try_frame_or_cut(&mut self) -> Option<Received> {
        loop {
            if let Some((head, length)) = parse_head(self.client.received())
                && self.client.received().len() >= head + length
            {
                let mut bytes = self.client.exactly(head + length).await;
                let opcode = bytes[0] & 15;
                bytes.advance(head);
                return Some(Received { opcode, payload: bytes });
            }
            if !self.client.read().await {
                return None;
            }
        }
    }

    pub async fn frame(&mut self) -> Received {
        self.try_frame().await.expect("the connection is open")
    }

    /// The next message, which must be JSON with a type. A ping before it is answered.
    pub async fn message(&mut self) -> Value {
        loop {
            let frame = self.frame().await;
            match frame.opcode {
                PING => self.send_frame(Frame::new(PONG, &frame.payload)).await,
                TEXT => {
                    let message: Value = serde_json::from_slice(&frame.payload).expect("a message is JSON");
                    assert!(message["type"].is_string(), "{message}");
                    return message;
                }
                _ => panic!("{frame:?} instead of a message"),
            }
        }
    }

    /// The next message, which must be the hello.
    pub async fn hello(&mut self) -> Value {
        let hello = self.message().await;
        assert_eq!((&hello["type"], &hello["data"]["message"]), (&json!("system"), &json!("connected")), "{hello}");
        hello
    }

    /// The next message, which must be of this type.
    pub async fn of_type(&mut self, kind: &str) -> Value {
        let message = self.message().await;
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// The data of the next message, which must be the event with this sequence.
    pub async fn data_at(&mut self, sequence: u64) -> Value {
        let mut event = self.of_type("event").await;
        assert_eq!(event["id"], format!("{}-{sequence}", super::EPOCH), "{event}");
        event["data"].take()
    }

    /// Checks that the server answers, and that it has sent nothing before the answer.
    pub async fn assert_alive(&mut self) {
        self.send_json(&json!({"type": "ping", "ref": "alive?"})).await;
        assert_eq!(self.message().await, json!({"type": "pong", "ref": "alive?"}));
    }

    /// Checks that the server answers a protocol ping next.
    pub async fn assert_pong(&mut self) {
        self.send_frame(Frame::new(PING, b"pong?")).await;
        let pong = self.frame().await;
        assert_eq!((pong.opcode, &pong.payload[..]), (PONG, &b"pong?"[..]));
    }

    /// Skips messages and pings, and returns the close frame. Sends no answer to it.
    pub async fn close_frame(&mut self) -> Closed {
        loop {
            let frame = self.try_frame().await.expect("a close frame precedes the end of the connection");
            if frame.opcode == CLOSE {
                return Closed::parse(frame.payload);
            }
        }
    }

    /// Reads the close frame, which must come next, answers it, and checks that the connection ends with it.
    pub async fn closed(&mut self) -> Closed {
        let frame = self.frame().await;
        assert_eq!(frame.opcode, CLOSE, "{frame:?}");
        // Fails if the server has closed the connection after an error of this client.
        let _ = self.client.try_send(Frame::new(CLOSE, &frame.payload).encode()).await;
        assert_eq!(self.try_frame().await, None, "nothing follows a close frame");
        Closed::parse(frame.payload)
    }

    /// Checks that the server closes the connection next, with this code.
    pub async fn assert_closed(&mut self, code: u16, what: &str) {
        let closed = self.closed().await;
        assert_eq!(closed.code, Some(code), "{what}: {closed:?}");
    }
}

impl Closed {
    fn parse(mut payload: Bytes) -> Self {
        let code = (!payload.is_empty()).then(|| payload.get_u16());
        Self { code, reason: String::from_utf8(payload.to_vec()).expect("a reason is UTF-8") }
    }
}

impl Server {
    /// Opens a WebSocket, and reads its hello.
    pub async fn websocket(&self, target: &str) -> WebSocket {
        let mut socket = WebSocket::connect(self.address, target).await;
        socket.hello().await;
        socket
    }
}

/// The lengths of a frame's head and payload, once the head has arrived.
fn parse_head(bytes: &[u8]) -> Option<(usize, usize)> {
    let (&[first, second], mut rest) = bytes.split_first_chunk()?;
    let opcode = first & 15;
    assert_eq!(first & 0x70, 0, "a server sets no reserved bit");
    assert_eq!(first & 0x80, 0x80, "a server's messages are whole");
    assert!([TEXT, CLOSE, PING, PONG].contains(&opcode), "a frame with the opcode {opcode}");
    assert_eq!(second & 0x80, 0, "a server's frames are unmasked");
    let (head, length) = match second {
        126 => (4, rest.try_get_u16().ok()?.into()),
        127 => (10, usize::try_from(rest.try_get_u64().ok()?).expect("a length")),
        length => (2, length.into()),
    };
    let is_shortest = matches!((head, length), (2, _) | (4, 126..) | (10, 0x1_0000..));
    assert!(is_shortest, "{length} bytes with a head of {head}");
    assert!(opcode < CLOSE || length < 126, "a control frame of {length} bytes");
    Some((head, length))
}

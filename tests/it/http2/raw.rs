//! HTTP/2 frames as bytes (RFC 9113, section 4), to send what no library sends.

use std::net::SocketAddr;

use bytes::{Buf, Bytes};

use crate::support::Client;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;

pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// The header block `:status: 200`, in the static table.
const STATUS_200: u8 = 0x88;

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Bytes,
}

impl Frame {
    /// The error code of a RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let mut payload = &self.payload[if self.kind == GOAWAY { 4 } else { 0 }..];
        payload.get_u32()
    }

    /// Whether this is the head of a response with status 200.
    pub fn is_success(&self) -> bool {
        self.kind == HEADERS && self.payload.contains(&STATUS_200)
    }

    /// The value of a setting.
    pub fn setting(&self, id: u16) -> Option<u32> {
        assert_eq!(self.kind, SETTINGS);
        let mut settings = self.payload.chunks(6).map(|mut setting| (setting.get_u16(), setting.get_u32()));
        settings.find(|(other, _)| *other == id).map(|(_, value)| value)
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block whose fields are literals without an index (RFC 7541, section 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541, section 5.1).
fn integer(block: &mut Vec<u8>, mut value: usize) {
    if value < 127 {
        return block.push(value as u8);
    }
    block.push(127);
    value -= 127;
    while value >= 128 {
        block.push((value % 128 + 128) as u8);
        value /= 128;
    }
    block.push(value as u8);
}

/// The fields of a request, and others after them.
pub fn fields<'a>(method: &'a str, path: &'a str, others: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let pseudo = [(":method", method), (":scheme", "http"), (":authority", "test"), (":path", path)];
    [&pseudo[..], others].concat()
}

/// A request without a body.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields("GET", path, &[])))
}

pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let pairs = settings.iter().map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
    frame(SETTINGS, 0, 0, &pairs.collect::<Vec<_>>().concat())
}

pub fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

pub fn reset(stream: u32) -> Vec<u8> {
    const CANCEL: u32 = 8;
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// A connection, of which every frame is seen.
pub struct Raw {
    pub client: Client,
    /// The settings of the server.
    pub settings: Frame,
}

impl Raw {
    /// Connects with these settings, and acknowledges those of the server.
    pub async fn connect(server: SocketAddr, own: &[(u16, u32)]) -> Self {
        Self::on(Client::connect(server).await, own).await
    }

    pub async fn on(mut client: Client, own: &[(u16, u32)]) -> Self {
        client.send([PREFACE, &settings(own)].concat()).await;
        Self::greeted(client).await
    }

    /// A connection on which the preface was sent.
    pub async fn greeted(mut client: Client) -> Self {
        let settings = next(&mut client).await.expect("the server sends its settings");
        assert!(settings.kind == SETTINGS && settings.flags == 0, "{settings:?}");
        client.send(frame(SETTINGS, ACK, 0, b"")).await;
        Self { client, settings }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.client.send(bytes).await;
    }

    /// The next frame, or none when the server has closed the connection. A ping is answered.
    pub async fn try_frame(&mut self) -> Option<Frame> {
        let frame = next(&mut self.client).await?;
        if frame.kind == PING && frame.flags == 0 {
            // Fails only if the server has closed the connection, which the next read shows.
            let _ = self.client.try_send(self::frame(PING, ACK, 0, &frame.payload)).await;
        }
        Some(frame)
    }

    /// The next frame of this kind. Others are skipped.
    pub async fn frame(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.try_frame().await.expect("the connection is open");
            if frame.kind == kind && (kind != SETTINGS || frame.flags == 0) {
                return frame;
            }
        }
    }

    /// Checks that the connection answers: what the server sent before the answer is skipped.
    pub async fn assert_alive(&mut self) {
        self.send(frame(PING, 0, 0, b"are you?")).await;
        loop {
            let pong = self.frame(PING).await;
            if pong.flags == ACK && pong.payload == "are you?" {
                return;
            }
        }
    }

    /// Waits for the end of the connection. Returns the code of its last GOAWAY.
    pub async fn goaway(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.try_frame().await {
            if frame.kind == GOAWAY {
                code = Some(frame.code());
            }
        }
        code
    }
}

/// The next frame. A connection may end within one.
async fn next(client: &mut Client) -> Option<Frame> {
    loop {
        let received = client.received();
        if let Some(mut head) = received.get(..9) {
            let (length, kind, flags) = (head.get_uint(3) as usize, head.get_u8(), head.get_u8());
            let stream = head.get_u32();
            if received.len() >= 9 + length {
                let payload = client.exactly(9 + length).await.slice(9..);
                return Some(Frame { kind, flags, stream, payload });
            }
        }
        if !client.read().await {
            return None;
        }
    }
}

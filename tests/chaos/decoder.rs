//! The events of one connection, from the bytes of its response.

use flate2::{Decompress, FlushDecompress, Status};

use crate::parser::{Dispatch, Parser};
use crate::websocket::WebSocket;

pub enum Decoder {
    EventStream { parser: Parser, coding: Coding },
    WebSocket(WebSocket),
}

/// How the body of an event stream is encoded.
pub enum Coding {
    /// The body has not begun.
    Unknown,
    Plain,
    Gzip(Box<Decompress>),
}

/// The first byte of a member of gzip (RFC 1952). No event stream begins with it.
const GZIP: u8 = 0x1f;

impl Coding {
    /// Returns what the next `bytes` of the body decode to.
    fn decode(&mut self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        match (&self, bytes) {
            (Self::Unknown, [GZIP, ..]) => *self = Self::Gzip(Box::new(Decompress::new_gzip(15))),
            (Self::Unknown, [_, ..]) => *self = Self::Plain,
            _ => {}
        }
        let Self::Gzip(inflate) = self else { return Ok(bytes.to_vec()) };
        let (mut rest, mut plain) = (bytes, Vec::new());
        loop {
            plain.reserve(4096);
            let before = inflate.total_in();
            let status = inflate.decompress_vec(rest, &mut plain, FlushDecompress::None);
            let status = status.map_err(|error| format!("invalid gzip: {error}"))?;
            rest = &rest[(inflate.total_in() - before) as usize..];
            if status == Status::StreamEnd && !rest.is_empty() {
                return Err(format!("{} bytes after the end of gzip", rest.len()));
            }
            // With room left, all of it is decoded.
            if plain.len() < plain.capacity() {
                return Ok(plain);
            }
        }
    }
}

impl Decoder {
    pub fn event_stream() -> Self {
        Self::EventStream { parser: Parser::default(), coding: Coding::Unknown }
    }

    /// A WebSocket that sends `subscribe` first, if there is such a message, and resumes from `last_id`.
    pub fn websocket(subscribe: Option<String>, last_id: String) -> Self {
        Self::WebSocket(WebSocket::new(subscribe, last_id))
    }

    /// The status of a response that has events.
    pub fn status(&self) -> u16 {
        match self {
            Self::EventStream { .. } => 200,
            Self::WebSocket(_) => 101,
        }
    }

    /// Parses bytes of the response, and calls `dispatch` for each event.
    ///
    /// # Errors
    /// When the bytes are not a WebSocket's, or not gzip. Every byte is valid in an event stream.
    pub fn feed(&mut self, bytes: &[u8], mut dispatch: impl FnMut(Dispatch)) -> Result<(), String> {
        match self {
            Self::EventStream { parser, coding } => {
                parser.feed(&coding.decode(bytes)?, |one| {
                    dispatch(one);
                    true
                });
                Ok(())
            }
            Self::WebSocket(socket) => socket.feed(bytes, dispatch),
        }
    }

    /// Takes the bytes to write to the socket.
    pub fn take_pending(&mut self) -> Vec<u8> {
        match self {
            Self::EventStream { .. } => Vec::new(),
            Self::WebSocket(socket) => std::mem::take(&mut socket.pending),
        }
    }

    /// Whether the server has announced the end of the connection.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::WebSocket(WebSocket { is_closed: true, .. }))
    }
}

#[test]
fn compressed_events_are_decoded_at_any_split() {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for event in ["id: 1-1\nevent: a\ndata: x\n\n", "id: 1-2\nevent: a\ndata: y\n\n"] {
        encoder.write_all(event.as_bytes()).unwrap();
        encoder.flush().unwrap();
    }
    let mut body = encoder.finish().unwrap();
    for cut in 0..body.len() {
        let (mut decoder, mut ids) = (Decoder::event_stream(), Vec::new());
        for piece in [&body[..cut], &body[cut..]] {
            let keep = |one| {
                if let Dispatch::Event(block) = one {
                    ids.push(block.last_id);
                }
            };
            decoder.feed(piece, keep).unwrap();
        }
        assert_eq!(ids, ["1-1", "1-2"], "{cut}");
    }
    body.push(0);
    assert!(Decoder::event_stream().feed(&body, |_| {}).is_err());
}

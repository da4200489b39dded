//! The events of one connection, from the bytes of its response.

use crate::parser::{Dispatch, Parser};
use crate::websocket::WebSocket;

pub enum Decoder {
    EventStream(Parser),
    WebSocket(WebSocket),
}

impl Decoder {
    pub fn event_stream() -> Self {
        Self::EventStream(Parser::default())
    }

    /// A WebSocket that sends `subscribe` first, if there is such a message, and resumes from `last_id`.
    pub fn websocket(subscribe: Option<String>, last_id: String) -> Self {
        Self::WebSocket(WebSocket::new(subscribe, last_id))
    }

    /// The status of a response that has events.
    pub fn status(&self) -> u16 {
        match self {
            Self::EventStream(_) => 200,
            Self::WebSocket(_) => 101,
        }
    }

    /// Parses bytes of the response, and calls `dispatch` for each event.
    ///
    /// # Errors
    /// When the bytes are not a WebSocket's. Every byte is valid in an event stream.
    pub fn feed(&mut self, bytes: &[u8], mut dispatch: impl FnMut(Dispatch)) -> Result<(), String> {
        match self {
            Self::EventStream(parser) => {
                parser.feed(bytes, |one| {
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
            Self::EventStream(_) => Vec::new(),
            Self::WebSocket(socket) => std::mem::take(&mut socket.pending),
        }
    }

    /// Whether the server has announced the end of the connection.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::WebSocket(WebSocket { is_closed: true, .. }))
    }
}

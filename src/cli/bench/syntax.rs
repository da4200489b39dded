//! How the bytes of a stream form blocks, of which each has one event or one message of the server's own.

use super::journal::EventId;
use super::{event_stream, websocket};
use crate::cli::transport::Transport;

/// How the bytes of a stream form blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// Blocks of Server-Sent Events, each with its blank line.
    EventStream,
    /// Frames of WebSocket, each with its header.
    WebSocket,
}

/// What a block without a payload of this run is.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    Gap,
    Heartbeat,
    /// The end of a snapshot, with `mode=latest`.
    Snapshot,
    Comment,
    /// A message of another run or of the server.
    Foreign,
    /// A ping, with the payload that its pong repeats.
    Ping(Vec<u8>),
    /// The server closes the connection, for this reason.
    Close(String),
}

impl Syntax {
    pub fn of(transport: Transport) -> Self {
        match transport {
            Transport::Sse => Self::EventStream,
            Transport::Ws => Self::WebSocket,
        }
    }

    /// The length of the first block of `text` if it is complete. The error is the reason why it cannot be checked.
    #[inline]
    pub fn first_block(self, text: &[u8]) -> Result<Option<usize>, &'static str> {
        match self {
            Self::EventStream => Ok(event_stream::block_end(text)),
            Self::WebSocket => Ok(websocket::frame_length(text)?.filter(|length| *length <= text.len())),
        }
    }

    /// The id of a block's event.
    pub fn event_id(self, block: &[u8]) -> EventId {
        match self {
            Self::EventStream => event_stream::event_id(block),
            Self::WebSocket => websocket::event_id(block),
        }
    }

    pub fn kind(self, block: &[u8]) -> Kind {
        match self {
            Self::EventStream => event_stream::kind(block),
            Self::WebSocket => websocket::kind(block),
        }
    }
}

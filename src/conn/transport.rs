//! How a stream's bytes are laid out on its socket. Server-Sent Events over HTTP/1 are the only transport.
//!
//! This is the seam for others. A transport encodes [`ControlEvent`]s, chooses the bytes of a frame, and ends the body. The
//! subscription's cursor and the [lifecycle](super::control) know no transport.
//!
//! A frame is encoded once for all readers: as [`Frame::sse`] when the event is published. Another encoding is to be made on
//! its first use and kept beside the ring segment that holds the frame, so that frames without such readers cost nothing.

use bytes::Bytes;

use super::control_events::ControlEvent;
use crate::hub::Frame;
use crate::wire::chunk::{self, Chunk};

/// Server-Sent Events over HTTP/1.
#[derive(Clone, Copy)]
pub(super) struct Sse {
    /// HTTP/1.1 frames the body in chunks; in HTTP/1.0 it ends with the connection.
    pub(super) is_chunked: bool,
}

impl Sse {
    pub(super) fn encode(self, event: &ControlEvent) -> Bytes {
        self.bytes(&event.to_sse())
    }

    /// The bytes of `chunk`, in shared memory.
    pub(super) fn bytes(self, chunk: &Chunk) -> Bytes {
        if self.is_chunked { chunk.to_framed() } else { chunk.to_body() }
    }

    /// How many bytes `frame` takes on the wire.
    pub(super) fn length(self, frame: &Frame) -> usize {
        if self.is_chunked { frame.chunk().framed().len() } else { frame.sse().len() }
    }

    /// What ends the body.
    pub(super) fn end_of_body(self) -> &'static [u8] {
        if self.is_chunked { chunk::LAST } else { b"" }
    }
}

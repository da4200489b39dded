//! How a stream's bytes are laid out on its socket. Server-Sent Events over HTTP/1 are the only transport.
//!
//! This is the seam for others. A transport encodes [`ControlEvent`]s, chooses the bytes of a frame, and ends the body. The
//! subscription's cursor and the [lifecycle](super::control) are independent of the transport.
//!
//! A frame is encoded once for all readers of a [`Format`]: plain when the event is published, as an envelope when the first
//! such reader comes. Control events are the same in both.

use std::io::IoSlice;

use bytes::Bytes;

use super::control_events::ControlEvent;
use crate::hub::{Batch, Frame, Offer};
use crate::wire::chunk::{self, Chunk};
use crate::wire::sse::Format;

/// Server-Sent Events over HTTP/1.
#[derive(Clone, Copy)]
pub(super) struct Sse {
    /// HTTP/1.1 frames the body in chunks; in HTTP/1.0 it ends with the connection.
    pub(super) is_chunked: bool,
    pub(super) format: Format,
}

impl Sse {
    pub(super) fn encode(self, event: &ControlEvent) -> Bytes {
        self.bytes(&event.to_sse())
    }

    /// The bytes of `chunk`, in shared memory.
    pub(super) fn bytes(self, chunk: &Chunk) -> Bytes {
        if self.is_chunked { chunk.to_framed() } else { chunk.to_body() }
    }

    /// Lays out the first frames of `batch` for one write.
    pub(super) fn offer<'a>(self, batch: &'a Batch, slices: &mut [IoSlice<'a>]) -> Offer {
        batch.offer(self.format, self.is_chunked, slices)
    }

    /// The bytes of `frame`.
    pub(super) fn chunk(self, frame: &Frame) -> &Chunk {
        frame.chunk(self.format)
    }

    /// The number of bytes of `frame` on the wire.
    pub(super) fn length(self, frame: &Frame) -> usize {
        let chunk = self.chunk(frame);
        if self.is_chunked { chunk.framed().len() } else { chunk.body().len() }
    }

    /// The bytes that end the body.
    pub(super) fn end_of_body(self) -> &'static [u8] {
        if self.is_chunked { chunk::LAST } else { b"" }
    }
}

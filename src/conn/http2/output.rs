//! A stream of an HTTP/2 connection as the output of events.
//!
//! Bytes are accepted as far as the windows of the stream and of its connection allow, and only while less than
//! [`MAX_BUFFERED`] bytes wait for the socket. A stream whose client does not read accepts nothing, and its task treats it as it
//! treats a blocked socket. The other streams of the connection are independent of it.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use hyper::HeaderMap;

use crate::conn::end::EndReason;
use crate::conn::output::{Output, copy_of, first_bytes_of, length_of, offer_up_to};
use crate::conn::transport::Layout;
use crate::hub::{Batch, Offer};

/// The number of bytes of one stream that wait for the socket.
pub(super) const MAX_BUFFERED: usize = 16 << 10;

/// The body of one response.
pub(super) struct Http2Output {
    stream: SendStream<Bytes>,
    is_finished: bool,
}

impl Http2Output {
    pub(super) fn new(stream: SendStream<Bytes>) -> Self {
        Self { stream, is_finished: false }
    }

    /// Returns how many of the next `wanted` bytes are accepted now.
    fn room(&mut self, wanted: usize) -> io::Result<usize> {
        self.stream.reserve_capacity(wanted.min(MAX_BUFFERED));
        match self.stream.capacity().min(wanted) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            room => Ok(room),
        }
    }

    fn send(&mut self, bytes: Bytes, is_end: bool) -> io::Result<()> {
        self.is_finished |= is_end;
        self.stream.send_data(bytes, is_end).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Writes the first bytes of `bytes`. If these are all, and `is_last` is set, the body ends with them.
    pub(super) fn write_part(&mut self, bytes: &Bytes, is_last: bool) -> io::Result<usize> {
        let room = self.room(bytes.len())?;
        self.send(bytes.slice(..room), is_last && room == bytes.len())?;
        Ok(room)
    }

    /// Ends the body with trailers.
    pub(super) fn send_trailers(&mut self, trailers: HeaderMap) -> io::Result<()> {
        self.is_finished = true;
        self.stream.send_trailers(trailers).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Ends the stream before its body ends, because the server failed to produce the rest.
    pub(super) fn fail(&mut self) {
        self.stream.send_reset(Reason::INTERNAL_ERROR);
    }
}

impl Output for Http2Output {
    fn write(&mut self, bytes: &Bytes) -> io::Result<usize> {
        self.write_part(bytes, false)
    }

    fn write_batch(&mut self, batch: &Batch, layout: Layout) -> (io::Result<usize>, Offer) {
        let offer = offer_up_to(batch, layout, MAX_BUFFERED);
        let written = self.room(offer.bytes).and_then(|room| {
            self.send(first_bytes_of(batch, layout, &offer, room), false)?;
            Ok(room)
        });
        (written, offer)
    }

    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let room = self.room(length_of(slices))?;
        self.send(copy_of(slices, room), false)?;
        Ok(room)
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(0)) => {}
                Some(Ok(_)) => return Poll::Ready(Ok(())),
                Some(Err(_)) | None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }

    fn check_client(&mut self, cx: &mut Context<'_>) -> Result<(), EndReason> {
        if self.stream.poll_reset(cx).is_ready() { Err(EndReason::Closed) } else { Ok(()) }
    }

    fn finish(&mut self) {
        let _ = self.send(Bytes::new(), true);
    }

    fn abort(&mut self) {
        if !self.is_finished {
            self.stream.send_reset(Reason::CANCEL);
        }
    }
}

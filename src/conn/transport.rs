//! How a stream's messages are laid out on its connection, and what its client may send on it.
//!
//! A transport encodes [`ControlEvent`]s, chooses the [`Layout`] of frames, reads from the client, and ends the stream. The
//! [task](super::stream) is compiled for each transport, and the [lifecycle](super::control) does not know it.
//!
//! A frame is encoded once for all readers of a [`Format`]: plain when the event is published, in another format when the first
//! such reader comes.

use std::io::{self, IoSlice};
use std::task::Context;

use bytes::Bytes;

use super::control::Control;
use super::control_events::ControlEvent;
use super::end::EndReason;
use super::output::Output;
use super::pacer::Pace;
use super::shard::Shard;
use super::source::Source;
use super::wheel::Second;
use crate::hub::{Batch, Coding, Frame, Offer, Sample, SharedValues, Subscription};
use crate::presence;
use crate::sync::lock;
use crate::wire::Format;
use crate::wire::chunk::{self, Chunk, ChunkRef};

/// What a stream's task leaves to the transport.
pub(super) trait Transport<O>: Send + Unpin + 'static {
    const KIND: presence::Transport;

    /// Whether the body is compressed.
    const IS_COMPRESSED: bool = false;

    /// What the task reads events from.
    type Source: Source;

    /// How the frames of events are laid out.
    fn layout(&self) -> Layout;

    /// The bytes of a control event.
    fn encode(&mut self, event: &ControlEvent, source: &mut Self::Source, shard: &Shard) -> Bytes;

    /// What is written last when the server ends the stream for `reason`, after everything else.
    fn finish(&mut self, reason: EndReason, source: &mut Self::Source, shard: &Shard) -> Bytes;

    /// When events may be written. Each transport has room for it, so that the task does not grow.
    fn pace(&mut self) -> &mut Pace;

    /// Reads what the client has sent. The task is woken when it sends more. Returns the reason if the stream is to be finished;
    /// the error is the reason if it has ended.
    fn receive(
        &mut self,
        output: &mut O,
        source: &mut Self::Source,
        shard: &Shard,
        cx: &mut Context<'_>,
    ) -> Result<Option<EndReason>, EndReason>;

    /// Writes the first bytes of `batch`, which `source` has filled. The error is `WouldBlock` if the output accepts none now. The
    /// offer is what it could have written. It has no frame if the batch is to be filled again, which only a compressed body needs.
    fn write_batch(&mut self, output: &mut O, _source: &mut Self::Source, batch: &Batch) -> (io::Result<usize>, Offer)
    where
        O: Output,
    {
        output.write_batch(batch, self.layout())
    }

    /// Fills `batch` with what is ready, or finds it filled by another stream, if the source has nothing but events. Returns whether
    /// it did; nothing has changed otherwise.
    fn fill_shared(&self, _source: &Self::Source, _batch: &mut Batch) -> bool {
        false
    }

    /// The next values as other streams with the same interval write them at this moment; `None` to read alone.
    fn shared_values(&self, _source: &Self::Source, _shard: &Shard, _control: &Control) -> Option<SharedValues> {
        None
    }

    /// Moves past the first `taken` shared values, and returns the sample if its event is among them.
    fn took_shared(
        &mut self,
        _source: &mut Self::Source,
        _values: &SharedValues,
        _taken: usize,
        _shard: &Shard,
    ) -> Option<Sample> {
        None
    }

    /// Returns how many frames the first `bytes` of the offer have begun, and the rest of the last one.
    fn begun(&self, _source: &Self::Source, batch: &Batch, bytes: usize) -> (usize, Bytes) {
        self.layout().begun(batch, bytes)
    }

    /// Moves past the first `taken` frames of the offer, at least one.
    fn took(&mut self, _source: &mut Self::Source, _batch: &Batch, _taken: usize, _shard: &Shard) {}

    /// Replies to the client, which are written before further events.
    fn replies(&mut self) -> Option<Bytes> {
        None
    }

    /// Whether [`Transport::receive`] stopped early, and is to be called again when the replies are written.
    fn has_unread_input(&self) -> bool {
        false
    }

    /// When [`Transport::receive`] must be called again, if nothing else wakes the task.
    fn deadline(&self, _shard: &Shard) -> Second {
        Second::MAX
    }
}

/// A transport whose streams end with their body.
pub(super) trait EventStream {}

impl EventStream for Sse {}

/// The encoding of frames, with or without their framing.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) format: Format,
    pub(super) is_framed: bool,
}

impl Layout {
    /// Lays out the first frames of `batch` for one write.
    pub(super) fn offer<'a>(self, batch: &'a Batch, slices: &mut [IoSlice<'a>]) -> Offer {
        batch.offer(self.format, self.is_framed, slices)
    }

    /// The bytes of all of `batch`, if streams share them.
    pub(super) fn joined(self, batch: &Batch) -> Option<&[u8]> {
        batch.joined(self.format, self.is_framed)
    }

    pub(super) fn coding(self, is_compressed: bool) -> Coding {
        Coding { format: self.format, is_framed: self.is_framed, is_compressed }
    }

    /// The bytes of `frame`.
    pub(super) fn chunk(self, frame: &Frame) -> ChunkRef<'_> {
        frame.chunk(self.format)
    }

    /// The bytes of `chunk`, in shared memory.
    pub(super) fn bytes(self, chunk: ChunkRef<'_>) -> Bytes {
        if self.is_framed { chunk.to_framed() } else { chunk.to_body() }
    }

    /// Returns how many frames the first `bytes` of `batch` have begun, and the rest of the last one.
    fn begun(self, batch: &Batch, mut bytes: usize) -> (usize, Bytes) {
        let mut begun = 0;
        for frame in batch.frames() {
            if bytes == 0 {
                break;
            }
            begun += 1;
            let length = self.length(frame);
            if bytes < length {
                return (begun, self.bytes(self.chunk(frame)).slice(bytes..));
            }
            bytes -= length;
        }
        (begun, Bytes::new())
    }

    /// The bytes of `frame` on the wire.
    pub(super) fn slice(self, frame: &Frame) -> &[u8] {
        let chunk = self.chunk(frame);
        if self.is_framed { chunk.framed() } else { chunk.body() }
    }

    /// The number of bytes of `frame` on the wire.
    pub(super) fn length(self, frame: &Frame) -> usize {
        self.slice(frame).len()
    }
}

/// Server-Sent Events. Over HTTP/1.1 the body is framed in chunks; in HTTP/1.0 it ends with the connection, and HTTP/2 has its own
/// frames.
pub(super) struct Sse {
    pub(super) layout: Layout,
    /// Whether a keep-alive is a heartbeat event. Otherwise it is a comment.
    takes_heartbeats: bool,
    pub(super) pace: Pace,
}

impl Sse {
    pub(super) fn new(layout: Layout, takes_heartbeats: bool) -> Self {
        Self { layout, takes_heartbeats, pace: Pace::default() }
    }

    /// The encoding of a control event.
    pub(super) fn chunk(&self, event: &ControlEvent, shard: &Shard) -> Chunk {
        match event {
            ControlEvent::KeepAlive if self.takes_heartbeats => shard.heartbeat().event,
            event => event.to_sse(),
        }
    }

    /// The bytes that end the body.
    pub(super) fn end_of_body(&self) -> &'static [u8] {
        if self.layout.is_framed { chunk::LAST } else { b"" }
    }
}

impl<O: Output> Transport<O> for Sse {
    const KIND: presence::Transport = presence::Transport::Sse;

    type Source = Subscription;

    fn layout(&self) -> Layout {
        self.layout
    }

    fn encode(&mut self, event: &ControlEvent, _: &mut Subscription, shard: &Shard) -> Bytes {
        self.layout.bytes(self.chunk(event, shard).as_ref())
    }

    fn finish(&mut self, reason: EndReason, _: &mut Subscription, _: &Shard) -> Bytes {
        match ControlEvent::farewell(reason) {
            None => Bytes::from_static(self.end_of_body()),
            Some(farewell) => [&*self.layout.bytes(farewell.to_sse().as_ref()), self.end_of_body()].concat().into(),
        }
    }

    fn fill_shared(&self, source: &Subscription, batch: &mut Batch) -> bool {
        let is_filled = source.fill_from_ring(batch);
        if is_filled {
            batch.join(self.layout.format, self.layout.is_framed);
        }
        is_filled
    }

    fn shared_values(&self, source: &Subscription, shard: &Shard, control: &Control) -> Option<SharedValues> {
        // Most streams have no interval, and read no clock.
        if !O::TAKES_LONG_SLICES || !self.pace.has_turn() {
            return None;
        }
        let moment = shard.pacer.moment(&self.pace, control.interval()?)?;
        source.shared_values(&mut lock(&shard.shared), moment, self.layout.coding(false))
    }

    fn took_shared(
        &mut self,
        source: &mut Subscription,
        values: &SharedValues,
        taken: usize,
        _: &Shard,
    ) -> Option<Sample> {
        let sample = source.sample_in_shared(values, taken);
        source.take_shared(values, taken);
        sample
    }

    fn pace(&mut self) -> &mut Pace {
        &mut self.pace
    }

    fn receive(
        &mut self,
        output: &mut O,
        _: &mut Subscription,
        _: &Shard,
        cx: &mut Context<'_>,
    ) -> Result<Option<EndReason>, EndReason> {
        output.check_client(cx).map(|()| None)
    }
}

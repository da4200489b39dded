//! Server-Sent Events as one gzip member, whose blocks are shared with the other compressed readers of the ring
//! ([`hub::compression`](crate::hub)), or with those that read the same latest values at the same moment.
//!
//! The events, control events and their order are those of [`Sse`]. The member begins with the hello and
//! ends with a farewell; a stream that is cut has no trailer, so that its client does not take it for complete.

use std::io::{self, IoSlice};
use std::task::Context;

use bytes::Bytes;

use super::control::Control;
use super::control_events::ControlEvent;
use super::end::EndReason;
use super::output::Output;
use super::pacer::Pace;
use super::shard::Shard;
use super::stream::StreamRequest;
use super::transport::{EventStream, Layout, Sse, Transport};
use crate::hub::{Batch, MAX_SLICES, Member, Offer, Sample, SharedValues, Subscription};
use crate::metrics::Count;
use crate::presence;
use crate::sync::lock;

/// Compressed Server-Sent Events.
pub(super) struct Gzip(Sse);

/// A subscription with the member that it is written to.
pub(super) struct CompressedSubscription {
    pub(super) subscription: Subscription,
    member: Member,
}

impl StreamRequest {
    /// The transport and the source of a compressed stream. Its subscription is compressible.
    pub(super) fn compressed(self, sse: Sse) -> (Gzip, StreamRequest<CompressedSubscription>) {
        let Layout { format, is_framed } = sse.layout;
        let compress = |subscription: Subscription| {
            let member = subscription.compressed(format, is_framed).expect("the head says that the body is compressed");
            CompressedSubscription { subscription, member }
        };
        (Gzip(sse), self.map(compress))
    }
}

impl EventStream for Gzip {}

/// Adds to a count of the shard.
fn count<O: Output>(count: &Count, more: u64) {
    if O::IS_ON_SHARD { count.add(more) } else { count.add_shared(more) }
}

impl<O: Output> Transport<O> for Gzip {
    const KIND: presence::Transport = presence::Transport::Sse;
    const IS_COMPRESSED: bool = true;

    type Source = CompressedSubscription;

    fn layout(&self) -> Layout {
        self.0.layout
    }

    fn encode(&mut self, event: &ControlEvent, source: &mut CompressedSubscription, shard: &Shard) -> Bytes {
        let event = self.0.chunk(event, shard);
        count::<O>(&shard.counts().gzip.plain_bytes, event.body().len() as u64);
        source.member.encode(event.body()).into()
    }

    fn finish(&mut self, reason: EndReason, source: &mut CompressedSubscription, shard: &Shard) -> Bytes {
        let farewell = ControlEvent::farewell(reason);
        let farewell = farewell.map(|event| Transport::<O>::encode(self, &event, source, shard)).unwrap_or_default();
        [&farewell[..], &source.member.end(), self.0.end_of_body()].concat().into()
    }

    fn shared_values(&self, source: &CompressedSubscription, shard: &Shard, control: &Control) -> Option<SharedValues> {
        let subscription = &source.subscription;
        if !subscription.is_of_latest() {
            return None;
        }
        let (pacer, pace, interval) = (&shard.pacer, &self.0.pace, control.interval()?);
        let moment = match subscription.is_in_snapshot() {
            true => pacer.moment_of_snapshot(pace, interval),
            false => pacer.moment(pace, interval)?,
        };
        subscription.shared_values(&mut lock(&shard.shared), moment, self.0.layout.coding(true))
    }

    fn took_shared(
        &mut self,
        source: &mut CompressedSubscription,
        values: &SharedValues,
        taken: usize,
        shard: &Shard,
    ) -> Option<Sample> {
        let counts = &shard.counts().gzip;
        let checksum = values.checksum(taken);
        source.member.take_values(checksum);
        count::<O>(&counts.shared, taken as u64);
        count::<O>(&counts.plain_bytes, checksum.length().into());
        let sample = source.subscription.sample_in_shared(values, taken);
        source.subscription.take_shared(values, taken);
        sample
    }

    fn pace(&mut self) -> &mut Pace {
        &mut self.0.pace
    }

    fn receive(
        &mut self,
        output: &mut O,
        _: &mut CompressedSubscription,
        _: &Shard,
        cx: &mut Context<'_>,
    ) -> Result<Option<EndReason>, EndReason> {
        output.check_client(cx).map(|()| None)
    }

    fn write_batch(
        &mut self,
        output: &mut O,
        source: &mut CompressedSubscription,
        batch: &Batch,
    ) -> (io::Result<usize>, Offer) {
        // Most batches need one slice, and initialising many of them has a cost.
        let (mut few, mut many, mut stored) = ([IoSlice::new(&[]); 4], None, Vec::new());
        let slices = match batch.len() {
            ..=4 => &mut few[..],
            _ => many.insert([IoSlice::new(&[]); MAX_SLICES]),
        };
        let offer = source.member.offer(&source.subscription, batch, slices, &mut stored);
        let written = match offer.slices {
            0 if offer.frames == 0 => Ok(0),
            0 => output.write_slices(&[IoSlice::new(&stored)]),
            count => output.write_slices(&slices[..count]),
        };
        (written, offer)
    }

    fn begun(&self, source: &CompressedSubscription, batch: &Batch, bytes: usize) -> (usize, Bytes) {
        source.member.begun(batch, bytes)
    }

    fn took(&mut self, source: &mut CompressedSubscription, batch: &Batch, taken: usize, shard: &Shard) {
        let counts = &shard.counts().gzip;
        let frames = source.member.take(batch, taken);
        count::<O>(if frames.is_shared { &counts.shared } else { &counts.stored }, taken as u64);
        count::<O>(&counts.plain_bytes, frames.plain_bytes);
    }
}

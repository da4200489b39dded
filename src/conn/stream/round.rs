//! The turns of a stream that its shard polls.
//!
//! **What nearly all turns do.** In a round thousands of streams write the same bytes, and most have nothing else to do. Such a turn
//! reads little: that nothing precedes the events, what the source is to read next, and, unless the stream before has read the
//! same, that. All other turns, and what is left of this one, are those of [any task](super).
//!
//! **Nothing is missed.** The turn does not look at what only an earlier turn can have changed: the deadlines, and what the client
//! has sent. A write moves deadlines to a later time, so that the wake-up that was scheduled before is not too late. What another
//! thread requests after the turn has looked wakes the stream for the next round, because its mark was removed when this round
//! began. An event that is published after the head was loaded does so too.

use std::task::{Context, Poll, Waker};

use super::StreamTask;
use crate::conn::end::EndReason;
use crate::conn::http1::stream_socket::StreamSocket;
use crate::conn::source::Source as _;
use crate::conn::streams::ShardStream;
use crate::conn::transport::{EventStream, Transport};
use crate::hub::Batch;

impl<T: Transport<StreamSocket> + EventStream> ShardStream for StreamTask<StreamSocket, T> {
    fn poll(&mut self, batch: &mut Batch) -> Poll<()> {
        let ended = match self.write_only_events(batch) {
            Ok(true) => Poll::Pending,
            Ok(false) => {
                // A client is a waker, so that a stream needs no other allocation.
                let waker = Waker::from(self.registration.client.clone());
                self.poll_end_with(&mut Context::from_waker(&waker), batch)
            }
            Err(reason) => self.noted(Err(reason)),
        };
        ended.map(|_| ())
    }
}

impl<T: Transport<StreamSocket>> StreamTask<StreamSocket, T> {
    /// Writes what is ready if there are only events, and returns whether that was everything.
    fn write_only_events(&mut self, batch: &mut Batch) -> Result<bool, EndReason> {
        if !self.has_only_events() || !self.transport.fill_shared(&self.source, batch) {
            return Ok(false);
        }
        let (result, offer) = self.transport.write_batch(&mut self.output, &mut self.source, batch);
        // A write that would block is repeated, which shows whether it still does.
        let Some(bytes) = self.accepted(result)? else { return Ok(false) };
        self.advance(batch, &offer, bytes);
        self.registration.client.passed.set(self.source.passed());
        Ok(bytes == offer.bytes && offer.frames == batch.len() && batch.is_all())
    }

    /// Whether nothing precedes the next events.
    fn has_only_events(&self) -> bool {
        self.shard.now() < self.next_wake
            && self.pending.is_none()
            && self.lifecycle.is_undisturbed()
            && self.registration.client.control.is_quiet()
            && !self.shard.drain.has_begun()
    }
}

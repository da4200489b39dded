//! One stream's task: writes the events of its [source](super::source) to its [output](super::output), in the form of its
//! [transport](super::transport).
//!
//! **Contract.** The response head and the hello come first, then frames in the order of the source. A frame that was begun is
//! finished first, even if it has left the history: the task keeps its memory. A stream with an interval writes what has come once
//! in it. Its [`Lifecycle`] decides what ends or interrupts it. Replies to the client precede both the next events and the end.
//!
//! **Costs.** A delivery costs the write, and no lock, no shared counter, no clock and no allocation: the batch is a
//! thread's scratch memory, counts are the shard's own, and the time is a number that the shard's tick stores. Only the
//! sampled event, one a second, is timed on its way to each output. The task is compiled for each kind of output and transport.
//!
//! **Tasks.** The [streams](super::streams) of Server-Sent Events over HTTP/1, of which there are very many, are polled by their
//! shard. All others are tasks of a runtime.

mod request;
mod round;

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Buf, Bytes, BytesMut};

use super::Registration;
use super::control::{Lifecycle, Request, Requests, Situation, Step};
use super::control_events::ControlEvent;
use super::end::EndReason;
use super::output::Output;
use super::shard::Shard;
use super::source::Source;
use super::transport::{EventStream, Transport};
use super::wheel::{NEVER, Second};
use crate::hub::{Batch, Notice, Offer, Sample, SharedValues};
use crate::limit::Permit;
use crate::metrics::{ConnectionGuard, Count};
use crate::presence::{self, ClientId};
pub(crate) use request::StreamRequest;

/// The number of writes of one stream before other tasks of its shard run.
const WRITES_PER_TURN: usize = 8;

/// The longest time, in seconds, for which a task schedules its wake-up. The wheel keeps an entry until its time, even if the
/// client has disconnected.
const MAX_WAIT: Second = 60;

/// The future that serves one stream until it ends.
pub(super) struct StreamTask<O, T: Transport<O>> {
    output: O,
    shard: Arc<Shard>,
    /// Boxed: tasks are allocated in steps of 128 bytes, and this would take one more.
    source: Box<T::Source>,
    registration: Registration,
    permits: Permits,
    /// Bytes to write before the next frame, at least one: the rest of the frame before, or a control event. Boxed, because there
    /// are seldom any.
    pending: Option<Box<Bytes>>,
    lifecycle: Lifecycle,
    /// The second in which the wheel wakes this next; [`NEVER`] before the first poll.
    next_wake: Second,
    transport: T,
}

/// What a stream holds until its connection is closed.
pub(super) type Permits = (ConnectionGuard, Option<Permit>);

/// What is left of a stream that has ended.
pub(super) struct Ended<O, T> {
    pub(super) output: O,
    pub(super) transport: T,
    pub(super) permits: Permits,
    /// The rest of a message that was begun.
    pub(super) pending: Bytes,
}

/// The result of a write.
#[derive(PartialEq, Eq)]
enum Progress {
    /// There may be more to write.
    More,
    /// Nothing is left to write.
    Idle,
    /// The output accepts no more bytes now.
    Blocked,
    /// The output is full, and polls the task again when it has passed on what it has.
    Full,
}

thread_local! {
    static BATCH: RefCell<Batch> = RefCell::default();
}

impl<O: Output, T: Transport<O>> StreamTask<O, T> {
    /// A stream that begins with `head`: the response's head, unless the output has sent it.
    pub(super) fn new(
        output: O,
        mut transport: T,
        shard: Arc<Shard>,
        guard: ConnectionGuard,
        head: BytesMut,
        request: StreamRequest<T::Source>,
    ) -> Self {
        let StreamRequest { mut source, opening, registration, on_lag, heartbeat, interval, retry, firehose, .. } =
            request;
        if let Some(interval) = interval {
            registration.client.control.set_interval(interval);
        }
        let identity = &registration.client.identity;
        let expires = identity.grant().and_then(|grant| grant.expires).map(|end| shard.second_of(end));
        let hello = ControlEvent::Hello { client: identity.id, opening, retry: spread(retry, identity.id) };
        let mut pending = head;
        pending.extend_from_slice(&transport.encode(&hello, &mut source, &shard));
        Self {
            output,
            source: Box::new(source),
            registration,
            permits: (guard, firehose),
            pending: Some(Box::new(pending.freeze())),
            lifecycle: Lifecycle::new(shard.now(), on_lag, heartbeat, expires),
            next_wake: NEVER,
            transport,
            shard,
        }
    }

    /// Serves the stream, and returns why it has ended. For a task of its own.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<EndReason> {
        BATCH.with_borrow_mut(|batch| {
            let end = self.poll_end_with(cx, batch);
            // Releases the frames.
            batch.clear();
            end
        })
    }

    fn poll_end_with(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<EndReason> {
        let served = self.serve(cx, batch);
        self.noted(served)
    }

    /// Counts and logs the end, if the stream has ended.
    fn noted(&self, served: Result<(), EndReason>) -> Poll<EndReason> {
        let Err(reason) = served else { return Poll::Pending };
        self.note_end(reason);
        Poll::Ready(reason)
    }

    /// Releases what only an open stream needs.
    pub(super) fn into_ended(self) -> Ended<O, T> {
        let Self { output, transport, permits, pending, .. } = self;
        Ended { output, transport, permits, pending: pending.map_or_else(Bytes::new, |pending| *pending) }
    }

    /// Reads from the client, writes, and arranges to be woken again.
    fn serve(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Result<(), EndReason> {
        if self.next_wake == NEVER {
            self.registration.client.control.attach(cx.waker());
            // From the start, not only when no event is ready: a client that never accepts a byte lags too.
            self.source.wake(cx.waker());
        }
        if self.registration.client.control.readiness.take_readable() {
            self.output.note_readable();
        }
        if let Some(reason) = self.transport.receive(&mut self.output, &mut self.source, &self.shard, cx)? {
            self.lifecycle.finish(reason);
        }
        match self.write(cx, batch)? {
            Progress::Idle if self.transport.has_unread_input() => cx.waker().wake_by_ref(),
            Progress::Idle | Progress::Full => {}
            Progress::More => cx.waker().wake_by_ref(),
            Progress::Blocked => {
                let (situation, source) = (self.situation(), &self.source);
                let has_lagged = || source.has_lagged();
                if let Some(reason) = self.lifecycle.blocked(&situation, self.shard.write_timeout(), has_lagged) {
                    return Err(reason);
                }
            }
        }
        self.registration.client.passed.set(self.source.passed());
        self.schedule_wake();
        Ok(())
    }

    /// Writes until nothing is left, the output is full or blocked, or the turn is over.
    fn write(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Result<Progress, EndReason> {
        for _ in 0..WRITES_PER_TURN {
            if self.output.is_full() {
                return Ok(Progress::Full);
            }
            let progress = match self.pending.take() {
                None => self.write_next(cx, batch)?,
                Some(pending) => self.write_pending(pending, cx)?,
            };
            if progress != Progress::More {
                return Ok(progress);
            }
        }
        Ok(Progress::More)
    }

    fn write_pending(&mut self, mut pending: Box<Bytes>, cx: &mut Context<'_>) -> Result<Progress, EndReason> {
        let result = self.output.write(&pending);
        let written = self.written(result, cx)?;
        pending.advance(written.unwrap_or(0));
        self.pending = Some(pending).filter(|rest| !rest.is_empty());
        Ok(if written.is_some() { Progress::More } else { Progress::Blocked })
    }

    /// Has `bytes`, if there are any, written before anything else.
    fn set_pending(&mut self, bytes: Bytes) {
        self.pending = (!bytes.is_empty()).then(|| Box::new(bytes));
    }

    /// Writes events, or makes pending what precedes them.
    fn write_next(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Result<Progress, EndReason> {
        if let Some(replies) = self.transport.replies() {
            self.set_pending(replies);
            return Ok(Progress::More);
        }
        let situation = self.situation();
        let step = match self.lifecycle.before_events(&situation) {
            Some(Step::End(reason)) => {
                self.output.finish();
                return Err(reason);
            }
            Some(step) => step,
            None if let Some(values) = self.shared_values() => return self.write_shared(cx, &values),
            None => match self.poll_fill(cx, batch, &situation) {
                Poll::Ready(Ok(())) => return self.write_events(cx, batch),
                Poll::Ready(Err(notice)) => self.lifecycle.on_notice(notice),
                Poll::Pending => match self.lifecycle.without_events(&situation) {
                    Some(step) => step,
                    None => return Ok(Progress::Idle),
                },
            },
        };
        let bytes = match step {
            Step::Write(event) => self.encode(&event),
            Step::Finish(reason) => self.transport.finish(reason, &mut self.source, &self.shard),
            Step::End(reason) => return Err(reason),
        };
        self.set_pending(bytes);
        Ok(Progress::More)
    }

    /// Fills `batch` with what is ready. Before the turn of a stream with an interval, that is nothing.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Batch,
        situation: &Situation,
    ) -> Poll<Result<(), Notice>> {
        if self.shard.pacer.is_waiting(self.transport.pace()) && !situation.is_draining() {
            return Poll::Pending;
        }
        let filled = self.source.poll_fill(cx, batch);
        if filled.is_pending() {
            self.end_turn();
        }
        filled
    }

    /// Whether only an event can follow.
    fn waits_for_events(&self) -> bool {
        self.requests().is_empty() && !self.source.is_in_snapshot()
    }

    /// Ends the turn of a stream with an interval: until the next one, events do not wake its task.
    fn end_turn(&mut self) {
        let client = &self.registration.client;
        if self.source.is_catching_up() || !self.transport.pace().end() {
            return;
        }
        if let Some(interval) = client.control.interval() {
            self.shard.pacer.schedule(self.transport.pace(), interval, client.identity.id, client.key);
            self.source.sleep();
        }
    }

    fn write_events(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Result<Progress, EndReason> {
        let (result, offer) = self.transport.write_batch(&mut self.output, &mut self.source, batch);
        if T::IS_COMPRESSED && offer.frames == 0 {
            batch.clear();
            return Ok(Progress::More);
        }
        let written = self.written(result, cx);
        if let Ok(Some(bytes)) = written {
            self.advance(batch, &offer, bytes);
        }
        self.transport.pace().note_write();
        let is_complete = batch.is_all() && offer.frames == batch.len();
        Ok(match written? {
            None => Progress::Blocked,
            // The next event wakes the task. A pending request does not, and must be handled after these events. Nor does the end
            // of a snapshot.
            Some(bytes) if is_complete && bytes == offer.bytes && self.waits_for_events() => {
                self.end_turn();
                Progress::Idle
            }
            Some(_) => Progress::More,
        })
    }

    /// The next values as other streams write them at this moment.
    fn shared_values(&self) -> Option<SharedValues> {
        self.transport.shared_values(&self.source, &self.shard, &self.registration.client.control)
    }

    /// Writes values that other streams write too at this moment.
    fn write_shared(&mut self, cx: &mut Context<'_>, values: &SharedValues) -> Result<Progress, EndReason> {
        let result = self.output.write_slices(&[IoSlice::new(values.bytes())]);
        let written = self.written(result, cx)?;
        self.transport.pace().note_write();
        let Some(bytes) = written else { return Ok(Progress::Blocked) };
        let (taken, rest) = values.begun(bytes);
        let is_complete = values.is_all() && taken == values.len() && rest.is_empty();
        self.set_pending(rest);
        if let Some(sample) = self.transport.took_shared(&mut self.source, values, taken, &self.shard) {
            self.note_latency(&sample);
        }
        self.count_delivered(taken);
        if is_complete && self.waits_for_events() {
            self.end_turn();
            return Ok(Progress::Idle);
        }
        Ok(Progress::More)
    }

    /// Counts the bytes of a write. Returns `None` if the output accepts no bytes now; the task is woken when it does.
    fn written(&mut self, result: io::Result<usize>, cx: &mut Context<'_>) -> Result<Option<usize>, EndReason> {
        let accepted = self.accepted(result)?;
        if accepted.is_none() {
            self.registration.client.control.readiness.await_writable();
            if let Poll::Ready(readiness) = self.output.poll_writable(cx) {
                readiness.map_err(|error| EndReason::of_socket(&error))?;
                // It became writable in between.
                cx.waker().wake_by_ref();
            }
        }
        Ok(accepted)
    }

    /// Counts the bytes of a write. Returns `None` if the output accepts no bytes now.
    fn accepted(&mut self, result: io::Result<usize>) -> Result<Option<usize>, EndReason> {
        match result {
            Ok(0) => Err(EndReason::Closed),
            Ok(bytes) => {
                self.lifecycle.wrote(self.shard.now());
                self.registration.client.bytes.add(bytes as u64);
                Self::count(&self.shard.counts().delivered_bytes, bytes as u64);
                if T::KIND == presence::Transport::WebSocket {
                    Self::count(&self.shard.counts().websocket.delivered_bytes, bytes as u64);
                }
                if T::IS_COMPRESSED {
                    Self::count(&self.shard.counts().gzip.bytes, bytes as u64);
                }
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(EndReason::of_socket(&error)),
        }
    }

    /// Moves the cursor past the frames in the first `bytes` of the offer, and keeps the rest of a frame that was begun.
    fn advance(&mut self, batch: &Batch, offer: &Offer, bytes: usize) {
        let mut taken = offer.frames;
        if bytes < offer.bytes {
            let (begun, rest) = self.transport.begun(&self.source, batch, bytes);
            self.set_pending(rest);
            taken = begun;
        }
        // The time at which another server writes the bytes is not known here.
        if O::IS_ON_SHARD
            && let Some(sample) = self.source.sample_in(batch, taken)
        {
            self.note_latency(&sample);
        }
        self.transport.took(&mut self.source, batch, taken, &self.shard);
        self.source.take(batch, taken);
        self.count_delivered(taken);
    }

    fn count_delivered(&self, taken: usize) {
        self.registration.client.events.add(taken as u64);
        Self::count(&self.shard.counts().delivered, taken as u64);
        if T::KIND == presence::Transport::WebSocket {
            Self::count(&self.shard.counts().websocket.delivered, taken as u64);
        }
    }

    /// Observes the latency of a sampled event, unless the client connected after it: the time of a replay is not the latency
    /// of a live event.
    #[cold]
    fn note_latency(&self, sample: &Sample) {
        let published_at = sample.published_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        if u128::from(self.registration.client.identity.connected_at) <= published_at.as_millis() {
            self.shard.counts().socket_latency.observe(sample.published.elapsed());
        }
    }

    fn situation(&self) -> Situation {
        let announces_restart = self.shard.drain.has_begun() && !self.source.has_gap();
        Situation {
            now: self.shard.now(),
            requests: self.requests(),
            restarts_at: announces_restart.then(|| self.source.position()),
        }
    }

    fn requests(&self) -> Requests {
        self.registration.client.control.requests()
    }

    /// Encodes a control event, and counts gaps.
    fn encode(&mut self, event: &ControlEvent) -> Bytes {
        if let ControlEvent::Gap(gap) = event {
            Self::count(&self.shard.counts().gaps[gap.reason as usize], 1);
        }
        self.transport.encode(event, &mut self.source, &self.shard)
    }

    /// Schedules the next wake-up that is not caused by traffic.
    fn schedule_wake(&mut self) {
        let now = self.shard.now();
        let due = self.lifecycle.deadline(now, self.shard.write_timeout());
        let due = due.min(self.transport.deadline(&self.shard)).min(now + MAX_WAIT);
        if self.next_wake > due || self.next_wake <= now {
            let due = due.max(now + 1);
            self.next_wake = due;
            self.shard.schedule(due, self.registration.client.key);
        }
    }

    /// Adds to a count of the shard.
    fn count(count: &Count, more: u64) {
        if O::IS_ON_SHARD { count.add(more) } else { count.add_shared(more) }
    }

    pub(super) fn output(&mut self) -> &mut O {
        &mut self.output
    }

    /// Raises `request` on this stream.
    pub(super) fn raise(&self, request: Request) {
        self.registration.client.control.raise(request);
    }

    /// Counts and logs the end.
    pub(super) fn note_end(&self, reason: EndReason) {
        Self::count(&self.shard.counts().ended[reason as usize], 1);
        let client = &self.registration.client;
        let (id, name, remote) = (client.identity.id, client.identity.labels.name(), client.identity.remote);
        let (why, behind, events) = (reason.as_str(), self.source.behind(), client.events.get());
        if reason.is_clients_fault() {
            tracing::warn!(client = %id, name, %remote, reason = why, behind, events, "client cut off");
        } else {
            tracing::debug!(client = %id, name, %remote, reason = why, behind, events, "client gone");
        }
    }
}

/// A stream of Server-Sent Events ends with its body.
impl<O: Output, T: Transport<O> + EventStream> Future for StreamTask<O, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        ready!(this.poll_end(cx));
        this.output.abort();
        Poll::Ready(())
    }
}

/// `retry` in milliseconds, spread so that many clients do not return at once.
fn spread(retry: Duration, client: ClientId) -> u64 {
    (retry.as_millis() as f64 * (0.8 + 0.4 * client.spread())) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::gzip::Gzip;
    use crate::conn::http1::stream_socket::StreamSocket;
    use crate::conn::transport::Sse;
    use crate::conn::websocket::WebSocketTask;

    #[test]
    fn a_stream_takes_128_bytes() {
        // With debug assertions, a socket has 8 bytes more.
        assert!(size_of::<StreamTask<StreamSocket, Sse>>() <= 128);
        assert!(size_of::<StreamTask<StreamSocket, Gzip>>() <= 128);
        // tokio adds 96 bytes, and allocates multiples of 128.
        let task = |bytes: usize| (bytes + if cfg!(debug_assertions) { 88 } else { 96 }).next_multiple_of(128);
        assert_eq!(task(size_of::<WebSocketTask>()), 256);
    }
}

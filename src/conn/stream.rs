//! One stream's connection: the task that copies what its subscription has ready to its socket.
//!
//! **Contract.** The task writes the response head and the hello first, then frames in the order of the subscription. A
//! frame that was begun is finished before anything else is written, even when it has left the history meanwhile: the task
//! keeps that one piece of memory and nothing more.
//!
//! **Ends.** *Closed*: the peer hung up, which includes that it closed its sending side. *Lagged*: the cursor fell out of
//! its ring and the client did not ask to skip. *Stalled*: bytes were pending and the client took none for the write
//! timeout; the kernel ends a connection whose peer acknowledges nothing for the same time. *Drained*: the server ends the
//! stream; everything published by then is written first. *Misused*: the client sent more than a stream's client may. *Token
//! expired*, *revoked*, *disconnected*: the stream may not go on; what is written last says so.
//!
//! **Costs.** A delivery costs the write, and no lock, no shared counter, no clock and no allocation: the batch is a
//! thread's scratch memory, counts are the shard's own, and the time is a number that the shard's tick stores.
//! Only the event that is sampled, one a second, is timed on its way to each socket.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::UNIX_EPOCH;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::coop;

use super::control_events;
use super::request::{OnLag, StreamRequest};
use super::shard::{Shard, StreamOptions};
use super::wheel::{NEVER, Second};
use crate::hub::{Batch, Gap, GapReason, MAX_FRAMES, Offer, Sample, Subscription};
use crate::limit::Permit;
use crate::metrics::{ConnectionGuard, Ending};
use crate::presence::{ClientId, Registration, WARNING};
use crate::wire::{chunk, sse};

/// How many batches one connection writes before the others of its shard get their turn.
const BATCHES_PER_TURN: usize = 8;

/// Calls are asked for at most so many seconds ahead, and then anew: what was asked for is kept until its time when the
/// client has gone before.
const LONGEST_CALL: Second = 60;

/// How much a client may send on its stream, where nothing is expected from it.
const MAX_EARLY_BYTES: usize = 16 << 10;

/// Milliseconds after which `client` should come back, spread so that a crowd does not return all at once.
fn retry(client: ClientId, options: &StreamOptions) -> u64 {
    (options.retry.as_millis() as f64 * (0.8 + 0.4 * client.spread())) as u64
}

/// The future that serves one stream until it ends.
pub(crate) struct Connection {
    socket: TcpStream,
    shard: Arc<Shard>,
    /// In memory of its own: the task's is given out in steps of 128 bytes, and this would make it a step larger.
    subscription: Box<Subscription>,
    registration: Registration,
    /// In memory of its own, as well.
    _held: Box<(ConnectionGuard, Option<Permit>)>,
    /// Bytes that were begun, or that come before the next frame.
    pending: Bytes,
    last_write: Second,
    /// Since when the socket takes nothing.
    blocked_since: Second,
    /// When this is called next, at the latest.
    next_call: Second,
    early_bytes: u16,
    /// Whether the reactor wakes this when there is something to read.
    awaits_read: bool,
    heartbeat: u16,
    takes_heartbeats: bool,
    /// Whether its grant ends at some time.
    has_end: bool,
    /// Whether the body is chunked: HTTP/1.1.
    is_framed: bool,
    on_lag: OnLag,
    farewell: Farewell,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Farewell {
    NotYet,
    /// The client was told that the server is going.
    Said,
    /// The body's end is pending; the socket closes when it is written.
    Closing,
}

/// What the socket did with what it was given.
enum Progress {
    /// Nothing is left to write.
    Idle,
    /// The socket takes no more now.
    Blocked,
    /// There is more, but others have their turn first.
    Yield,
}

thread_local! {
    static BATCH: RefCell<Batch> = RefCell::default();
}

impl Connection {
    /// A stream on `socket` that begins with `head`, the response's head. The client has sent `early_bytes` behind its
    /// request.
    pub(crate) fn new(
        socket: TcpStream,
        shard: Arc<Shard>,
        guard: ConnectionGuard,
        head: BytesMut,
        is_framed: bool,
        early_bytes: usize,
        request: StreamRequest,
    ) -> Self {
        let StreamRequest { subscription, opening, registration, on_lag, heartbeat, takes_heartbeats, firehose } =
            request;
        let id = registration.client.identity.id;
        let has_end = registration.client.identity.standing.as_ref().is_some_and(|standing| standing.ends.is_some());
        let mut pending = head;
        let hello = control_events::hello(id, &opening, retry(id, &shard.options));
        pending.extend_from_slice(&sse::bytes_for(&hello, is_framed));
        Self {
            socket,
            subscription: Box::new(subscription),
            registration,
            _held: Box::new((guard, firehose)),
            pending: pending.freeze(),
            last_write: shard.now(),
            blocked_since: NEVER,
            next_call: NEVER,
            early_bytes: u16::try_from(early_bytes).unwrap_or(u16::MAX),
            awaits_read: false,
            heartbeat,
            takes_heartbeats,
            has_end,
            is_framed,
            on_lag,
            farewell: Farewell::NotYet,
            shard,
        }
    }

    fn serve(&mut self, cx: &mut Context<'_>) -> Result<(), Ending> {
        if self.next_call == NEVER {
            self.registration.client.served_by(cx.waker());
            // Not only when there is nothing to read: a client that takes no byte from the first on lags as well.
            self.subscription.wake(cx.waker());
            // Its grant may be about to end, or have ended while the answers before this one were on their way.
            self.registration.client.called_at(self.shard.now());
        }
        self.read(cx)?;
        loop {
            match BATCH.with_borrow_mut(|batch| self.write(cx, batch))? {
                Progress::Idle if self.farewell == Farewell::Closing => {
                    return Err(self.registration.client.ending().unwrap_or(Ending::Drained));
                }
                Progress::Idle if self.is_quiet() => {
                    self.pending = self.sign_of_life();
                    continue;
                }
                Progress::Idle => {}
                Progress::Yield => cx.waker().wake_by_ref(),
                Progress::Blocked => self.blocked()?,
            }
            self.registration.client.passed.set(self.subscription.passed());
            self.schedule();
            return Ok(());
        }
    }

    /// Decides what becomes of a client that takes no bytes.
    fn blocked(&mut self) -> Result<(), Ending> {
        if let Some(ending) = self.registration.client.ending() {
            return Err(ending);
        }
        let now = self.shard.now();
        if self.blocked_since == NEVER {
            self.blocked_since = now;
        }
        // Seconds are whole ones: a difference of one may be a moment.
        if now - self.blocked_since > self.shard.write_timeout() {
            return Err(Ending::Stalled);
        }
        if self.on_lag == OnLag::Close && self.subscription.has_lagged() {
            return Err(Ending::Lagged);
        }
        Ok(())
    }

    /// Writes what there is until the socket or the subscription has had enough.
    fn write(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Result<Progress, Ending> {
        for _ in 0..BATCHES_PER_TURN {
            if !self.pending.is_empty() {
                match self.written(self.socket.try_write(&self.pending), cx)? {
                    // Not advanced to its end: it would keep the memory.
                    Some(bytes) if bytes == self.pending.len() => self.pending = Bytes::new(),
                    Some(bytes) => self.pending.advance(bytes),
                    None => return Ok(Progress::Blocked),
                }
                continue;
            }
            if self.registration.client.is_called()
                && self.farewell != Farewell::Closing
                && let Some(words) = self.heed()
            {
                self.pending = words;
                continue;
            }
            if self.farewell == Farewell::Closing {
                return Ok(Progress::Idle);
            }
            // Its id must not pass a gap that the client was not told of.
            if self.farewell == Farewell::NotYet && self.shard.is_draining() && !self.subscription.has_gap() {
                self.farewell = Farewell::Said;
                let farewell = control_events::farewell(self.subscription.position());
                self.pending = sse::bytes_for(&farewell, self.is_framed);
                continue;
            }
            match self.subscription.poll_fill(cx, batch) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(gap)) => {
                    self.tell(&gap)?;
                    continue;
                }
                Poll::Pending if self.registration.client.is_ending() && self.farewell != Farewell::Closing => {
                    self.farewell = Farewell::Closing;
                    self.pending = Bytes::from_static(self.end_of_body());
                    continue;
                }
                Poll::Pending => return Ok(Progress::Idle),
            }
            let (written, offer) = self.write_batch(batch);
            let progress = self.written(written, cx)?;
            if let Some(bytes) = progress {
                self.settle(batch, &offer, bytes);
            }
            // Whatever was published since wakes this again; but it may be this that was to end with these frames.
            let is_all = batch.is_all() && progress == Some(offer.bytes) && offer.frames == batch.len();
            // The frames stay in memory no longer than needed.
            batch.clear();
            if progress.is_none() {
                return Ok(Progress::Blocked);
            }
            if is_all && !self.registration.client.is_ending() {
                return Ok(Progress::Idle);
            }
        }
        Ok(Progress::Yield)
    }

    /// What is said to a client of which the server wants something now.
    #[cold]
    fn heed(&mut self) -> Option<Bytes> {
        let client = &self.registration.client;
        if let Some(ending) = client.ending() {
            self.farewell = Farewell::Closing;
            let mut words = BytesMut::from(&*sse::bytes_for(&control_events::ended(ending), self.is_framed));
            words.extend_from_slice(self.end_of_body());
            return Some(words.freeze());
        }
        let ends = client.identity.standing.as_ref().and_then(|standing| standing.ends)?;
        let is_due = client.takes_warning();
        is_due.then(|| sse::bytes_for(&control_events::expires(ends.saturating_sub(self.shard.now())), self.is_framed))
    }

    fn write_batch(&self, batch: &Batch) -> (io::Result<usize>, Offer) {
        // Slices are set before they are used, so no more of them than it takes: most batches are one or two.
        let mut few = [IoSlice::new(&[]); 16];
        let offer = batch.offer(self.is_framed, &mut few);
        if offer.frames == batch.len() {
            return (self.write_slices(&few[..offer.slices]), offer);
        }
        let mut many = [IoSlice::new(&[]); MAX_FRAMES];
        let offer = batch.offer(self.is_framed, &mut many);
        (self.write_slices(&many[..offer.slices]), offer)
    }

    fn write_slices(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [slice] => self.socket.try_write(slice),
            slices => self.socket.try_write_vectored(slices),
        }
    }

    /// Takes the frames that are within the first `bytes` of what was offered, and keeps the rest of the one that was
    /// begun.
    fn settle(&mut self, batch: &Batch, offer: &Offer, bytes: usize) {
        let taken = if bytes == offer.bytes { offer.frames } else { self.settle_part(batch, bytes) };
        if let Some(sample) = self.subscription.sample_in(batch, taken) {
            self.note_latency(&sample);
        }
        self.subscription.take(batch, taken);
        self.registration.client.events.add(taken as u64);
        self.shard.counts().delivered.add(taken as u64);
    }

    /// Who came after the event has it from the history: that says nothing of the way to the sockets.
    #[cold]
    fn note_latency(&self, sample: &Sample) {
        let published_at = sample.published_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        if u128::from(self.registration.client.identity.connected_at) <= published_at.as_millis() {
            self.shard.counts().socket_latency.observe(sample.published.elapsed());
        }
    }

    fn settle_part(&mut self, batch: &Batch, mut bytes: usize) -> usize {
        let mut taken = 0;
        for frame in batch.frames() {
            if bytes == 0 {
                break;
            }
            taken += 1;
            let whole = if self.is_framed { frame.chunk().framed().len() } else { frame.sse().len() };
            if bytes < whole {
                self.pending = sse::bytes_for(frame.chunk(), self.is_framed).slice(bytes..);
                break;
            }
            bytes -= whole;
        }
        taken
    }

    fn end_of_body(&self) -> &'static [u8] {
        if self.is_framed { chunk::LAST } else { b"" }
    }

    /// Accounts for a write. None when the socket takes nothing now: the task is woken when it does.
    fn written(&mut self, result: io::Result<usize>, cx: &mut Context<'_>) -> Result<Option<usize>, Ending> {
        match result {
            Ok(0) => Err(Ending::Closed),
            Ok(bytes) => {
                self.last_write = self.shard.now();
                self.blocked_since = NEVER;
                self.registration.client.bytes.add(bytes as u64);
                self.shard.counts().delivered_bytes.add(bytes as u64);
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Poll::Ready(readiness) = self.socket.poll_write_ready(cx) {
                    readiness.map_err(ending_of)?;
                    // It took bytes again in between.
                    cx.waker().wake_by_ref();
                }
                Ok(None)
            }
            Err(error) => Err(ending_of(error)),
        }
    }

    /// Notices that the peer hung up. What it sends is passed over: no client of a stream has anything to say.
    ///
    /// Whoever is woken to write comes by here as well. A look at what the reactor knows is one load; to be entered with
    /// it takes a lock, and is needed at first and after the reactor has given the waker back: it knows of something then.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), Ending> {
        if usize::from(self.early_bytes) > MAX_EARLY_BYTES {
            return Err(Ending::Misused);
        }
        loop {
            let (socket, awaits_read) = (&self.socket, &mut self.awaits_read);
            let read = socket.try_io(Interest::READABLE, || {
                *awaits_read = false;
                Ok(rustix::io::read(socket, &mut [0; 1024])?)
            });
            match read {
                Ok(0) => return Err(Ending::Closed),
                Ok(bytes) => self.note_early_bytes(bytes)?,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(ending_of(error)),
                Err(_) if self.awaits_read => return Ok(()),
                Err(_) => match self.socket.poll_read_ready(cx) {
                    Poll::Ready(readiness) => readiness.map_err(ending_of)?,
                    Poll::Pending => {
                        // Without budget it was told to come again, and not entered.
                        self.awaits_read = coop::has_budget_remaining();
                        return Ok(());
                    }
                },
            }
        }
    }

    /// Notes bytes that the client sent on its stream.
    fn note_early_bytes(&mut self, bytes: usize) -> Result<(), Ending> {
        if self.early_bytes == 0 {
            let client = self.registration.client.identity.id;
            tracing::debug!(%client, bytes, "a client sends on its stream; it is not read");
        }
        let total = usize::from(self.early_bytes) + bytes;
        self.early_bytes = u16::try_from(total).unwrap_or(u16::MAX);
        if total > MAX_EARLY_BYTES { Err(Ending::Misused) } else { Ok(()) }
    }

    /// Says what the client missed, or ends its stream when that happened while it was reading.
    fn tell(&mut self, gap: &Gap) -> Result<(), Ending> {
        if gap.reason == GapReason::Lagged && self.on_lag == OnLag::Close {
            return Err(Ending::Lagged);
        }
        self.shard.counts().gaps[gap.reason as usize].add(1);
        self.pending = sse::bytes_for(&control_events::gap(gap), self.is_framed);
        Ok(())
    }

    /// Whether the client has heard nothing for as long as it wants to.
    fn is_quiet(&self) -> bool {
        self.shard.now() - self.last_write >= Second::from(self.heartbeat)
    }

    fn sign_of_life(&self) -> Bytes {
        let chunk = if self.takes_heartbeats { self.shard.heartbeat() } else { self.shard.comment.clone() };
        sse::bytes_for(&chunk, self.is_framed)
    }

    /// Makes sure that this is called when there is something to do without traffic.
    fn schedule(&mut self) {
        let due = match self.blocked_since {
            NEVER => self.last_write + Second::from(self.heartbeat),
            since => since + self.shard.write_timeout() + 1,
        };
        let now = self.shard.now();
        let due = if self.has_end { due.min(self.end_call(now)) } else { due }.min(now + LONGEST_CALL);
        if self.next_call > due || self.next_call <= now {
            let due = due.max(now + 1);
            self.next_call = due;
            self.shard.schedule(due, self.registration.key);
        }
    }

    /// When this is to be called because its grant ends, or is about to.
    #[cold]
    fn end_call(&self, now: Second) -> Second {
        let ends = self.registration.client.identity.standing.as_ref().and_then(|standing| standing.ends);
        ends.map_or(Second::MAX, |ends| if now + WARNING < ends { ends - WARNING } else { ends })
    }

    fn ended(&self, ending: Ending) {
        self.shard.counts().ended(ending).add(1);
        let client = &self.registration.client;
        let (id, name, remote) = (client.identity.id, client.identity.labels.name(), client.identity.remote);
        match ending {
            Ending::Lagged | Ending::Stalled | Ending::Misused => {
                let (reason, behind) = (ending.as_str(), self.subscription.behind());
                tracing::warn!(client = %id, name, %remote, reason, behind, events = client.events.get(), "client cut off");
            }
            Ending::Closed | Ending::Drained | Ending::Disconnected | Ending::TokenExpired | Ending::Revoked => {
                let (reason, connected_at) = (ending.as_str(), client.identity.connected_at);
                tracing::debug!(client = %id, name, %remote, reason, connected_at, "client gone");
            }
        }
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        match this.serve(cx) {
            Ok(()) => Poll::Pending,
            Err(ending) => {
                this.ended(ending);
                Poll::Ready(())
            }
        }
    }
}

/// What a failed socket says of its peer. The kernel reports a time-out when the peer acknowledged nothing for the
/// write timeout.
fn ending_of(error: io::Error) -> Ending {
    if error.kind() == io::ErrorKind::TimedOut { Ending::Stalled } else { Ending::Closed }
}

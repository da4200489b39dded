//! The other end of a hub whose events are numbered elsewhere: by a backbone that several servers share.
//!
//! **Contract.** What is published on such a hub waits in a queue until the relay takes it; nothing reaches a reader that
//! the relay has not appended. The relay appends events in the backbone's order, each once, from the position that
//! [`Relay::begin_after`] named; where it cannot go on from there it begins again, and every reader is told of the gap.
//!
//! **Replay.** A reader whose next event has left the rings asks the relay for what the backbone has kept, a page at a
//! time. Pages bear the same sequences as the rings, so the reader goes over to its rings after any event, exactly.
//!
//! **Resuming on a server that is behind.** A client may come with the id of an event that this hub does not have yet: it
//! read the event on another server. [`Hub::resolve`] asks the backbone how far its stream reaches. A position within
//! that extent is waited for; one beyond it was never given.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::filter::Start;
use super::frame::Frame;
use super::gap::GapReason;
use super::{Hub, PublishError, Published};
use crate::event::Event;
use crate::position::{Sequence, StreamPosition};
use crate::ring::Ring;
use crate::sync::Arc;
use crate::wire::{chunk, sse};

/// How many publications wait for the relay at most; whoever publishes more waits for room.
const QUEUE: usize = 4096;

/// Feeds a [`Hub`] with events that are numbered elsewhere; see [`Hub::relayed`].
#[derive(Clone)]
pub struct Relay(Hub);

/// What the hub asks of whoever numbers its events.
pub struct Requests {
    /// What is to be published, in the order in which it came.
    pub publications: mpsc::Receiver<PublishRequest>,
    /// What readers want to read again.
    pub replays: mpsc::UnboundedReceiver<Replay>,
    /// Questions how far the backbone's stream reaches.
    pub extents: mpsc::UnboundedReceiver<ExtentRequest>,
}

/// Events that are to get positions next to each other, all or none.
pub struct PublishRequest {
    /// At least one.
    pub events: Vec<Event>,
    reply: oneshot::Sender<Result<Published, PublishError>>,
}

impl PublishRequest {
    /// Tells the publisher what became of it.
    pub fn answer(self, answer: Result<Published, PublishError>) {
        // The publisher may have given up waiting.
        let _ = self.reply.send(answer);
    }

    /// Whether nobody waits for the answer any more.
    pub fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

/// A reader's question for the events after a position.
pub struct Replay {
    /// The last one that the reader has.
    pub after: StreamPosition,
    reply: oneshot::Sender<Page>,
}

impl Replay {
    /// Gives the reader the oldest events after its position that are there: an empty page when there are none. The
    /// reader passes over events of the page that it has already.
    pub fn answer(self, page: &Page) {
        let _ = self.reply.send(page.clone());
    }

    /// Whether the reader is gone.
    pub fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

/// A question how far the backbone's stream reaches at a moment after the question was asked.
pub struct ExtentRequest {
    /// When it was asked.
    pub asked: Instant,
    /// The position that a subscriber has. If the stream does not reach it, the stream has to be the right one for certain.
    pub wanted: Option<StreamPosition>,
    reply: oneshot::Sender<Extent>,
}

impl ExtentRequest {
    /// Whether a stream of this extent has all that is wanted.
    pub fn is_within(&self, extent: &Extent) -> bool {
        self.wanted.is_none_or(|wanted| extent.reaches(wanted))
    }

    /// Sends the answer.
    pub fn answer(self, extent: Extent) {
        // The subscriber may have hung up.
        let _ = self.reply.send(extent);
    }

    /// Whether the answer is no longer awaited.
    pub fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

/// What a backbone retains of its current epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The position after which the oldest retained event comes.
    pub before_oldest: StreamPosition,
    /// The newest position that was given.
    pub newest: StreamPosition,
}

impl Extent {
    /// Whether `position` was given, in this epoch or in an earlier one.
    pub fn reaches(&self, position: StreamPosition) -> bool {
        (position.epoch, position.sequence) <= (self.newest.epoch, self.newest.sequence)
    }
}

/// The hub does not have the events up to the position asked for, and the backbone did not supply them in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this server has not caught up with its backbone")]
pub struct NotCaughtUp;

/// Events that follow each other, encoded once for all readers that want them again. Cheap to clone.
#[derive(Clone)]
pub struct Page {
    pub(super) frames: Arc<Ring<Frame>>,
    bytes: usize,
}

impl Page {
    /// The memory that it takes, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The hub's end of the queues.
pub(super) struct Requester {
    publications: mpsc::Sender<PublishRequest>,
    replays: mpsc::UnboundedSender<Replay>,
    extents: mpsc::UnboundedSender<ExtentRequest>,
    /// Notified whenever the relay has moved the head.
    progress: Notify,
    /// How long a publisher waits at most.
    patience: Duration,
}

impl Requester {
    pub(super) fn new(patience: Duration) -> (Self, Requests) {
        let (publications, publications_of) = mpsc::channel(QUEUE);
        let (replays, replays_of) = mpsc::unbounded_channel();
        let (extents, extents_of) = mpsc::unbounded_channel();
        let requests = Requests { publications: publications_of, replays: replays_of, extents: extents_of };
        (Self { publications, replays, extents, progress: Notify::new(), patience }, requests)
    }

    pub(super) async fn publish(&self, events: Vec<Event>) -> Result<Published, PublishError> {
        let permit = match timeout(self.patience, self.publications.reserve()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(PublishError::Closed),
            Err(_) => return Err(PublishError::Unavailable),
        };
        let (reply, answer) = oneshot::channel();
        permit.send(PublishRequest { events, reply });
        // The relay may have ended after it had sent the events.
        answer.await.unwrap_or(Err(PublishError::Unknown))
    }

    /// Asks for the events after `after`.
    pub(super) fn replay(&self, after: StreamPosition) -> oneshot::Receiver<Page> {
        let (reply, page) = oneshot::channel();
        // When nobody takes it, the reader finds its sender gone.
        let _ = self.replays.send(Replay { after, reply });
        page
    }

    /// Asks how far the backbone's stream reaches.
    async fn extent(&self, wanted: Option<StreamPosition>, deadline: Instant) -> Result<Extent, NotCaughtUp> {
        let (reply, extent) = oneshot::channel();
        self.extents.send(ExtentRequest { asked: Instant::now(), wanted, reply }).map_err(|_| NotCaughtUp)?;
        timeout_at(deadline, extent).await.ok().and_then(Result::ok).ok_or(NotCaughtUp)
    }
}

impl Hub {
    /// Turns `start` into one that this hub can serve. On a hub that numbers its own events that is `start` itself. On a
    /// [relayed](Hub::relayed) hub:
    ///
    /// * [`Start::After`] a position that is not here yet is looked up in the backbone. If it was given, this waits until
    ///   the relay has caught up with it; otherwise the result is [`Start::UnknownId`].
    /// * [`Start::Earliest`] becomes the position before the oldest event that the backbone retains.
    ///
    /// # Errors
    /// [`NotCaughtUp`] when that takes longer than `patience`.
    pub async fn resolve(&self, start: Start, patience: Duration) -> Result<Start, NotCaughtUp> {
        let Some(requester) = self.0.history.requester() else { return Ok(start) };
        let deadline = Instant::now() + patience;
        match start {
            Start::Earliest => {
                let extent = requester.extent(None, deadline).await?;
                // The extent may be that of an epoch which the relay has not come to.
                self.wait_for(requester, extent.before_oldest, deadline).await?;
                Ok(Start::After(extent.before_oldest))
            }
            Start::After(position) if position != StreamPosition::UNKNOWN && !self.has_passed(position) => {
                if !requester.extent(Some(position), deadline).await?.reaches(position) {
                    return Ok(Start::UnknownId);
                }
                self.wait_for(requester, position, deadline).await?;
                Ok(start)
            }
            _ => Ok(start),
        }
    }

    async fn wait_for(
        &self,
        requester: &Requester,
        position: StreamPosition,
        deadline: Instant,
    ) -> Result<(), NotCaughtUp> {
        loop {
            // Entered before the look at the head, so that progress between the two is not missed.
            let mut progress = pin!(requester.progress.notified());
            progress.as_mut().enable();
            if self.has_passed(position) {
                return Ok(());
            }
            timeout_at(deadline, progress).await.map_err(|_| NotCaughtUp)?;
        }
    }

    /// Whether the hub has come to `position`, or to a later epoch.
    fn has_passed(&self, position: StreamPosition) -> bool {
        let head = self.position();
        (position.epoch, position.sequence) <= (head.epoch, head.sequence)
    }
}

impl Relay {
    pub(super) fn new(hub: Hub) -> Self {
        Self(hub)
    }

    /// Goes on after `position`: the next event that is appended is the one behind it. Nothing that was appended before
    /// is retained, and readers are told of a gap for `reason`.
    pub fn begin_after(&self, position: StreamPosition, reason: GapReason) {
        let inner = &self.0.0;
        inner.sequencer.break_off(&inner.history, position, reason);
        self.notify_progress();
    }

    /// Appends `events` behind the newest, each with the next sequence.
    pub fn append(&self, events: &[Event]) {
        let inner = &self.0.0;
        inner.sequencer.append_numbered(&inner.history, events);
        self.notify_progress();
    }

    fn notify_progress(&self) {
        if let Some(requester) = self.0.0.history.requester() {
            requester.progress.notify_waiters();
        }
    }

    /// The position of the newest event that was appended, or that the hub began after.
    pub fn position(&self) -> StreamPosition {
        self.0.position()
    }

    /// Encodes events that follow each other from `first` on; none when that is a position of another epoch, whose
    /// events no reader may have.
    pub fn page(&self, first: StreamPosition, events: &[Event]) -> Option<Page> {
        let (_, last, _) = self.0.0.history.now();
        let sequence = last.numbering.sequence(first)?;
        let mut block = chunk::Builder::default();
        for (number, event) in (first.sequence..).zip(events) {
            sse::encode(StreamPosition::new(first.epoch, number), event, &mut block);
        }
        let bytes = block.len() + events.len() * size_of::<Frame>();
        let (ring, mut writer) = Ring::new(events.len());
        for ((number, event), chunk) in (sequence..).zip(events).zip(block.finish()) {
            ring.push(&mut writer, Frame::new(number, event.topic().clone(), chunk));
        }
        Some(Page { frames: Arc::new(ring), bytes })
    }

    /// A page without events.
    pub fn empty_page(&self) -> Page {
        Page { frames: Arc::new(Ring::new(1).0), bytes: 0 }
    }
}

/// Whether a sequence stands in a page, and from which index on a reader that has it goes on.
pub(super) fn place_after(page: &Page, sequence: Sequence) -> u64 {
    page.frames.partition_point(|frame| frame.sequence() <= sequence)
}

/// A reader that reads again what left the rings.
pub(super) enum CatchUp {
    /// It has to look whether its rings have what comes next.
    Placing,
    /// It waits for a page.
    Waiting(oneshot::Receiver<Page>),
    /// It reads a page, from this index on.
    Reading(Page, u64),
}

#[cfg(all(test, not(fanline_loom)))]
mod tests;

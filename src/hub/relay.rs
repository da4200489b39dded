//! The other end of a hub whose events are numbered elsewhere: by a backbone that several servers share.
//!
//! **Contract.** What is published on such a hub waits in a queue until the relay takes it; nothing reaches a reader that
//! the relay has not appended. The relay appends events in the backbone's order, each once, from the position that
//! [`Relay::begin_after`] named; where it cannot go on from there it begins again, and every reader is told of the gap.
//!
//! **Replay.** A reader whose next event has left the rings asks the relay for what the backbone has kept, a page at a
//! time. Pages bear the same sequences as the rings, so the reader goes over to its rings after any event, exactly.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

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
    pub publications: mpsc::Receiver<Publication>,
    /// What readers want to read again.
    pub replays: mpsc::UnboundedReceiver<Replay>,
}

/// Events that are to get positions next to each other, all or none.
pub struct Publication {
    /// At least one.
    pub events: Vec<Event>,
    reply: oneshot::Sender<Result<Published, PublishError>>,
}

impl Publication {
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
    publications: mpsc::Sender<Publication>,
    replays: mpsc::UnboundedSender<Replay>,
    /// How long a publisher waits at most.
    patience: Duration,
}

impl Requester {
    pub(super) fn new(patience: Duration) -> (Self, Requests) {
        let (publications, publications_of) = mpsc::channel(QUEUE);
        let (replays, replays_of) = mpsc::unbounded_channel();
        (Self { publications, replays, patience }, Requests { publications: publications_of, replays: replays_of })
    }

    pub(super) async fn publish(&self, events: Vec<Event>) -> Result<Published, PublishError> {
        let permit = match timeout(self.patience, self.publications.reserve()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(PublishError::Closed),
            Err(_) => return Err(PublishError::Unavailable),
        };
        let (reply, answer) = oneshot::channel();
        permit.send(Publication { events, reply });
        // The relay answers in its time; without one, nothing was published.
        answer.await.unwrap_or(Err(PublishError::Closed))
    }

    /// Asks for the events after `after`.
    pub(super) fn replay(&self, after: StreamPosition) -> oneshot::Receiver<Page> {
        let (reply, page) = oneshot::channel();
        // When nobody takes it, the reader finds its sender gone.
        let _ = self.replays.send(Replay { after, reply });
        page
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
    }

    /// Appends `events` behind the newest, each with the next sequence.
    pub fn append(&self, events: &[Event]) {
        let inner = &self.0.0;
        inner.sequencer.append_numbered(&inner.history, events);
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

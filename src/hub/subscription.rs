//! The one way to read a hub.
//!
//! **Contract.** A subscription delivers the events of its topics in sequence order, from the place where it starts,
//! each once. When it cannot, it says so: a [`Gap`] comes before any event that follows the missing ones. Replay and live
//! are not two things: a cursor stands in a ring, and whether what it reads was published a minute or a microsecond ago
//! makes no difference to it. So there is no hand-over that could lose or repeat an event.
//!
//! **Several topics.** Each has its own cursor; the frames that are ready are merged by sequence. The history's head is
//! loaded before any ring is read, and nothing beyond it is taken, so that a later read cannot find an earlier sequence
//! (see `sequencer`).
//!
//! **Subscribing against publishing.** The subscription is entered with its channels' listeners first, and finds its
//! place afterwards. An event that is published in between is found in the ring; one that comes later wakes it.
//!
//! **Catching up.** When the next event has left the rings and a backbone keeps it, the cursors wait where they are and
//! pages of what was kept come first ([`super::relay`]). After each page the cursors are placed anew behind the last event
//! that was taken: once nothing is missing in between, the rings go on. Pages bear the rings' sequences, and nothing
//! beyond the head is taken from one, so that no event comes from both.
//!
//! **Breaks.** Where a backbone's order cannot be continued, the rings are emptied and the history counts a break. The
//! head is loaded before that count, so that nothing that follows a break is delivered before its gap was told.
//!
//! **Evicting against reading.** A cursor is an index. Between two reads its frames may be evicted: the ring then says
//! so, and the gap counts the indices in between. While a batch is held its frames stay in memory.

mod gaps;
mod start;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use smallvec::SmallVec;

use super::channel::Channel;
use super::filter::{Start, SubscriptionFilter};
use super::frame::Frame;
use super::gap::{Gap, GapReason};
use super::history::{History, TooManyTopics};
use super::merge::Batch;
use super::relay::{CatchUp, place_after};
use super::sampler::Sample;
use super::wake::{SleeperKey, WakeGroup};
use crate::position::{Sequence, StreamPosition};
use crate::ring::Read;
use crate::sync::Arc;

/// A reader of some topics of a [`Hub`](super::Hub).
pub struct Subscription {
    history: Arc<History>,
    group: Arc<WakeGroup>,
    key: SleeperKey,
    waker: Option<Waker>,
    cursors: SmallVec<[Cursor; 2]>,
    /// What is picked from the firehose; none when everything is, or when it is not read at all.
    filter: Option<Box<SubscriptionFilter>>,
    /// The last sequence that was taken, or that this began after.
    taken: Sequence,
    /// The gaps before the place where this goes on.
    #[expect(clippy::box_collection, reason = "there are very many subscriptions, and most have no gap")]
    gaps: Option<Box<VecDeque<Gap>>>,
    /// What comes before the cursors' next.
    catch_up: Option<Box<CatchUp>>,
    /// How many breaks of the order it knows of.
    breaks: u32,
    /// Whether it began with the oldest event there is, whichever that was.
    from_oldest: bool,
    /// What [`Subscription::next`] has read and not yet handed out.
    #[expect(clippy::box_collection, reason = "there are very many subscriptions, and those of a server never use it")]
    ready: Option<Box<VecDeque<Frame>>>,
}

struct Cursor {
    channel: Arc<Channel>,
    /// The index of the frame that is read next.
    index: u64,
}

/// Where a subscription began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// What a client holds as its last id before the gap that `position` speaks of, if it does: resuming after this gets the
    /// same opening and the same gap. It is `position`, or the position of another epoch that was asked for,
    /// or else [`StreamPosition::UNKNOWN`].
    pub id: StreamPosition,
    /// The position after which the events come. None when the position asked for is not one of this epoch: a gap then
    /// says where the stream goes on.
    pub position: Option<StreamPosition>,
    /// How many retained events come first. None when they have to be fetched from a backbone, which has not counted them.
    pub replayed: Option<u64>,
}

/// What a subscription delivers.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// An event.
    Event(Frame),
    /// Word of events that will not come.
    Gap(Gap),
}

impl Subscription {
    pub(super) fn open(
        history: Arc<History>,
        group: Arc<WakeGroup>,
        filter: SubscriptionFilter,
        start: Start,
        max_silent: usize,
    ) -> Result<(Self, Opening), TooManyTopics> {
        let key = group.enter();
        let mut channels = Vec::with_capacity(filter.topics.len() + 1);
        let entered = history.with_channels(&filter.topics, max_silent, |channel| {
            channel.listeners.add(&group, key);
            channels.push(channel.clone());
        });
        if let Err(too_many) = entered {
            group.leave(key);
            return Err(too_many);
        }
        if filter.reads_firehose() {
            history.firehose.listeners.add(&group, key);
            channels.push(history.firehose.clone());
        }
        let filter = (filter.reads_firehose() && !filter.is_everything()).then(|| Box::new(filter));
        let mut subscription = Self {
            history,
            group,
            key,
            waker: None,
            cursors: channels.into_iter().map(|channel| Cursor { channel, index: 0 }).collect(),
            filter,
            taken: 0,
            gaps: None,
            catch_up: None,
            breaks: 0,
            from_oldest: start == Start::Earliest,
            ready: None,
        };
        let opening = subscription.find_place(start);
        Ok((subscription, opening))
    }

    /// The next event or gap, as soon as there is one. A subscription that lagged goes on after its gap with the oldest
    /// retained event.
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Delivery {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The poll function behind [`Subscription::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Delivery> {
        if let Some(frame) = self.ready.as_mut().and_then(|ready| ready.pop_front()) {
            return Poll::Ready(Delivery::Event(frame));
        }
        let mut batch = Batch::default();
        match ready!(self.poll_fill(cx, &mut batch)) {
            Err(gap) => Poll::Ready(Delivery::Gap(gap)),
            Ok(()) => {
                self.take(&batch, batch.len());
                let ready = self.ready.get_or_insert_default();
                ready.extend(batch.frames().cloned());
                Poll::Ready(Delivery::Event(ready.pop_front().expect("a batch that is ready has a frame")))
            }
        }
    }

    /// The position up to which everything was delivered.
    pub fn position(&self) -> StreamPosition {
        let next = self.ready.as_ref().and_then(|ready| ready.front());
        self.history.position(next.map_or(self.taken, |next| next.sequence() - 1))
    }

    /// Fills `batch` with what is ready, at least one frame; or says what is missing before it.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), Gap>> {
        if self.catch_up.is_some() {
            match self.poll_catch_up(cx, batch) {
                Poll::Ready(Ok(())) if batch.is_empty() => {}
                other => return other,
            }
        }
        self.fill(batch)?;
        if batch.is_empty() && self.wake(cx.waker()) {
            // Once more: what came before the waker was set would have woken nobody.
            self.fill(batch)?;
        }
        if batch.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    /// Has `waker` woken by whatever is published from now on. Answers whether that is new.
    pub(crate) fn wake(&mut self, waker: &Waker) -> bool {
        if self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return false;
        }
        self.group.set_waker(self.key, waker);
        self.waker = Some(waker.clone());
        true
    }

    /// Fills `batch` with what is ready, which may be nothing; or says what is missing before it.
    pub(crate) fn fill(&mut self, batch: &mut Batch) -> Result<(), Gap> {
        batch.clear();
        if let Some(gap) = self.next_gap() {
            return Err(gap);
        }
        let head = self.history.head();
        // After the head: whatever follows a break is beyond a head that was loaded before it.
        if let Some(gap) = self.broken() {
            return Err(gap);
        }
        for (number, cursor) in self.cursors.iter().enumerate() {
            match cursor.channel.ring.read(cursor.index) {
                Read::Empty => {}
                Read::Lagged => {
                    batch.clear();
                    return Err(self.lag(head));
                }
                Read::Run(run) => batch.open(number, run),
            }
        }
        while !batch.is_full()
            && let Some((place, limit)) = batch.earliest(head)
        {
            let filter = self.filter_of(&self.cursors[batch.cursor(place)].channel);
            let ended = match filter {
                None => batch.pick(place, limit),
                Some(filter) => batch.pick_some(place, limit, |frame| filter.matches_in_firehose(frame.topic())),
            };
            if let Some((cursor, index)) = ended {
                match self.cursors[cursor].channel.ring.read(index) {
                    Read::Empty => batch.close(place),
                    Read::Run(run) => batch.extend(place, run),
                    // What the others have next may come after what is missing here: the next fill tells.
                    Read::Lagged => {
                        batch.cut();
                        break;
                    }
                }
            }
        }
        batch.finish();
        if batch.is_empty() {
            self.take(batch, 0);
        }
        Ok(())
    }

    /// Fills `batch` with events that have left the rings, or with none when the rings have what comes next.
    fn poll_catch_up(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), Gap>> {
        self.wake(cx.waker());
        batch.clear();
        if let Some(gap) = self.next_gap() {
            return Poll::Ready(Err(gap));
        }
        let head = self.history.head();
        if let Some(gap) = self.broken() {
            return Poll::Ready(Err(gap));
        }
        loop {
            match self.catch_up.as_deref_mut() {
                None => return Poll::Ready(Ok(())),
                Some(CatchUp::Placing) => {
                    let is_missing = !self.place_cursors(self.taken).is_empty();
                    self.catch_up = is_missing.then(|| {
                        let after = self.history.position(self.taken);
                        let requester = self.history.requester().expect("who catches up has a relay");
                        Box::new(CatchUp::Waiting(requester.replay(after)))
                    });
                }
                Some(CatchUp::Waiting(page)) => {
                    let page = ready!(Pin::new(page).poll(cx)).ok();
                    let oldest = page.as_ref().and_then(|page| match page.frames.read(place_after(page, self.taken)) {
                        Read::Run(run) => Some(run.get(run.indices().start).sequence()),
                        _ => None,
                    });
                    let (Some(page), Some(oldest)) = (page, oldest) else {
                        // Nobody has them any more.
                        self.catch_up = None;
                        self.place_or_tell(GapReason::Evicted, head);
                        return match self.next_gap() {
                            Some(gap) => Poll::Ready(Err(gap)),
                            None => Poll::Ready(Ok(())),
                        };
                    };
                    let index = place_after(&page, self.taken);
                    **self.catch_up.as_mut().expect("it waits") = CatchUp::Reading(page, index);
                    let before = (oldest - 1).min(head);
                    if before > self.taken && !self.from_oldest {
                        let missed = self.is_all().then(|| before - self.taken);
                        let (from, to) = (Some(self.history.position(self.taken)), self.history.position(before));
                        self.taken = before;
                        return Poll::Ready(Err(Gap {
                            reason: GapReason::Evicted,
                            from,
                            to,
                            missed,
                            topics: None,
                            resume: to,
                        }));
                    }
                    self.from_oldest = false;
                }
                Some(CatchUp::Reading(page, index)) => {
                    let (page, index) = (page.frames.clone(), *index);
                    if let Read::Run(run) = page.read(index) {
                        batch.open(0, run);
                    }
                    let wants = |frame: &Frame| match &self.filter {
                        Some(filter) => filter.matches(frame.topic()),
                        None => self.cursors.iter().any(|cursor| cursor.channel.matches(frame.topic())),
                    };
                    while !batch.is_full()
                        && let Some((place, limit)) = batch.earliest(head)
                    {
                        if let Some((_, index)) = batch.pick_some(place, limit, wants) {
                            match page.read(index) {
                                Read::Run(run) => batch.extend(place, run),
                                _ => batch.close(place),
                            }
                        }
                    }
                    batch.finish();
                    // Whatever comes next, this has to be asked again.
                    batch.cut();
                    if !batch.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    let end = page.partition_point(|frame| frame.sequence() <= head);
                    if let Some(last) = end.checked_sub(1)
                        && let Read::Run(run) = page.read(last)
                    {
                        self.taken = self.taken.max(run.get(last).sequence());
                    }
                    **self.catch_up.as_mut().expect("it reads") = CatchUp::Placing;
                }
            }
        }
    }

    /// Whether it takes every event of the hub.
    fn is_all(&self) -> bool {
        self.filter.is_none() && self.cursors.iter().any(|cursor| cursor.channel.topic.is_none())
    }

    /// When the sampled event was published, if it is among the first `count` frames of `batch`, which was filled last and
    /// not taken yet.
    pub(crate) fn sample_in(&self, batch: &Batch, count: usize) -> Option<Sample> {
        let sequence = self.history.sampler.sequence();
        if sequence <= self.taken || !batch.frames().take(count).any(|frame| frame.sequence() == sequence) {
            return None;
        }
        self.history.sampler.sample(sequence)
    }

    /// Moves on past the first `count` frames of `batch`, which was filled last.
    pub(crate) fn take(&mut self, batch: &Batch, count: usize) {
        if let Some(CatchUp::Reading(_, index)) = self.catch_up.as_deref_mut() {
            for (_, next, last) in batch.stretches(count) {
                *index = next;
                self.taken = last;
            }
            return;
        }
        for (cursor, next, last) in batch.stretches(count) {
            self.cursors[cursor].index = next;
            self.taken = last;
        }
        if count == batch.len() {
            for &(cursor, index) in batch.ends() {
                self.cursors[cursor].index = index;
            }
        } else if self.filter.is_some() {
            self.follow_taken();
        }
    }

    /// Moves the firehose's cursor past all that came up to the last frame that was taken. After a part of a batch no frame
    /// of its own need have moved it: what it has passed over is not wanted, or was taken from a topic's ring.
    #[cold]
    fn follow_taken(&mut self) {
        let Some(Cursor { channel, index }) = self.cursors.last_mut() else { return };
        let next = channel.ring.partition_point(|frame| frame.sequence() <= self.taken);
        // A retained frame before it shows that none was evicted in between.
        if next > *index && matches!(channel.ring.read(next - 1), Read::Run(_)) {
            *index = next;
            return;
        }
        // What was evicted in between is the next to be read: that is how it is found missing.
        let place = channel.place_after(self.taken);
        *index = place.index.saturating_sub(place.evicted.is_some().into()).max(*index);
    }

    /// Whether there is a gap that was not handed out yet.
    pub(crate) fn has_gap(&self) -> bool {
        self.gaps.is_some()
    }

    /// Whether something that was to be read next has been evicted.
    pub(crate) fn has_lagged(&self) -> bool {
        // A break takes all that there was, and has a gap of its own; a reader that catches up reads no ring.
        self.catch_up.is_none()
            && self.cursors.iter().any(|cursor| matches!(cursor.channel.ring.read(cursor.index), Read::Lagged))
            && self.breaks == self.history.break_count()
    }

    /// How many events of its channels this has passed, counted from the first that was ever there; see
    /// [`Hub::appended`](super::Hub).
    pub(crate) fn passed(&self) -> u64 {
        self.counted().iter().map(|cursor| cursor.index).sum()
    }

    /// How many events of its channels this is behind the newest; with a pattern, those that it does not want included.
    pub(crate) fn behind(&self) -> u64 {
        self.counted().iter().map(|cursor| cursor.channel.ring.retained().end.saturating_sub(cursor.index)).sum()
    }

    /// The cursors that show how far this is behind. The firehose has the events of the named topics too: beside
    /// it they are not counted again. Those that left the firehose and are still read from a topic's ring are not counted.
    fn counted(&self) -> &[Cursor] {
        if self.filter.is_some() { &self.cursors[self.cursors.len() - 1..] } else { &self.cursors }
    }

    /// What is picked from the channel; none when everything is.
    fn filter_of(&self, channel: &Channel) -> Option<&SubscriptionFilter> {
        self.filter.as_deref().filter(|_| channel.topic.is_none())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        for cursor in &self.cursors {
            cursor.channel.listeners.remove(&self.group, self.key);
        }
        self.group.leave(self.key);
    }
}

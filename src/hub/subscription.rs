//! A subscription: a cursor for each of its topics, merged by sequence.
//!
//! **Contract.** A subscription delivers the events of its topics in sequence order, each once, from where it starts. A
//! [`Gap`] precedes any event that follows missing ones. Replay and live delivery are the same: a cursor is an index into
//! a ring, and the age of what it reads makes no difference. No hand-over can lose or repeat an event.
//!
//! **States.** [`State::Live`] reads the rings. [`State::Gap`] has gaps to deliver before anything else.
//! [`State::CatchUp`] reads pages of an archive ([`super::relay`]) because the next event has left the rings.
//!
//! **Several topics.** Each has its own cursor; the frames that are ready are merged by sequence. The history's head is
//! loaded before any ring is read, and nothing beyond it is taken, so that a later read cannot find an earlier sequence
//! (see `sequencer`).
//!
//! **Subscribing against publishing.** The subscription is added to its channels' listeners first, and finds its place
//! afterwards. An event published in between is found in the ring; a later one wakes the subscription.
//!
//! **Catching up.** The cursors wait while pages are read. After each page they are placed behind the last event taken;
//! once nothing is missing in between, they read the rings. Pages have the rings' sequences, and nothing beyond the head is
//! taken from one, so that no event comes from both.
//!
//! **Breaks.** Where the order of a backbone cannot be continued, the rings are emptied and the history counts a break. The
//! head is loaded before that count, so that nothing that follows a break is delivered before its gap.
//!
//! **The end.** A hub is closed behind its last event: it stores the head, then that it is closed, and then wakes all
//! subscriptions. One that finds the hub closed, and nothing in the rings afterwards, has read everything. It looks for that
//! again once its waker is set, so that a hub that is closed in between is not missed.
//!
//! **Shared batches.** Most subscriptions of a server read the same topic and are at the same place. A batch remembers the stretch
//! of the ring that it was filled from, and the next subscription that is to read the same stretch finds it filled.
//!
//! **Evicting against reading.** A cursor's frames may be evicted between two reads: the ring then reports a lag, and the
//! gap counts the indices in between. While a batch is held its frames stay in memory.

mod catch_up;
mod changes;
mod compressed;
mod gaps;
mod latest;
mod progress;
mod reader;
mod selection;
mod shared;
mod start;

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use smallvec::SmallVec;

use super::channel::Channel;
use super::filter::SubscriptionFilter;
use super::frame::Frame;
use super::gap::Gap;
use super::history::History;
use super::merge::Batch;
use super::prefixes::PrefixList;
use super::sampler::Sample;
use super::topics::TooManyTopics;
use super::wake::{SleeperKey, WakeGroup};
use crate::position::{Sequence, StreamPosition};
use crate::ring::Read;
use crate::sync::Arc;
use catch_up::CatchUp;
pub use changes::{Change, LatestSubscription};
pub(crate) use latest::Notice;
pub use latest::{Mode, Snapshot};
use reader::Reader;
use selection::Selection;
pub(crate) use shared::{Coding, Moment, Shared, SharedValues};
pub use start::{Opening, Start};

/// A reader of some topics of a [`Hub`](super::Hub): a [`Stream`] of [`Delivery`].
///
/// It ends when the hub is closed, by [`Hub::close`](super::Hub::close) or with its last handle, and everything was read.
///
/// A subscription that reads more slowly than events are published lags: its next events leave the history. It then gets
/// a [`Gap`] and continues with the oldest retained event.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use fanline::event::{Event, Payload};
/// use fanline::hub::{Delivery, GapReason, Hub, HubOptions, Start, SubscriptionFilter};
/// use fanline::topic::{Topic, TopicFilter};
///
/// let hub = Hub::new(&HubOptions { history: 2, ..HubOptions::default() });
/// let topic = Topic::new("metric").unwrap();
/// let filter = SubscriptionFilter::of([TopicFilter::Exact(topic.clone())]);
/// let (mut subscription, _) = hub.subscribe(filter, Start::Live);
/// for text in ["1", "2", "3", "4", "5"] {
///     hub.publish(Event::new(topic.clone(), Payload::text(text))).await.unwrap();
/// }
///
/// let Some(Delivery::Gap(gap)) = subscription.next().await else { panic!("three events were evicted") };
/// assert_eq!((gap.reason, gap.missed), (GapReason::Lagged, Some(3)));
/// assert_eq!(gap.to.sequence, 3);
/// let Some(Delivery::Event(frame)) = subscription.next().await else { panic!("two events are retained") };
/// assert_eq!(frame.sequence(), 4);
///
/// hub.close();
/// assert!(matches!(subscription.next().await, Some(Delivery::Event(_))));
/// assert!(subscription.next().await.is_none());
/// # }
/// ```
pub struct Subscription {
    history: Arc<History>,
    group: Arc<WakeGroup>,
    key: SleeperKey,
    /// What the next event wakes.
    reader: Reader,
    cursors: SmallVec<[Cursor; 2]>,
    /// Selects from the firehoses; `None` when all of one is wanted, or when none is read.
    selection: Option<Box<Selection>>,
    /// The last sequence that was taken, or that this began after.
    taken: Sequence,
    state: State,
    /// How many breaks of the order it has passed.
    breaks: u32,
    /// Whether it began with the oldest event there is, whichever that was.
    from_oldest: bool,
    /// Frames that [`Subscription::next`] has read and not yet returned.
    #[expect(clippy::box_collection, reason = "there are very many subscriptions, and those of a server never use it")]
    ready: Option<Box<VecDeque<Frame>>>,
}

/// What a subscription reads next.
enum State {
    /// The rings.
    Live,
    /// At least one gap, delivered before the next event.
    #[expect(clippy::box_collection, reason = "there are very many subscriptions, and most have no gap")]
    Gap(Box<VecDeque<Gap>>),
    /// Pages of an archive, until the rings have the next event.
    CatchUp(Box<CatchUp>),
    /// The lists of latest values.
    Latest(Box<latest::Latest>),
}

struct Cursor {
    channel: Arc<Channel>,
    /// The index of the frame that is read next.
    index: u64,
}

/// What a subscription delivers. There is no third kind, so that a `match` names gaps.
///
/// ```
/// use fanline::hub::{Delivery, GapReason};
///
/// /// What a cache does with a delivery.
/// fn apply(delivery: Delivery) -> String {
///     match delivery {
///         Delivery::Event(frame) => format!("set {} to {}", frame.topic(), frame.payload()),
///         Delivery::Gap(gap) if gap.reason == GapReason::Lagged => "load everything again: too slow".to_owned(),
///         Delivery::Gap(gap) => format!("load everything again: events up to {} are missing", gap.to),
///     }
/// }
/// # use fanline::{Hub, hub::Start, event::{Event, Payload}};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let hub = Hub::default();
/// # let (mut deliveries, _) = hub.subscribe("metric".parse()?, Start::Live);
/// # hub.publish(Event::new("metric".parse()?, Payload::text("1"))).await?;
/// # assert_eq!(deliveries.next().await.map(apply).as_deref(), Some("set metric to 1"));
/// # let (mut deliveries, _) = hub.subscribe("metric".parse()?, Start::UnknownId);
/// # assert!(deliveries.next().await.map(apply).unwrap().ends_with("are missing"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub enum Delivery {
    /// An event.
    Event(Frame),
    /// Events are missing here; [`Gap::reason`] tells whether the subscription lagged, or what else happened.
    Gap(Gap),
}

impl Subscription {
    pub(super) fn open(
        history: Arc<History>,
        group: Arc<WakeGroup>,
        filter: SubscriptionFilter,
        mode: Mode,
        start: Start,
        max_silent: usize,
    ) -> Result<(Self, Opening), TooManyTopics> {
        let key = group.enter();
        let (mut cursors, mut prefixes) = (SmallVec::new(), PrefixList::new());
        let cursor = |channel: &Arc<Channel>| Cursor { channel: channel.clone(), index: 0 };
        let enter = |channel: &Arc<Channel>| {
            channel.listeners.add(&group, key);
            cursors.push(cursor(channel));
        };
        if let Err(too_many) = history.topics.enter(&filter.topics, max_silent, &history.ledger, enter) {
            group.leave(key);
            return Err(too_many);
        }
        for firehose in history.firehoses().into_iter().filter(|firehose| filter.reads(firehose.is_reserved)) {
            // A reader of latest values catches up with each event, so that no deletion is forgotten that it has not passed.
            let patterns = filter.patterns(firehose.is_reserved).filter(|_| mode == Mode::Events);
            let enter = |patterns| history.prefixes_of(firehose).enter(patterns, &group, key, &mut prefixes);
            if !patterns.is_some_and(enter) {
                firehose.listeners.add(&group, key);
            }
            cursors.push(cursor(firehose));
        }
        let mut subscription = Self {
            history,
            group,
            key,
            reader: Reader::default(),
            cursors,
            selection: filter.selects().then(|| Box::new(Selection { filter, prefixes })),
            taken: 0,
            state: State::Live,
            breaks: 0,
            from_oldest: start == Start::Earliest,
            ready: None,
        };
        let opening = match mode {
            Mode::Events => subscription.find_place(start),
            Mode::Latest => subscription.find_place_of_latest(start),
        };
        Ok((subscription, opening))
    }

    /// Returns the next event or gap, as soon as there is one; `None` when the hub is closed and everything was read.
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Delivery> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The position up to which everything was delivered.
    pub fn position(&self) -> StreamPosition {
        let next = self.ready.as_ref().and_then(|ready| ready.front());
        self.history.position(next.map_or(self.taken, |next| next.sequence() - 1))
    }

    /// [`Subscription::poll_fill`], or `None` at the end.
    fn poll_fill_or_end(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Option<Result<(), Notice>>> {
        loop {
            // Before the rings are read: then nothing follows what they have.
            let is_closed = self.history.is_closed();
            match self.poll_fill(cx, batch) {
                Poll::Ready(read) => return Poll::Ready(Some(read)),
                Poll::Pending if self.is_catching_up() => return Poll::Pending,
                Poll::Pending if is_closed => return Poll::Ready(None),
                Poll::Pending if !self.history.is_closed() => return Poll::Pending,
                // It was closed meanwhile, perhaps before the waker was set.
                Poll::Pending => {}
            }
        }
    }

    /// Fills `batch` with what is ready, at least one frame; or returns what comes before it.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), Notice>> {
        loop {
            match self.state {
                State::CatchUp(_) => {
                    self.wake(cx.waker());
                    ready!(self.poll_page(cx))?;
                }
                State::Latest(_) => return self.poll_latest(cx, batch),
                State::Live | State::Gap(_) => {}
            }
            self.fill(batch)?;
            let is_live = matches!(self.state, State::Live);
            if is_live && batch.is_empty() && self.wake(cx.waker()) {
                // Once more: what was published before the waker was set has not woken it.
                self.fill(batch)?;
            }
            if !batch.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if is_live {
                return Poll::Pending;
            }
        }
    }

    /// Returns the next event or notice; `None` at the end.
    fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Notice>>> {
        if let Some(frame) = self.ready.as_mut().and_then(|ready| ready.pop_front()) {
            return Poll::Ready(Some(Ok(frame)));
        }
        let mut batch = Batch::default();
        let Some(read) = ready!(self.poll_fill_or_end(cx, &mut batch)) else { return Poll::Ready(None) };
        if let Err(notice) = read {
            return Poll::Ready(Some(Err(notice)));
        }
        self.take(&batch, batch.len());
        let ready = self.ready.get_or_insert_default();
        ready.extend(batch.frames().cloned());
        Poll::Ready(ready.pop_front().map(Ok))
    }

    /// Fills `batch` with what is ready, which may be nothing; or returns the gap that comes before it.
    pub(crate) fn fill(&mut self, batch: &mut Batch) -> Result<(), Gap> {
        if self.is_of_latest() {
            return match self.fill_latest(batch) {
                Err(Notice::Gap(gap)) => Err(gap),
                _ => Ok(()),
            };
        }
        if self.fill_from_ring(batch) {
            return Ok(());
        }
        let head = self.head()?;
        batch.clear();
        if let State::CatchUp(_) = self.state {
            self.fill_from_page(batch, head);
            return Ok(());
        }
        self.skip_unwanted();
        for (number, cursor) in self.cursors.iter().enumerate() {
            match cursor.channel.ring.read(cursor.index) {
                Read::Empty => {}
                Read::Run(run) => batch.open(number, run),
                Read::Lagged => {
                    batch.clear();
                    return Err(self.lag(head));
                }
            }
        }
        batch.merge(head, |number| {
            let channel = &self.cursors[number].channel;
            let filter = self.filter_of(channel);
            (&channel.ring, filter.map(|filter| |frame: &Frame| filter.matches_in_firehose(frame.topic())))
        });
        if batch.is_empty() {
            self.take(batch, 0);
            if !batch.is_all() {
                // Evicted while it was scanned. Not every eviction is followed by a publication, which would wake the reader.
                return self.fill(batch);
            }
        }
        Ok(())
    }

    /// Fills `batch` with what is ready, if all of that is from one ring and nothing precedes it: nearly always. Returns whether it
    /// did; otherwise [`Subscription::poll_fill`] finds out what is next. A batch that a subscription at the same place has filled
    /// is left as it is.
    pub(crate) fn fill_from_ring(&self, batch: &mut Batch) -> bool {
        let (State::Live, [Cursor { channel, index }], None) = (&self.state, &*self.cursors, &self.selection) else {
            return false;
        };
        let head = self.history.head();
        // After the head: whatever follows a break is beyond a head that was loaded before it.
        self.breaks == self.history.break_count() && batch.fill_from(&channel.ring, *index, head)
    }

    /// Returns the sequence up to which frames may be delivered now, or the gap that comes before them.
    fn head(&mut self) -> Result<Sequence, Gap> {
        if let Some(gap) = self.next_gap() {
            return Err(gap);
        }
        let head = self.history.head();
        // After the head: whatever follows a break is beyond a head that was loaded before it.
        match self.broken() {
            Some(gap) => Err(gap),
            None => Ok(head),
        }
    }

    /// Whether it takes every event of the hub but those of reserved topics.
    fn is_all(&self) -> bool {
        self.selection.is_none() && self.cursors.iter().any(|cursor| cursor.channel.topic.is_none())
    }

    /// The sample, if its event is among the first `count` frames of `batch`, which was filled last and not taken yet.
    pub(crate) fn sample_in(&self, batch: &Batch, count: usize) -> Option<Sample> {
        let sequence = self.history.sampler.sequence();
        if sequence <= self.taken || !batch.frames().take(count).any(|frame| frame.sequence() == sequence) {
            return None;
        }
        self.history.sampler.sample(sequence)
    }

    /// Moves past the first `count` frames of `batch`, which was filled last.
    pub(crate) fn take(&mut self, batch: &Batch, count: usize) {
        match &mut self.state {
            State::CatchUp(catch_up) => {
                if let (CatchUp::Reading(_, index), Some((_, next, last))) =
                    (&mut **catch_up, batch.stretches(count).last())
                {
                    (*index, self.taken) = (next, last);
                }
                return;
            }
            State::Latest(_) => return self.take_latest(batch, count),
            State::Live | State::Gap(_) => {}
        }
        if let (Some((end, last)), [cursor]) = (batch.end_in_ring(), &mut *self.cursors)
            && count == batch.len()
        {
            (cursor.index, self.taken) = (end, last);
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
        } else if self.selection.is_some() {
            self.follow_taken();
        }
    }

    /// Moves the firehoses' cursors behind the last frame taken. A part of a batch need not have had a frame of them: what they
    /// pass is not wanted, or was taken from a topic's ring.
    #[cold]
    fn follow_taken(&mut self) {
        for Cursor { channel, index } in self.cursors.iter_mut().filter(|cursor| cursor.channel.topic.is_none()) {
            let next = channel.end_of(self.taken);
            // A retained frame before it shows that none was evicted in between.
            if next > *index && matches!(channel.ring.read(next - 1), Read::Run(_)) {
                *index = next;
                continue;
            }
            let place = channel.place_after(self.taken);
            // It stays before events that were evicted in between: the next read finds out whether one of them was wanted.
            if place.evicted.is_none() {
                *index = place.index.max(*index);
            }
        }
    }

    /// The last sequence up to which everything was delivered. Nothing is held in [`Subscription::next`].
    pub(super) fn taken(&self) -> Sequence {
        self.taken
    }

    /// Whether it reads an archive.
    pub(crate) fn is_catching_up(&self) -> bool {
        matches!(self.state, State::CatchUp(_))
    }

    /// Whether it reads latest values.
    pub(crate) fn is_of_latest(&self) -> bool {
        matches!(self.state, State::Latest(_))
    }

    /// Whether a gap comes next.
    pub(crate) fn has_gap(&self) -> bool {
        match &self.state {
            State::Gap(_) => true,
            State::Latest(latest) => latest.has_gap(),
            State::Live | State::CatchUp(_) => false,
        }
    }

    /// Whether what a cursor reads next was evicted.
    pub(crate) fn has_lagged(&self) -> bool {
        let is_lagged = |cursor: &Cursor| matches!(cursor.channel.ring.read(self.next_index(cursor)), Read::Lagged);
        // A break evicts everything, and has a gap of its own. Where it reads no ring it cannot lag.
        !matches!(self.state, State::CatchUp(_) | State::Latest(_))
            && self.cursors.iter().any(is_lagged)
            && self.breaks == self.history.break_count()
    }
}

impl Stream for Subscription {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let delivery = ready!(self.get_mut().poll_delivery(cx));
        Poll::Ready(delivery.map(|delivery| match delivery {
            Ok(frame) => Delivery::Event(frame),
            Err(Notice::Gap(gap)) => Delivery::Gap(gap),
            Err(Notice::Snapshot(_)) => unreachable!("only latest values have a snapshot"),
        }))
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("position", &self.position()).finish_non_exhaustive()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let prefixes = self.selection.as_ref().map_or(&[][..], |selection| &selection.prefixes);
        for Cursor { channel, .. } in &self.cursors {
            let has_left =
                channel.topic.is_none() && self.history.prefixes_of(channel).leave(prefixes, &self.group, self.key);
            if !has_left && channel.listeners.remove(&self.group, self.key) {
                self.history.topics.drop_unused(channel);
            }
        }
        self.group.leave(self.key);
    }
}

//! A feed: a subscription whose topics change.
//!
//! **Contract.** A change never loses or repeats an event of a topic that stays subscribed. A topic that is added without a
//! start has every event after the position that [`Feed::subscribe`] returns, and none before it. One that is added with a
//! start is replayed from there. After a topic was removed, none of its events is delivered.
//!
//! **Order.** Events come in sequence order, except that a replay precedes what the other topics have had since: events of
//! one topic are always in order.
//!
//! **Stretches.** A feed is a queue of stretches. Each is an open [`Subscription`] with its filters. All but the last end at a
//! sequence; the last follows the live events, and its filters are those of the feed. Only the front is read. Let `F` be the
//! filters of the last stretch, and `P` the sequence up to which it has delivered everything: just before its next event, or
//! the head if none is ready; in an archive, its last event. To add the filters `N`, the last stretch is replaced by
//!
//! | start of `N` | stretches |
//! |---|---|
//! | at `P` | `F+N` after `P` |
//! | at `p`, after `P`: without a start, the head | `F` until `p`; then `F+N` after `p` |
//! | at `p`, before `P`, or at an unknown position | `N` without what `F` matches, from there until `P`; then `F+N` after `P` |
//!
//! Without a start, `N` begins with the next event that is published. While there are stretches that wait, it begins where the
//! last of them does, so that their number does not grow with each change.
//!
//! Filters are removed from all stretches, each of which continues after its own `P`. A replay goes on for topics that another
//! filter of the feed still matches.
//!
//! **Interleaving with publishers.** The new subscription starts after a sequence that the old one ends at, not with the live
//! events: what is published in between is in the rings, or in the archive, and is found there. It is opened before the old one
//! is dropped, so that their topics have a subscriber throughout. A batch that was filled and not taken is filled again from the
//! new one.
//!
//! **Gaps.** What a subscription has to report is kept with its stretch when it is replaced. A gap has the filters of its
//! stretch, and ends with it at the latest. A stretch that was overtaken while it waited behind others is opened again
//! before it is read, because this is not the reader's fault: it reads the archive, or has an `evicted` gap.

mod stretch;
#[cfg(all(test, not(fanline_loom)))]
mod tests;

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use super::filter::SubscriptionFilter;
use super::merge::Batch;
use super::sampler::Sample;
use super::subscription::{Opening, Start};
use super::topics::TooManyTopics;
use super::wake::WakeGroup;
use super::{Hub, Mode, Notice, Subscription};
use crate::position::{Sequence, StreamPosition};
use crate::sync::Arc;
use crate::topic::TopicFilter;
use stretch::Stretch;
pub(super) use stretch::selection;

/// The number of stretches of one feed.
const MAX_STRETCHES: usize = 16;

/// A subscription whose topics change.
pub(crate) struct Feed {
    opener: Opener,
    front: Stretch,
    /// The stretches behind the front.
    waiting: VecDeque<Stretch>,
    /// Whether the front ends with the batch that was filled last.
    ends_with_batch: bool,
}

/// What it takes to open subscriptions.
struct Opener {
    hub: Hub,
    group: Arc<WakeGroup>,
    mode: Mode,
    max_silent: usize,
}

/// A change of a feed that is refused, and changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FeedError {
    /// The limit of topics without events.
    #[error("too many topics have subscribers but no event")]
    TooManySilentTopics,
    /// The number of replays that wait for their turn.
    #[error("at most {MAX_STRETCHES} changes can wait for replays: wait for the events, or connect again")]
    TooManyReplays,
}

impl From<TooManyTopics> for FeedError {
    fn from(TooManyTopics: TooManyTopics) -> Self {
        Self::TooManySilentTopics
    }
}

impl Opener {
    fn open(&self, filter: SubscriptionFilter, start: Start) -> Result<(Subscription, Opening), TooManyTopics> {
        self.hub.subscribe_in(&self.group, filter, self.mode, start, self.max_silent)
    }

    /// Opens the last stretch of a feed, with these filters.
    fn open_last(&self, filters: Vec<TopicFilter>, start: Start) -> Result<(Stretch, Opening), TooManyTopics> {
        let (subscription, opening) = self.open(selection(&filters), start)?;
        Ok((Stretch::endless(subscription, filters), opening))
    }

    /// Opens the filter of a stretch again, after a sequence.
    fn reopen(&self, filter: SubscriptionFilter, after: Sequence) -> Subscription {
        let start = Start::After(self.position(after));
        let opened = self.hub.subscribe_in(&self.group, filter, self.mode, start, usize::MAX);
        opened.expect("its topics were within the limit when they were added").0
    }

    /// Continues a stretch after `delivered` with what the filters `left` match.
    fn restrict(&self, stretch: &mut Stretch, left: &[TopicFilter], delivered: Sequence) {
        stretch.restrict(left);
        stretch.replace(self.reopen(stretch.filter(), delivered.min(stretch.until)));
    }

    fn position(&self, sequence: Sequence) -> StreamPosition {
        self.hub.0.history.position(sequence)
    }

    /// The sequence of `position`, if it was issued in the present epoch.
    fn sequence(&self, position: StreamPosition) -> Option<Sequence> {
        let (_, last, head) = self.hub.0.history.now();
        last.numbering.sequence(position).filter(|&sequence| sequence <= head)
    }
}

/// `filters` and `more`, each filter once.
fn union(filters: &[TopicFilter], more: &[TopicFilter]) -> Vec<TopicFilter> {
    let mut all = Vec::with_capacity(filters.len() + more.len());
    for filter in filters.iter().chain(more) {
        if !all.contains(filter) {
            all.push(filter.clone());
        }
    }
    all
}

impl Feed {
    /// Opens a feed of `filters`, of which none means no event. It begins at `start`, which only a feed with filters can
    /// miss events after.
    pub(crate) fn open(
        hub: &Hub,
        group: &Arc<WakeGroup>,
        filters: &[TopicFilter],
        mode: Mode,
        start: Start,
        max_silent: usize,
    ) -> Result<(Self, Opening), TooManyTopics> {
        let opener = Opener { hub: hub.clone(), group: group.clone(), mode, max_silent };
        let start = if filters.is_empty() { Start::Live } else { start };
        let (front, opening) = opener.open_last(union(&[], filters), start)?;
        Ok((Self { opener, front, waiting: VecDeque::new(), ends_with_batch: false }, opening))
    }

    pub(crate) fn mode(&self) -> Mode {
        self.opener.mode
    }

    /// Sets the mode of the filters that are added to a feed without any.
    pub(crate) fn set_mode(&mut self, mode: Mode) {
        debug_assert!(self.filters().is_empty());
        self.opener.mode = mode;
    }

    /// The filters, each once.
    pub(crate) fn filters(&self) -> &[TopicFilter] {
        &self.last().filters
    }

    /// Adds filters, and replays their events from `start` if there is one. What the feed has already is not replayed. In the
    /// mode latest all values of the added filters come without a start.
    /// Returns where the added filters begin.
    pub(crate) fn subscribe(&mut self, filters: &[TopicFilter], start: Option<Start>) -> Result<Opening, FeedError> {
        if self.waiting.len() + 2 > MAX_STRETCHES {
            return Err(FeedError::TooManyReplays);
        }
        // The head first: no event that was not delivered by now precedes it unseen.
        let head = self.opener.hub.0.history.head();
        let delivered = self.settle_last();
        let last = self.last();
        let all = union(&last.filters, filters);
        let is_new = |filter: &&TopicFilter| !last.filters.iter().any(|own| own.covers(filter));
        let new: Vec<_> = filters.iter().filter(is_new).cloned().collect();
        let start = start.or((self.opener.mode == Mode::Latest).then_some(Start::Earliest));
        let Some(start) = start.filter(|_| !new.is_empty()) else {
            let first = if self.waiting.is_empty() && !new.is_empty() { head.max(delivered) } else { delivered };
            if all.len() > last.filters.len() {
                self.continue_after(first, delivered, all)?;
            }
            let id = self.opener.position(first);
            return Ok(Opening { id, position: Some(id), replayed: None });
        };
        if last.filters.is_empty() && self.waiting.is_empty() {
            let (next, opening) = self.opener.open_last(all, start)?;
            self.set_last(next);
            return Ok(opening);
        }
        let except = selection(&last.filters);
        let (subscription, begins) = self.opener.open(selection(&new).only(&except, false), start)?;
        let first = begins.position.and_then(|position| self.opener.sequence(position)).unwrap_or(0);
        self.continue_after(first.max(delivered), delivered, all)?;
        if first < delivered {
            self.insert(Stretch::endless(subscription, new).replay(except, delivered));
        }
        Ok(begins)
    }

    /// Removes filters. Those that it does not have are ignored.
    pub(crate) fn unsubscribe(&mut self, filters: &[TopicFilter]) -> Result<(), FeedError> {
        let left: Vec<_> = self.filters().iter().filter(|filter| !filters.contains(filter)).cloned().collect();
        if left.len() == self.filters().len() {
            return Ok(());
        }
        if self.stretches().any(|stretch| stretch.conditions() >= MAX_STRETCHES) {
            return Err(FeedError::TooManyReplays);
        }
        self.ends_with_batch = false;
        let delivered = self.front.settle(&self.opener.hub);
        self.opener.restrict(&mut self.front, &left, delivered);
        for stretch in &mut self.waiting {
            self.opener.restrict(stretch, &left, stretch.taken());
        }
        let last = self.waiting.len().saturating_sub(1);
        let mut place = 0..;
        self.waiting.retain(|stretch| place.next() == Some(last) || !stretch.filters.is_empty());
        if self.front.filters.is_empty() {
            self.advance();
        }
        Ok(())
    }

    /// The filters with `more`.
    pub(crate) fn with(&self, more: &[TopicFilter]) -> Vec<TopicFilter> {
        union(self.filters(), more)
    }

    /// Whether it reads every event of the hub.
    pub(crate) fn reads_firehose(&self) -> bool {
        self.filters().iter().any(TopicFilter::is_pattern)
    }

    /// Returns the sequence up to which the last stretch has delivered everything.
    fn settle_last(&mut self) -> Sequence {
        self.ends_with_batch = false;
        match self.waiting.back() {
            Some(last) => last.taken(),
            None => self.front.settle(&self.opener.hub),
        }
    }

    fn last(&self) -> &Stretch {
        self.waiting.back().unwrap_or(&self.front)
    }

    fn last_mut(&mut self) -> &mut Stretch {
        self.waiting.back_mut().unwrap_or(&mut self.front)
    }

    /// Replaces the last stretch.
    fn set_last(&mut self, mut next: Stretch) {
        let last = self.last_mut();
        next.succeed(last);
        *last = next;
    }

    /// Continues with these filters after `first`, where the last stretch ends, unless it has come there.
    fn continue_after(
        &mut self,
        first: Sequence,
        delivered: Sequence,
        filters: Vec<TopicFilter>,
    ) -> Result<(), TooManyTopics> {
        let start = Start::After(self.opener.position(first));
        let (next, _) = self.opener.open_last(filters, start)?;
        if first > delivered {
            self.last_mut().until = first;
            self.waiting.push_back(next);
        } else {
            self.set_last(next);
        }
        Ok(())
    }

    /// Inserts a replay before the last stretch.
    fn insert(&mut self, mut replay: Stretch) {
        if self.waiting.is_empty() {
            replay.wake_like(&self.front);
            self.waiting.push_back(std::mem::replace(&mut self.front, replay));
        } else {
            self.waiting.insert(self.waiting.len() - 1, replay);
        }
    }

    /// Ends the front.
    fn advance(&mut self) {
        self.ends_with_batch = false;
        let Some(mut next) = self.waiting.pop_front() else { return };
        if self.waiting.is_empty() {
            // Frees its memory.
            self.waiting = VecDeque::new();
        }
        if next.has_lagged() {
            let subscription = self.opener.reopen(next.filter(), next.taken());
            next.replace(subscription);
        }
        next.wake_like(&self.front);
        self.front = next;
    }

    /// Fills `batch` with what is ready, at least one frame; or returns what comes before it.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), Notice>> {
        loop {
            self.ends_with_batch = false;
            if let Some(gap) = self.front.next_gap(&self.opener.hub, self.waiting.back()) {
                return Poll::Ready(Err(gap.into()));
            }
            if self.front.is_over() {
                self.advance();
                continue;
            }
            match self.front.subscription.poll_fill(cx, batch) {
                Poll::Ready(Err(Notice::Gap(gap))) => self.front.keep(gap),
                result if self.front.is_endless() => return result,
                // The last stretch has one too.
                Poll::Ready(Err(Notice::Snapshot(_))) => {}
                Poll::Pending if self.front.is_catching_up() => return Poll::Pending,
                // It has nothing up to the head.
                Poll::Pending => self.advance(),
                Poll::Ready(Ok(())) => {
                    let is_all = batch.is_all();
                    let is_cut = batch.cut_after(self.front.until);
                    self.ends_with_batch = is_cut || (is_all && !self.front.is_catching_up());
                    if !batch.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    self.advance();
                }
            }
        }
    }

    /// Moves past the first `count` frames of `batch`, which was filled last.
    pub(crate) fn take(&mut self, batch: &Batch, count: usize) {
        self.front.subscription.take(batch, count);
        if self.ends_with_batch && count == batch.len() {
            self.advance();
        }
    }

    /// See [`Subscription::sample_in`].
    pub(crate) fn sample_in(&self, batch: &Batch, count: usize) -> Option<Sample> {
        self.front.subscription.sample_in(batch, count)
    }

    /// Registers `waker`: the next event wakes it. Returns whether that changed the waker.
    pub(crate) fn wake(&mut self, waker: &Waker) -> bool {
        self.front.subscription.wake(waker)
    }

    /// See [`Subscription::sleep`].
    pub(crate) fn sleep(&mut self) {
        self.front.subscription.sleep();
    }

    fn stretches(&self) -> impl Iterator<Item = &Stretch> {
        std::iter::once(&self.front).chain(&self.waiting)
    }

    /// Whether a gap was not delivered yet.
    pub(crate) fn has_gap(&self) -> bool {
        self.stretches().any(Stretch::has_gap)
    }

    /// Whether what it reads next was evicted.
    pub(crate) fn has_lagged(&self) -> bool {
        self.front.has_lagged()
    }

    /// The position after which a client that resumes with all filters misses nothing.
    pub(crate) fn position(&self) -> StreamPosition {
        let taken = self.stretches().map(Stretch::taken).min();
        self.opener.position(taken.unwrap_or_default())
    }

    /// Whether it reads an archive.
    pub(crate) fn is_catching_up(&self) -> bool {
        self.front.is_catching_up()
    }

    /// See [`Subscription::is_in_snapshot`].
    pub(crate) fn is_in_snapshot(&self) -> bool {
        self.front.subscription.is_in_snapshot()
    }

    /// See [`Subscription::passed`].
    pub(crate) fn passed(&self) -> u64 {
        self.last().subscription.passed()
    }

    /// See [`Subscription::behind`].
    pub(crate) fn behind(&self) -> u64 {
        self.last().subscription.behind()
    }
}

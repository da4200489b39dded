//! One stretch of a feed: a subscription with the filters that it was opened for, and where it ends.

use crate::hub::filter::SubscriptionFilter;
use crate::hub::gap::Gap;
use crate::hub::merge::Batch;
use crate::hub::{Hub, Subscription};
use crate::position::{Sequence, StreamPosition};
use crate::topic::TopicFilter;

/// The end of the last stretch of a feed.
const NEVER: Sequence = Sequence::MAX;

pub(super) struct Stretch {
    pub(super) subscription: Subscription,
    pub(super) filters: Box<[TopicFilter]>,
    /// The last sequence of the stretch.
    pub(super) until: Sequence,
    /// Boxed: most stretches have neither conditions nor gaps.
    extra: Option<Box<Extra>>,
}

/// What a replay and a stretch with gaps have.
#[derive(Default)]
struct Extra {
    /// Of a replay: only what each of these filters matches, or does not match. What the feed had already is not replayed,
    /// nor is what was unsubscribed since.
    conditions: Vec<(SubscriptionFilter, bool)>,
    /// Gaps that precede what the subscription has.
    gaps: Vec<Gap>,
}

/// The events that match one of `filters`. No filter means no event.
pub(in crate::hub) fn selection(filters: &[TopicFilter]) -> SubscriptionFilter {
    if filters.is_empty() { SubscriptionFilter::nothing() } else { SubscriptionFilter::of(filters.iter().cloned()) }
}

/// Whether an event may match both filters.
fn overlap(one: &TopicFilter, other: &TopicFilter) -> bool {
    match (one, other) {
        (TopicFilter::Exact(topic), filter) | (filter, TopicFilter::Exact(topic)) => filter.matches(topic),
        (TopicFilter::Pattern(_), TopicFilter::Pattern(_)) => true,
    }
}

impl Stretch {
    /// A stretch that follows the live events.
    pub(super) fn endless(subscription: Subscription, filters: Vec<TopicFilter>) -> Self {
        let mut stretch = Self { subscription, filters: filters.into(), until: NEVER, extra: None };
        stretch.keep_gaps();
        stretch
    }

    /// Makes it a replay of what `except` does not match, until a sequence.
    pub(super) fn replay(mut self, except: SubscriptionFilter, until: Sequence) -> Self {
        self.extra_mut().conditions.push((except, false));
        Self { until, ..self }
    }

    fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// The filter of its subscription.
    pub(super) fn filter(&self) -> SubscriptionFilter {
        let conditions = self.extra.iter().flat_map(|extra| &extra.conditions);
        conditions.fold(selection(&self.filters), |filter, (other, matches)| filter.only(other, *matches))
    }

    pub(super) fn is_endless(&self) -> bool {
        self.until == NEVER
    }

    /// Whether it has come to its end.
    pub(super) fn is_over(&self) -> bool {
        self.taken() >= self.until
    }

    pub(super) fn is_catching_up(&self) -> bool {
        self.subscription.is_catching_up()
    }

    pub(super) fn taken(&self) -> Sequence {
        self.subscription.taken()
    }

    pub(super) fn has_lagged(&self) -> bool {
        self.subscription.has_lagged()
    }

    pub(super) fn has_gap(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| !extra.gaps.is_empty()) || self.subscription.has_gap()
    }

    /// Registers the waker of `other`.
    pub(super) fn wake_like(&mut self, other: &Self) {
        if let Some(waker) = other.subscription.waker() {
            self.subscription.wake(waker);
        }
    }

    /// Takes the place of `other`, with its gaps and its waker.
    pub(super) fn succeed(&mut self, other: &mut Self) {
        other.name_gaps();
        let mut gaps = other.take_gaps();
        gaps.append(&mut self.take_gaps());
        self.set_gaps(gaps);
        self.wake_like(other);
    }

    /// Continues with another subscription of [`Stretch::filter`].
    pub(super) fn replace(&mut self, mut subscription: Subscription) {
        if let Some(waker) = self.subscription.waker() {
            subscription.wake(waker);
        }
        self.subscription = subscription;
        self.keep_gaps();
    }

    /// Drops what no filter of `left` matches, also from its gaps. A replay goes on for what another filter has in common.
    pub(super) fn restrict(&mut self, left: &[TopicFilter]) {
        let is_left = |filter: &TopicFilter| left.iter().any(|left| overlap(filter, left));
        self.name_gaps();
        let mut gaps = self.take_gaps();
        gaps.retain_mut(|gap| {
            let topics = gap.topics.get_or_insert_default();
            if topics.iter().any(|filter| !left.contains(filter)) {
                gap.missed = None;
            }
            topics.retain(is_left);
            !topics.is_empty()
        });
        self.set_gaps(gaps);
        if self.is_endless() {
            self.filters = left.into();
        } else {
            self.filters = self.filters.iter().filter(|filter| is_left(filter)).cloned().collect();
            self.extra_mut().conditions.push((selection(left), true));
        }
    }

    /// The number of conditions, which each change during a replay adds to.
    pub(super) fn conditions(&self) -> usize {
        self.extra.as_ref().map_or(0, |extra| extra.conditions.len())
    }

    /// Returns the sequence up to which everything was delivered: the one before the next event, or the head if none is
    /// ready. The gaps that come before it are kept.
    pub(super) fn settle(&mut self, hub: &Hub) -> Sequence {
        if self.subscription.is_of_latest() {
            return self.taken();
        }
        let mut batch = Batch::default();
        loop {
            let head = hub.0.history.head();
            if let Err(gap) = self.subscription.fill(&mut batch) {
                self.keep(gap);
                continue;
            }
            match batch.frames().next() {
                Some(next) => return next.sequence() - 1,
                None if self.is_catching_up() => return self.taken(),
                None if batch.is_all() => return head.max(self.taken()),
                // Something was evicted while it was read: a gap comes next.
                None => {}
            }
        }
    }

    /// Keeps a gap to be delivered. Without filters nothing is missing.
    pub(super) fn keep(&mut self, gap: Gap) {
        if !self.filters.is_empty() {
            self.extra_mut().gaps.push(gap);
        }
    }

    /// Keeps the gaps with which the subscription begins.
    fn keep_gaps(&mut self) {
        let mut batch = Batch::default();
        while self.subscription.has_gap()
            && let Err(gap) = self.subscription.fill(&mut batch)
        {
            self.keep(gap);
        }
    }

    /// Names the filters in gaps that are about all of them, before others are added.
    fn name_gaps(&mut self) {
        for gap in self.extra.iter_mut().flat_map(|extra| &mut extra.gaps) {
            gap.topics.get_or_insert_with(|| self.filters.to_vec());
        }
    }

    /// Takes the next gap, as it is for readers of a feed whose last stretch is `last`, or this one.
    pub(super) fn next_gap(&mut self, hub: &Hub, last: Option<&Self>) -> Option<Gap> {
        let gap = if self.is_endless() { self.pop_gap() } else { self.next_gap_before(self.end(hub)) };
        let own = last.map_or(&self.filters, |last| &last.filters);
        gap.map(|mut gap| {
            // What the client has unsubscribed is still about what another of its filters has in common with it.
            gap.topics = gap.topics.filter(|topics| topics.iter().all(|filter| own.contains(filter)));
            gap
        })
    }

    /// Takes the first gap. There are few.
    fn pop_gap(&mut self) -> Option<Gap> {
        let mut gaps = self.take_gaps();
        let first = if gaps.is_empty() { None } else { Some(gaps.remove(0)) };
        self.set_gaps(gaps);
        first
    }

    fn take_gaps(&mut self) -> Vec<Gap> {
        self.extra.as_mut().map(|extra| std::mem::take(&mut extra.gaps)).unwrap_or_default()
    }

    /// Sets the gaps. Frees the memory of what it no longer has.
    fn set_gaps(&mut self, gaps: Vec<Gap>) {
        if !gaps.is_empty() {
            self.extra_mut().gaps = gaps;
        } else if self.conditions() == 0 {
            self.extra = None;
        }
    }

    fn end(&self, hub: &Hub) -> StreamPosition {
        hub.0.history.position(self.until)
    }

    /// Takes the next gap up to `end`. What is missing after it is a gap of the next stretch.
    fn next_gap_before(&mut self, end: StreamPosition) -> Option<Gap> {
        let is_beyond = |position: StreamPosition| position.epoch != end.epoch || position.sequence > end.sequence;
        loop {
            let mut gap = self.pop_gap()?;
            if gap.from.is_some_and(|from| from.epoch == end.epoch && from.sequence >= end.sequence) {
                continue;
            }
            gap.topics.get_or_insert_with(|| self.filters.to_vec());
            if is_beyond(gap.to) {
                (gap.to, gap.missed) = (end, None);
            }
            if is_beyond(gap.resume) {
                gap.resume = end;
            }
            return Some(gap);
        }
    }
}

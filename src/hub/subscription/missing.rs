//! What a subscription will not get: lag, breaks of the order, and the gaps that tell of them.

use smallvec::SmallVec;

use super::Subscription;
use crate::hub::gap::{Gap, GapReason};
use crate::hub::interest::Rest;
use crate::hub::numbering;
use crate::position::{Sequence, StreamPosition};
use crate::ring::Read;
use crate::topic::TopicFilter;

/// Events that some cursors will not get.
pub(super) struct Loss {
    /// The newest of them.
    pub(super) to: Sequence,
    /// How many they are; none when that is not known.
    pub(super) missed: Option<u64>,
    /// The numbers of these cursors. Nothing is missing for the others.
    cursors: SmallVec<[usize; 4]>,
}

impl Loss {
    /// Of one cursor.
    pub(super) fn of(cursor: usize, to: Sequence, missed: Option<u64>) -> Self {
        Self { to, missed, cursors: SmallVec::from_slice(&[cursor]) }
    }

    /// Both together.
    pub(super) fn sum(one: Option<Self>, mut other: Self) -> Self {
        let Some(mut one) = one else { return other };
        one.cursors.append(&mut other.cursors);
        one.to = one.to.max(other.to);
        one.missed = one.missed.zip(other.missed).map(|(one, other)| one + other);
        one
    }
}

impl Subscription {
    /// Moves each cursor whose frames were evicted to the oldest retained one, and says what it missed.
    pub(super) fn lag(&mut self, head: Sequence) -> Gap {
        let mut lost: Option<Loss> = None;
        for (number, cursor) in self.cursors.iter_mut().enumerate() {
            if let Read::Lagged = cursor.channel.ring.read(cursor.index) {
                let (oldest, evicted) = cursor.channel.oldest_place();
                debug_assert!(evicted > self.taken, "a cursor stands behind all that was taken");
                let is_filtered = self.filter.is_some() && cursor.channel.topic.is_none();
                let loss = Loss::of(number, evicted, (!is_filtered).then(|| oldest - cursor.index));
                lost = Some(Loss::sum(lost, loss));
                cursor.index = oldest;
            }
        }
        // After the rings: it may be a break that took their events.
        if let Some(gap) = self.broken() {
            return gap;
        }
        let from = Some(self.position());
        self.gap(GapReason::Lagged, from, lost.expect("what was evicted is not read again"), head)
    }

    /// Takes the gap that was noted. After one that is about all filters, some of them may have another.
    pub(super) fn next_gap(&mut self) -> Option<Gap> {
        let gap = *self.gap.take()?;
        let is_restart = matches!(gap.reason, GapReason::Epoch | GapReason::UnknownId);
        // A break comes next, if there was one, and places the cursors.
        if is_restart && self.breaks == self.history.break_count() {
            self.place_or_tell(GapReason::Evicted, self.history.head());
        }
        Some(gap)
    }

    /// The gap of a break of the order that this has not come by yet, if there was one.
    pub(super) fn broken(&mut self) -> Option<Gap> {
        if self.breaks == self.history.break_count() {
            return None;
        }
        let (breaks, last, head) = self.history.now();
        self.breaks = breaks;
        let pending = self.gap.take();
        if self.taken >= last.base && pending.is_none() {
            return None;
        }
        let taken = self.history.position(self.taken);
        let (reason, from, missed) = match pending {
            // Its position is not known here: nothing that follows it can be counted.
            Some(gap) if matches!(gap.reason, GapReason::Epoch | GapReason::UnknownId) => (gap.reason, gap.from, None),
            // Of several breaks that it did not come by, a new epoch is what counts.
            pending if taken.epoch != last.numbering.epoch => {
                (GapReason::Epoch, pending.map_or(Some(taken), |gap| gap.from), None)
            }
            pending => {
                let reason = numbering::reason(last.reason, self.taken, last.base);
                let count = numbering::count(self.taken, last.base).filter(|_| self.is_all());
                let (from, before) = pending.map_or((Some(taken), Some(0)), |gap| (gap.from, gap.missed));
                (reason, from, count.zip(before).map(|(count, before)| count + before))
            }
        };
        self.taken = self.taken.max(last.base);
        let resume = self.history.position(self.taken);
        self.catch_up = None;
        self.place_or_tell(GapReason::Evicted, head);
        Some(Gap { reason, from, to: resume, missed, topics: None, resume })
    }

    /// Places the cursors behind what was taken. What is missing there is fetched, or else a gap.
    pub(super) fn place_or_tell(&mut self, reason: GapReason, head: Sequence) {
        let lost = self.place_cursors(self.taken);
        let from = Some(self.history.position(self.taken));
        self.gap = lost.map(|lost| Box::new(self.gap(reason, from, lost, head)));
    }

    /// A gap that is about all filters, up to `to`.
    pub(super) fn gap_of_all(
        &mut self,
        reason: GapReason,
        from: Option<StreamPosition>,
        to: Sequence,
        head: Sequence,
    ) -> Gap {
        let lost = Loss { to, missed: None, cursors: (0..self.cursors.len()).collect() };
        self.gap(reason, from, lost, head)
    }

    /// A gap of what was lost. With several cursors some may have frames from before its end: the stream goes on with those.
    pub(super) fn gap(&mut self, reason: GapReason, from: Option<StreamPosition>, lost: Loss, head: Sequence) -> Gap {
        let next = self.cursors.iter().map(|cursor| match cursor.channel.ring.read(cursor.index) {
            Read::Run(run) => run.get(cursor.index).sequence() - 1,
            Read::Empty => head,
            Read::Lagged => self.taken,
        });
        let (to, reason) = (lost.to, numbering::reason(reason, self.taken, lost.to));
        // One cursor has been told of all up to `to`, whatever has happened to its next frame since.
        let resume = if self.cursors.len() == 1 { to } else { next.chain([to]).min().unwrap_or(to) }.max(self.taken);
        let topics = (lost.cursors.len() < self.cursors.len()).then(|| self.filters_of(&lost.cursors));
        self.taken = resume;
        let (to, resume) = (self.history.position(to), self.history.position(resume));
        Gap { reason, from, to, missed: lost.missed, topics, resume }
    }

    /// The filters that these cursors read for.
    fn filters_of(&self, cursors: &[usize]) -> Vec<TopicFilter> {
        let mut filters = Vec::new();
        for cursor in cursors.iter().map(|&number| &self.cursors[number]) {
            match (&cursor.channel.topic, self.filter.as_deref().map(|interest| &interest.rest)) {
                (Some(topic), _) => filters.push(TopicFilter::Exact(topic.clone())),
                (None, Some(Rest::Matching(patterns))) => {
                    filters.extend(patterns.iter().cloned().map(TopicFilter::Pattern));
                }
                (None, _) => {}
            }
        }
        filters
    }
}

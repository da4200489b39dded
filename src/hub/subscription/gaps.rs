//! The gaps of a subscription: lag, breaks of the order, and events evicted before it resumed.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::{Cursor, State, Subscription};
use crate::hub::filter::{Rest, SubscriptionFilter};
use crate::hub::gap::{Gap, GapReason};
use crate::position::{Sequence, StreamPosition};
use crate::ring::Read;
use crate::topic::TopicFilter;

/// Events that one cursor will not get.
pub(super) struct Loss {
    /// The number of the cursor.
    pub(super) cursor: usize,
    /// The newest of them.
    pub(super) to: Sequence,
    /// How many they are. `None` when that is not known.
    pub(super) missed: Option<u64>,
}

pub(super) type Losses = SmallVec<[Loss; 1]>;

impl Subscription {
    /// Moves the first cursor whose frames were evicted to the oldest retained one, and returns its gap. Other cursors have
    /// gaps of their own, which come next: their ends differ.
    pub(super) fn lag(&mut self, head: Sequence) -> Gap {
        let is_lagged = |cursor: &Cursor| matches!(cursor.channel.ring.read(cursor.index), Read::Lagged);
        let number = self.cursors.iter().position(is_lagged).expect("what was evicted is not read again");
        let cursor = &mut self.cursors[number];
        let (oldest, to) = cursor.channel.oldest_place();
        debug_assert!(to > self.taken, "a cursor is behind all that was taken");
        let is_filtered = self.selection.is_some() && cursor.channel.topic.is_none();
        let missed = (!is_filtered).then(|| oldest - cursor.index);
        cursor.index = oldest;
        // After the rings: a break may have evicted their events.
        if let Some(gap) = self.broken() {
            return gap;
        }
        let from = Some(self.position());
        self.move_towards(to, head);
        self.gap(GapReason::Lagged, from, &[Loss { cursor: number, to, missed }])
    }

    /// Takes the next gap of [`State::Gap`]. Behind a restart some filters may have lost more.
    pub(super) fn next_gap(&mut self) -> Option<Gap> {
        let State::Gap(gaps) = &mut self.state else { return None };
        let gap = gaps.pop_front()?;
        if gaps.is_empty() {
            self.state = State::Live;
        }
        let is_restart = matches!(gap.reason, GapReason::Epoch | GapReason::UnknownId);
        // A break comes next, if there was one, and places the cursors.
        if is_restart && self.breaks == self.history.break_count() {
            self.place_and_note_gaps(self.history.head());
        }
        Some(gap)
    }

    /// Returns the gap of a break of the order, if there was a new one.
    pub(super) fn broken(&mut self) -> Option<Gap> {
        if self.breaks == self.history.break_count() {
            return None;
        }
        let (breaks, last, head) = self.history.now();
        self.breaks = breaks;
        if self.taken >= last.base {
            return None;
        }
        let from = self.history.position(self.taken);
        // Of several breaks, a new epoch is the one to report: across it nothing can be counted.
        let (reason, missed) = if from.epoch == last.numbering.epoch {
            (last.reason, self.count_of_all(last.base))
        } else {
            (GapReason::Epoch, None)
        };
        self.taken = last.base;
        let resume = self.history.position(self.taken);
        self.state = State::Live;
        self.place_and_note_gaps(head);
        Some(Gap { reason, from: Some(from), to: resume, missed, topics: None, resume })
    }

    /// The number of events up to `to` that were not taken, if that is known: of a subscription to everything.
    pub(super) fn count_of_all(&self, to: Sequence) -> Option<u64> {
        self.is_all().then(|| self.history.count_in_firehose(self.taken, to)).flatten()
    }

    /// Places the cursors behind what was taken. What was evicted there becomes gaps.
    pub(super) fn place_and_note_gaps(&mut self, head: Sequence) {
        let lost = self.place_cursors(self.taken);
        let from = Some(self.history.position(self.taken));
        self.note_gaps(GapReason::Evicted, from, lost, head);
    }

    /// Notes the gap of a restart: it ends at `to` for all filters.
    pub(super) fn note_restart(
        &mut self,
        reason: GapReason,
        from: Option<StreamPosition>,
        to: Sequence,
        head: Sequence,
    ) {
        let lost = (0..self.cursors.len()).map(|cursor| Loss { cursor, to, missed: None }).collect();
        self.note_gaps(reason, from, lost, head);
    }

    /// Notes the gaps of what was lost: one for each end, so that none covers what another filter still gets.
    pub(super) fn note_gaps(
        &mut self,
        reason: GapReason,
        from: Option<StreamPosition>,
        mut lost: Losses,
        head: Sequence,
    ) {
        lost.sort_unstable_by_key(|loss| loss.to);
        let Some(last) = lost.last() else { return };
        let before = self.move_towards(last.to, head);
        let gaps = lost.chunk_by(|one, other| one.to == other.to).map(|lost| self.gap(reason, from, lost));
        let mut gaps: VecDeque<Gap> = gaps.collect();
        // A client that is cut off between two of them comes back to both.
        let resume = self.history.position(before);
        gaps.iter_mut().rev().skip(1).for_each(|gap| gap.resume = resume);
        self.state = State::Gap(Box::new(gaps));
    }

    /// Moves on to `to`, or only to the first frame of another cursor before that: the stream continues with it. Returns
    /// what was taken before.
    fn move_towards(&mut self, to: Sequence, head: Sequence) -> Sequence {
        let next = self.cursors.iter().map(|cursor| match cursor.channel.ring.read(cursor.index) {
            Read::Run(run) => run.get(cursor.index).sequence() - 1,
            Read::Empty => head,
            Read::Lagged => self.taken,
        });
        // A single cursor has lost all up to `to`, whatever has happened to its next frame since.
        let resume = if self.cursors.len() == 1 { to } else { next.chain([to]).min().unwrap_or(to) };
        let before = self.taken;
        self.taken = resume.max(before);
        before
    }

    /// A gap of losses with the same end. The stream continues behind what is taken now.
    fn gap(&self, reason: GapReason, from: Option<StreamPosition>, lost: &[Loss]) -> Gap {
        let to = lost[0].to;
        let missed = lost.iter().try_fold(0, |missed, loss| loss.missed.map(|more| missed + more));
        let topics = (lost.len() < self.cursors.len()).then(|| self.filters_of(lost));
        let resume = self.history.position(self.taken);
        Gap { reason, from, to: self.history.position(to), missed, topics, resume }
    }

    /// The filters of the cursors that have lost something.
    fn filters_of(&self, lost: &[Loss]) -> Vec<TopicFilter> {
        let mut filters = Vec::new();
        for channel in lost.iter().map(|loss| &self.cursors[loss.cursor].channel) {
            let patterns = match (&channel.topic, self.filter_of(channel)) {
                (Some(topic), _) => {
                    filters.push(TopicFilter::Exact(topic.clone()));
                    continue;
                }
                (None, Some(SubscriptionFilter { reserved, .. })) if channel.is_reserved => reserved,
                (None, Some(SubscriptionFilter { rest: Rest::Matching(patterns), .. })) => patterns,
                (None, _) => {
                    filters.push(TopicFilter::everything());
                    continue;
                }
            };
            filters.extend(patterns.iter().cloned().map(TopicFilter::Pattern));
        }
        filters
    }
}

//! A subscription in the [mode](Mode) latest: reads the lists of latest values instead of the rings.
//!
//! **Contract.** It delivers the present values after its position in the order of their sequences, then changes. What was
//! superseded before it was read is left out, so that it cannot lag. [`Notice::Snapshot`] marks the end of what there was to read at the
//! start: everything up to its position was delivered. Where deletions after its position are forgotten, or the order was broken, a gap says that
//! the reader has to discard what it knows; all values and another mark follow.
//!
//! **One cursor.** All lists are read after the sequence that was taken last.
//!
//! **The end of the snapshot.** A value that is superseded while the snapshot is read has a successor that may be beyond the
//! head of that read. So once everything up to a head was taken the head is loaded again, and the mark comes after that one. A
//! value that is superseded twice meanwhile may come behind the mark.

use std::task::{Context, Poll};

use super::start::Origin;
use super::{Opening, Start, State, Subscription};
use crate::hub::frame::Frame;
use crate::hub::gap::{Gap, GapReason};
use crate::hub::merge::{Batch, MAX_FRAMES};
use crate::position::{Sequence, StreamPosition};

/// What a subscription delivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Every event, or a gap.
    #[default]
    Events,
    /// The latest value of each topic and key, then changes.
    Latest,
}

impl Mode {
    /// Its name in requests: `events` or `latest`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Latest => "latest",
        }
    }
}

/// The end of the values that there were when a subscription began, or after a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The number of events before it.
    pub entries: u64,
    /// The position that the values are complete for.
    pub position: StreamPosition,
}

/// What comes before the next event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Gap(Gap),
    Snapshot(Snapshot),
}

impl From<Gap> for Notice {
    fn from(gap: Gap) -> Self {
        Self::Gap(gap)
    }
}

/// The state of a subscription in the mode latest.
pub(super) struct Latest {
    /// Deletions up to here are of values that it never had.
    pub(super) had_nothing_until: Sequence,
    pub(super) snapshot: Progress,
    /// The number of events since it began.
    pub(super) entries: u64,
    gap: Option<Gap>,
    /// The head up to which the lists were read last.
    read_to: Sequence,
}

/// How far the snapshot is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Reading,
    /// It ends once this was taken.
    Until(Sequence),
    Over,
}

impl Latest {
    fn new(had_nothing_until: Sequence, gap: Option<Gap>) -> Self {
        Self { had_nothing_until, snapshot: Progress::Reading, entries: 0, gap, read_to: 0 }
    }

    pub(super) fn has_gap(&self) -> bool {
        self.gap.is_some()
    }
}

impl Subscription {
    /// Finds where it begins, after it was added to its channels' listeners.
    pub(super) fn find_place_of_latest(&mut self, start: Start) -> Opening {
        let (breaks, last, head) = self.history.now();
        self.breaks = breaks;
        let oldest = last.numbering.offset;
        let start = if matches!(start, Start::Newest(_)) { Start::Earliest } else { start };
        let (after, origin) = self.origin(start, last.numbering, head);
        // The values of earlier epochs precede the oldest position.
        self.taken = if after == oldest { 0 } else { after };
        // One that resumes there may have values: a feed that replays added topics has not passed it.
        let has_nothing = after == oldest && !matches!(origin, Origin::Known(_));
        let had_nothing_until = if has_nothing { head } else { self.taken };
        let (id, gap) = match origin {
            Origin::New | Origin::Known(_) => (Some(self.history.position(after)), None),
            Origin::Lost(reason, from) => (from, Some(self.gap_of_latest(reason, from, after, head))),
        };
        let position = id.filter(|_| gap.is_none());
        self.state = State::Latest(Box::new(Latest::new(had_nothing_until, gap)));
        Opening { id: id.unwrap_or(StreamPosition::UNKNOWN), position, replayed: None }
    }

    /// Whether all its lists exist.
    pub(in crate::hub) fn has_lists(&self) -> bool {
        self.cursors.iter().all(|cursor| cursor.channel.latest.get().is_some())
    }

    /// Creates its lists. For the sequencer.
    pub(in crate::hub) fn create_lists(&self) {
        self.cursors.iter().for_each(|cursor| _ = self.history.list_of(&cursor.channel));
    }

    /// A gap after which all values follow.
    fn gap_of_latest(&self, reason: GapReason, from: Option<StreamPosition>, oldest: Sequence, head: Sequence) -> Gap {
        let (to, resume) = (self.history.position(head), self.history.position(oldest));
        Gap { reason, from, to, missed: None, topics: None, resume }
    }

    /// Begins again with all values. Returns the gap that comes before them.
    fn begin_again(&mut self, reason: GapReason) -> Gap {
        let (breaks, last, head) = self.history.now();
        let from = self.history.position(self.taken);
        let reason = match from.epoch == last.numbering.epoch {
            _ if breaks == self.breaks => reason,
            true => last.reason,
            false => GapReason::Epoch,
        };
        let oldest = last.numbering.offset;
        (self.breaks, self.taken) = (breaks, 0);
        self.state = State::Latest(Box::new(Latest::new(head, None)));
        self.gap_of_latest(reason, Some(from), oldest, head)
    }

    /// Whether a notice follows what was taken, also without another event.
    pub(crate) fn is_in_snapshot(&self) -> bool {
        matches!(&self.state, State::Latest(latest) if latest.snapshot != Progress::Over)
    }

    pub(super) fn poll_latest(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), Notice>> {
        loop {
            self.fill_latest(batch)?;
            let is_over = matches!(&self.state, State::Latest(latest) if latest.snapshot == Progress::Over);
            if batch.is_empty() && is_over && self.wake(cx.waker()) {
                // Once more: what was published before the waker was set has not woken it.
                self.fill_latest(batch)?;
            }
            if !batch.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if is_over {
                return Poll::Pending;
            }
        }
    }

    /// Fills `batch` with the values after what was taken, which may be none; or returns what comes before them.
    pub(super) fn fill_latest(&mut self, batch: &mut Batch) -> Result<(), Notice> {
        batch.clear();
        let State::Latest(latest) = &mut self.state else { return Ok(()) };
        if let Some(gap) = latest.gap.take() {
            return Err(gap.into());
        }
        let head = self.history.head();
        // After the head: whatever follows a break is beyond a head that was loaded before it.
        if self.breaks != self.history.break_count() {
            return Err(self.begin_again(GapReason::Evicted).into());
        }
        if let Progress::Until(last) = latest.snapshot
            && self.taken >= last
        {
            latest.snapshot = Progress::Over;
            let (entries, position) = (latest.entries, self.history.position(self.taken));
            return Err(Notice::Snapshot(Snapshot { entries, position }));
        }
        latest.read_to = head;
        let had_nothing_until = latest.had_nothing_until;
        (0..self.cursors.len()).for_each(|number| self.read_list(number, had_nothing_until, head, batch));
        // After the values: see the invariants of the lists.
        if self.forgotten() > self.taken.max(had_nothing_until) {
            batch.clear();
            return Err(self.begin_again(GapReason::Evicted).into());
        }
        if self.cursors.len() > 1 {
            batch.sort();
        }
        if batch.is_empty() {
            self.catch_up_with_latest();
        }
        Ok(())
    }

    /// The newest deletion that its lists have forgotten.
    pub(super) fn forgotten(&self) -> Sequence {
        let lists = self.cursors.iter().filter_map(|cursor| cursor.channel.latest.get());
        lists.map(|list| list.forgotten()).max().unwrap_or(0)
    }

    /// Picks the values of one list up to `head`, as many as a batch has.
    fn read_list(&self, number: usize, had_nothing_until: Sequence, head: Sequence, batch: &mut Batch) {
        let channel = &self.cursors[number].channel;
        let Some(list) = channel.latest.get() else { return };
        let filter = self.filter_of(channel);
        let is_wanted = |frame: &Frame| {
            let is_known = !frame.is_deletion() || frame.sequence() > had_nothing_until;
            is_known && filter.is_none_or(|filter| filter.matches_in_firehose(frame.topic()))
        };
        let (mut after, mut left) = (self.taken, MAX_FRAMES);
        loop {
            let before = after;
            for values in list.blocks_after(after) {
                let run = batch.hold(values.frames.clone());
                for (index, frame, is_value) in values.iter() {
                    if frame.sequence() > head || left == 0 {
                        return;
                    }
                    if frame.sequence() <= before {
                        continue;
                    }
                    after = frame.sequence();
                    if is_value && is_wanted(frame) {
                        batch.pick_one(run, number, index, frame);
                        left -= 1;
                    }
                }
            }
            if after == before {
                return;
            }
        }
    }

    /// Moves past the first `count` frames of `batch`, which was filled last.
    pub(super) fn take_latest(&mut self, batch: &Batch, count: usize) {
        if let Some((_, _, last)) = batch.stretches(count).last() {
            self.taken = last;
        }
        if let State::Latest(latest) = &mut self.state
            && latest.snapshot != Progress::Over
        {
            latest.entries += count as u64;
        }
        if count == batch.len() && batch.is_all() {
            self.catch_up_with_latest();
        }
    }

    /// Notes that everything up to the head was taken.
    fn catch_up_with_latest(&mut self) {
        let State::Latest(latest) = &mut self.state else { return };
        self.taken = self.taken.max(latest.read_to);
        if latest.snapshot == Progress::Reading {
            latest.snapshot = Progress::Until(self.history.head());
        }
        self.note_place_in_rings();
    }

    /// Moves the cursors, which only tell how far behind it is.
    pub(super) fn note_place_in_rings(&mut self) {
        for cursor in &mut self.cursors {
            cursor.index = cursor.channel.ring.retained().end;
        }
    }
}

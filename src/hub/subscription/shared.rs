//! Latest values that several readers write at one moment, put together once.
//!
//! **Contract.** Readers with the same interval read at the same moment, and most of them the same values. The first one reads
//! alone. For the second, the values after its position are copied to one [stretch] of memory, which the others write too,
//! from their own position on. For readers that take gzip the first one has the values compressed, and stretches are all that they
//! get compressed: what they read alone is stored.
//!
//! **Positions meet.** All stretches of a moment end at the head that there was when the first one was put together. So all readers
//! of a moment have the same position afterwards, and share one stretch the next time. A reader that has read alone is beyond
//! it, or between two pieces of a compressed stretch: it gets one of its own, up to the same end, and shares the next.
//!
//! **What is shared is nearly current.** It was the newest at the beginning of the moment. What was published since comes when the
//! reader reads again.
//!
//! **Bounds.** The stretches that are kept have at most [`MAX_BYTES`] before compression; beyond it readers read alone. So
//! neither memory nor the time to compress grows with slow readers. A reader that continues after it was blocked shares, but has
//! nothing put together. A moment is kept for the next one or two seconds, for readers that are late.

mod stretch;

use smallvec::SmallVec;
pub(crate) use stretch::{Coding, SharedValues};
use stretch::{MAX_VALUES, Stretch};

use super::latest::{Latest, Progress};
use super::{State, Subscription};
use crate::hub::channel::Channel;
use crate::hub::compression::Compressor;
use crate::hub::frame::Frame;
use crate::hub::sampler::Sample;
use crate::position::Sequence;
use crate::sync::Arc;

/// The bytes, before compression, of the stretches after which none is added.
const MAX_BYTES: usize = if cfg!(test) { 4000 } else { 8 << 20 };

/// The bytes, before compression, of the stretches of one moment after which none is added.
const MAX_MOMENT: usize = if cfg!(test) { 1200 } else { 2 << 20 };

/// The most moments that are kept. Readers at further ones read alone.
const MAX_MEETINGS: usize = 64;

/// How many moments before the newest one are kept, for readers that are late.
const KEPT: u64 = 2;

/// When a reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Later moments of readers with this interval have higher numbers.
    pub(crate) number: u64,
    /// In milliseconds.
    pub(crate) interval: u32,
    /// Whether the reader has written nothing yet at its turn.
    pub(crate) is_first_write: bool,
}

/// What the readers of a shard share.
#[derive(Default)]
pub(crate) struct Shared {
    meetings: Meetings,
    /// While there are compressed stretches.
    compressor: Option<Compressor>,
}

/// The newest last.
#[derive(Default)]
struct Meetings(Vec<Meeting>);

/// The readers of one kind at one moment.
struct Meeting {
    kind: Kind,
    moment: u64,
    /// The end of its stretches.
    head: Option<Sequence>,
    stretches: Vec<Arc<Stretch>>,
    /// Of the stretches before compression.
    plain_bytes: usize,
    /// Whether it is dropped at the next tick.
    is_old: bool,
}

/// What readers of the same bytes have in common.
#[derive(PartialEq, Eq)]
struct Kind {
    channels: SmallVec<[Place; 2]>,
    coding: Coding,
    interval: u32,
    /// How many breaks of the order they have passed.
    breaks: u32,
    is_in_snapshot: bool,
    /// Whether they want no deletions of what they never had.
    is_new: bool,
}

/// A channel, by its place in memory.
struct Place(Arc<Channel>);

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Place {}

impl Shared {
    /// Drops what is a second old.
    pub(crate) fn tick(&mut self) {
        self.meetings.0.retain_mut(|meeting| !std::mem::replace(&mut meeting.is_old, true));
        if self.meetings.0.is_empty() {
            *self = Self::default();
        }
    }
}

impl Meetings {
    /// The meeting of `kind` at `moment`, and whether another reader has come to it; the newest one if the reader is later than
    /// all that are kept. `None` if there are too many.
    fn meet(&mut self, kind: Kind, moment: u64) -> Option<(&mut Meeting, bool)> {
        let of_kind = |is_wanted: &dyn Fn(u64) -> bool| {
            self.0.iter().rposition(|other| is_wanted(other.moment) && other.kind == kind)
        };
        let known = of_kind(&|other| other == moment).or_else(|| of_kind(&|other| other > moment));
        if let Some(place) = known {
            return Some((&mut self.0[place], true));
        }
        self.0.retain(|other| other.moment + KEPT >= moment || other.kind != kind);
        if self.0.len() == MAX_MEETINGS {
            return None;
        }
        let (head, stretches) = (None, Vec::new());
        self.0.push(Meeting { kind, moment, head, stretches, plain_bytes: 0, is_old: false });
        self.0.last_mut().map(|meeting| (meeting, false))
    }

    fn has_room(&self) -> bool {
        self.0.iter().map(|meeting| meeting.plain_bytes).sum::<usize>() < MAX_BYTES
    }
}

impl Meeting {
    /// What a reader does not have that has everything up to `taken`.
    fn values_after(&self, taken: Sequence) -> Option<SharedValues> {
        self.stretches.iter().find_map(|stretch| Stretch::values_after(stretch, taken))
    }
}

impl Subscription {
    /// The next values, as other readers write them at this moment. `None` if this has to read alone.
    pub(crate) fn shared_values(&self, shared: &mut Shared, moment: Moment, coding: Coding) -> Option<SharedValues> {
        let State::Latest(latest) = &self.state else { return None };
        let is_in_snapshot = match latest.snapshot {
            Progress::Over => false,
            Progress::Reading => true,
            Progress::Until(last) if self.taken < last => true,
            // The mark comes next.
            Progress::Until(_) => return None,
        };
        if self.selection.is_some() || latest.has_gap() || (is_in_snapshot && !coding.is_compressed) {
            return None;
        }
        let kind = Kind {
            channels: self.cursors.iter().map(|cursor| Place(cursor.channel.clone())).collect(),
            coding,
            interval: moment.interval,
            breaks: self.breaks,
            is_in_snapshot,
            is_new: latest.had_nothing_until > self.taken,
        };
        let Shared { meetings, compressor } = shared;
        let has_room = meetings.has_room();
        let (meeting, has_another) = meetings.meet(kind, moment.number)?;
        if meeting.head.is_some_and(|head| self.forgotten() > head.max(self.taken)) {
            // What was forgotten may be of values that the stretches have.
            return None;
        }
        if let Some(values) = meeting.values_after(self.taken) {
            return Some(values);
        }
        let may_begin = if coding.is_compressed {
            moment.is_first_write || meeting.stretches.iter().any(|stretch| stretch.until == self.taken)
        } else {
            has_another
        };
        if !may_begin || !has_room || meeting.plain_bytes >= MAX_MOMENT {
            return None;
        }
        let head = meeting.head.unwrap_or_else(|| self.history.head());
        let frames = self.values_to_share(latest, head)?;
        let compressor = coding.is_compressed.then(|| compressor.get_or_insert_with(Compressor::for_many));
        let stretch = Arc::new(Stretch::new(self.taken, head, &frames, coding, compressor));
        meeting.head = Some(head);
        meeting.plain_bytes += stretch.plain_bytes;
        meeting.stretches.push(stretch.clone());
        Stretch::values_after(&stretch, self.taken)
    }

    /// The values up to `head`, at least one. `None` if a notice comes next.
    fn values_to_share(&self, latest: &Latest, head: Sequence) -> Option<Vec<Frame>> {
        // After the head: whatever follows a break is beyond a head that was loaded before it.
        if head <= self.taken || self.breaks != self.history.break_count() {
            return None;
        }
        let had_nothing_until = latest.had_nothing_until;
        let is_wanted = |frame: &Frame| frame.sequence() > had_nothing_until || !frame.is_deletion();
        let lists = self.cursors.iter().filter_map(|cursor| cursor.channel.latest.get());
        let values = lists.map(|list| list.values_between(self.taken, head, MAX_VALUES + 1, is_wanted));
        let mut frames: Vec<Frame> = values.flatten().collect();
        // After the values: see the invariants of the lists.
        if frames.is_empty() || self.forgotten() > self.taken.max(had_nothing_until) {
            return None;
        }
        if self.cursors.len() > 1 {
            frames.sort_unstable_by_key(Frame::sequence);
        }
        Some(frames)
    }

    /// Moves past the first `taken` values.
    pub(crate) fn take_shared(&mut self, values: &SharedValues, taken: usize) {
        self.taken = values.end(taken);
        if let State::Latest(latest) = &mut self.state
            && latest.snapshot != Progress::Over
        {
            latest.entries += taken as u64;
            // What was deleted later it has now.
            latest.had_nothing_until = latest.had_nothing_until.min(values.head());
            if taken == values.len() && values.is_all() && latest.snapshot == Progress::Reading {
                latest.snapshot = Progress::Until(self.history.head());
            }
        }
        self.note_place_in_rings();
    }

    /// The sample, if its event is among the first `taken` values.
    pub(crate) fn sample_in_shared(&self, values: &SharedValues, taken: usize) -> Option<Sample> {
        let sequence = self.history.sampler.sequence();
        values.sequences(taken).binary_search(&sequence).ok()?;
        self.history.sampler.sample(sequence)
    }
}

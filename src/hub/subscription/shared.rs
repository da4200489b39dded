//! Latest values that several readers write at one moment, put together once.
//!
//! **Contract.** Readers with the same interval read at the same moment, and most of them the same values. The first one reads
//! alone. For the second, the values after its position are copied to one stretch of memory, which the others write too,
//! from their own position on. Afterwards all have the same position, so that next time all but the first share.
//!
//! **What is shared is current.** It was the newest when it was put together, at this moment. What was published since comes when
//! the reader reads again. A reader with an older position than all stretches of its lists puts another one together.
//!
//! **Memory.** The stretches of one moment have at most [`MAX_BYTES`]; beyond it readers read alone. The next moment drops them.

use bytes::Bytes;
use smallvec::SmallVec;

use super::latest::Progress;
use super::{State, Subscription};
use crate::hub::channel::Channel;
use crate::hub::frame::Frame;
use crate::hub::sampler::Sample;
use crate::position::Sequence;
use crate::sync::Arc;
use crate::wire::Format;

/// The bytes of the stretches of one moment after which none is added.
const MAX_BYTES: usize = 4 << 20;

/// The bytes of a stretch after which no value is added, and its most values.
const MAX_STRETCH: usize = 1 << 20;
const MAX_VALUES: usize = 16 << 10;

/// The most kinds of readers that share. Further ones read alone.
const MAX_KINDS: usize = 64;

/// What the readers of one moment share.
#[derive(Default)]
pub(crate) struct Shared {
    moment: u64,
    /// Those that have come.
    kinds: Vec<Kind>,
    stretches: Vec<(Kind, Arc<Stretch>)>,
}

/// What readers of the same bytes have in common.
#[derive(Clone)]
struct Kind {
    channels: SmallVec<[Arc<Channel>; 2]>,
    format: Format,
    is_framed: bool,
}

/// Values one behind the other.
struct Stretch {
    /// It has the values after this sequence, up to the other one.
    after: Sequence,
    until: Sequence,
    /// Whether there were no others.
    is_all: bool,
    /// The sequence of each value, and where its bytes end.
    ends: Vec<(Sequence, usize)>,
    bytes: Vec<u8>,
}

/// The values of a stretch that a reader does not have.
pub(crate) struct SharedValues {
    stretch: Arc<Stretch>,
    first: usize,
}

impl Kind {
    fn is(&self, other: &Self) -> bool {
        (self.format, self.is_framed, self.channels.len()) == (other.format, other.is_framed, other.channels.len())
            && self.channels.iter().zip(&other.channels).all(|(one, other)| Arc::ptr_eq(one, other))
    }
}

impl Shared {
    /// Begins a moment, unless it is the present one.
    pub(crate) fn begin(&mut self, moment: u64) {
        if self.moment != moment {
            *self = Self { moment, ..Self::default() };
        }
    }

    /// Frees the memory.
    pub(crate) fn clear(&mut self) {
        *self = Self { moment: self.moment, ..Self::default() };
    }

    /// Whether another reader of this kind has come at this moment.
    fn has_another(&mut self, kind: &Kind) -> bool {
        let has_another = self.kinds.iter().any(|other| other.is(kind));
        if !has_another && self.kinds.len() < MAX_KINDS {
            self.kinds.push(kind.clone());
        }
        has_another
    }

    fn find(&self, kind: &Kind, taken: Sequence) -> Option<&Arc<Stretch>> {
        let has_next = |stretch: &Stretch| stretch.after <= taken && taken < stretch.until;
        let found = self.stretches.iter().find(|(other, stretch)| other.is(kind) && has_next(stretch));
        found.map(|(_, stretch)| stretch)
    }

    fn has_room(&self) -> bool {
        self.stretches.iter().map(|(_, stretch)| stretch.bytes.len()).sum::<usize>() < MAX_BYTES
    }
}

impl Stretch {
    /// As many of `frames`, the values after `after` and up to `head`, as it has room for.
    fn new(after: Sequence, head: Sequence, frames: &[Frame], format: Format, is_framed: bool) -> Self {
        let ends = Vec::with_capacity(frames.len());
        let mut stretch = Self { after, until: head, is_all: true, ends, bytes: Vec::new() };
        for frame in frames {
            if stretch.bytes.len() >= MAX_STRETCH || stretch.ends.len() == MAX_VALUES {
                stretch.until = stretch.ends.last().map_or(after, |&(sequence, _)| sequence);
                stretch.is_all = false;
                break;
            }
            let chunk = frame.chunk(format);
            stretch.bytes.extend_from_slice(if is_framed { chunk.framed() } else { chunk.body() });
            stretch.ends.push((frame.sequence(), stretch.bytes.len()));
        }
        stretch
    }
}

impl SharedValues {
    fn new(stretch: Arc<Stretch>, taken: Sequence) -> Option<Self> {
        let first = stretch.ends.partition_point(|&(sequence, _)| sequence <= taken);
        (first < stretch.ends.len()).then_some(Self { stretch, first })
    }

    pub(crate) fn len(&self) -> usize {
        self.stretch.ends.len() - self.first
    }

    /// Whether there were no further ones when these were put together.
    pub(crate) fn is_all(&self) -> bool {
        self.stretch.is_all
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.stretch.bytes[self.start()..]
    }

    fn start(&self) -> usize {
        self.first.checked_sub(1).map_or(0, |before| self.stretch.ends[before].1)
    }

    /// How many values the first `bytes`, at least one, have begun, and the rest of the last one of these.
    pub(crate) fn begun(&self, bytes: usize) -> (usize, Bytes) {
        let (ends, end) = (&self.stretch.ends[self.first..], self.start() + bytes);
        let last = ends.partition_point(|&(_, other)| other < end);
        (last + 1, Bytes::copy_from_slice(&self.stretch.bytes[end..ends[last].1]))
    }
}

impl Subscription {
    /// The next values, as other readers write them at this moment. `None` if this has to read alone.
    pub(crate) fn shared_values(&self, shared: &mut Shared, format: Format, is_framed: bool) -> Option<SharedValues> {
        let State::Latest(latest) = &self.state else { return None };
        if latest.snapshot != Progress::Over || latest.has_gap() || self.filter.is_some() {
            return None;
        }
        let channels = self.cursors.iter().map(|cursor| cursor.channel.clone()).collect();
        let kind = Kind { channels, format, is_framed };
        if let Some(stretch) = shared.find(&kind, self.taken) {
            return SharedValues::new(stretch.clone(), self.taken);
        }
        if !shared.has_another(&kind) || !shared.has_room() {
            return None;
        }
        let stretch = Arc::new(self.put_together(format, is_framed)?);
        shared.stretches.push((kind, stretch.clone()));
        SharedValues::new(stretch, self.taken)
    }

    /// `None` if a notice comes next.
    fn put_together(&self, format: Format, is_framed: bool) -> Option<Stretch> {
        let head = self.history.head();
        // After the head: whatever follows a break is beyond a head that was loaded before it.
        if self.breaks != self.history.break_count() {
            return None;
        }
        let lists = self.cursors.iter().filter_map(|cursor| cursor.channel.latest.get());
        let values = lists.map(|list| list.values_between(self.taken, head, MAX_VALUES + 1, |_| true));
        let mut frames: Vec<Frame> = values.flatten().collect();
        // After the values: see the invariants of the lists.
        if self.forgotten() > self.taken {
            return None;
        }
        if self.cursors.len() > 1 {
            frames.sort_unstable_by_key(Frame::sequence);
        }
        Some(Stretch::new(self.taken, head, &frames, format, is_framed))
    }

    /// Moves past the first `taken` values.
    pub(crate) fn take_shared(&mut self, values: &SharedValues, taken: usize) {
        let stretch = &values.stretch;
        self.taken = if taken == values.len() { stretch.until } else { stretch.ends[values.first + taken - 1].0 };
        self.note_place_in_rings();
    }

    /// The sample, if its event is among the first `taken` values.
    pub(crate) fn sample_in_shared(&self, values: &SharedValues, taken: usize) -> Option<Sample> {
        let sequence = self.history.sampler.sequence();
        let ends = &values.stretch.ends[values.first..values.first + taken];
        ends.binary_search_by_key(&sequence, |&(sequence, _)| sequence).ok()?;
        self.history.sampler.sample(sequence)
    }
}

//! The latest values of one channel, in the order of their sequences.
//!
//! **Contract.** [`List::put`] makes an event the value of its name: its topic and its key. The value before it is superseded
//! by [`List::settle`], once readers may take the new one. A reader holds nothing but a sequence. It reads every value after it, in
//! order: what a new reader, a slow reader and one that resumes have to read is the same.
//!
//! **Invariants.**
//! 1. The sequences of the blocks, and of the frames of each, rise. A name moves to the end with each of its events.
//! 2. A value is superseded only after the head has passed its successor. A reader that loads a head, then the blocks, and
//!    finds a value superseded finds the successor up to a head that it loads afterwards.
//! 3. A deletion is a value until it is forgotten. [`List::forgotten`] is raised before anything leaves the list without a
//!    successor, so that a reader which has not seen it, and loads that afterwards, knows.
//!
//! **How.** Blocks of cells that are set once, as in a ring, each with a bit for each superseded cell. Readers clone a few
//! blocks under a lock and look at the cells without it. The writer opens a block for every [`CELLS`] values. It removes a full block
//! without values, and copies what is left of one with few: the memory is in proportion to the values. A copied frame has
//! its bytes for itself, where others share a block of memory with the events that were encoded with them.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicUsize;

use smallvec::SmallVec;

use crate::event::Key;
use crate::hub::frame::Frame;
use crate::position::Sequence;
use crate::ring::Segment;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, RwLock, lock, read, write};
use crate::topic::Topic;

/// The cells of a block in a list with many values: one bit each in a word.
const CELLS: usize = 64;

/// The cells of a block in a list with few values.
const FEW: usize = 4;

/// How many blocks a reader clones at a time.
const CLONED: usize = 16;

/// What an event is the latest value of.
pub(crate) type Name = (Topic, Option<Key>);

pub(crate) struct List {
    /// By the sequence of their first frame.
    blocks: RwLock<BTreeMap<Sequence, Block>>,
    /// The newest deletion or value that has left the list without a successor.
    forgotten: AtomicU64,
    writer: Mutex<Writer>,
    /// The number of keys that have a value, and the memory of these values. For statistics: no part of the loom models.
    keys: AtomicUsize,
    bytes: AtomicUsize,
}

/// The cells of some values.
struct Block {
    frames: Arc<Segment<Frame>>,
    superseded: AtomicU64,
}

/// A block as a reader found it.
pub(crate) struct Values {
    pub(crate) frames: Arc<Segment<Frame>>,
    superseded: u64,
}

struct Writer {
    /// The value or deletion of each name.
    index: HashMap<Name, Entry>,
    /// Values with a successor.
    superseded: Vec<Entry>,
    /// The block that is filled next, and the number of its cells that are set.
    open: Option<(Arc<Segment<Frame>>, usize)>,
}

/// What the writer needs to know of a value, so that it need not look at its frame, which is seldom in the processor's cache.
#[derive(Clone, Copy)]
struct Entry {
    sequence: Sequence,
    /// [`Frame::value_weight`], or `None` of a deletion.
    weight: Option<u32>,
    /// Its place in its block, unless that was copied since.
    cell: u8,
}

/// What a name was before an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Before {
    #[default]
    Nothing,
    Deleted,
    /// A value of this weight.
    Value(usize),
}

impl Values {
    /// The frames that are set, and whether each is a value.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Frame, bool)> {
        (0..self.frames.end()).map_while(|index| {
            let is_value = self.superseded >> index & 1 == 0;
            self.frames.value(index).map(|frame| (index, frame, is_value))
        })
    }
}

impl Entry {
    fn before(self) -> Before {
        self.weight.map_or(Before::Deleted, |weight| Before::Value(weight as usize))
    }
}

impl Block {
    /// Where the frame of an entry is.
    fn find(&self, Entry { sequence, cell, .. }: Entry) -> Option<u64> {
        let cell = u64::from(cell);
        if cell < self.frames.end() && self.frames.value(cell).is_some_and(|frame| frame.sequence() == sequence) {
            return Some(cell);
        }
        let (mut low, mut high) = (0, self.frames.end());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.frames.value(middle) {
                Some(frame) if frame.sequence() == sequence => return Some(middle),
                Some(frame) if frame.sequence() < sequence => low = middle + 1,
                // Those that are not set come last.
                _ => high = middle,
            }
        }
        None
    }

    fn values(&self) -> impl Iterator<Item = &Frame> {
        let superseded = self.superseded.load(Ordering::Relaxed);
        (0..self.frames.end()).filter(move |index| superseded >> index & 1 == 0).map_while(|i| self.frames.value(i))
    }
}

impl List {
    /// A list without values. What there was up to `forgotten` is not known.
    pub(crate) fn new(forgotten: Sequence) -> Self {
        let writer = Writer { index: HashMap::new(), superseded: Vec::new(), open: None };
        Self {
            blocks: RwLock::new(BTreeMap::new()),
            forgotten: AtomicU64::new(forgotten),
            writer: Mutex::new(writer),
            keys: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        }
    }

    /// The next blocks that may have a value after `after`. Empty when there are none.
    pub(crate) fn blocks_after(&self, after: Sequence) -> SmallVec<[Values; CLONED]> {
        let blocks = read(&self.blocks);
        let first = blocks.range(..=after).next_back().map_or(0, |(&first, _)| first);
        let clone = |block: &Block| Values {
            frames: block.frames.clone(),
            // Acquire: see the invariants.
            superseded: block.superseded.load(Ordering::Acquire),
        };
        blocks.range(first..).map(|(_, block)| clone(block)).take(CLONED).collect()
    }

    /// The newest deletion or value that has left the list without a successor. A reader that has not passed it has to
    /// begin again.
    pub(crate) fn forgotten(&self) -> Sequence {
        self.forgotten.load(Ordering::Acquire)
    }

    /// The number of values and deletions.
    pub(crate) fn len(&self) -> usize {
        lock(&self.writer).index.len()
    }

    /// Whether `name` has a value, or was deleted lately.
    pub(crate) fn find(&self, name: &Name) -> Before {
        lock(&self.writer).index.get(name).map_or(Before::Nothing, |entry| entry.before())
    }

    /// The number of keys that have a value.
    pub(crate) fn keys(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    /// The memory of the values with keys.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The newest event in the list; 0 if it is empty.
    pub(crate) fn last(&self) -> Sequence {
        let blocks = read(&self.blocks);
        let frames = blocks.values().next_back().map(|block| &block.frames);
        let last = frames.and_then(|frames| (0..frames.end()).rev().find_map(|index| frames.value(index)));
        last.map_or(0, Frame::sequence)
    }

    /// Up to `limit` values and deletions after `after` and up to `until` that are wanted, in order.
    pub(crate) fn values_between(
        &self,
        mut after: Sequence,
        until: Sequence,
        limit: usize,
        is_wanted: impl Fn(&Frame) -> bool,
    ) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            let before = after;
            for (_, frame, is_value) in self.blocks_after(after).iter().flat_map(Values::iter) {
                if frame.sequence() > until || frames.len() == limit {
                    return frames;
                }
                if frame.sequence() > before {
                    after = frame.sequence();
                    frames.extend((is_value && is_wanted(frame)).then(|| frame.clone()));
                }
            }
            if after == before {
                return frames;
            }
        }
    }

    /// The newest sequence of the name of `frame`.
    pub(crate) fn newest(&self, frame: &Frame) -> Option<Sequence> {
        lock(&self.writer).index.get(&name_of(frame)).map(|entry| entry.sequence)
    }

    /// All values and deletions, in order.
    pub(crate) fn frames(&self) -> Vec<Frame> {
        read(&self.blocks).values().flat_map(Block::values).cloned().collect()
    }

    /// Appends an event, the newest of the list, as the value of its name. Returns what that was before. For the sequencer.
    pub(crate) fn put(&self, frame: Frame) -> Before {
        let (name, sequence) = (name_of(&frame), frame.sequence());
        let weight = (!frame.is_deletion()).then(|| u32::try_from(frame.value_weight()).unwrap_or(u32::MAX));
        let has_key = name.1.is_some();
        let mut writer = lock(&self.writer);
        let cell = self.push(&mut writer, frame);
        let entry = Entry { sequence, weight, cell };
        let before = writer.index.insert(name, entry);
        if has_key {
            self.account(before.and_then(|before| before.weight), weight);
        }
        writer.superseded.extend(before);
        before.map_or(Before::Nothing, Entry::before)
    }

    /// Accounts for a key that had a value of one weight, and has one of the other.
    fn account(&self, before: Option<u32>, now: Option<u32>) {
        let change = |total: &AtomicUsize, less: usize, more: usize| {
            total.store(total.load(Ordering::Relaxed) + more - less, Ordering::Relaxed);
        };
        change(&self.keys, usize::from(before.is_some()), usize::from(now.is_some()));
        change(&self.bytes, before.unwrap_or(0) as usize, now.unwrap_or(0) as usize);
    }

    /// Returns the place in its block.
    fn push(&self, writer: &mut Writer, frame: Frame) -> u8 {
        let cells = writer.index.len().next_power_of_two().clamp(FEW, CELLS);
        let first = frame.sequence();
        let is_open = writer.open.as_ref().is_some_and(|(frames, set)| (*set as u64) < frames.end());
        if !is_open {
            writer.open = Some((Arc::new(Segment::new(0, cells as u64)), 0));
        }
        let (frames, set) = writer.open.as_mut().expect("it is open");
        let cell = *set;
        frames.set(cell as u64, frame);
        *set += 1;
        if !is_open {
            let block = Block { frames: frames.clone(), superseded: AtomicU64::new(0) };
            write(&self.blocks).insert(first, block);
        }
        cell as u8
    }

    /// Supersedes the values whose successors readers may take. For the sequencer.
    pub(crate) fn settle(&self) {
        let mut writer = lock(&self.writer);
        let mut superseded = std::mem::take(&mut writer.superseded);
        superseded.drain(..).for_each(|entry| self.supersede(&writer, entry));
        // The memory is used again.
        writer.superseded = superseded;
    }

    fn supersede(&self, writer: &Writer, entry: Entry) {
        let blocks = read(&self.blocks);
        let Some((&first, block)) = blocks.range(..=entry.sequence).next_back() else { return };
        let Some(index) = block.find(entry) else { return };
        // Release: see the invariants.
        let superseded = block.superseded.fetch_or(1 << index, Ordering::AcqRel) | 1 << index;
        let left = block.frames.end() - u64::from(superseded.count_ones());
        let is_open = writer
            .open
            .as_ref()
            .is_some_and(|(open, set)| Arc::ptr_eq(open, &block.frames) && (*set as u64) < open.end());
        if is_open || left > block.frames.end() / 4 {
            return;
        }
        let frames = block.values().map(Frame::alone).collect::<Vec<_>>();
        drop(blocks);
        self.replace(first, frames);
    }

    /// Replaces a block by one with the frames that are left of it.
    fn replace(&self, first: Sequence, left: Vec<Frame>) {
        let next = left.first().map(Frame::sequence);
        let mut blocks = write(&self.blocks);
        blocks.remove(&first);
        if let Some(next) = next {
            let frames = Segment::new(0, left.len() as u64);
            (0..).zip(left).for_each(|(index, frame)| frames.set(index, frame));
            blocks.insert(next, Block { frames: Arc::new(frames), superseded: AtomicU64::new(0) });
        }
    }

    /// Removes the value or deletion `sequence` of `name`, if it is still the newest of that name; any one of that name
    /// without a sequence. For the sequencer.
    pub(crate) fn forget(&self, name: &Name, sequence: Option<Sequence>) {
        let mut writer = lock(&self.writer);
        let Some(&newest) = writer.index.get(name) else { return };
        if sequence.is_some_and(|sequence| sequence != newest.sequence) {
            return;
        }
        writer.index.remove(name);
        // Release, and before it is superseded: see the invariants.
        self.forgotten.fetch_max(newest.sequence, Ordering::AcqRel);
        self.supersede(&writer, newest);
    }

    /// Removes everything: the order was broken at `base`. For the sequencer.
    pub(crate) fn clear(&self, base: Sequence) {
        let mut writer = lock(&self.writer);
        *writer = Writer { index: HashMap::new(), superseded: Vec::new(), open: None };
        self.forgotten.fetch_max(base, Ordering::AcqRel);
        write(&self.blocks).clear();
        self.keys.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }
}

/// What `frame` is the latest value of.
pub(crate) fn name_of(frame: &Frame) -> Name {
    (frame.topic().clone(), frame.key().cloned())
}

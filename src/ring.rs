//! The newest `capacity` values of one sequence of values, for one writer and any number of readers.
//!
//! **Contract.** Values are numbered 0, 1, 2 … by [`Ring::push`]. A reader holds nothing but the index it wants next, and
//! [`Ring::read`] returns the values from there on (those of one segment), [`Read::Empty`] when the writer has not got
//! that far, or [`Read::Lagged`] when that value is no longer retained. Readers never wait, not for the
//! writer and not for each other, and the writer never waits for readers.
//!
//! **Invariants.**
//! 1. A value is set before `head` passes it (Release), and a reader loads `head` (Acquire) before it looks for a value.
//! 2. `oldest` passes a value (Release) before its segment leaves its slot, so a reader that finds another segment, or
//!    none, in the slot finds an `oldest` beyond its index when it looks again.
//! 3. A segment never changes but for values being added. A reader that holds it reads what it held when it was loaded,
//!    whatever the writer does meanwhile: a torn or wrong value cannot be seen.
//! 4. The slots have a place for each retained segment. A reader loads the slots after `head`, so that they are those in
//!    which the value was set, or later ones.
//!
//! **How.** Values stand in segments of [`SEGMENT`] cells that are set once. Slot `(index / SEGMENT) % slots` holds the
//! segment of `index`. The slots are few at first. Where a segment finds no free one, they are replaced by twice as many, with
//! the same segments, and by fewer when most are empty: a ring takes the memory of what it retains, not of its capacity.
//! The price is two pointer loads for up to [`SEGMENT`] values, and no `unsafe`: a plain slot that readers copy
//! optimistically would be a data race.

use std::ops::Range;

use crate::sync::{Arc, AtomicU64, OnceLock, Ordering, Slot};

/// How many values one segment holds.
#[cfg(not(fanline_loom))]
pub(crate) const SEGMENT: usize = 16;
#[cfg(fanline_loom)]
pub(crate) const SEGMENT: usize = 2;

/// How many slots a ring has at least.
#[cfg(not(fanline_loom))]
const MIN_SLOTS: usize = 8;
#[cfg(fanline_loom)]
const MIN_SLOTS: usize = 1;

/// See the module's documentation.
pub(crate) struct Ring<T> {
    slots: Slot<Slots<T>>,
    /// The index that the next value will have.
    head: AtomicU64,
    /// The index of the oldest retained value; equal to `head` when there is none.
    oldest: AtomicU64,
}

/// The right to push into a [`Ring`] and to evict from it: there is one for each ring.
pub(crate) struct Writer<T> {
    capacity: u64,
    head: u64,
    oldest: u64,
    /// The ring's slots.
    slots: Arc<Slots<T>>,
    /// The segment that is being filled: the one of `head - 1`, or of `head` once it was evicted.
    open: Option<Arc<Segment<T>>>,
}

/// The places of the segments.
struct Slots<T>(Box<[Slot<Segment<T>>]>);

pub(crate) struct Segment<T> {
    base: u64,
    cells: [OnceLock<T>; SEGMENT],
}

/// What [`Ring::read`] found.
pub(crate) enum Read<T> {
    /// The value does not exist yet.
    Empty,
    /// The value asked for is no longer retained.
    Lagged,
    /// Values from the one asked for onwards.
    Run(Run<T>),
}

/// Values that follow each other, in one segment. They stay readable while the run is held.
pub(crate) struct Run<T> {
    segment: Arc<Segment<T>>,
    next: u64,
    end: u64,
}

impl<T> Run<T> {
    /// The indices from the one asked for to the end of what the segment held.
    pub(crate) fn indices(&self) -> Range<u64> {
        self.next..self.end
    }

    pub(crate) fn get(&self, index: u64) -> &T {
        debug_assert!(self.indices().contains(&index));
        self.segment.cell(index).get().expect("a run's values are set before the head passes them")
    }
}

impl<T> Segment<T> {
    fn new(base: u64) -> Self {
        Self { base, cells: std::array::from_fn(|_| OnceLock::new()) }
    }

    fn cell(&self, index: u64) -> &OnceLock<T> {
        &self.cells[(index % SEGMENT as u64) as usize]
    }
}

impl<T> Ring<T> {
    /// An empty ring that retains up to `capacity` values, and the right to write to it.
    pub(crate) fn new(capacity: usize) -> (Self, Writer<T>) {
        let slots = Arc::new(Slots::new(MIN_SLOTS));
        let ring = Self { slots: Slot::of(slots.clone()), head: AtomicU64::new(0), oldest: AtomicU64::new(0) };
        (ring, Writer { capacity: capacity.max(1) as u64, head: 0, oldest: 0, slots, open: None })
    }

    /// The indices that are retained now.
    pub(crate) fn retained(&self) -> Range<u64> {
        // Oldest first: it never passes the head, so the range is never turned round.
        let oldest = self.oldest.load(Ordering::Acquire);
        oldest..self.head.load(Ordering::Acquire)
    }

    /// The values from `index` on, as far as they stand in one segment.
    pub(crate) fn read(&self, index: u64) -> Read<T> {
        let head = self.head.load(Ordering::Acquire);
        if index >= head {
            return Read::Empty;
        }
        if index < self.oldest.load(Ordering::Acquire) {
            return Read::Lagged;
        }
        // After the head: see the invariants.
        let Some(segment) = self.slots.with(|slots| slots.of(index).load()).flatten() else { return Read::Lagged };
        // The same slot serves many segments, and an evicted cell of the open segment is empty again.
        if segment.base != base_of(index) || segment.cell(index).get().is_none() {
            return Read::Lagged;
        }
        let end = head.min(segment.base + SEGMENT as u64);
        Read::Run(Run { segment, next: index, end })
    }

    /// The first retained index whose value does not satisfy `before`, which holds for all values up to a point and for
    /// none after it; the head when it holds for all.
    pub(crate) fn partition_point(&self, before: impl Fn(&T) -> bool) -> u64 {
        let Range { start: mut low, end: mut high } = self.retained();
        while low < high {
            let middle = low + (high - low) / 2;
            match self.read(middle) {
                Read::Run(run) if !before(run.get(middle)) => high = middle,
                // What was evicted meanwhile was older than all that is retained.
                _ => low = middle + 1,
            }
        }
        low
    }

    /// Appends `value`; its index is the old head.
    ///
    /// # Panics
    /// When the ring is full: the writer evicts first, because it accounts for what leaves.
    pub(crate) fn push(&self, writer: &mut Writer<T>, value: T) {
        assert!(!writer.is_full(), "evict from a full ring before pushing");
        let index = writer.head;
        let segment = match &writer.open {
            Some(open) if open.base == base_of(index) => open,
            _ => {
                let slots = writer.slots.0.len();
                if writer.segments() == slots {
                    self.resize(writer, 2 * slots);
                }
                let segment = writer.open.insert(Arc::new(Segment::new(base_of(index))));
                writer.slots.of(index).store(Some(segment.clone()));
                segment
            }
        };
        let was_empty = segment.cell(index).set(value).is_ok();
        debug_assert!(was_empty, "a cell is set once");
        writer.head = index + 1;
        // Release: a reader that sees this head sees the cell and the slot that were set before it.
        self.head.store(writer.head, Ordering::Release);
    }

    /// Drops the values below `oldest`, and frees each segment that holds no other. A value whose segment lives on stays
    /// in memory with it.
    pub(crate) fn evict(&self, writer: &mut Writer<T>, oldest: u64) {
        let from = writer.oldest;
        debug_assert!((from..=writer.head).contains(&oldest));
        writer.oldest = oldest;
        // Release, and before the slots change: a reader that misses its segment finds this bound.
        self.oldest.store(oldest, Ordering::Release);
        let mut base = base_of(from);
        while base + SEGMENT as u64 <= oldest {
            writer.slots.of(base).store(None);
            base += SEGMENT as u64;
        }
        if oldest == writer.head && oldest != base_of(oldest) && from < oldest {
            // The open segment holds nothing that is retained: an empty one takes its place, to be filled from where
            // this one ended.
            let segment = writer.open.insert(Arc::new(Segment::new(base_of(oldest))));
            writer.slots.of(oldest).store(Some(segment.clone()));
        }
        if base_of(writer.head) == writer.head && oldest == writer.head {
            writer.open = None;
        }
        let slots = writer.slots.0.len();
        if slots > MIN_SLOTS && writer.segments() * 8 <= slots {
            self.resize(writer, slots / 4);
        }
    }

    /// Replaces the slots by `count`, at least [`MIN_SLOTS`], with the same segments.
    fn resize(&self, writer: &mut Writer<T>, count: usize) {
        let slots = Slots::new(count.max(MIN_SLOTS));
        let mut base = base_of(writer.oldest);
        while base < writer.head {
            slots.of(base).store(writer.slots.of(base).load());
            base += SEGMENT as u64;
        }
        writer.slots = Arc::new(slots);
        self.slots.store(Some(writer.slots.clone()));
    }
}

impl<T> Slots<T> {
    fn new(count: usize) -> Self {
        Self((0..count).map(|_| Slot::empty()).collect())
    }

    /// The slot of the segment that has `index`.
    fn of(&self, index: u64) -> &Slot<Segment<T>> {
        &self.0[(index / SEGMENT as u64 % self.0.len() as u64) as usize]
    }
}

impl<T> Writer<T> {
    pub(crate) fn is_full(&self) -> bool {
        self.head - self.oldest == self.capacity
    }

    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    pub(crate) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// The number of segments that have a slot.
    fn segments(&self) -> usize {
        (self.head.div_ceil(SEGMENT as u64) - self.oldest / SEGMENT as u64) as usize
    }
}

fn base_of(index: u64) -> u64 {
    index - index % SEGMENT as u64
}

#[cfg(test)]
mod tests;

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
//! 3. A segment never changes but for values being added. A reader that holds a segment reads what it held when it was loaded,
//!    whatever the writer does meanwhile: a torn or wrong value cannot be seen.
//! 4. The slots have a place for each retained segment. A reader loads the slots after `head`, so that they are those in
//!    which the value was set, or later ones.
//!
//! **How.** The indices are divided into blocks of [`SEGMENT`]. Slot `(index / SEGMENT) % slots` holds the segment of the block
//! of `index`: cells that are set once, for the block's indices from the first that it was needed for. The price is two pointer
//! loads for up to [`SEGMENT`] values, and no `unsafe`: a plain slot that readers copy optimistically would be a data race.
//!
//! **Memory.** A ring takes the memory of what it retains, not of its capacity, and none before its first value. Most rings
//! of a hub with very many topics have one value: the first slot and the first cell of a segment need no memory of their own.
//! A segment gets more cells when the ones that it has are set, at most twice. Nothing is moved, so that a push
//! touches little memory of a ring that has long been quiet. Where a
//! segment finds no free slot, the slots are replaced by twice as many, with the same segments, and by fewer when most are empty.

use std::ops::Range;

use crate::sync::{Arc, AtomicU64, OnceLock, Ordering, Slot};

/// How many values one segment holds.
#[cfg(not(fanline_loom))]
pub(crate) const SEGMENT: usize = 16;
#[cfg(fanline_loom)]
pub(crate) const SEGMENT: usize = 2;

/// How many cells a segment begins with while fewer values than this are retained.
#[cfg(not(fanline_loom))]
const FEW: u64 = 4;
#[cfg(fanline_loom)]
const FEW: u64 = 2;

/// See the module's documentation.
pub(crate) struct Ring<T> {
    /// Empty before the first value.
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
    /// The segment that is being filled: that of `head - 1`, unless it was evicted.
    open: Option<Arc<Segment<T>>>,
}

/// The places of the segments: a power of two.
struct Slots<T> {
    first: Slot<Segment<T>>,
    others: Box<[Slot<Segment<T>>]>,
}

/// The cells of some consecutive indices of one block.
pub(crate) struct Segment<T> {
    first: u64,
    cell: OnceLock<T>,
    /// The cells behind the first one, set before the head passes the first of them.
    others: [OnceLock<Box<[OnceLock<T>]>>; 2],
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
    /// All values of a segment that belongs to no ring.
    pub(crate) fn of(segment: Arc<Segment<T>>) -> Self {
        let (next, end) = (segment.first, segment.end());
        Self { segment, next, end }
    }

    /// The indices from the one asked for to the end of what the segment held.
    pub(crate) fn indices(&self) -> Range<u64> {
        self.next..self.end
    }

    pub(crate) fn get(&self, index: u64) -> &T {
        debug_assert!(self.indices().contains(&index));
        self.segment.value(index).expect("a run's values are set before the head passes them")
    }
}

impl<T> Segment<T> {
    /// Cells of these indices, at least one, none of which is set.
    pub(crate) fn new(first: u64, end: u64) -> Self {
        let segment = Self { first, cell: OnceLock::new(), others: [OnceLock::new(), OnceLock::new()] };
        segment.add_cells(end - first - 1);
        segment
    }

    /// Adds cells behind the others.
    fn add_cells(&self, count: u64) {
        if count > 0 {
            let cells = (0..count).map(|_| OnceLock::new()).collect();
            let is_added =
                self.others.iter().try_fold(cells, |cells, others| others.set(cells).err().ok_or(())).is_err();
            debug_assert!(is_added, "cells are added twice at most");
        }
    }

    pub(crate) fn end(&self) -> u64 {
        let others = self.others.iter().map_while(OnceLock::get).map(|cells| cells.len() as u64);
        self.first + 1 + others.sum::<u64>()
    }

    fn cell(&self, index: u64) -> Option<&OnceLock<T>> {
        let Some(mut place) = (index.wrapping_sub(self.first) as usize).checked_sub(1) else { return Some(&self.cell) };
        for others in &self.others {
            let cells = others.get()?;
            if let Some(cell) = cells.get(place) {
                return Some(cell);
            }
            place -= cells.len();
        }
        None
    }

    /// The value of `index`, if it belongs to this segment and is set.
    pub(crate) fn value(&self, index: u64) -> Option<&T> {
        self.cell(index)?.get()
    }

    pub(crate) fn set(&self, index: u64, value: T) {
        let is_set = self.cell(index).is_some_and(|cell| cell.set(value).is_ok());
        debug_assert!(is_set, "a cell is set once");
    }

    /// The values that are set.
    fn values(&self) -> impl Iterator<Item = &T> {
        let others = self.others.iter().map_while(OnceLock::get).flatten();
        std::iter::once(&self.cell).chain(others).map_while(OnceLock::get)
    }
}

impl<T> Ring<T> {
    /// An empty ring that retains up to `capacity` values, and the right to write to it.
    pub(crate) fn new(capacity: usize) -> (Self, Writer<T>) {
        let ring = Self { slots: Slot::empty(), head: AtomicU64::new(0), oldest: AtomicU64::new(0) };
        (ring, Writer { capacity: capacity.max(1) as u64, head: 0, oldest: 0, open: None })
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
        // The same slot serves many blocks, and the segment of an emptied ring begins behind what was evicted.
        if segment.value(index).is_none() {
            return Read::Lagged;
        }
        let end = head.min(end_of_block(index));
        Read::Run(Run { segment, next: index, end })
    }

    /// Reads one retained value. Costs less than a [`Run`], which counts a reference to its segment.
    pub(crate) fn with<R>(&self, index: u64, read: impl FnOnce(&T) -> R) -> Option<R> {
        self.slots.with(|slots| slots.of(index).with(|segment| segment.value(index).map(read))).flatten().flatten()
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

    /// Drops the values below `oldest`, and frees each segment that holds no other. A value whose segment lives on stays
    /// in memory with it. Calls `freed` with each value that leaves the memory.
    pub(crate) fn evict(&self, writer: &mut Writer<T>, oldest: u64, mut freed: impl FnMut(&T)) {
        let from = writer.oldest;
        debug_assert!((from..=writer.head).contains(&oldest));
        writer.oldest = oldest;
        // Release, and before the slots change: a reader that misses its segment finds this bound.
        self.oldest.store(oldest, Ordering::Release);
        let (mut base, is_empty) = (base_of(from), oldest == writer.head);
        if base == base_of(oldest) && !(is_empty && from < oldest) {
            return;
        }
        let slots = self.slots.load().expect("a ring that has had values has slots");
        while base + SEGMENT as u64 <= oldest || (is_empty && base < oldest) {
            let slot = slots.of(base);
            slot.load().iter().flat_map(|segment| segment.values()).for_each(&mut freed);
            slot.store(None);
            base += SEGMENT as u64;
        }
        if is_empty {
            writer.open = None;
        }
        let count = slots.count();
        if count > 1 && writer.blocks() * 8 <= count {
            self.resize(writer, &slots, count / 4);
        }
    }

    /// Replaces the slots by `count`, at least one, with the same segments.
    fn resize(&self, writer: &Writer<T>, old: &Slots<T>, count: u64) -> Arc<Slots<T>> {
        let slots = Slots::new(count.max(1));
        let mut base = base_of(writer.oldest);
        while base < writer.head {
            slots.of(base).store(old.of(base).load());
            base += SEGMENT as u64;
        }
        let slots = Arc::new(slots);
        self.slots.store(Some(slots.clone()));
        slots
    }

    /// Appends `value`; its index is the old head.
    ///
    /// # Panics
    /// When the ring is full: the writer evicts first, because it accounts for what leaves.
    pub(crate) fn push(&self, writer: &mut Writer<T>, value: T) {
        assert!(!writer.is_full(), "evict from a full ring before pushing");
        let (index, retained) = (writer.head, writer.head - writer.oldest);
        let open = match &writer.open {
            Some(open) if open.first >= base_of(index) => {
                if open.cell(index).is_none() {
                    let few = (open.first + FEW).min(end_of_block(index));
                    let end = if retained < FEW && index < few { few } else { end_of_block(index) };
                    open.add_cells(end - index);
                }
                open
            }
            _ => self.open(writer),
        };
        open.set(index, value);
        writer.head = index + 1;
        // Release: a reader that sees this head sees the cell and the slot that were set before it.
        self.head.store(writer.head, Ordering::Release);
    }

    /// Opens a segment with a cell for the head.
    fn open<'a>(&self, writer: &'a mut Writer<T>) -> &'a Segment<T> {
        let slots = self.slots.load().unwrap_or_else(|| self.resize(writer, &Slots::new(1), 1));
        let count = slots.count();
        let slots = if writer.blocks() > count { self.resize(writer, &slots, 2 * count) } else { slots };
        let segment = writer.open.insert(Arc::new(Segment::new(writer.head, writer.head + 1)));
        slots.of(writer.head).store(Some(segment.clone()));
        segment
    }
}

impl<T> Slots<T> {
    /// `count` is a power of two.
    fn new(count: u64) -> Self {
        Self { first: Slot::empty(), others: (1..count).map(|_| Slot::empty()).collect() }
    }

    fn count(&self) -> u64 {
        self.others.len() as u64 + 1
    }

    /// The slot of the block that has `index`.
    fn of(&self, index: u64) -> &Slot<Segment<T>> {
        // The block's number modulo the count.
        let place = (index / SEGMENT as u64) as usize & self.others.len();
        place.checked_sub(1).map_or(&self.first, |place| &self.others[place])
    }
}

impl<T> Writer<T> {
    pub(crate) fn is_full(&self) -> bool {
        self.head - self.oldest == self.capacity
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// The index of the oldest value that there is room for once `more` values, no more than the capacity, are pushed.
    pub(crate) fn oldest_after(&self, more: u64) -> u64 {
        self.oldest.max((self.head + more).saturating_sub(self.capacity))
    }

    pub(crate) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// The number of blocks from that of the oldest value to that of the next one.
    fn blocks(&self) -> u64 {
        self.head / SEGMENT as u64 - self.oldest / SEGMENT as u64 + 1
    }
}

fn base_of(index: u64) -> u64 {
    index - index % SEGMENT as u64
}

/// The index behind the block that has `index`.
fn end_of_block(index: u64) -> u64 {
    base_of(index) + SEGMENT as u64
}

#[cfg(test)]
mod tests;

//! Raw-deflate compressors, shared by the rings of a hub.
//!
//! A compressor takes about 300 KB, and there may be very many rings with compressed readers. So a ring has none of its own: a
//! group of events is continued by the compressor that made its last block, or else by another one that is given the events
//! before as its dictionary, for about ten times the cost. There are at most as many as rings are usually busy, and none
//! without compressed readers.

use std::sync::atomic::{AtomicU64, Ordering};

use flate2::{Compress, Compression, FlushCompress};

use crate::sync::{Mutex, lock};

/// The number of compressors that wait for the next event of their groups.
#[cfg(not(test))]
const MAX_IDLE: usize = 32;
#[cfg(test)]
const MAX_IDLE: usize = 2;

/// The compression level. At level 1 a block has the fixed codes: above, the codes that are made for the block of a single event cost
/// ten times as much as the compression, for a tenth fewer bytes.
const LEVEL: u32 = 1;

/// The level for blocks of many events.
const LEVEL_OF_MANY: u32 = 2;

/// The names of groups, and compressors that wait.
#[derive(Default)]
pub(super) struct Compressors {
    groups: AtomicU64,
    /// In the order of their last use.
    idle: Mutex<Vec<Compressor>>,
}

/// Where a compressor is: in which group, behind how many of its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) group: u64,
    pub(super) events: u64,
}

impl Compressors {
    /// A new name for a group.
    pub(super) fn name(&self) -> u64 {
        self.groups.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns a compressor for the events from `place` on. `dictionary` returns the last bytes before that place.
    pub(super) fn take(&self, place: Place, dictionary: impl FnOnce() -> Vec<u8>) -> Compressor {
        let mut compressor = self.take_idle(place).unwrap_or_else(Compressor::new);
        if compressor.place == Some(place) {
            return compressor;
        }
        compressor.deflate.reset();
        if place.events > 0 {
            let set = compressor.deflate.set_dictionary(&dictionary());
            set.expect("a raw compressor that was reset takes a dictionary");
        }
        compressor.place = Some(place);
        compressor
    }

    /// Takes the compressor that is at `place`, or else one that has no group, or else the one that waits the longest, if there
    /// are enough.
    fn take_idle(&self, place: Place) -> Option<Compressor> {
        let mut idle = lock(&self.idle);
        let find = |place| idle.iter().position(|compressor| compressor.place == place);
        let number = find(Some(place)).or_else(|| find(None)).or((idle.len() >= MAX_IDLE).then_some(0))?;
        Some(idle.remove(number))
    }

    /// Keeps `compressor` for the next events, those of the same group unless that `is_complete`.
    pub(super) fn put_back(&self, mut compressor: Compressor, is_complete: bool) {
        if is_complete {
            compressor.place = None;
        }
        let mut idle = lock(&self.idle);
        if idle.len() >= MAX_IDLE {
            idle.remove(0);
        }
        idle.push(compressor);
    }

    /// Forgets that a compressor is in `group`, which is dropped.
    pub(super) fn leave(&self, group: u64) {
        let mut idle = lock(&self.idle);
        for compressor in
            idle.iter_mut().filter(|compressor| compressor.place.is_some_and(|place| place.group == group))
        {
            compressor.place = None;
        }
    }

    /// Frees the memory of the compressors that wait.
    pub(super) fn clear(&self) {
        lock(&self.idle).clear();
    }

    /// The name of the next group.
    #[cfg(all(test, not(fanline_loom)))]
    pub(super) fn next_name(&self) -> u64 {
        self.groups.load(Ordering::Relaxed)
    }

    /// Takes the compressor that waits the shortest to be at `place`.
    #[cfg(all(test, not(fanline_loom)))]
    pub(super) fn displace(&self, place: Place) {
        if let Some(last) = lock(&self.idle).last_mut() {
            last.place = Some(place);
        }
    }
}

pub(in crate::hub) struct Compressor {
    deflate: Compress,
    /// `None` while it has no group.
    place: Option<Place>,
}

impl Compressor {
    fn new() -> Self {
        Self { deflate: Compress::new(Compression::new(LEVEL), false), place: None }
    }

    /// A compressor of blocks of many events, for [`Compressor::compress_alone`].
    pub(in crate::hub) fn for_many() -> Self {
        Self { deflate: Compress::new(Compression::new(LEVEL_OF_MANY), false), place: None }
    }

    /// Returns a block that refers to nothing before it.
    pub(in crate::hub) fn compress_alone(&mut self, text: &[u8]) -> Vec<u8> {
        self.deflate.reset();
        self.compress(text, 0)
    }

    /// Returns the block of the next events, up to the one of the group with this number. It ends on a byte boundary.
    pub(super) fn compress(&mut self, text: &[u8], events: u64) -> Vec<u8> {
        let mut block = Vec::new();
        let end = self.deflate.total_in() + text.len() as u64;
        loop {
            // More than what is flushed takes: deflate stores what cannot be compressed.
            let left = end - self.deflate.total_in();
            block.reserve(left as usize + left as usize / 8 + 64);
            let rest = &text[text.len() - left as usize..];
            self.deflate.compress_vec(rest, &mut block, FlushCompress::Sync).expect("the compressor is valid");
            if self.deflate.total_in() == end && block.len() < block.capacity() {
                break;
            }
        }
        if let Some(place) = &mut self.place {
            place.events = events;
        }
        block
    }
}

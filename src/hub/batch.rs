//! The frames that a subscription has ready, in sequence order, borrowed from the rings' segments.

use smallvec::SmallVec;

use super::frame::Frame;
use crate::position::Sequence;
use crate::ring::Run;

/// How many frames one batch takes: as many as one vectored write takes slices on Linux (`UIO_MAXIOV`).
pub(crate) const MAX_FRAMES: usize = 1024;

/// Scratch memory for one read: reused from read to read, and by all connections of a shard.
#[derive(Default)]
pub(crate) struct Batch {
    /// What keeps the picked frames in memory.
    runs: Vec<Run<Frame>>,
    picks: Vec<Pick>,
    /// Where each cursor that was read stands when all of the batch was taken.
    ends: SmallVec<[(usize, u64); 4]>,
    sources: SmallVec<[Source; 4]>,
}

/// One frame of the batch.
pub(crate) struct Pick {
    run: u32,
    pub(crate) cursor: u32,
    pub(crate) index: u64,
}

/// A cursor that has frames left.
struct Source {
    cursor: usize,
    run: usize,
    next: u64,
    sequence: Sequence,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.picks.clear();
        self.ends.clear();
        self.sources.clear();
        self.runs.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.picks.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.picks.len() >= MAX_FRAMES
    }

    pub(crate) fn len(&self) -> usize {
        self.picks.len()
    }

    /// The frames, in sequence order.
    pub(crate) fn frames(&self) -> impl ExactSizeIterator<Item = &Frame> {
        (0..self.picks.len()).map(|number| self.get(number))
    }

    /// The frame with this number in the batch.
    pub(crate) fn get(&self, number: usize) -> &Frame {
        let pick = &self.picks[number];
        self.runs[pick.run as usize].get(pick.index)
    }

    pub(crate) fn picks(&self) -> &[Pick] {
        &self.picks
    }

    pub(crate) fn ends(&self) -> &[(usize, u64)] {
        &self.ends
    }

    /// Adds a cursor that reads from `run`.
    pub(super) fn open(&mut self, cursor: usize, run: Run<Frame>) {
        let next = run.indices().start;
        let sequence = run.get(next).sequence();
        self.sources.push(Source { cursor, run: self.runs.len(), next, sequence });
        self.runs.push(run);
    }

    /// Which source has the frame that comes next, and that frame's sequence.
    pub(super) fn earliest(&self) -> Option<(usize, Sequence)> {
        let sources = self.sources.iter().enumerate();
        sources.min_by_key(|(_, source)| source.sequence).map(|(place, source)| (place, source.sequence))
    }

    /// The source's cursor and its next frame.
    pub(super) fn frame(&self, place: usize) -> (usize, &Frame) {
        let source = &self.sources[place];
        (source.cursor, self.runs[source.run].get(source.next))
    }

    /// Takes the source's next frame into the batch.
    pub(super) fn pick(&mut self, place: usize) {
        let source = &self.sources[place];
        self.picks.push(Pick { run: source.run as u32, cursor: source.cursor as u32, index: source.next });
    }

    /// Moves the source on. Answers its cursor and the index to read from when its run is at its end.
    pub(super) fn step(&mut self, place: usize) -> Option<(usize, u64)> {
        let source = &mut self.sources[place];
        source.next += 1;
        let run = &self.runs[source.run];
        if source.next == run.indices().end {
            return Some((source.cursor, source.next));
        }
        source.sequence = run.get(source.next).sequence();
        None
    }

    /// Gives the source its next run.
    pub(super) fn extend(&mut self, place: usize, run: Run<Frame>) {
        let source = &mut self.sources[place];
        source.sequence = run.get(source.next).sequence();
        source.run = self.runs.len();
        self.runs.push(run);
    }

    /// Takes the source out of the race: its ring has nothing more.
    pub(super) fn close(&mut self, place: usize) {
        let source = self.sources.swap_remove(place);
        self.ends.push((source.cursor, source.next));
    }

    /// Ends the race.
    pub(super) fn finish(&mut self) {
        self.ends.extend(self.sources.drain(..).map(|source| (source.cursor, source.next)));
    }
}

//! The frames that a subscription has ready, in sequence order, borrowed from the rings' segments.

use std::io::IoSlice;
use std::ops::Range;

use smallvec::SmallVec;

use super::frame::Frame;
use crate::position::Sequence;
use crate::ring::Run;
use crate::wire::chunk::Chunk;

/// How many frames one batch takes: as many as one vectored write takes slices on Linux (`UIO_MAXIOV`).
pub(crate) const MAX_FRAMES: usize = 1024;

/// Scratch memory for one read: reused from read to read, and by all connections of a shard.
#[derive(Default)]
pub(crate) struct Batch {
    /// What keeps the picked frames in memory.
    runs: Vec<Run<Frame>>,
    spans: Vec<Span>,
    /// How many frames the spans have.
    len: usize,
    /// Where each cursor that was read stands when all of the batch was taken.
    ends: SmallVec<[(usize, u64); 4]>,
    sources: SmallVec<[Source; 4]>,
    /// Whether there was more than what was picked.
    is_cut: bool,
}

/// Frames of the batch that follow each other in one run.
struct Span {
    run: usize,
    cursor: usize,
    indices: Range<u64>,
}

/// A cursor that has frames left.
struct Source {
    cursor: usize,
    run: usize,
    next: u64,
    sequence: Sequence,
}

/// What stands in the slices for one write.
#[derive(Default)]
pub(crate) struct Offer {
    pub(crate) slices: usize,
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.spans.clear();
        self.len = 0;
        self.ends.clear();
        self.sources.clear();
        self.runs.clear();
        self.is_cut = false;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len >= MAX_FRAMES
    }

    /// Whether nothing was left to pick when it was filled.
    pub(crate) fn is_all(&self) -> bool {
        !self.is_cut && !self.is_full()
    }

    /// Says that it was filled with less than there was.
    pub(super) fn cut(&mut self) {
        self.is_cut = true;
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The frames, in sequence order.
    pub(crate) fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.spans.iter().flat_map(|span| span.indices.clone().map(|index| self.runs[span.run].get(index)))
    }

    /// Lays out the frames for one write, from the first on, as many as `slices` has room for: with their chunk framing,
    /// or without. Framed ones that stand next to each other in memory share a slice.
    pub(crate) fn offer<'a>(&'a self, is_framed: bool, slices: &mut [IoSlice<'a>]) -> Offer {
        let mut offer = Offer::default();
        // What the last slice begins and ends with.
        let mut part: Option<(&Chunk, &Chunk)> = None;
        for Span { run, indices, .. } in &self.spans {
            let run = &self.runs[*run];
            let mut index = indices.start;
            while index < indices.end {
                let first = run.get(index).chunk();
                let (mut end, mut last) = (indices.end, run.get(indices.end - 1).chunk());
                // A block's chunks follow each other in every ring: what is between two of them belongs to it too.
                if !is_framed || !last.is_beside(first) {
                    (end, last) = (index + 1, first);
                }
                let begin = match part {
                    Some((begin, before)) if is_framed && first.follows(before) => begin,
                    _ if offer.slices == slices.len() => return offer,
                    _ => {
                        offer.slices += 1;
                        first
                    }
                };
                part = Some((begin, last));
                let (slice, added) = if is_framed {
                    (begin.framed_to(last), first.framed_to(last).len())
                } else {
                    (last.body(), last.body().len())
                };
                slices[offer.slices - 1] = IoSlice::new(slice);
                offer.bytes += added;
                offer.frames += (end - index) as usize;
                index = end;
            }
        }
        offer
    }

    /// For each stretch of the first `count` frames: their cursor, the index behind its last, and its last's sequence.
    pub(super) fn stretches(&self, count: usize) -> impl Iterator<Item = (usize, u64, Sequence)> {
        let mut left = count as u64;
        self.spans.iter().map_while(move |span| {
            let taken = left.min(span.indices.end - span.indices.start);
            left -= taken;
            let last = (span.indices.start + taken).checked_sub(1).filter(|_| taken > 0)?;
            Some((span.cursor, last + 1, self.runs[span.run].get(last).sequence()))
        })
    }

    pub(super) fn ends(&self) -> &[(usize, u64)] {
        &self.ends
    }

    /// Adds a cursor that reads from `run`.
    pub(super) fn open(&mut self, cursor: usize, run: Run<Frame>) {
        let next = run.indices().start;
        let sequence = run.get(next).sequence();
        self.sources.push(Source { cursor, run: self.runs.len(), next, sequence });
        self.runs.push(run);
    }

    /// Which source has the frame that comes next, and up to which sequence its frames come before those of all others;
    /// none when that frame comes after `head`.
    pub(super) fn earliest(&self, head: Sequence) -> Option<(usize, Sequence)> {
        let (place, earliest) = self.sources.iter().enumerate().min_by_key(|(_, source)| source.sequence)?;
        let others = self.sources.iter().enumerate().filter(|&(other, _)| other != place);
        let limit = others.map(|(_, source)| source.sequence - 1).min().unwrap_or(head).min(head);
        // An event that stands in two rings is wanted from one of them; it may come up in the other first.
        (earliest.sequence <= head).then_some((place, limit.max(earliest.sequence)))
    }

    /// The cursor of a source.
    pub(super) fn cursor(&self, place: usize) -> usize {
        self.sources[place].cursor
    }

    /// Takes the source's next frames up to sequence `limit` into the batch. Answers its cursor and the index to read
    /// from when its run is at its end.
    pub(super) fn pick(&mut self, place: usize, limit: Sequence) -> Option<(usize, u64)> {
        let Source { cursor, run, next, .. } = self.sources[place];
        let frames = &self.runs[run];
        let mut end = frames.indices().end.min(next + (MAX_FRAMES - self.len) as u64);
        while frames.get(end - 1).sequence() > limit {
            end -= 1;
        }
        self.add(run, cursor, next..end);
        self.go_on(place, end)
    }

    /// Like [`Batch::pick`], for the frames that `is_wanted`.
    pub(super) fn pick_some(
        &mut self,
        place: usize,
        limit: Sequence,
        is_wanted: impl Fn(&Frame) -> bool,
    ) -> Option<(usize, u64)> {
        let Source { cursor, run, next: mut index, .. } = self.sources[place];
        while index < self.runs[run].indices().end && !self.is_full() && self.runs[run].get(index).sequence() <= limit {
            if is_wanted(self.runs[run].get(index)) {
                self.add(run, cursor, index..index + 1);
            }
            index += 1;
        }
        self.go_on(place, index)
    }

    fn add(&mut self, run: usize, cursor: usize, indices: Range<u64>) {
        self.len += (indices.end - indices.start) as usize;
        match self.spans.last_mut() {
            Some(last) if last.run == run && last.indices.end == indices.start => last.indices.end = indices.end,
            _ => self.spans.push(Span { run, cursor, indices }),
        }
    }

    fn go_on(&mut self, place: usize, next: u64) -> Option<(usize, u64)> {
        let source = &mut self.sources[place];
        source.next = next;
        let run = &self.runs[source.run];
        if next == run.indices().end {
            return Some((source.cursor, next));
        }
        source.sequence = run.get(next).sequence();
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

//! Merges the frames that a subscription has ready, in sequence order. They stay in the rings' segments.

use std::io::IoSlice;
use std::ops::Range;

use smallvec::SmallVec;

use super::frame::Frame;
use crate::position::Sequence;
use crate::ring::{Read, Ring, Run, Segment};
use crate::sync::Arc;
use crate::wire::Format;
use crate::wire::chunk::ChunkRef;

/// The frames of one batch at most: as many as one vectored write takes slices on Linux (`UIO_MAXIOV`).
pub(crate) const MAX_FRAMES: usize = 1024;

/// The most bytes that are joined for the streams that share a batch.
const MAX_JOINED: usize = 256 << 10;

/// The frames of one read. The memory is reused for the next one, by all connections of a shard. Streams that are polled one after
/// the other share the frames if they read the same; the batch is cleared before anything else runs.
#[derive(Default)]
pub(crate) struct Batch {
    /// Keeps the picked frames in memory.
    runs: Vec<Run<Frame>>,
    spans: Vec<Span>,
    /// The number of frames in the spans.
    len: usize,
    /// The index of each cursor that was read, after all of the batch was taken.
    ends: SmallVec<[(usize, u64); 4]>,
    sources: SmallVec<[Source; 4]>,
    /// Whether more was ready than what was picked.
    is_cut: bool,
    /// What it was filled from, if all of that is from one ring.
    stretch: Option<RingStretch>,
    /// If so, the index behind its last frame, and the sequence of that frame.
    end_in_ring: Option<(u64, Sequence)>,
    /// If so, whether a second stream has found it filled.
    is_shared: bool,
    /// The bytes of several frames for the next streams that read the same.
    joined: Joined,
}

/// The bytes of all frames of a batch in one piece: copied once, so that no stream makes a list of slices for its write.
#[derive(Default)]
struct Joined {
    /// The encoding, with or without framing. `None` if nothing is joined.
    layout: Option<(Format, bool)>,
    bytes: Vec<u8>,
}

/// What one ring has from an index on, up to a head.
#[derive(Clone, Copy, PartialEq, Eq)]
struct RingStretch {
    /// The ring's address. A batch is cleared before another ring can have it.
    ring: usize,
    index: u64,
    head: Sequence,
}

/// Consecutive frames of one run.
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

/// The contents of the slices for one write.
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
        self.forget_stretch();
    }

    fn forget_stretch(&mut self) {
        (self.stretch, self.end_in_ring, self.joined.layout) = (None, None, None);
        self.is_shared = false;
    }

    /// Whether it was filled from `stretch`, so that streams share it.
    fn is_of(&mut self, stretch: &RingStretch) -> bool {
        let is_of = self.stretch.as_ref() == Some(stretch);
        self.is_shared |= is_of;
        is_of
    }

    /// Fills it with what `ring` has from `index` on, up to `head`, unless it was. Returns whether that is anything.
    pub(super) fn fill_from(&mut self, ring: &Ring<Frame>, index: u64, head: Sequence) -> bool {
        let stretch = RingStretch { ring: std::ptr::from_ref(ring).addr(), index, head };
        if self.is_of(&stretch) {
            return true;
        }
        self.clear();
        let mut next = index;
        while !self.is_full() {
            let run = match ring.read(next) {
                Read::Run(run) => run,
                Read::Empty => break,
                // The next read reports the gap.
                Read::Lagged => {
                    self.is_cut = true;
                    break;
                }
            };
            let (number, all) = (self.runs.len(), run.indices().end);
            self.runs.push(run);
            let end = self.end_of(number, next, head);
            if end > next {
                self.end_in_ring = Some((end, self.runs[number].get(end - 1).sequence()));
                self.add(number, 0, next..end);
            }
            if end < all {
                break;
            }
            next = end;
        }
        self.stretch = self.end_in_ring.map(|_| stretch);
        !self.is_empty()
    }

    /// If all of it is from one ring, the index behind its last frame, and the sequence of that frame.
    pub(super) fn end_in_ring(&self) -> Option<(u64, Sequence)> {
        self.end_in_ring
    }

    /// Joins the bytes of its frames in this encoding, if streams share them. One frame is in one piece already, and very many bytes
    /// are not copied.
    pub(crate) fn join(&mut self, format: Format, is_framed: bool) {
        if !self.is_shared || self.len == 1 || self.joined.layout.is_some() {
            return;
        }
        self.joined.layout = Some((format, is_framed));
        let mut bytes = std::mem::take(&mut self.joined.bytes);
        bytes.clear();
        for frame in self.frames() {
            let chunk = frame.chunk(format);
            bytes.extend_from_slice(if is_framed { chunk.framed() } else { chunk.body() });
            if bytes.len() > MAX_JOINED {
                bytes = Vec::new();
                break;
            }
        }
        self.joined.bytes = bytes;
    }

    /// The bytes of all frames in this encoding, if they were joined.
    pub(crate) fn joined(&self, format: Format, is_framed: bool) -> Option<&[u8]> {
        let Joined { layout, bytes } = &self.joined;
        (*layout == Some((format, is_framed)) && !bytes.is_empty()).then_some(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len >= MAX_FRAMES
    }

    /// Whether nothing more was ready when it was filled.
    pub(crate) fn is_all(&self) -> bool {
        !self.is_cut && !self.is_full()
    }

    /// Marks it as filled with less than what was ready.
    pub(super) fn cut(&mut self) {
        self.is_cut = true;
    }

    /// Keeps the frames up to sequence `last` only, as a part of what was ready. Returns whether others were removed.
    pub(super) fn cut_after(&mut self, last: Sequence) -> bool {
        let count = self.len;
        while let Some(span) = self.spans.last_mut()
            && self.runs[span.run].get(span.indices.end - 1).sequence() > last
        {
            span.indices.end -= 1;
            self.len -= 1;
            if span.indices.is_empty() {
                self.spans.pop();
            }
        }
        self.cut();
        self.forget_stretch();
        if self.len < count {
            // The cursors are behind the frames that were removed.
            self.ends.clear();
        }
        self.len < count
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The frame, if there is only one.
    pub(crate) fn only(&self) -> Option<&Frame> {
        let first = self.spans.first().filter(|_| self.len == 1)?;
        Some(self.runs[first.run].get(first.indices.start))
    }

    /// The frames, in sequence order.
    pub(crate) fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.spans.iter().flat_map(|span| span.indices.clone().map(|index| self.runs[span.run].get(index)))
    }

    /// The indices of the frames in their ring, if they follow each other there. All of them are from one ring.
    pub(super) fn indices(&self) -> Option<Range<u64>> {
        let (first, rest) = self.spans.split_first()?;
        rest.iter().try_fold(first.indices.clone(), |indices, span| {
            let follows = span.cursor == first.cursor && span.indices.start == indices.end;
            follows.then_some(indices.start..span.indices.end)
        })
    }

    /// Lays out the first frames for one write in `format`, as many as `slices` has room for, with or without their chunk
    /// framing. Framed ones that are adjacent in memory share a slice.
    pub(crate) fn offer<'a>(&'a self, format: Format, is_framed: bool, slices: &mut [IoSlice<'a>]) -> Offer {
        let mut offer = Offer::default();
        // The first and the last chunk of the last slice.
        let mut part: Option<(ChunkRef<'_>, ChunkRef<'_>)> = None;
        for Span { run, indices, .. } in &self.spans {
            let run = &self.runs[*run];
            let mut index = indices.start;
            while index < indices.end {
                let first = run.get(index).chunk(format);
                let (mut end, mut last) = (indices.end, run.get(indices.end - 1).chunk(format));
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

    /// Returns for each span of the first `count` frames its cursor, the index behind its last frame, and the sequence of
    /// that frame.
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

    /// Keeps a segment of a list in memory, to pick frames from. Returns the number of its run.
    pub(super) fn hold(&mut self, segment: Arc<Segment<Frame>>) -> usize {
        self.runs.push(Run::of(segment));
        self.runs.len() - 1
    }

    /// Picks one frame of a run. Frames of one block that do not follow each other in it are in different spans: what is between
    /// them is not wanted.
    pub(super) fn pick_one(&mut self, run: usize, cursor: usize, index: u64, frame: &Frame) {
        self.len += 1;
        if let Some(last) = self.spans.last_mut()
            && (last.run, last.indices.end) == (run, index)
            && frame.may_follow(self.runs[run].get(index - 1))
        {
            last.indices.end += 1;
        } else {
            self.spans.push(Span { run, cursor, indices: index..index + 1 });
        }
    }

    /// Puts the frames of several lists into one order, as many as a batch has.
    pub(super) fn sort(&mut self) {
        let places =
            |span: &Span| (span.indices.clone()).map(|index| (span.run, span.cursor, index)).collect::<Vec<_>>();
        let mut places: Vec<_> = self.spans.iter().flat_map(places).collect();
        places.sort_unstable_by_key(|&(run, _, index)| self.runs[run].get(index).sequence());
        places.truncate(MAX_FRAMES);
        self.spans.clear();
        self.len = 0;
        for (run, cursor, index) in places {
            let frame = self.runs[run].get(index).clone();
            self.pick_one(run, cursor, index, &frame);
        }
    }

    /// Adds `run`, the next frames of a cursor, to what [`Batch::merge`] picks from.
    pub(super) fn open(&mut self, cursor: usize, run: Run<Frame>) {
        let next = run.indices().start;
        let sequence = run.get(next).sequence();
        self.sources.push(Source { cursor, run: self.runs.len(), next, sequence });
        self.runs.push(run);
    }

    /// Picks the frames up to `head` from the opened runs, in sequence order. `source` returns a cursor's ring, from which
    /// its next runs are read, and which of its frames are wanted; `None` stands for all.
    pub(super) fn merge<'a, W: Fn(&Frame) -> bool>(
        &mut self,
        head: Sequence,
        source: impl Fn(usize) -> (&'a Ring<Frame>, Option<W>),
    ) {
        while !self.is_full()
            && let Some((place, limit)) = self.earliest(head)
        {
            let (ring, is_wanted) = source(self.sources[place].cursor);
            match is_wanted {
                None => self.pick(place, limit),
                Some(is_wanted) => self.pick_if(place, limit, is_wanted),
            }
            let Source { run, next, .. } = self.sources[place];
            if next < self.runs[run].indices().end {
                self.sources[place].sequence = self.runs[run].get(next).sequence();
                continue;
            }
            match ring.read(next) {
                Read::Run(run) => self.extend(place, run),
                Read::Empty => self.close(place),
                // The frames of other cursors may come after what is missing here: the next read reports the gap.
                Read::Lagged => {
                    self.is_cut = true;
                    break;
                }
            }
        }
        self.ends.extend(self.sources.drain(..).map(|source| (source.cursor, source.next)));
    }

    /// Returns the source with the earliest frame, and the sequence up to which its frames precede those of all others.
    /// `None` when that frame comes after `head`.
    fn earliest(&self, head: Sequence) -> Option<(usize, Sequence)> {
        let (place, earliest) = self.sources.iter().enumerate().min_by_key(|(_, source)| source.sequence)?;
        let others = self.sources.iter().enumerate().filter(|&(other, _)| other != place);
        let limit = others.map(|(_, source)| source.sequence - 1).min().unwrap_or(head).min(head);
        // An event that is in two rings is wanted from one of them, and may come up first in the other.
        (earliest.sequence <= head).then_some((place, limit.max(earliest.sequence)))
    }

    /// Picks the source's frames up to sequence `limit`.
    fn pick(&mut self, place: usize, limit: Sequence) {
        let Source { cursor, run, next, .. } = self.sources[place];
        let end = self.end_of(run, next, limit);
        self.add(run, cursor, next..end);
        self.sources[place].next = end;
    }

    /// The index behind the frames of a run from `next` up to sequence `limit`, as many as there is room for.
    fn end_of(&self, run: usize, next: u64, limit: Sequence) -> u64 {
        let frames = &self.runs[run];
        let mut end = frames.indices().end.min(next + (MAX_FRAMES - self.len) as u64);
        while end > next && frames.get(end - 1).sequence() > limit {
            end -= 1;
        }
        end
    }

    /// Picks the source's frames up to sequence `limit` that are wanted.
    fn pick_if(&mut self, place: usize, limit: Sequence, is_wanted: impl Fn(&Frame) -> bool) {
        let Source { cursor, run, next: mut index, .. } = self.sources[place];
        while index < self.runs[run].indices().end && !self.is_full() && self.runs[run].get(index).sequence() <= limit {
            if is_wanted(self.runs[run].get(index)) {
                self.add(run, cursor, index..index + 1);
            }
            index += 1;
        }
        self.sources[place].next = index;
    }

    fn add(&mut self, run: usize, cursor: usize, indices: Range<u64>) {
        self.len += (indices.end - indices.start) as usize;
        match self.spans.last_mut() {
            Some(last) if last.run == run && last.indices.end == indices.start => last.indices.end = indices.end,
            _ => self.spans.push(Span { run, cursor, indices }),
        }
    }

    /// Gives the source its next run.
    fn extend(&mut self, place: usize, run: Run<Frame>) {
        let source = &mut self.sources[place];
        source.sequence = run.get(source.next).sequence();
        source.run = self.runs.len();
        self.runs.push(run);
    }

    /// Removes the source: its ring has nothing more.
    fn close(&mut self, place: usize) {
        let source = self.sources.swap_remove(place);
        self.ends.push((source.cursor, source.next));
    }
}

//! Values one behind the other, as several readers write them.
//!
//! A stretch is cut into pieces: each value is one, or, if it is compressed, up to [`MAX_PIECE`] bytes of values are. A compressed
//! piece refers to nothing before it, so that it is right behind whatever a reader has. In return a reader takes whole
//! pieces, and only one that has all values before a piece can begin with it.

use bytes::Bytes;

use crate::hub::compression::Compressor;
use crate::hub::frame::Frame;
use crate::position::Sequence;
use crate::sync::Arc;
use crate::wire::Format;
use crate::wire::chunk;
use crate::wire::gzip::Checksum;

/// The bytes of a stretch, before compression, after which no value is added, and its most values.
const MAX_STRETCH: usize = if cfg!(test) { 400 } else { 1 << 20 };
pub(super) const MAX_VALUES: usize = 16 << 10;

/// The bytes, before compression, after which a compressed piece gets no further value. That is more than a compressor looks back.
const MAX_PIECE: usize = if cfg!(test) { 100 } else { 64 << 10 };

/// The encoding of a stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coding {
    pub(crate) format: Format,
    /// Whether it is framed in chunks.
    pub(crate) is_framed: bool,
    pub(crate) is_compressed: bool,
}

pub(super) struct Stretch {
    /// It has the values after this sequence, up to the other one.
    pub(super) after: Sequence,
    pub(super) until: Sequence,
    /// The head that it was read up to. It has all values if that is its end.
    head: Sequence,
    /// Of each value.
    sequences: Vec<Sequence>,
    pieces: Vec<Piece>,
    bytes: Vec<u8>,
    /// The bytes of the values before compression.
    pub(super) plain_bytes: usize,
}

/// What a stretch has up to the end of a piece.
#[derive(Clone, Copy, Default)]
struct Piece {
    values: u32,
    bytes: u32,
    /// Of a compressed one.
    checksum: Checksum,
}

/// The values of a stretch that a reader does not have.
pub(crate) struct SharedValues {
    stretch: Arc<Stretch>,
    /// The number of pieces that it has.
    first: usize,
}

impl Stretch {
    /// As many of `frames`, the values after `after` and up to `head`, as it has room for. They are compressed if there is a
    /// `compressor`.
    pub(super) fn new(
        after: Sequence,
        head: Sequence,
        frames: &[Frame],
        coding: Coding,
        compressor: Option<&mut Compressor>,
    ) -> Self {
        let sequences = Vec::with_capacity(frames.len());
        let (pieces, bytes) = (Vec::new(), Vec::new());
        let mut stretch = Self { after, until: head, head, sequences, pieces, bytes, plain_bytes: 0 };
        match compressor {
            None => stretch.add(frames, coding),
            Some(compressor) => stretch.add_compressed(frames, coding, compressor),
        }
        if stretch.sequences.len() < frames.len() {
            stretch.until = stretch.sequences.last().copied().unwrap_or(after);
        }
        stretch
    }

    fn add(&mut self, frames: &[Frame], coding: Coding) {
        for frame in frames.iter().take(MAX_VALUES) {
            if self.bytes.len() >= MAX_STRETCH {
                break;
            }
            let chunk = frame.chunk(coding.format);
            self.bytes.extend_from_slice(if coding.is_framed { chunk.framed() } else { chunk.body() });
            self.sequences.push(frame.sequence());
            self.end_piece(Checksum::default());
        }
        self.plain_bytes = self.bytes.len();
    }

    fn add_compressed(&mut self, frames: &[Frame], coding: Coding, compressor: &mut Compressor) {
        let (mut text, mut checksum) = (Vec::with_capacity(MAX_PIECE + MAX_PIECE / 8), Checksum::default());
        let mut frames = frames.iter().take(MAX_VALUES).peekable();
        while frames.peek().is_some() && self.plain_bytes < MAX_STRETCH {
            text.clear();
            while text.len() < MAX_PIECE
                && let Some(frame) = frames.next()
            {
                text.extend_from_slice(frame.chunk(coding.format).body());
                self.sequences.push(frame.sequence());
            }
            self.plain_bytes += text.len();
            checksum.add(&text);
            let block = compressor.compress_alone(&text);
            if coding.is_framed {
                chunk::frame(block.len(), &mut self.bytes, |out| out.extend_from_slice(&block));
            } else {
                self.bytes.extend_from_slice(&block);
            }
            self.end_piece(checksum);
        }
    }

    fn end_piece(&mut self, checksum: Checksum) {
        let (values, bytes) = (self.sequences.len() as u32, self.bytes.len() as u32);
        self.pieces.push(Piece { values, bytes, checksum });
    }

    /// The first `count` pieces.
    fn piece(&self, count: usize) -> Piece {
        count.checked_sub(1).map_or_else(Piece::default, |last| self.pieces[last])
    }

    /// What a reader does not have that has everything up to `taken`. `None` if it cannot continue here, or there is nothing.
    pub(super) fn values_after(stretch: &Arc<Self>, taken: Sequence) -> Option<SharedValues> {
        if taken < stretch.after || stretch.until <= taken {
            return None;
        }
        let had = stretch.sequences.partition_point(|&sequence| sequence <= taken) as u32;
        let first = stretch.pieces.partition_point(|piece| piece.values <= had);
        let is_at_piece = stretch.piece(first).values == had;
        (is_at_piece && first < stretch.pieces.len()).then(|| SharedValues { stretch: stretch.clone(), first })
    }
}

impl SharedValues {
    pub(crate) fn len(&self) -> usize {
        self.stretch.sequences.len() - self.had()
    }

    /// The number of its values that the reader has.
    fn had(&self) -> usize {
        self.stretch.piece(self.first).values as usize
    }

    /// Whether there were no further ones when these were put together.
    pub(crate) fn is_all(&self) -> bool {
        self.stretch.until == self.stretch.head
    }

    /// The head when these were put together.
    pub(super) fn head(&self) -> Sequence {
        self.stretch.head
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.stretch.bytes[self.start()..]
    }

    fn start(&self) -> usize {
        self.stretch.piece(self.first).bytes as usize
    }

    /// How many values the pieces have that the first `bytes`, at least one, have begun, and the rest of the last of these
    /// pieces.
    pub(crate) fn begun(&self, bytes: usize) -> (usize, Bytes) {
        let end = self.start() + bytes;
        let last = self.stretch.pieces.partition_point(|piece| (piece.bytes as usize) < end);
        let piece = self.stretch.pieces[last];
        let rest = Bytes::copy_from_slice(&self.stretch.bytes[end..piece.bytes as usize]);
        (piece.values as usize - self.had(), rest)
    }

    /// Of the first `taken` values before compression, where a piece ends.
    pub(crate) fn checksum(&self, taken: usize) -> Checksum {
        let values = (self.had() + taken) as u32;
        let last = self.stretch.pieces.partition_point(|piece| piece.values < values);
        debug_assert_eq!(self.stretch.pieces[last].values, values, "pieces are taken whole");
        self.stretch.pieces[last].checksum.since(self.stretch.piece(self.first).checksum)
    }

    /// The sequences of the first `taken` values.
    pub(super) fn sequences(&self, taken: usize) -> &[Sequence] {
        &self.stretch.sequences[self.had()..][..taken]
    }

    /// The sequence up to which a reader has everything that took the first `taken` values.
    pub(super) fn end(&self, taken: usize) -> Sequence {
        if taken == self.len() { self.stretch.until } else { self.stretch.sequences[self.had() + taken - 1] }
    }
}

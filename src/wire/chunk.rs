//! The chunked transfer coding of HTTP/1.1 (RFC 9112, section 7.1), applied once for all connections that write the bytes. The
//! frames of WebSocket, which have a head and no tail, are built in the same blocks of memory.

use std::ops::Range;
use std::vec::Drain;

use bytes::Bytes;

/// The chunk that ends a chunked body.
pub(crate) const LAST: &[u8] = b"0\r\n\r\n";

/// Bytes of a body together with their framing, in shared memory: `<hex length> CRLF bytes CRLF`, or the head of a WebSocket frame
/// and the bytes.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    /// The memory of this chunk and of those that were built with it.
    block: Bytes,
    place: Place,
}

/// A [`Chunk`] in a block that something else keeps in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkRef<'a> {
    block: &'a Bytes,
    place: Place,
}

/// Where a chunk is in its block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    start: u32,
    end: u32,
    /// The lengths of the framing before and behind the body.
    head: u8,
    tail: u8,
}

impl Place {
    /// The chunk at this place of `block`.
    pub(crate) fn of(self, block: &Bytes) -> ChunkRef<'_> {
        ChunkRef { block, place: self }
    }
}

impl Chunk {
    /// A chunk from its bytes with their framing, `head` of which come before the body.
    pub(crate) fn from_static(framed: &'static [u8], head: u8) -> Self {
        let place = Place { start: 0, end: framed.len() as u32, head, tail: END.len() as u8 };
        Self { block: Bytes::from_static(framed), place }
    }

    pub(crate) fn as_ref(&self) -> ChunkRef<'_> {
        self.place.of(&self.block)
    }

    /// The chunk without framing, for HTTP/1.0 and other transports.
    pub(crate) fn body(&self) -> &[u8] {
        self.as_ref().body()
    }

    /// Like [`Chunk::body`], sharing the memory.
    pub(crate) fn to_body(&self) -> Bytes {
        self.as_ref().to_body()
    }
}

impl<'a> ChunkRef<'a> {
    /// The chunk with its framing, for HTTP/1.1.
    pub(crate) fn framed(self) -> &'a [u8] {
        &self.block[self.framed_range()]
    }

    /// The chunk without framing, for HTTP/1.0 and other transports.
    pub(crate) fn body(self) -> &'a [u8] {
        &self.block[self.body_range()]
    }

    /// Like [`ChunkRef::framed`], sharing the memory.
    pub(crate) fn to_framed(self) -> Bytes {
        self.block.slice(self.framed_range())
    }

    /// Like [`ChunkRef::body`], sharing the memory.
    pub(crate) fn to_body(self) -> Bytes {
        self.block.slice(self.body_range())
    }

    fn framed_range(self) -> Range<usize> {
        self.place.start as usize..self.place.end as usize
    }

    fn body_range(self) -> Range<usize> {
        let Range { start, end } = self.framed_range();
        start + usize::from(self.place.head)..end - usize::from(self.place.tail)
    }

    /// Whether both chunks are in one block.
    pub(crate) fn is_beside(self, other: Self) -> bool {
        // Both blocks are in memory, so two cannot have one address.
        self.block.as_ptr() == other.block.as_ptr()
    }

    /// Whether this chunk directly follows `before` in memory.
    pub(crate) fn follows(self, before: Self) -> bool {
        self.place.start == before.place.end && self.is_beside(before)
    }

    /// The bytes from this chunk to the end of `last`, a later one of the same block, with framing.
    pub(crate) fn framed_to(self, last: Self) -> &'a [u8] {
        debug_assert!(self.is_beside(last));
        &self.block[self.place.start as usize..last.place.end as usize]
    }

    /// The same chunk as a block of its own, and its place there.
    pub(crate) fn alone(self) -> (Bytes, Place) {
        let Range { start, end } = self.framed_range();
        if end - start == self.block.len() {
            return (self.block.clone(), self.place);
        }
        (Bytes::copy_from_slice(self.framed()), Place { start: 0, end: (end - start) as u32, ..self.place })
    }

    /// The bytes of memory that become free when this chunk is dropped after all earlier ones of its block.
    pub(crate) fn weight(self) -> usize {
        if self.place.end as usize == self.block.len() { self.block.len() } else { 0 }
    }
}

/// The bodies of all chunks of `block`, in order. Its framing is that of HTTP.
pub(crate) fn bodies_of(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = block;
    std::iter::from_fn(move || {
        let digits = memchr::memchr(b'\r', rest)?;
        let length = std::str::from_utf8(&rest[..digits]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let (body, end) = rest[digits + END.len()..].split_at(length.expect("a chunk begins with its length"));
        rest = &end[END.len()..];
        Some(body)
    })
}

/// What ends a chunk.
pub(crate) const END: &[u8] = b"\r\n";

/// Appends a chunk with the `length` bytes that `write` appends. Returns the length of the framing before them.
pub(crate) fn frame(length: usize, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> usize {
    debug_assert!(length > 0, "an empty chunk would end the body");
    let head = head_length(length);
    let end = out.len() + head + length + END.len();
    out.reserve(end - out.len());
    for digit in (0..head - END.len()).rev() {
        out.push(b"0123456789abcdef"[(length >> (4 * digit)) & 0xf]);
    }
    out.extend_from_slice(END);
    write(out);
    out.extend_from_slice(END);
    debug_assert_eq!(out.len(), end, "`write` appended `length` bytes");
    head
}

/// The length of a chunk with `length` bytes.
pub(crate) fn framed_length(length: usize) -> usize {
    head_length(length) + length + END.len()
}

fn head_length(length: usize) -> usize {
    (usize::BITS - length.leading_zeros()).div_ceil(4) as usize + END.len()
}

/// Builds chunks one behind the other in one block of memory.
#[derive(Default)]
pub(crate) struct Builder {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

impl Builder {
    /// How much capacity the builder keeps for the next block.
    const KEPT: usize = 64 << 10;

    /// Adds a chunk with the `length` bytes that `write` appends to its buffer.
    pub(crate) fn push(&mut self, length: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let head = frame(length, &mut self.bytes, write);
        self.place(head, END.len());
    }

    /// Adds what `write` appends to its buffer as the body of a frame that begins with `head`.
    pub(crate) fn push_frame(&mut self, head: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.extend_from_slice(head);
        write(&mut self.bytes);
        self.place(head.len(), 0);
    }

    fn place(&mut self, head: usize, tail: usize) {
        let end = u32::try_from(self.bytes.len()).expect("a block has less than 4 GiB");
        let start = self.places.last().map_or(0, |last| last.end);
        self.places.push(Place { start, end, head: head as u8, tail: tail as u8 });
    }

    /// The length of the chunks so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The number of chunks so far.
    pub(crate) fn count(&self) -> usize {
        self.places.len()
    }

    /// Returns the block, in memory of its exact size, with the places of its chunks in order. Empties the builder.
    pub(crate) fn finish_block(&mut self) -> (Bytes, Drain<'_, Place>) {
        let block = Bytes::copy_from_slice(&self.bytes);
        self.bytes.clear();
        self.bytes.shrink_to(Self::KEPT);
        (block, self.places.drain(..))
    }

    /// Like [`Builder::finish_block`], with chunks that keep the block.
    pub(crate) fn finish(&mut self) -> impl Iterator<Item = Chunk> + '_ {
        let (block, places) = self.finish_block();
        places.map(move |place| Chunk { block: block.clone(), place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk_of(body: &[u8]) -> Chunk {
        let mut block = Builder::default();
        block.push(body.len(), |out| out.extend_from_slice(body));
        block.finish().next().unwrap()
    }

    #[test]
    fn a_chunk_states_its_length_in_hexadecimal() {
        for (length, head) in [(1, "1"), (15, "f"), (16, "10"), (255, "ff"), (256, "100"), (65_536, "10000")] {
            let body = vec![b'x'; length];
            let chunk = chunk_of(&body);
            let chunk = chunk.as_ref();
            let wire = [head.as_bytes(), b"\r\n", &body, b"\r\n"].concat();
            assert_eq!(chunk.framed(), wire);
            assert_eq!(chunk.to_framed(), wire);
            assert_eq!(chunk.body(), body);
            assert_eq!(chunk.to_body(), body);
        }
    }

    #[test]
    fn chunks_of_one_block_make_one_slice() {
        let mut block = Builder::default();
        for body in [&b"a"[..], b"bc", b"def"] {
            block.push(body.len(), |out| out.extend_from_slice(body));
        }
        assert_eq!((block.count(), block.len()), (3, 21));
        let (bytes, places) = block.finish_block();
        let chunks: Vec<_> = places.map(|place| place.of(&bytes)).collect();
        assert_eq!(chunks[0].framed_to(chunks[2]), b"1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n");
        assert_eq!(chunks[1].framed_to(chunks[1]), b"2\r\nbc\r\n");
        assert!(chunks[1].follows(chunks[0]) && chunks[2].follows(chunks[1]) && !chunks[2].follows(chunks[0]));
        assert!(chunks.iter().map(|chunk| chunk.weight()).eq([0, 0, 21]), "the last chunk frees the block");
        assert!(bodies_of(&bytes).eq([&b"a"[..], b"bc", b"def"]));
        let (alone, place) = chunks[1].alone();
        assert_eq!((&alone[..], place.of(&alone).body()), (chunks[1].framed(), &b"bc"[..]));
        let other = chunk_of(b"a");
        assert!(!chunks[1].follows(other.as_ref()) && !other.as_ref().is_beside(chunks[0]));
        assert_eq!((block.count(), block.len()), (0, 0));
    }
}

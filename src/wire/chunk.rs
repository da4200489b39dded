//! The chunked transfer coding of HTTP/1.1 (RFC 9112, section 7.1), applied once for all connections that write the bytes. The
//! frames of WebSocket, which have a head and no tail, are built in the same blocks of memory.

use std::ops::Range;

use bytes::Bytes;

/// The chunk that ends a chunked body.
pub(crate) const LAST: &[u8] = b"0\r\n\r\n";

/// Bytes of a body together with their framing, in shared memory: `<hex length> CRLF bytes CRLF`, or the head of a WebSocket frame
/// and the bytes.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    /// The memory of this chunk and of those that were built with it.
    block: Bytes,
    /// Begin and end in the block.
    start: u32,
    end: u32,
    /// The lengths of the framing before and behind the body.
    head: u8,
    tail: u8,
}

impl Chunk {
    /// A chunk from its bytes with their framing, `head` of which come before the body.
    pub(crate) fn from_static(framed: &'static [u8], head: u8) -> Self {
        Self { block: Bytes::from_static(framed), start: 0, end: framed.len() as u32, head, tail: END.len() as u8 }
    }

    /// The chunk with its framing, for HTTP/1.1.
    pub(crate) fn framed(&self) -> &[u8] {
        &self.block[self.start as usize..self.end as usize]
    }

    /// The chunk without framing, for HTTP/1.0 and other transports.
    pub(crate) fn body(&self) -> &[u8] {
        &self.block[self.body_range()]
    }

    /// Like [`Chunk::framed`], sharing the memory.
    pub(crate) fn to_framed(&self) -> Bytes {
        self.block.slice(self.start as usize..self.end as usize)
    }

    /// Like [`Chunk::body`], sharing the memory.
    pub(crate) fn to_body(&self) -> Bytes {
        self.block.slice(self.body_range())
    }

    fn body_range(&self) -> Range<usize> {
        self.start as usize + usize::from(self.head)..self.end as usize - usize::from(self.tail)
    }

    /// Whether both chunks are in one block.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        // Both keep their blocks alive, so two blocks cannot have one address.
        self.block.as_ptr() == other.block.as_ptr()
    }

    /// Whether this chunk directly follows `before` in memory.
    pub(crate) fn follows(&self, before: &Self) -> bool {
        self.start == before.end && self.is_beside(before)
    }

    /// The bytes from this chunk to the end of `last`, a later one of the same block, with framing.
    pub(crate) fn framed_to(&self, last: &Self) -> &[u8] {
        debug_assert!(self.is_beside(last));
        &self.block[self.start as usize..last.end as usize]
    }

    /// The bodies of all chunks of the block, in order. Its framing is that of HTTP.
    pub(crate) fn bodies_of_block(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.block[..];
        std::iter::from_fn(move || {
            let digits = memchr::memchr(b'\r', rest)?;
            let length =
                std::str::from_utf8(&rest[..digits]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
            let (body, end) = rest[digits + END.len()..].split_at(length.expect("a chunk begins with its length"));
            rest = &end[END.len()..];
            Some(body)
        })
    }

    /// The same chunk in a block of its own.
    pub(crate) fn alone(&self) -> Self {
        if self.framed().len() == self.block.len() {
            return self.clone();
        }
        let block = Bytes::copy_from_slice(self.framed());
        Self { start: 0, end: block.len() as u32, block, head: self.head, tail: self.tail }
    }

    /// The bytes of memory that become free when this chunk is dropped after all earlier ones of its block.
    pub(crate) fn weight(&self) -> usize {
        if self.end as usize == self.block.len() { self.block.len() } else { 0 }
    }
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

/// Where a chunk of a block ends, and the lengths of its framing.
struct Place {
    head: u8,
    tail: u8,
    end: u32,
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
        self.places.push(Place { head: head as u8, tail: tail as u8, end });
    }

    /// The length of the chunks so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The number of chunks so far.
    pub(crate) fn count(&self) -> usize {
        self.places.len()
    }

    /// Returns the chunks in order, in memory of their exact size, and empties the builder.
    pub(crate) fn finish(&mut self) -> impl Iterator<Item = Chunk> + '_ {
        let block = Bytes::copy_from_slice(&self.bytes);
        self.bytes.clear();
        self.bytes.shrink_to(Self::KEPT);
        let mut start = 0;
        self.places.drain(..).map(move |Place { head, tail, end }| {
            let chunk = Chunk { block: block.clone(), start, end, head, tail };
            start = end;
            chunk
        })
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
        let chunks: Vec<_> = block.finish().collect();
        assert_eq!(chunks[0].framed_to(&chunks[2]), b"1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n");
        assert_eq!(chunks[1].framed_to(&chunks[1]), b"2\r\nbc\r\n");
        assert!(chunks[1].follows(&chunks[0]) && chunks[2].follows(&chunks[1]) && !chunks[2].follows(&chunks[0]));
        assert_eq!(chunks.iter().map(Chunk::weight).collect::<Vec<_>>(), [0, 0, 21], "the last chunk frees the block");
        assert!(chunks[1].bodies_of_block().eq([&b"a"[..], b"bc", b"def"]));
        let other = chunk_of(b"a");
        assert!(!chunks[1].follows(&other) && !other.is_beside(&chunks[0]));
        assert_eq!((block.count(), block.len()), (0, 0));
    }
}

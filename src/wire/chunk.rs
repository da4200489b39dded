//! The chunked transfer coding of HTTP/1.1 (RFC 9112, section 7.1), applied once to bytes that many connections write.

use bytes::Bytes;

/// The chunk that ends a chunked body.
pub(crate) const LAST: &[u8] = b"0\r\n\r\n";

/// Bytes of a body together with their chunk framing: `<hex length> CRLF bytes CRLF`, in one shared piece of memory.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    framed: Bytes,
    /// Where the body's bytes begin in `framed`.
    start: u8,
}

impl Chunk {
    /// A chunk with the `length` bytes that `write` appends to the buffer that it is given.
    pub(crate) fn build(length: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        debug_assert!(length > 0, "an empty chunk would end the body");
        let digits = (usize::BITS - length.leading_zeros()).div_ceil(4) as usize;
        let start = digits + 2;
        let mut framed = Vec::with_capacity(start + length + 2);
        for digit in (0..digits).rev() {
            framed.push(b"0123456789abcdef"[(length >> (4 * digit)) & 0xf]);
        }
        framed.extend_from_slice(b"\r\n");
        write(&mut framed);
        debug_assert_eq!(framed.len(), start + length, "the length was foretold");
        framed.extend_from_slice(b"\r\n");
        Self { framed: Bytes::from(framed), start: start as u8 }
    }

    /// A chunk with these bytes.
    pub(crate) fn of(body: &[u8]) -> Self {
        Self::build(body.len(), |framed| framed.extend_from_slice(body))
    }

    /// With its framing: for HTTP/1.1.
    pub(crate) fn framed(&self) -> &Bytes {
        &self.framed
    }

    /// Without it: for HTTP/1.0, and for whoever frames it otherwise.
    pub(crate) fn body(&self) -> &[u8] {
        &self.framed[usize::from(self.start)..self.framed.len() - 2]
    }

    /// Like [`Chunk::body`], and keeps the memory.
    pub(crate) fn to_body(&self) -> Bytes {
        self.framed.slice(usize::from(self.start)..self.framed.len() - 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_states_its_length_in_hexadecimal() {
        for (length, head) in [(1, "1"), (15, "f"), (16, "10"), (255, "ff"), (256, "100"), (65_536, "10000")] {
            let body = vec![b'x'; length];
            let chunk = Chunk::of(&body);
            let wire = [head.as_bytes(), b"\r\n", &body, b"\r\n"].concat();
            assert_eq!(chunk.framed(), &wire);
            assert_eq!(chunk.body(), body);
            assert_eq!(chunk.to_body(), body);
        }
    }
}

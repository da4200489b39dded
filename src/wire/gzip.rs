//! The parts of a gzip member (RFC 1952) whose compressed blocks are made elsewhere: header, stored blocks, trailer.
//!
//! A member is the header, blocks of deflate (RFC 1951) and the trailer. Every block here ends on a byte boundary, so that any
//! block of that kind can follow.

use crc32fast::Hasher;

/// Deflate, no name, no time, unknown system.
pub(crate) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A stored block without bytes, which is also the end of a compressed block that is flushed. Decoders pass on what
/// precedes it. Some of them delay a stored block that nothing follows.
const FLUSH: [u8; 5] = [0, 0, 0, 0xff, 0xff];

/// The most bytes of one stored block.
const MAX_STORED: usize = 0xffff;

/// The length of the header of a stored block.
const STORED_HEADER: usize = 5;

/// The length of the last block and the trailer.
const END: usize = 10;

/// Returns the number of bytes that [`store`] appends for `length` bytes.
pub(crate) fn stored_length(length: usize) -> usize {
    length + length.div_ceil(MAX_STORED) * STORED_HEADER + FLUSH.len()
}

/// Appends `bytes` as stored blocks, and a flush.
pub(crate) fn store(bytes: &[u8], out: &mut Vec<u8>) {
    for block in bytes.chunks(MAX_STORED) {
        let length = block.len() as u16;
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.extend_from_slice(&FLUSH);
}

/// CRC-32 and length of uncompressed bytes, as the trailer has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checksum {
    crc: u32,
    /// Modulo 2^32.
    length: u32,
}

impl Checksum {
    /// Adds the next bytes.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let mut hasher = Hasher::new_with_initial(self.crc);
        hasher.update(bytes);
        *self = Self { crc: hasher.finalize(), length: self.length.wrapping_add(bytes.len() as u32) };
    }

    /// Adds bytes of this checksum, less than 4 GiB.
    pub(crate) fn append(&mut self, next: Self) {
        let mut hasher = Hasher::new_with_initial(self.crc);
        hasher.combine(&Hasher::new_with_initial_len(next.crc, next.length.into()));
        *self = Self { crc: hasher.finalize(), length: self.length.wrapping_add(next.length) };
    }

    /// Of the bytes behind those of `before`, with which these begin.
    pub(crate) fn since(self, before: Self) -> Self {
        let mut zeros = before;
        let length = self.length.wrapping_sub(before.length);
        zeros.append(Self { crc: 0, length });
        Self { crc: self.crc ^ zeros.crc, length }
    }

    /// The number of bytes modulo 2^32.
    pub(crate) fn length(self) -> u32 {
        self.length
    }

    /// The end of a member: a last block without bytes, and the trailer.
    pub(crate) fn end_of_member(self) -> [u8; END] {
        let mut end = [0; END];
        // The last block has the fixed Huffman codes, and the code of its end.
        end[0] = 3;
        end[2..6].copy_from_slice(&self.crc.to_le_bytes());
        end[6..].copy_from_slice(&self.length.to_le_bytes());
        end
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn member(parts: &[&[u8]]) -> Vec<u8> {
        let (mut bytes, mut checksum) = (HEADER.to_vec(), Checksum::default());
        for part in parts {
            let before = bytes.len();
            store(part, &mut bytes);
            assert_eq!(bytes.len() - before, stored_length(part.len()));
            checksum.add(part);
        }
        bytes.extend_from_slice(&checksum.end_of_member());
        bytes
    }

    #[test]
    fn stored_blocks_of_any_length_decode_to_their_bytes() {
        for length in [0, 1, 171, MAX_STORED - 1, MAX_STORED, MAX_STORED + 1, 3 * MAX_STORED] {
            let text: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let mut decoded = Vec::new();
            GzDecoder::new(&member(&[b"before", &text, b"after"])[..]).read_to_end(&mut decoded).unwrap();
            assert_eq!(decoded, [b"before", &text[..], b"after"].concat());
        }
    }

    #[test]
    fn checksums_of_parts_combine() {
        let text: Vec<u8> = (0..1000).map(|i| (i * i % 256) as u8).collect();
        let mut whole = Checksum::default();
        whole.add(&text);
        for cut in [0, 1, 64, 999, 1000] {
            let (mut first, mut second) = (Checksum::default(), Checksum::default());
            first.add(&text[..cut]);
            second.add(&text[cut..]);
            assert_eq!(whole.since(first), second, "{cut}");
            first.append(second);
            assert_eq!(first, whole, "{cut}");
        }
    }
}

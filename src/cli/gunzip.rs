//! Decodes a body with `Content-Encoding: gzip` as it arrives.

use bytes::Bytes;
use flate2::{Decompress, DecompressError, FlushDecompress, Status};

/// Bits of the largest window that deflate has.
const WINDOW_BITS: u8 = 15;

/// The least room for decoded bytes.
const ROOM: usize = 4096;

/// The decoder of one body: one or more members of gzip.
#[derive(Debug)]
pub struct Gunzip(Decompress);

impl Gunzip {
    pub fn new() -> Self {
        Self(Decompress::new_gzip(WINDOW_BITS))
    }

    /// What the next `bytes` of the body decode to. After an error, this is what comes before it.
    pub fn decode_piece(&mut self, bytes: &[u8]) -> (Bytes, Result<(), DecompressError>) {
        let mut plain = Vec::new();
        let decoded = self.decode(bytes, &mut plain);
        (plain.into(), decoded)
    }

    /// Appends to `plain` everything that the body so far, of which `bytes` come next, decodes to.
    pub fn decode(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), DecompressError> {
        loop {
            plain.reserve(ROOM.max(bytes.len()));
            let before = self.0.total_in();
            let status = self.0.decompress_vec(bytes, plain, FlushDecompress::None)?;
            bytes = &bytes[(self.0.total_in() - before) as usize..];
            match status {
                Status::StreamEnd if bytes.is_empty() => return Ok(()),
                Status::StreamEnd => *self = Self::new(),
                // Room is left, so there is no more to decode.
                Status::Ok | Status::BufError if plain.len() < plain.capacity() => return Ok(()),
                Status::Ok | Status::BufError => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// A member whose bytes are visible after each part.
    fn member(parts: &[&[u8]]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        for part in parts {
            encoder.write_all(part).unwrap();
            encoder.flush().unwrap();
        }
        encoder.finish().unwrap()
    }

    fn decode(bytes: &[u8], piece: usize) -> Result<Vec<u8>, DecompressError> {
        let (mut gunzip, mut plain) = (Gunzip::new(), Vec::new());
        bytes.chunks(piece).try_for_each(|part| gunzip.decode(part, &mut plain))?;
        Ok(plain)
    }

    #[test]
    fn body_is_decoded_wherever_it_is_cut() {
        let bytes = [member(&[b"data: 1\n\n", b"data: 2\n\n"]), member(&[b": end\n\n"])].concat();
        for piece in 1..=bytes.len() {
            assert_eq!(decode(&bytes, piece).unwrap(), b"data: 1\n\ndata: 2\n\n: end\n\n", "{piece}");
        }
    }

    #[test]
    fn flushed_bytes_are_decoded_before_more_arrive() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let (mut gunzip, mut plain, mut sent) = (Gunzip::new(), Vec::new(), 0);
        for number in 0..200 {
            let event = format!("data: {number}\n\n");
            encoder.write_all(event.as_bytes()).unwrap();
            encoder.flush().unwrap();
            gunzip.decode(&encoder.get_ref()[sent..], &mut plain).unwrap();
            sent = encoder.get_ref().len();
            assert!(plain.ends_with(event.as_bytes()), "{number}");
        }
    }

    #[test]
    fn large_piece_is_decoded_as_a_whole() {
        let zeros = vec![0; 10 << 20];
        assert_eq!(decode(&member(&[&zeros]), usize::MAX).unwrap(), zeros);
    }

    #[test]
    fn changed_bytes_are_refused() {
        let mut bytes = member(&[b"data: 1\n\n"]);
        let checksum = bytes.len() - 8;
        bytes[checksum] ^= 1;
        assert!(decode(&bytes, 5).is_err());
        assert!(decode(b"data: 1\n\n", 5).is_err());
    }
}

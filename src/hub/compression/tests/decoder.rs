//! Decodes a gzip member as it arrives.

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

use crate::wire::gzip::HEADER;

pub(in crate::hub) struct Decoder {
    state: Box<InflateState>,
    /// The bytes that precede the blocks, or follow them.
    outside: Vec<u8>,
    has_ended: bool,
    decoded: Vec<u8>,
}

impl Decoder {
    pub(in crate::hub) fn new() -> Self {
        let state = InflateState::new_boxed(DataFormat::Raw);
        Self { state, outside: Vec::new(), has_ended: false, decoded: Vec::new() }
    }

    /// Decodes the next bytes of the member.
    pub(in crate::hub) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while self.outside.len() < HEADER.len() && !bytes.is_empty() {
            self.outside.push(bytes[0]);
            bytes = &bytes[1..];
        }
        while !self.has_ended {
            let mut out = [0; 4096];
            let result = inflate(&mut self.state, bytes, &mut out, MZFlush::None);
            bytes = &bytes[result.bytes_consumed..];
            self.decoded.extend_from_slice(&out[..result.bytes_written]);
            match result.status {
                Ok(MZStatus::StreamEnd) => self.has_ended = true,
                Ok(_) | Err(MZError::Buf) if bytes.is_empty() && result.bytes_written < out.len() => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(format!("not deflate: {error:?}")),
            }
        }
        self.outside.extend_from_slice(bytes);
        Ok(())
    }

    pub(in crate::hub) fn decoded(&self) -> &[u8] {
        &self.decoded
    }

    /// Checks the header and the trailer of a whole member.
    pub(in crate::hub) fn check_end(&self) -> Result<(), String> {
        let (header, trailer) = self.outside.split_at(HEADER.len());
        let length = (self.decoded.len() as u32).to_le_bytes();
        let expected = [crc32(&self.decoded).to_le_bytes(), length].concat();
        let is_whole = self.has_ended && header == HEADER && trailer == expected;
        is_whole.then_some(()).ok_or_else(|| format!("the trailer is {trailer:?} instead of {expected:?}"))
    }
}

/// CRC-32, one bit after the other.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

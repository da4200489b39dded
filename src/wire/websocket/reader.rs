//! Reads the messages of a client from the bytes of its connection (RFC 6455, sections 5 and 8.1).
//!
//! **Contract.** The bytes may be cut anywhere. A [`Violation`] is reported as soon as a byte shows it: a text that is not UTF-8
//! within its frame, a message that is too long by the head of its frame. Control frames between the frames of a message are
//! returned at once. After a violation or a close frame nothing more is read.
//!
//! **Memory.** A message takes memory as its bytes arrive, at most the limit, whatever length its frames declare. Between
//! messages nothing is held.
//!
//! `tungstenite` parses the heads of frames. Its own messages are not used: it keeps a buffer for each connection, and checks a
//! text at the end of each frame.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::MAX_CONTROL;

/// The longest head of a frame.
const MAX_HEAD: usize = 14;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    /// With its code, if it has one.
    Close(Option<u16>),
}

/// How a client broke the protocol or a limit. The connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("a frame of a client is masked")]
    Unmasked,
    #[error("reserved bits are 0: no extension was agreed on")]
    ReservedBits,
    #[error("reserved opcode")]
    ReservedOpcode,
    #[error("a length is encoded in the fewest bytes")]
    LengthEncoding,
    #[error("a control frame is not fragmented, and has at most 125 bytes")]
    ControlFrame,
    #[error("a continuation frame continues a message, and no other message begins before its end")]
    Continuation,
    #[error("invalid close frame")]
    CloseFrame,
    #[error("binary messages are not supported")]
    Binary,
    #[error("a text is UTF-8")]
    Utf8,
    /// With the limit.
    #[error("a message has at most {0} bytes")]
    TooBig(usize),
}

impl Violation {
    /// The code of the close frame that reports it (RFC 6455, section 7.4.1).
    pub(crate) fn close_code(self) -> u16 {
        let code = match self {
            Self::Binary => CloseCode::Unsupported,
            Self::Utf8 => CloseCode::Invalid,
            Self::TooBig(_) => CloseCode::Size,
            _ => CloseCode::Protocol,
        };
        code.into()
    }
}

/// What a connection accepts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageLimits {
    /// The largest message, in bytes.
    pub(crate) max_bytes: usize,
    pub(crate) accepts_binary: bool,
}

/// The state between two reads of a connection.
pub(crate) struct Reader {
    limits: MessageLimits,
    /// The first bytes of a head that has not arrived whole.
    head: [u8; MAX_HEAD],
    head_length: u8,
    frame: Option<Frame>,
    /// The opcode of the message whose frames are arriving, or else `None`.
    message: Option<Data>,
    /// The payload of that message.
    payload: Vec<u8>,
    /// How much of the payload is known to be UTF-8.
    checked: usize,
    /// The payload of the control frame that is arriving.
    control: Vec<u8>,
}

/// A frame whose payload is arriving.
struct Frame {
    opcode: OpCode,
    is_final: bool,
    mask: [u8; 4],
    /// The number of bytes that have not arrived.
    remaining: usize,
}

impl Reader {
    pub(crate) fn new(limits: MessageLimits) -> Self {
        Self {
            limits,
            head: [0; MAX_HEAD],
            head_length: 0,
            frame: None,
            message: None,
            payload: Vec::new(),
            checked: 0,
            control: Vec::new(),
        }
    }

    /// Whether nothing of a message or frame is held.
    pub(crate) fn is_between_messages(&self) -> bool {
        self.head_length == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// Reads from the front of `input`, until something is complete. `None` means that all of it was read.
    pub(crate) fn read(&mut self, input: &mut &[u8]) -> Result<Option<Incoming>, Violation> {
        loop {
            let Some(mut frame) = self.frame.take() else {
                if input.is_empty() {
                    return Ok(None);
                }
                self.frame = self.read_head(input)?;
                continue;
            };
            let (part, rest) = input.split_at(frame.remaining.min(input.len()));
            *input = rest;
            self.append(&mut frame, part)?;
            if frame.remaining > 0 {
                self.frame = Some(frame);
                return Ok(None);
            }
            if let Some(incoming) = self.complete(&frame)? {
                return Ok(Some(incoming));
            }
        }
    }

    /// Reads the head of a frame. `None` if it has not arrived whole.
    fn read_head(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, Violation> {
        let before = usize::from(self.head_length);
        let added = (MAX_HEAD - before).min(input.len());
        self.head[before..before + added].copy_from_slice(&input[..added]);
        let mut cursor = Cursor::new(&self.head[..before + added]);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Violation::ReservedOpcode)?;
        let end = cursor.position() as usize;
        let Some((header, length)) = parsed else {
            self.head_length = (before + added) as u8;
            *input = &input[added..];
            return Ok(None);
        };
        self.head_length = 0;
        *input = &input[end - before..];
        if end != header.len(length) {
            return Err(Violation::LengthEncoding);
        }
        self.begin(&header, length).map(Some)
    }

    /// Checks the head of a frame, and begins its message.
    fn begin(&mut self, header: &FrameHeader, length: u64) -> Result<Frame, Violation> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Violation::ReservedBits);
        }
        let mask = header.mask.ok_or(Violation::Unmasked)?;
        match header.opcode {
            OpCode::Control(_) if !header.is_final || length > MAX_CONTROL as u64 => {
                return Err(Violation::ControlFrame);
            }
            OpCode::Control(_) => {}
            OpCode::Data(data) => {
                if (data == Data::Continue) != self.message.is_some() {
                    return Err(Violation::Continuation);
                }
                if data == Data::Binary && !self.limits.accepts_binary {
                    return Err(Violation::Binary);
                }
                if length > (self.limits.max_bytes - self.payload.len()) as u64 {
                    return Err(Violation::TooBig(self.limits.max_bytes));
                }
                self.message.get_or_insert(data);
            }
        }
        let remaining = usize::try_from(length).map_err(|_| Violation::TooBig(self.limits.max_bytes))?;
        Ok(Frame { opcode: header.opcode, is_final: header.is_final, mask, remaining })
    }

    /// Adds the next bytes of `frame` to the payload that they belong to.
    fn append(&mut self, frame: &mut Frame, part: &[u8]) -> Result<(), Violation> {
        let is_control = matches!(frame.opcode, OpCode::Control(_));
        let payload = if is_control { &mut self.control } else { &mut self.payload };
        let start = payload.len();
        payload.extend_from_slice(part);
        for (byte, mask) in payload[start..].iter_mut().zip(frame.mask.iter().cycle()) {
            *byte ^= mask;
        }
        frame.mask.rotate_left(part.len() % 4);
        frame.remaining -= part.len();
        if is_control || self.message != Some(Data::Text) {
            return Ok(());
        }
        match std::str::from_utf8(&self.payload[self.checked..]) {
            Ok(_) => self.checked = self.payload.len(),
            // The rest may be the begin of a character.
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(Violation::Utf8),
        }
        Ok(())
    }

    /// Returns what `frame` completes, if anything.
    fn complete(&mut self, frame: &Frame) -> Result<Option<Incoming>, Violation> {
        match frame.opcode {
            OpCode::Control(Control::Ping) => Ok(Some(Incoming::Ping(std::mem::take(&mut self.control)))),
            OpCode::Control(Control::Close) => close_code(&self.control).map(|code| Some(Incoming::Close(code))),
            OpCode::Control(_) => {
                self.control = Vec::new();
                Ok(Some(Incoming::Pong))
            }
            OpCode::Data(_) if !frame.is_final => Ok(None),
            OpCode::Data(_) => {
                self.checked = 0;
                let (message, payload) = (self.message.take(), std::mem::take(&mut self.payload));
                if message == Some(Data::Binary) {
                    return Ok(Some(Incoming::Binary(payload)));
                }
                String::from_utf8(payload).map(|text| Some(Incoming::Text(text))).map_err(|_| Violation::Utf8)
            }
        }
    }
}

/// The code in the payload of a close frame.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::CloseFrame) };
    };
    let code = u16::from_be_bytes(*code);
    if !CloseCode::from(code).is_allowed() {
        return Err(Violation::CloseFrame);
    }
    match std::str::from_utf8(reason) {
        Ok(_) => Ok(Some(code)),
        Err(_) => Err(Violation::Utf8),
    }
}

/// Fuzz target. Input: the bytes of a client, which are read whole and in parts whose length depends on the first byte.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(data: &[u8]) {
    const MAX_BYTES: usize = 1000;
    let limits = MessageLimits { max_bytes: MAX_BYTES, accepts_binary: true };
    let read = |size: usize| {
        let (mut reader, mut all) = (Reader::new(limits), Vec::new());
        for mut part in data.chunks(size) {
            loop {
                match reader.read(&mut part) {
                    Ok(Some(Incoming::Text(text))) if text.len() > MAX_BYTES => panic!("over the limit"),
                    Ok(Some(incoming)) => all.push(incoming),
                    Ok(None) => break,
                    Err(violation) => return (all, Some(violation)),
                }
            }
            assert!(part.is_empty(), "all of it is read");
            assert!(reader.payload.len() <= MAX_BYTES && reader.control.len() <= MAX_CONTROL, "memory is bounded");
        }
        (all, None)
    };
    let size = data.first().map_or(1, |byte| usize::from(byte % 16) + 1);
    assert_eq!(read(data.len().max(1)), read(size));
}

#[cfg(test)]
mod tests;

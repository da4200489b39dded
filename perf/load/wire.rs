//! Reads HTTP/1.1 heads, chunks and SSE blocks: only what a server under test sends.

use memchr::memmem;

/// The position `<epoch>-<sequence>` of an `id:` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub epoch: u64,
    pub sequence: u64,
}

impl Position {
    pub fn parse(text: &[u8]) -> Option<Self> {
        let dash = memchr::memchr(b'-', text)?;
        Some(Self { epoch: number(&text[..dash])?, sequence: number(&text[dash + 1..])? })
    }
}

/// What is at the start of bytes that were received.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    Incomplete,
    /// `content` of a chunk whose framing and content end at `end`. An empty one ends the body.
    Whole {
        content: std::ops::Range<usize>,
        end: usize,
    },
    Malformed,
}

impl Chunk {
    pub fn parse(bytes: &[u8]) -> Self {
        /// A size line of more than 16 digits and an extension is nothing that a server under test sends.
        const LONGEST_SIZE_LINE: usize = 64;
        let Some(line_end) = memmem::find(&bytes[..bytes.len().min(LONGEST_SIZE_LINE)], b"\r\n") else {
            return if bytes.len() < LONGEST_SIZE_LINE { Self::Incomplete } else { Self::Malformed };
        };
        let digits = bytes[..line_end].split(|byte| *byte == b';').next().unwrap_or_default();
        let Some(length) = str::from_utf8(digits).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok())
        else {
            return Self::Malformed;
        };
        let start = line_end + 2;
        let Some(end) = start.checked_add(length).and_then(|end| end.checked_add(2)) else { return Self::Malformed };
        match bytes.get(end - 2..end) {
            None => Self::Incomplete,
            Some(b"\r\n") => Self::Whole { content: start..end - 2, end },
            Some(_) => Self::Malformed,
        }
    }
}

/// One SSE block: the lines up to a blank one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Block<'a> {
    pub id: Option<&'a [u8]>,
    pub event: Option<&'a [u8]>,
    /// The first `data:` line.
    pub data: Option<&'a [u8]>,
}

impl<'a> Block<'a> {
    pub fn parse(text: &'a [u8]) -> Self {
        let mut block = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let value = line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..]);
            match &line[..colon] {
                b"id" => block.id = Some(value),
                b"event" => block.event = Some(value),
                b"data" if block.data.is_none() => block.data = Some(value),
                _ => {}
            }
        }
        block
    }
}

/// What a publisher wrote into the event's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub due: u64,
    pub number: u64,
}

impl Stamp {
    /// Data passes through the server byte for byte, so this is a comparison and two numbers, not JSON.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let (due, rest) = leading_number(data.strip_prefix(b"{\"due\":")?)?;
        let (number, _) = leading_number(rest.strip_prefix(b",\"n\":")?)?;
        Some(Self { due, number })
    }
}

/// An HTTP response head.
pub struct Head<'a> {
    pub status: u16,
    lines: &'a [u8],
    /// Where the body starts.
    pub end: usize,
}

impl<'a> Head<'a> {
    /// `None` while it is not complete; a first line that is no status line reads as status 0.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let end = memmem::find(bytes, b"\r\n\r\n")?;
        let status = bytes
            .strip_prefix(b"HTTP/1.1 ")
            .and_then(leading_number)
            .and_then(|(status, _)| u16::try_from(status).ok())
            .unwrap_or(0);
        Some(Self { status, lines: &bytes[..end], end: end + 4 })
    }

    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.lines.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| line[colon + 1..].trim_ascii())
        })
    }

    pub fn content_length(&self) -> Option<usize> {
        number(self.header("content-length")?).and_then(|length| usize::try_from(length).ok())
    }
}

fn number(text: &[u8]) -> Option<u64> {
    match leading_number(text)? {
        (number, []) => Some(number),
        _ => None,
    }
}

fn leading_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    let mut number = 0u64;
    for digit in &text[..digits] {
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    Some((number, &text[digits..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_whole_only_with_its_last_line_end() {
        assert_eq!(Chunk::parse(b"3\r\nabc\r"), Chunk::Incomplete);
        assert_eq!(Chunk::parse(b"3\r\nabc\r\n1"), Chunk::Whole { content: 3..6, end: 8 });
        assert_eq!(Chunk::parse(b"3\r\nabcd\r\n"), Chunk::Malformed);
        assert_eq!(Chunk::parse(b"x\r\n"), Chunk::Malformed);
    }

    #[test]
    fn a_block_gives_its_fields_with_one_space_taken_off() {
        let block = Block::parse(b"id: 7-1\nevent:data\ndata:  x\ndata: y\n: note\n");
        assert_eq!(block, Block { id: Some(b"7-1"), event: Some(b"data"), data: Some(b" x") });
    }

    #[test]
    fn a_stamp_is_read_only_from_the_generator_s_own_data() {
        assert_eq!(Stamp::parse(br#"{"due":12,"n":3,"pad":""}"#), Some(Stamp { due: 12, number: 3 }));
        assert_eq!(Stamp::parse(br#"{"timestamp":12}"#), None);
    }
}

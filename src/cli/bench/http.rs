//! As much of HTTP/1.1 as a load generator reads: heads and chunks, out of the bytes that a socket gave.

use std::str::FromStr;

use memchr::{memchr, memmem};

/// A header of a request, as `Name: value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderLine(String);

impl HeaderLine {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderLine {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RIGHT: &str = "a header is 'Name: value' on one line, as in 'x-key: 1'";
        let (name, value) = text.split_once(':').ok_or(RIGHT)?;
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) || value.bytes().any(|byte| byte < b' ' && byte != b'\t') {
            return Err(RIGHT);
        }
        let framing = ["content-length", "transfer-encoding", "connection", "host"];
        if framing.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            return Err("the load generator writes content-length, transfer-encoding, connection and host itself");
        }
        Ok(Self(format!("{name}: {}", value.trim())))
    }
}

/// A response head.
pub struct Head<'a> {
    pub status: u16,
    first_line: &'a [u8],
    lines: &'a [u8],
    /// Where the body starts.
    pub end: usize,
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Bytes(usize),
    Chunked,
    UntilClosed,
}

impl<'a> Head<'a> {
    /// A head that goes on for longer is none.
    pub const LONGEST: usize = 64 * 1024;

    /// `None` while it is not complete. A first line that is no status line reads as status 0.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let end = memmem::find(bytes, b"\r\n\r\n")?;
        let lines = &bytes[..end];
        let first_line = lines.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let status = first_line.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(decimal);
        let status = status.and_then(|status| u16::try_from(status).ok()).unwrap_or(0);
        Some(Self { status, first_line, lines, end: end + 4 })
    }

    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.lines.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
            let colon = memchr(b':', line)?;
            line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| line[colon + 1..].trim_ascii())
        })
    }

    /// Whether a header's value begins so, in any case.
    pub fn begins(&self, name: &str, value: &str) -> bool {
        let found = self.header(name).and_then(|found| found.get(..value.len()));
        found.is_some_and(|found| found.eq_ignore_ascii_case(value.as_bytes()))
    }

    pub fn length(&self) -> Length {
        if self.begins("transfer-encoding", "chunked") {
            Length::Chunked
        } else if matches!(self.status, 204 | 304) {
            Length::Bytes(0)
        } else if let Some(length) = self.header("content-length").and_then(decimal) {
            Length::Bytes(length)
        } else {
            Length::UntilClosed
        }
    }

    /// Whether the connection can be used again after the body.
    pub fn keeps_alive(&self) -> bool {
        !self.begins("connection", "close")
            && (self.first_line.starts_with(b"HTTP/1.1") || self.begins("connection", "keep-alive"))
            && self.length() != Length::UntilClosed
    }

    /// The status as people read it, and what the body says about it: a title and a detail (RFC 9457), or its first line.
    pub fn refusal(&self, body: &[u8]) -> String {
        let line = String::from_utf8_lossy(self.first_line.get(9..).unwrap_or(self.first_line)).trim().to_owned();
        let problem = serde_json::from_slice::<serde_json::Value>(body).ok();
        let detail = problem.as_ref().and_then(|problem| problem["detail"].as_str().map(str::to_owned));
        let text = detail.unwrap_or_else(|| {
            let first = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
            String::from_utf8_lossy(&first[..first.len().min(200)]).trim().to_owned()
        });
        if text.is_empty() { line } else { format!("{line}: {text}") }
    }
}

/// What is at the start of a chunked body's bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Not even the size line is complete.
    Incomplete,
    /// A chunk whose content begins at `start`, and is not all there yet.
    Partial {
        start: usize,
        length: usize,
    },
    /// A chunk of which all is there, with the line end after it. An empty one ends the body.
    Whole {
        start: usize,
        length: usize,
    },
    Malformed,
}

impl Chunk {
    pub fn parse(bytes: &[u8]) -> Self {
        /// A size line of more than 16 digits and an extension is nothing that a server sends.
        const LONGEST_SIZE_LINE: usize = 64;
        let mut length = 0usize;
        let mut digits = 0;
        for byte in bytes.iter().take(16) {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                b'A'..=b'F' => byte - b'A' + 10,
                _ => break,
            };
            length = length << 4 | usize::from(digit);
            digits += 1;
        }
        if digits == 0 && !bytes.is_empty() {
            return Self::Malformed;
        }
        let Some(line_end) = memchr(b'\n', &bytes[digits..bytes.len().min(LONGEST_SIZE_LINE)]) else {
            return if bytes.len() < LONGEST_SIZE_LINE { Self::Incomplete } else { Self::Malformed };
        };
        let start = digits + line_end + 1;
        if line_end == 0 || bytes[start - 2] != b'\r' || (line_end > 1 && !b"; \t".contains(&bytes[digits])) {
            return Self::Malformed;
        }
        if length > usize::MAX >> 8 {
            return Self::Malformed;
        }
        match bytes.get(start + length..start + length + 2) {
            None => Self::Partial { start, length },
            Some(b"\r\n") => Self::Whole { start, length },
            // Trailers after the last chunk.
            Some(_) if length == 0 => Self::Whole { start, length },
            Some(_) => Self::Malformed,
        }
    }
}

/// The end of a body that begins at `start` of `bytes`: `None` while it is not there.
pub fn body_end(bytes: &[u8], start: usize, length: Length) -> Option<usize> {
    match length {
        Length::Bytes(length) => bytes.get(start..start + length).map(|_| start + length),
        Length::UntilClosed => None,
        Length::Chunked => {
            let mut at = start;
            loop {
                match Chunk::parse(&bytes[at..]) {
                    Chunk::Whole { start, length: 0 } => {
                        // Trailers, if there are any, and the blank line.
                        let end = memmem::find(&bytes[at + start - 2..], b"\r\n\r\n")?;
                        return Some(at + start - 2 + end + 4);
                    }
                    Chunk::Whole { start, length } => at += start + length + 2,
                    // Nobody waits for the rest of what is no chunk.
                    Chunk::Malformed => return Some(bytes.len()),
                    Chunk::Incomplete | Chunk::Partial { .. } => return None,
                }
            }
        }
    }
}

fn decimal(text: &[u8]) -> Option<usize> {
    str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_whole_only_with_its_last_line_end() {
        assert_eq!(Chunk::parse(b""), Chunk::Incomplete);
        assert_eq!(Chunk::parse(b"3\r"), Chunk::Incomplete);
        assert_eq!(Chunk::parse(b"3\r\nabc\r"), Chunk::Partial { start: 3, length: 3 });
        assert_eq!(Chunk::parse(b"3\r\nabc\r\n1"), Chunk::Whole { start: 3, length: 3 });
        assert_eq!(Chunk::parse(b"0A;x=y\r\n0123456789\r\n"), Chunk::Whole { start: 8, length: 10 });
        for malformed in [&b"3\r\nabcd\r\n"[..], b"x\r\n", b"\r\n", b"3\nabc\r\n", b"3x\r\nabc\r\n", &[b'0'; 80]] {
            assert_eq!(Chunk::parse(malformed), Chunk::Malformed, "{malformed:?}");
        }
    }

    #[test]
    fn a_head_tells_how_its_body_ends() {
        let length = |head: &[u8]| Head::parse(head).unwrap().length();
        assert_eq!(length(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n"), Length::Bytes(12));
        assert_eq!(length(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"), Length::Chunked);
        assert_eq!(length(b"HTTP/1.1 204 No Content\r\n\r\n"), Length::Bytes(0));
        assert_eq!(length(b"HTTP/1.0 200 OK\r\n\r\n"), Length::UntilClosed);
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\n").is_none());
    }

    #[test]
    fn a_body_ends_where_its_framing_says() {
        let body = b"5\r\nhello\r\n0\r\n\r\nHTTP";
        assert_eq!(body_end(body, 0, Length::Chunked), Some(15));
        assert!((0..15).all(|length| body_end(&body[..length], 0, Length::Chunked).is_none()));
        assert_eq!(body_end(b"0\r\na: b\r\n\r\n", 0, Length::Chunked), Some(11));
        assert_eq!((body_end(b"xabc", 1, Length::Bytes(3)), body_end(b"xab", 1, Length::Bytes(3))), (Some(4), None));
    }

    #[test]
    fn a_refusal_says_status_and_detail() {
        let head = b"HTTP/1.1 429 Too Many Requests\r\n\r\n";
        let head = Head::parse(head).unwrap();
        assert_eq!(head.refusal(br#"{"title":"t","detail":"wait a little"}"#), "429 Too Many Requests: wait a little");
        assert_eq!(head.refusal(b"slow down\nplease"), "429 Too Many Requests: slow down");
        assert_eq!(head.refusal(b""), "429 Too Many Requests");
    }

    #[test]
    fn a_header_is_a_name_and_a_value_on_one_line() {
        assert_eq!("x-key:  1 ".parse::<HeaderLine>().unwrap().as_str(), "x-key: 1");
        for wrong in ["x-key", ": 1", "x y: 1", "x: 1\r\ny: 2", "Content-Length: 3"] {
            assert!(wrong.parse::<HeaderLine>().is_err(), "{wrong}");
        }
    }
}

//! The part of HTTP/1.1 that a load generator reads: response heads and bodies, from the bytes of a socket.

use std::str::FromStr;

use httparse::{EMPTY_HEADER, Header, Response, Status, parse_chunk_size};
use memchr::memchr;

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
        const SYNTAX: &str = "a header is 'Name: value' on one line, as in 'x-key: 1'";
        let (name, value) = text.split_once(':').ok_or(SYNTAX)?;
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) || value.bytes().any(|byte| byte < b' ' && byte != b'\t') {
            return Err(SYNTAX);
        }
        let framing = ["content-length", "transfer-encoding", "connection", "host"];
        if framing.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            return Err("content-length, transfer-encoding, connection and host are set by the load generator");
        }
        Ok(Self(format!("{name}: {}", value.trim())))
    }
}

/// A response head.
pub struct Head<'a> {
    pub status: u16,
    reason: &'a str,
    is_http_11: bool,
    headers: Vec<Header<'a>>,
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
    /// The largest head that is accepted.
    pub const MAX_BYTES: usize = 64 * 1024;
    const MAX_HEADERS: usize = 128;

    /// Returns `None` while the head is incomplete.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<Self>, httparse::Error> {
        let mut headers = [EMPTY_HEADER; Self::MAX_HEADERS];
        let mut response = Response::new(&mut headers);
        let Status::Complete(end) = response.parse(bytes)? else { return Ok(None) };
        Ok(Some(Self {
            status: response.code.unwrap_or_default(),
            reason: response.reason.unwrap_or_default(),
            is_http_11: response.version == Some(1),
            headers: response.headers.to_vec(),
            end,
        }))
    }

    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// Whether a header's value begins with `value`, ignoring case.
    pub fn begins(&self, name: &str, value: &str) -> bool {
        let found = self.header(name).and_then(|found| found.get(..value.len()));
        found.is_some_and(|found| found.eq_ignore_ascii_case(value.as_bytes()))
    }

    pub fn length(&self) -> Length {
        if self.begins("transfer-encoding", "chunked") {
            Length::Chunked
        } else if matches!(self.status, 204 | 304) {
            Length::Bytes(0)
        } else if let Some(length) =
            self.header("content-length").and_then(|text| str::from_utf8(text).ok()?.parse().ok())
        {
            Length::Bytes(length)
        } else {
            Length::UntilClosed
        }
    }

    /// Whether the connection can be used again after the body.
    pub fn keeps_alive(&self) -> bool {
        !self.begins("connection", "close")
            && (self.is_http_11 || self.begins("connection", "keep-alive"))
            && self.length() != Length::UntilClosed
    }

    /// The status line, and the detail of a problem (RFC 9457) or else the first line of the body.
    pub fn refusal(&self, body: &[u8]) -> String {
        let status = format!("{} {}", self.status, self.reason);
        let problem = serde_json::from_slice::<serde_json::Value>(body).ok();
        let detail = problem.as_ref().and_then(|problem| problem["detail"].as_str().map(str::to_owned));
        let text = detail.unwrap_or_else(|| {
            let first = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
            String::from_utf8_lossy(&first[..first.len().min(200)]).trim().to_owned()
        });
        if text.is_empty() { status } else { format!("{status}: {text}") }
    }
}

/// Takes the content of a body.
pub trait Sink {
    fn content(&mut self, part: &[u8]);

    /// Takes known chunks at the start of `bytes`, which then need no parsing. Returns their length with their framing.
    fn known_chunks(&mut self, _bytes: &[u8]) -> usize {
        0
    }
}

impl Sink for Vec<u8> {
    fn content(&mut self, part: &[u8]) {
        self.extend_from_slice(part);
    }
}

/// A response body as it arrives. It passes the content on without the framing.
#[derive(Debug)]
pub struct Body {
    state: BodyState,
    /// The beginning of a framing line that is incomplete.
    pending: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyState {
    ChunkSize,
    /// Bytes of the chunk still to come.
    Chunk(usize),
    ChunkEnd,
    Trailers,
    /// Bytes of the body still to come.
    Bytes(usize),
    UntilClosed,
    Ended,
}

/// The body breaks its framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Body {
    /// The longest framing line, such as a chunk's size with extensions.
    const MAX_LINE: usize = 4096;

    pub fn new(length: Length) -> Self {
        let state = match length {
            Length::Chunked => BodyState::ChunkSize,
            Length::Bytes(0) => BodyState::Ended,
            Length::Bytes(length) => BodyState::Bytes(length),
            Length::UntilClosed => BodyState::UntilClosed,
        };
        Self { state, pending: Vec::new() }
    }

    pub fn is_ended(&self) -> bool {
        self.state == BodyState::Ended
    }

    /// Passes the content of the next bytes to `sink`, piece by piece.
    pub fn receive(&mut self, received: &[u8], sink: &mut impl Sink) -> Result<(), Malformed> {
        let joined;
        let mut bytes = received;
        if !self.pending.is_empty() {
            joined = [std::mem::take(&mut self.pending).as_slice(), received].concat();
            bytes = &joined;
        }
        while !bytes.is_empty() && !self.is_ended() {
            if self.state == BodyState::ChunkSize {
                let known = sink.known_chunks(bytes);
                if known > 0 {
                    bytes = &bytes[known..];
                    continue;
                }
            }
            let used = self.step(bytes, sink)?;
            if used == 0 && bytes.len() > Self::MAX_LINE {
                return Err(Malformed);
            }
            if used == 0 {
                self.pending = bytes.to_vec();
                return Ok(());
            }
            bytes = &bytes[used..];
        }
        Ok(())
    }

    /// Consumes one framing line or piece of content. Returns its length, or 0 for an incomplete line.
    #[inline]
    fn step(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<usize, Malformed> {
        let (next, used) = match self.state {
            BodyState::ChunkSize => match parse_chunk_size(bytes) {
                _ if !bytes[0].is_ascii_hexdigit() => return Err(Malformed),
                Ok(Status::Complete((used, 0))) => (BodyState::Trailers, used),
                Ok(Status::Complete((used, length))) => (BodyState::Chunk(length as usize), used),
                Ok(Status::Partial) => return Ok(0),
                Err(_) => return Err(Malformed),
            },
            BodyState::ChunkEnd => match bytes {
                [b'\r', b'\n', ..] => (BodyState::ChunkSize, 2),
                [b'\r'] => return Ok(0),
                _ => return Err(Malformed),
            },
            BodyState::Trailers => match memchr(b'\n', bytes) {
                None => return Ok(0),
                Some(end) if bytes[..end].trim_ascii().is_empty() => (BodyState::Ended, end + 1),
                Some(end) => (BodyState::Trailers, end + 1),
            },
            BodyState::Chunk(left) if left <= bytes.len() => (BodyState::ChunkEnd, left),
            BodyState::Chunk(left) => (BodyState::Chunk(left - bytes.len()), bytes.len()),
            BodyState::Bytes(left) if left <= bytes.len() => (BodyState::Ended, left),
            BodyState::Bytes(left) => (BodyState::Bytes(left - bytes.len()), bytes.len()),
            BodyState::UntilClosed | BodyState::Ended => (self.state, bytes.len()),
        };
        if matches!(self.state, BodyState::Chunk(_) | BodyState::Bytes(_) | BodyState::UntilClosed) {
            sink.content(&bytes[..used]);
        }
        self.state = next;
        Ok(used)
    }
}

/// The content of a body, as far as it arrived, and whether it is complete.
pub fn body_content(bytes: &[u8], length: Length) -> (Vec<u8>, bool) {
    let (mut body, mut content) = (Body::new(length), Vec::new());
    let received = body.receive(bytes, &mut content);
    // After malformed framing nothing more can be read.
    (content, body.is_ended() || received.is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Content, and whether the body is complete, malformed, or neither.
    fn received(bytes: &[u8], piece: usize, length: Length) -> (String, Result<bool, Malformed>) {
        let (mut body, mut content) = (Body::new(length), Vec::new());
        let result = bytes.chunks(piece).try_for_each(|part| body.receive(part, &mut content));
        (String::from_utf8(content).unwrap(), result.map(|()| body.is_ended()))
    }

    #[test]
    fn chunk_is_complete_with_its_line_end() {
        let chunked = |bytes| received(bytes, 100, Length::Chunked);
        assert_eq!(chunked(b"3\r"), (String::new(), Ok(false)));
        assert_eq!(chunked(b"3\r\nabc\r"), ("abc".into(), Ok(false)));
        assert_eq!(chunked(b"3\r\nabc\r\n1"), ("abc".into(), Ok(false)));
        assert_eq!(chunked(b"0A;x=y\r\n0123456789\r\n0\r\n\r\n"), ("0123456789".into(), Ok(true)));
        for malformed in [&b"3\r\nabcd\r\n"[..], b"x\r\n", b"\r\n", b"3\nabc\r\n", b"3x\r\nabc\r\n", &[b'0'; 80]] {
            assert_eq!(chunked(malformed).1, Err(Malformed), "{malformed:?}");
        }
    }

    #[test]
    fn head_says_how_its_body_ends() {
        let length = |head: &[u8]| Head::parse(head).unwrap().unwrap().length();
        assert_eq!(length(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n"), Length::Bytes(12));
        assert_eq!(length(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"), Length::Chunked);
        assert_eq!(length(b"HTTP/1.1 204 No Content\r\n\r\n"), Length::Bytes(0));
        assert_eq!(length(b"HTTP/1.0 200 OK\r\n\r\n"), Length::UntilClosed);
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\n").unwrap().is_none() && Head::parse(b"SSH-2.0\r\n\r\n").is_err());
    }

    #[test]
    fn body_ends_where_its_framing_says() {
        let body = b"5\r\nhello\r\n0\r\n\r\nHTTP";
        for piece in 1..body.len() {
            assert_eq!(received(body, piece, Length::Chunked), ("hello".into(), Ok(true)));
        }
        assert!((0..15).all(|length| received(&body[..length], 100, Length::Chunked).1 == Ok(false)));
        assert_eq!(received(b"0\r\na: b\r\n\r\n", 3, Length::Chunked).1, Ok(true));
        assert_eq!(received(b"abcd", 1, Length::Bytes(3)), ("abc".into(), Ok(true)));
        assert_eq!(received(b"ab", 1, Length::Bytes(3)), ("ab".into(), Ok(false)));
    }

    #[test]
    fn refusal_has_status_and_detail() {
        let head = b"HTTP/1.1 429 Too Many Requests\r\n\r\n";
        let head = Head::parse(head).unwrap().unwrap();
        assert_eq!(head.refusal(br#"{"title":"t","detail":"wait a little"}"#), "429 Too Many Requests: wait a little");
        assert_eq!(head.refusal(b"slow down\nplease"), "429 Too Many Requests: slow down");
        assert_eq!(head.refusal(b""), "429 Too Many Requests");
    }

    #[test]
    fn header_is_a_name_and_a_value_on_one_line() {
        assert_eq!("x-key:  1 ".parse::<HeaderLine>().unwrap().as_str(), "x-key: 1");
        for wrong in ["x-key", ": 1", "x y: 1", "x: 1\r\ny: 2", "Content-Length: 3"] {
            assert!(wrong.parse::<HeaderLine>().is_err(), "{wrong}");
        }
    }
}

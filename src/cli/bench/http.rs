//! The part of HTTP that a load generator reads: response heads, and the bodies of HTTP/1.1 from the bytes of a socket.

use std::borrow::Cow;

use httparse::{EMPTY_HEADER, Header, Response, Status, parse_chunk_size};
use hyper::http::response::Parts;
use memchr::memchr;

use crate::cli::target::TOKEN_HINT;

/// A response head.
pub struct Head<'a> {
    pub status: u16,
    reason: &'a str,
    is_http_11: bool,
    headers: Vec<Header<'a>>,
    /// What follows the head.
    pub rest: &'a [u8],
}

impl<'a> Head<'a> {
    /// The largest head that is accepted.
    pub const MAX_BYTES: usize = 64 * 1024;
    const MAX_HEADERS: usize = 128;

    /// Parses the head of the final response, after `100 Continue` and other interim ones. `101 Switching Protocols` is final.
    /// Returns `None` while it is incomplete.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<Self>, httparse::Error> {
        let mut headers = [EMPTY_HEADER; Self::MAX_HEADERS];
        let mut response = Response::new(&mut headers);
        let Status::Complete(end) = response.parse(bytes)? else { return Ok(None) };
        let rest = &bytes[end..];
        if let Some(100 | 102..200) = response.code {
            return Self::parse(rest);
        }
        Ok(Some(Self {
            status: response.code.unwrap_or_default(),
            reason: response.reason.unwrap_or_default(),
            is_http_11: response.version == Some(1),
            headers: response.headers.to_vec(),
            rest,
        }))
    }

    /// The head of an HTTP/2 response, with the body received so far.
    pub fn of_http2(parts: &'a Parts, body: &'a [u8]) -> Self {
        Self {
            status: parts.status.as_u16(),
            reason: parts.status.canonical_reason().unwrap_or_default(),
            is_http_11: false,
            headers: parts
                .headers
                .iter()
                .map(|(name, value)| Header { name: name.as_str(), value: value.as_bytes() })
                .collect(),
            rest: body,
        }
    }

    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// Whether a header's value begins with `value`, ignoring case.
    pub fn begins(&self, name: &str, value: &str) -> bool {
        let found = self.header(name).and_then(|found| found.get(..value.len()));
        found.is_some_and(|found| found.eq_ignore_ascii_case(value.as_bytes()))
    }

    /// Whether the body is compressed.
    pub fn is_gzip(&self) -> bool {
        self.header("content-encoding").is_some_and(|encoding| encoding.eq_ignore_ascii_case(b"gzip"))
    }

    /// The body, of which nothing is parsed yet.
    pub fn body(&self) -> Body {
        let length = || str::from_utf8(self.header("content-length")?).ok()?.parse().ok();
        let state = if self.begins("transfer-encoding", "chunked") {
            State::ChunkSize
        } else if matches!(self.status, 204 | 304) {
            State::Ended
        } else {
            length().map_or(State::UntilClosed, State::of_length)
        };
        Body { state, pending: Vec::new() }
    }

    /// The content of the body as far as it arrived, and whether it is complete.
    pub fn content(&self, is_closed: bool) -> (Vec<u8>, bool) {
        let (mut body, mut content, mut bytes) = (self.body(), Vec::new(), self.rest);
        let is_complete = loop {
            match body.step(&mut bytes) {
                Ok(Some(part)) => content.extend_from_slice(part),
                Ok(None) => break body.is_ended() || is_closed && body.state == State::UntilClosed,
                // After malformed framing nothing more can be read.
                Err(Malformed) => break true,
            }
        };
        (content, is_complete)
    }

    /// Whether the connection can be used again after the body.
    pub fn keeps_alive(&self) -> bool {
        !self.begins("connection", "close")
            && (self.is_http_11 || self.begins("connection", "keep-alive"))
            && self.body().state != State::UntilClosed
    }

    /// The status line, and the detail of a problem (RFC 9457) or of an event, or else the first line of the body.
    pub fn refusal(&self) -> String {
        let status = format!("{} {}", self.status, self.reason);
        let (body, _) = self.content(true);
        let event = body.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data: "));
        let problem = serde_json::from_slice::<serde_json::Value>(event.unwrap_or(&body)).ok();
        let detail = problem.as_ref().and_then(|problem| problem["detail"].as_str().map(str::to_owned));
        let text = detail.unwrap_or_else(|| {
            let first = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
            String::from_utf8_lossy(&first[..first.len().min(200)]).trim().to_owned()
        });
        let refusal = if text.is_empty() { status } else { format!("{status}: {text}") };
        if self.status == 401 { format!("{refusal} ({TOKEN_HINT})") } else { refusal }
    }
}

/// A response body as it arrives.
#[derive(Debug)]
pub struct Body {
    state: State,
    /// The beginning of a framing line that is incomplete.
    pending: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
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

impl State {
    const fn of_length(length: usize) -> Self {
        if length == 0 { Self::Ended } else { Self::Bytes(length) }
    }
}

/// The body breaks its framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Body {
    /// The longest framing line, such as a chunk's size with extensions.
    const MAX_LINE: usize = 4096;

    /// A body without framing of its own, whose end is reported elsewhere.
    pub const fn unframed() -> Self {
        Self { state: State::UntilClosed, pending: Vec::new() }
    }

    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether a chunk comes next.
    #[inline]
    pub fn is_between_chunks(&self) -> bool {
        self.state == State::ChunkSize
    }

    /// The received bytes, after those of an incomplete framing line received before.
    pub fn resume<'b>(&mut self, received: &'b [u8]) -> Cow<'b, [u8]> {
        match std::mem::take(&mut self.pending) {
            pending if pending.is_empty() => received.into(),
            pending => [pending.as_slice(), received].concat().into(),
        }
    }

    /// Parses one framing line or piece of content at the start of `bytes` and removes it. Returns the content, which
    /// is empty for a framing line, or `None` when there is nothing more to parse.
    #[inline]
    pub fn step<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<Option<&'b [u8]>, Malformed> {
        if bytes.is_empty() || self.is_ended() {
            return Ok(None);
        }
        let framing = match self.state {
            State::ChunkSize => chunk_size(bytes)?,
            State::ChunkEnd => match bytes {
                [b'\r', b'\n', ..] => Some((State::ChunkSize, 2)),
                [b'\r'] => None,
                _ => return Err(Malformed),
            },
            State::Trailers => memchr(b'\n', bytes).map(|end| {
                let is_last = bytes[..end].trim_ascii().is_empty();
                (if is_last { State::Ended } else { State::Trailers }, end + 1)
            }),
            State::Chunk(left) | State::Bytes(left) => return Ok(Some(self.content(left, bytes))),
            State::UntilClosed | State::Ended => return Ok(Some(std::mem::take(bytes))),
        };
        let Some((state, used)) = framing else {
            if bytes.len() > Self::MAX_LINE {
                return Err(Malformed);
            }
            self.pending = std::mem::take(bytes).to_vec();
            return Ok(None);
        };
        self.state = state;
        *bytes = &bytes[used..];
        Ok(Some(&[]))
    }

    fn content<'b>(&mut self, left: usize, bytes: &mut &'b [u8]) -> &'b [u8] {
        let (content, rest) = bytes.split_at(left.min(bytes.len()));
        *bytes = rest;
        self.state = match (self.state, left - content.len()) {
            (State::Chunk(_), 0) => State::ChunkEnd,
            (State::Chunk(_), left) => State::Chunk(left),
            (_, left) => State::of_length(left),
        };
        content
    }
}

/// What follows the line of a chunk's size, and the length of that line, unless it is incomplete.
fn chunk_size(bytes: &[u8]) -> Result<Option<(State, usize)>, Malformed> {
    match parse_chunk_size(bytes) {
        _ if !bytes[0].is_ascii_hexdigit() => Err(Malformed),
        Ok(Status::Complete((used, 0))) => Ok(Some((State::Trailers, used))),
        Ok(Status::Complete((used, length))) => Ok(Some((State::Chunk(length as usize), used))),
        Ok(Status::Partial) => Ok(None),
        Err(_) => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: &str = "transfer-encoding: Chunked";

    fn body(header: &str) -> Body {
        Head::parse(format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\n").as_bytes()).unwrap().unwrap().body()
    }

    /// Content, and whether the body is complete, malformed, or neither.
    fn received(bytes: &[u8], piece: usize, header: &str) -> (String, Result<bool, Malformed>) {
        let (mut body, mut content) = (body(header), Vec::new());
        let result = bytes.chunks(piece).try_for_each(|part| {
            let part = body.resume(part);
            let mut rest = &part[..];
            while let Some(part) = body.step(&mut rest)? {
                content.extend_from_slice(part);
            }
            Ok(())
        });
        (String::from_utf8(content).unwrap(), result.map(|()| body.is_ended()))
    }

    #[test]
    fn chunk_is_complete_with_its_line_end() {
        let chunked = |bytes| received(bytes, 100, CHUNKED);
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
        let state = |head: &[u8]| Head::parse(head).unwrap().unwrap().body().state;
        assert_eq!(state(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n"), State::Bytes(12));
        assert_eq!(state(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"), State::ChunkSize);
        assert_eq!(state(b"HTTP/1.1 204 No Content\r\n\r\n"), State::Ended);
        assert_eq!(state(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\n"), State::UntilClosed);
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\n").unwrap().is_none() && Head::parse(b"SSH-2.0\r\n\r\n").is_err());
    }

    #[test]
    fn body_ends_where_its_framing_says() {
        let bytes = b"5\r\nhello\r\n0\r\n\r\nHTTP";
        for piece in 1..bytes.len() {
            assert_eq!(received(bytes, piece, CHUNKED), ("hello".into(), Ok(true)));
        }
        assert!((0..15).all(|length| received(&bytes[..length], 100, CHUNKED).1 == Ok(false)));
        assert_eq!(received(b"0\r\na: b\r\n\r\n", 3, CHUNKED).1, Ok(true));
        assert_eq!(received(b"abcd", 1, "content-length: 3"), ("abc".into(), Ok(true)));
        assert_eq!(received(b"ab", 1, "content-length: 3"), ("ab".into(), Ok(false)));
    }

    #[test]
    fn refusal_has_status_and_detail() {
        let refusal = |body: &str| {
            let response = format!("HTTP/1.1 429 Too Many Requests\r\n\r\n{body}");
            Head::parse(response.as_bytes()).unwrap().unwrap().refusal()
        };
        assert_eq!(refusal(r#"{"title":"t","detail":"wait a little"}"#), "429 Too Many Requests: wait a little");
        assert_eq!(refusal("slow down\nplease"), "429 Too Many Requests: slow down");
        assert_eq!(refusal(""), "429 Too Many Requests");
        let in_band = "retry: 5000\nevent: system\ndata: {\"message\":\"unavailable\",\"detail\":\"full\"}\n\n";
        assert_eq!(refusal(in_band), "429 Too Many Requests: full");
        let unauthenticated = Head::parse(b"HTTP/1.1 401 Unauthorized\r\n\r\n").unwrap().unwrap().refusal();
        assert!(unauthenticated.starts_with("401 Unauthorized (--token"), "{unauthenticated}");
    }
}

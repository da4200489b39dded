//! An event stream whose head, chunks and events are checked strictly.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::TIMEOUT;

/// An event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub id: Option<String>,
    pub name: String,
    pub data: String,
}

impl Event {
    /// The sequence in its id.
    pub fn sequence(&self) -> u64 {
        let id = self.id.as_deref().unwrap_or_else(|| panic!("no id: {self:?}"));
        id.split_once('-').and_then(|(_, sequence)| sequence.parse().ok()).expect("an id is an epoch and a sequence")
    }

    /// The data as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("invalid JSON ({error}): {self:?}"))
    }

    /// Whether a publisher sent it.
    pub fn is_published(&self) -> bool {
        !matches!(&*self.name, "system" | "gap" | "heartbeat")
    }
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With the last chunk, followed by the end of the connection.
    Orderly,
    /// Without the last chunk.
    BrokenOff,
    /// By a reset.
    Reset,
}

/// Decodes the bytes of a response into events.
#[derive(Default)]
pub struct Decoder {
    /// An incomplete chunk, or an incomplete head.
    raw: Vec<u8>,
    /// An incomplete event.
    text: Vec<u8>,
    has_head: bool,
    has_ended: bool,
}

impl Decoder {
    /// Adds bytes, and calls `event` with each event that they complete.
    pub fn feed(&mut self, bytes: &[u8], mut event: impl FnMut(Event)) {
        self.raw.extend_from_slice(bytes);
        if !self.has_head {
            let Some(end) = self.raw.windows(4).position(|window| window == b"\r\n\r\n") else { return };
            let head = String::from_utf8_lossy(&self.raw[..end]).to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 200 "), "{}", String::from_utf8_lossy(&self.raw));
            assert!(
                head.contains("\r\ncontent-type: text/event-stream") && head.contains("transfer-encoding: chunked")
            );
            self.raw.drain(..end + 4);
            self.has_head = true;
        }
        let mut at = 0;
        while let Some((chunk, next)) = chunk(&self.raw, at) {
            assert!(!self.has_ended, "data after the last chunk");
            self.has_ended = chunk.is_empty();
            self.text.extend_from_slice(chunk);
            at = next;
        }
        self.raw.drain(..at);
        self.events(&mut event);
        if self.raw.is_empty() && self.text.is_empty() {
            // Thousands of decoders are alive at once.
            (self.raw, self.text) = Default::default();
        }
    }

    fn events(&mut self, event: &mut impl FnMut(Event)) {
        let mut at = 0;
        loop {
            // A comment is a line without a blank line after it.
            while self.text[at..].starts_with(b":\n") {
                at += 2;
            }
            let Some(length) = self.text[at..].windows(2).position(|window| window == b"\n\n") else { break };
            let block = std::str::from_utf8(&self.text[at..at + length]).expect("a stream is UTF-8");
            at += length + 2;
            event(parse(block));
        }
        self.text.drain(..at);
    }

    /// How the stream ended, if `outcome` is the end of its bytes.
    pub fn end(&self, outcome: &io::Result<usize>) -> Option<End> {
        match outcome {
            Ok(0) if self.has_ended => Some(End::Orderly),
            Ok(0) => Some(End::BrokenOff),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Some(End::Reset),
            Err(error) => panic!("reading a stream: {error}"),
        }
    }
}

/// The content of the chunk at `at` and the position after it, if it is complete.
fn chunk(raw: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = &raw[at..];
    let line = rest.windows(2).position(|window| window == b"\r\n")?;
    let size = std::str::from_utf8(&rest[..line]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
    let (begin, size) = (line + 2, size.unwrap_or_else(|| panic!("not a chunk: {:?}", String::from_utf8_lossy(rest))));
    let content = rest.get(begin..begin + size + 2)?.strip_suffix(b"\r\n");
    Some((content.expect("a chunk ends with CRLF"), at + begin + size + 2))
}

fn parse(block: &str) -> Event {
    let mut event = Event { id: None, name: "message".to_owned(), data: String::new() };
    let mut lines = 0;
    for line in block.split('\n') {
        match line.split_once(": ").unwrap_or_else(|| panic!("not a field: {line:?} in {block:?}")) {
            ("id", id) => event.id = Some(id.to_owned()),
            ("event", name) => event.name = name.to_owned(),
            ("data", data) => {
                if lines > 0 {
                    event.data.push('\n');
                }
                lines += 1;
                event.data.push_str(data);
            }
            ("retry", retry) => assert!(retry.parse::<u64>().is_ok(), "{block:?}"),
            _ => panic!("unknown field: {block:?}"),
        }
    }
    assert!(lines > 0, "not an event: {block:?}");
    event
}

/// The request for `/stream?QUERY`.
pub fn request_stream(query: &str, last_id: Option<&str>) -> String {
    let mut request = format!("GET /stream?{query} HTTP/1.1\r\nhost: test\r\naccept: text/event-stream\r\n");
    if let Some(id) = last_id {
        request.push_str(&format!("last-event-id: {id}\r\n"));
    }
    request + "\r\n"
}

/// A stream on a blocking socket.
pub struct Stream {
    pub socket: TcpStream,
    decoder: Decoder,
    ready: VecDeque<Event>,
    pub ended: Option<End>,
}

impl Stream {
    /// Sends the request without reading.
    pub fn request(socket: TcpStream, query: &str, last_id: Option<&str>) -> Self {
        let mut stream = Self { socket, decoder: Decoder::default(), ready: VecDeque::new(), ended: None };
        let request = request_stream(query, last_id);
        stream.socket.write_all(request.as_bytes()).expect("the server reads a request");
        stream
    }

    /// Opens a stream, and reads its hello.
    pub fn open(address: SocketAddr, query: &str, last_id: Option<&str>) -> Self {
        let socket = TcpStream::connect(address).expect("the server accepts");
        let mut stream = Self::request(socket, query, last_id);
        let hello = stream.next();
        assert_eq!((hello.name.as_str(), &hello.json()["message"]), ("system", &"connected".into()));
        stream
    }

    /// Reads up to `limit` bytes within `timeout`. Returns how many were read: 0 if none arrived or the stream has
    /// ended.
    pub fn read(&mut self, limit: usize, timeout: Duration) -> usize {
        let mut buffer = [0; 64 << 10];
        let limit = limit.min(buffer.len());
        self.socket.set_read_timeout(Some(timeout.max(Duration::from_millis(1)))).unwrap();
        let outcome = self.socket.read(&mut buffer[..limit]);
        if let Err(error) = &outcome
            && matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
        {
            return 0;
        }
        self.ended = self.decoder.end(&outcome);
        let length = outcome.unwrap_or(0);
        self.decoder.feed(&buffer[..length], |event| self.ready.push_back(event));
        length
    }

    /// Takes the received events.
    pub fn take(&mut self) -> VecDeque<Event> {
        std::mem::take(&mut self.ready)
    }

    /// The next event, or none at the end of the stream.
    pub fn next_or_end(&mut self) -> Option<Event> {
        let deadline = Instant::now() + TIMEOUT;
        while self.ready.is_empty() && self.ended.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no event for {TIMEOUT:?}");
            self.read(usize::MAX, left);
        }
        self.ready.pop_front()
    }

    /// The next event.
    pub fn next(&mut self) -> Event {
        self.next_or_end().unwrap_or_else(|| panic!("the stream has ended: {:?}", self.ended))
    }
}

use std::io::Write;

use bytes::BytesMut;
use fanline::http::{StreamBody, StreamBodyError};
use flate2::write::GzDecoder;
use h2::{Reason, RecvStream};
use http_body_util::BodyExt;
use serde_json::Value;

use super::{Client, Head, data};

/// A stream whose encoding is checked strictly.
pub struct Stream {
    pub head: Head,
    source: Source,
    body: BytesMut,
    /// Decodes a compressed body as it arrives.
    gzip: Option<Box<GzDecoder<Vec<u8>>>>,
}

/// Where the bytes of a stream come from.
enum Source {
    Http1 { client: Client, is_chunked: bool },
    Http2 { body: RecvStream, reset: Option<Reason> },
    Body { body: StreamBody, error: Option<StreamBodyError> },
}

#[derive(Debug, PartialEq, Eq)]
pub enum Block {
    Event(Event),
    Comment,
}

#[derive(Debug, PartialEq, Eq, Default, Clone)]
pub struct Event {
    pub retry: Option<u64>,
    pub id: Option<String>,
    pub event: String,
    /// The lines, joined by LF.
    pub data: String,
}

impl Stream {
    pub fn new(client: Client, head: Head) -> Self {
        let is_chunked = head.header("transfer-encoding").is_some_and(|coding| coding == "chunked");
        Self::of(head, Source::Http1 { client, is_chunked })
    }

    pub fn over_http2(head: Head, body: RecvStream) -> Self {
        Self::of(head, Source::Http2 { body, reset: None })
    }

    /// A stream without a connection.
    pub fn of_body(body: StreamBody) -> Self {
        let head = Head { version: String::new(), status: 200, reason: String::new(), headers: Vec::new() };
        Self::of(head, Source::Body { body, error: None })
    }

    fn of(head: Head, source: Source) -> Self {
        let gzip = head.header("content-encoding").map(|coding| {
            assert_eq!(coding, "gzip");
            Box::new(GzDecoder::new(Vec::new()))
        });
        Self { head, source, body: BytesMut::new(), gzip }
    }

    /// The connection of a stream over HTTP/1.1.
    pub fn client(&mut self) -> &mut Client {
        match &mut self.source {
            Source::Http1 { client, .. } => client,
            _ => panic!("the stream has no connection of its own"),
        }
    }

    /// The error with which a body broke off.
    pub fn error(&self) -> Option<StreamBodyError> {
        match &self.source {
            Source::Body { error, .. } => *error,
            _ => None,
        }
    }

    /// The reason for which the server reset a stream over HTTP/2.
    pub fn reset(&self) -> Option<Reason> {
        match &self.source {
            Source::Http2 { reset, .. } => *reset,
            _ => None,
        }
    }

    /// The next block, or none if the stream has ended, even within a block.
    pub async fn try_block(&mut self) -> Option<Block> {
        loop {
            if self.body.starts_with(b":\n") {
                return Some(parse(&self.body.split_to(2)));
            }
            if let Some(end) = self.body.windows(2).position(|window| window == b"\n\n") {
                return Some(parse(&self.body.split_to(end + 2)));
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Reads more of the body. Returns false at its end.
    async fn fill(&mut self) -> bool {
        let Some(gzip) = &mut self.gzip else { return self.source.fill(&mut self.body).await };
        let mut compressed = BytesMut::new();
        let is_open = self.source.fill(&mut compressed).await;
        gzip.write_all(&compressed).expect("the body is gzip");
        gzip.flush().expect("the body is gzip");
        self.body.extend(gzip.get_mut().drain(..));
        is_open
    }

    pub async fn block(&mut self) -> Block {
        self.try_block().await.expect("the stream has ended")
    }

    /// The next block, which must be an event.
    pub async fn event(&mut self) -> Event {
        match self.block().await {
            Block::Event(event) => event,
            Block::Comment => panic!("a comment instead of an event"),
        }
    }

    /// The data of the next block, which must be an event with this sequence.
    pub async fn data_at(&mut self, sequence: u64) -> String {
        let event = self.event().await;
        assert_eq!(event.id, Some(format!("{}-{sequence}", super::EPOCH)), "{event:?}");
        event.data
    }

    /// The data of the next block, which must be the hello.
    pub async fn hello(&mut self) -> Value {
        let hello = self.event().await;
        assert_eq!(hello.event, "system");
        let data = hello.json();
        assert_eq!(data["message"], "connected");
        assert_eq!(data["retry"], hello.retry.expect("the hello has a retry"));
        assert!(hello.id.is_some(), "a hello without an id would clear the client's last event id: {hello:?}");
        assert!(data["position"].is_null() || data["position"].as_str() == hello.id.as_deref(), "{hello:?}");
        data
    }

    /// The id and the data of the next block, which must be a gap.
    pub async fn gap(&mut self) -> (Option<String>, Value) {
        let gap = self.event().await;
        assert_eq!(gap.event, "gap", "{gap:?}");
        let data = gap.json();
        (gap.id, data)
    }

    /// Reads the next block, which must be the marker that a test published.
    pub async fn marker(&mut self) {
        assert_eq!(self.event().await.event, "marker");
    }

    /// Reads to the end of the body, which must come next and be complete, and to the end of the connection.
    pub async fn end(mut self) {
        assert_eq!(self.try_block().await, None);
        assert!(self.body.is_empty(), "an incomplete block is left");
        if let Some(gzip) = &mut self.gzip {
            gzip.try_finish().expect("the body ends with the right trailer");
        }
        match self.source {
            Source::Http1 { client, .. } => assert_eq!(client.rest().await, ""),
            Source::Http2 { reset, .. } => assert_eq!(reset, None),
            Source::Body { error, .. } => assert_eq!(error, None),
        }
    }
}

impl Source {
    /// Appends more of the body as it was sent. Returns false at its end.
    async fn fill(&mut self, bytes: &mut BytesMut) -> bool {
        match self {
            Self::Http1 { client, is_chunked: true } => fill_with_chunk(client, bytes).await,
            Self::Http1 { client, is_chunked: false } => {
                // Some of the body may have arrived with the head.
                let is_open = !client.received().is_empty() || client.read().await;
                bytes.extend_from_slice(&client.take());
                is_open
            }
            Self::Http2 { body, reset } => match data(body).await {
                Some(Ok(data)) => {
                    bytes.extend_from_slice(&data);
                    true
                }
                Some(Err(error)) => {
                    *reset = error.reason();
                    false
                }
                None => false,
            },
            Self::Body { body, error } => match body.frame().await {
                Some(Ok(frame)) => {
                    bytes.extend_from_slice(&frame.into_data().expect("a body has no trailers"));
                    true
                }
                Some(Err(broken)) => {
                    *error = Some(broken);
                    false
                }
                None => false,
            },
        }
    }
}

/// Reads a chunk when it is complete, since the connection may end within one. Returns false at the end of the body.
async fn fill_with_chunk(client: &mut Client, body: &mut BytesMut) -> bool {
    loop {
        if let Some(length) = whole_chunk(client.received()) {
            let chunk = client.chunk().await;
            assert!(chunk.is_some() || length == 5);
            body.extend_from_slice(chunk.as_deref().unwrap_or_default());
            return chunk.is_some();
        }
        if !client.read().await {
            return false;
        }
    }
}

/// The length of the chunk that `bytes` begin with, if it is complete.
fn whole_chunk(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|window| window == b"\r\n")?;
    let digits = std::str::from_utf8(&bytes[..line]).unwrap();
    let length =
        usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{digits:?} is not the length of a chunk"));
    let whole = line + 2 + length + 2;
    (bytes.len() >= whole).then_some(whole)
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Parses a block with its blank line: lines end with LF, and the fields have a fixed order.
fn parse(block: &[u8]) -> Block {
    let text = std::str::from_utf8(block).expect("a stream is UTF-8");
    assert!(!text.contains('\r'), "lines end with LF: {text:?}");
    assert!(!text.starts_with('\n') && !text.starts_with('\u{feff}'), "{text:?}");
    if text == ":\n" {
        return Block::Comment;
    }
    let mut lines = text.strip_suffix("\n\n").unwrap().split('\n').peekable();
    let mut field = |name: &str| {
        let line = lines.next_if(|line| line.split_once(": ").is_some_and(|(other, _)| other == name))?;
        Some(line[name.len() + 2..].to_owned())
    };
    let retry = field("retry").map(|retry| retry.parse().unwrap());
    let id = field("id");
    let event = field("event");
    assert!(event.as_deref() != Some("message"), "an event without a name has no line: {text:?}");
    let event = event.unwrap_or_else(|| "message".to_owned());
    let mut data = field("data").unwrap_or_else(|| panic!("no data: {text:?}"));
    while let Some(line) = field("data") {
        data = data + "\n" + &line;
    }
    assert_eq!(lines.next(), None, "{text:?}");
    assert!(
        id.as_ref().is_none_or(|id| !id.is_empty()),
        "an empty id would clear the client's last event id: {text:?}"
    );
    assert!(retry.is_none() || event == "system", "only the hello has a retry: {text:?}");
    Block::Event(Event { retry, id, event, data })
}

#[test]
fn parser_accepts_the_documented_encoding() {
    let event = Event { retry: None, id: Some("7-1".into()), event: "e".into(), data: "a\n\nb".into() };
    assert_eq!(parse(b"id: 7-1\nevent: e\ndata: a\ndata: \ndata: b\n\n"), Block::Event(event));
    let event = Event { retry: None, id: Some("7-1".into()), event: "message".into(), data: "a".into() };
    assert_eq!(parse(b"id: 7-1\ndata: a\n\n"), Block::Event(event));
    assert_eq!(parse(b":\n"), Block::Comment);
}

#[test]
fn parser_rejects_any_other_encoding() {
    for block in [
        "event: e\nid: 7-1\ndata: a\n\n",
        "id: 7-1\nevent: e\ndata: a\nid: 7-1\n\n",
        "id: 7-1\nevent: e\n\n",
        "id: 7-1\nevent: message\ndata: a\n\n",
        "id: 7-1\nevent: e\ndata:a\n\n",
        "id: 7-1\r\nevent: e\ndata: a\n\n",
        "id: \nevent: e\ndata: a\n\n",
        "retry: 1\nevent: e\ndata: a\n\n",
        "retry: 1\n\n",
        "\nid: 7-1\nevent: e\ndata: a\n\n",
        "\u{feff}id: 7-1\nevent: e\ndata: a\n\n",
        ": a\n\n",
    ] {
        assert!(std::panic::catch_unwind(|| parse(block.as_bytes())).is_err(), "{block:?}");
    }
}

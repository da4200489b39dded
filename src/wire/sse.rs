//! Server-Sent Events (WHATWG HTML, section 9.2): encodes an event as the block of lines that `EventSource` reads.
//!
//! Lines end with LF. Each line of a payload becomes a `data:` line, whether it ends with CR, LF or CRLF: the format cannot
//! carry a CR, and a reader gets the lines joined by LF. An empty payload is one empty `data:` line, which a reader
//! dispatches as an event with empty data.

use std::borrow::Cow;

use super::chunk::{self, Chunk};
use crate::event::{Event, EventName};
use crate::position::{PositionText, StreamPosition};

/// The fields of one block.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    /// Milliseconds after which a client reconnects.
    pub(crate) retry: Option<u64>,
    pub(crate) id: Option<StreamPosition>,
    /// Readers name an event without an `event:` line `message`, so [`EventName::MESSAGE`] is not written.
    pub(crate) event: &'a [u8],
    pub(crate) data: &'a [u8],
}

/// Encodes `event` at `position` into `out`, once for all subscribers.
pub(crate) fn encode(position: StreamPosition, event: &Event, out: &mut chunk::Builder) {
    Block { retry: None, id: Some(position), event: event.name().as_bytes(), data: event.payload().as_bytes() }
        .encode_into(out);
}

impl Block<'_> {
    /// The block with its chunk framing.
    pub(crate) fn encode(&self) -> Chunk {
        let mut out = chunk::Builder::default();
        self.encode_into(&mut out);
        out.finish().next().expect("one was pushed")
    }

    pub(super) fn encode_into(&self, out: &mut chunk::Builder) {
        let mut number = itoa::Buffer::new();
        let retry = self.retry.map(|retry| number.format(retry).as_bytes());
        let id = self.id.map(StreamPosition::text);
        let id = id.as_ref().map(PositionText::as_bytes);
        let event = Some(self.event).filter(|event| *event != EventName::MESSAGE.as_bytes());

        let lines = Lines::of(self.data);
        let mut length = 1 + lines.clone().map(|line| field_length(DATA, line)).sum::<usize>();
        length += retry.map_or(0, |retry| field_length(RETRY, retry));
        length += id.map_or(0, |id| field_length(ID, id));
        length += event.map_or(0, |event| field_length(EVENT, event));

        out.push(length, |out| {
            retry.inspect(|retry| field(out, RETRY, retry));
            id.inspect(|id| field(out, ID, id));
            event.inspect(|event| field(out, EVENT, event));
            lines.for_each(|line| field(out, DATA, line));
            out.push(b'\n');
        });
    }
}

// The names of fields. Arrays, whose length the compiler knows when it copies them.
const RETRY: &[u8; 7] = b"retry: ";
const ID: &[u8; 4] = b"id: ";
const EVENT: &[u8; 7] = b"event: ";
const DATA: &[u8; 6] = b"data: ";

fn field_length<const N: usize>(_: &[u8; N], value: &[u8]) -> usize {
    N + value.len() + 1
}

fn field<const N: usize>(out: &mut Vec<u8>, name: &[u8; N], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The lines of a text: one more than there are line ends. A clone does not look for the end of the next line again: most
/// payloads have one line.
#[derive(Clone)]
struct Lines<'a> {
    /// `None` after the last line.
    rest: Option<&'a [u8]>,
    /// Where the next line ends, unless it is the last one.
    end: Option<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a [u8]) -> Self {
        Self { rest: Some(text), end: memchr::memchr2(b'\r', b'\n', text) }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.rest?;
        let Some(end) = self.end else { return self.rest.take() };
        let width = if text[end..].starts_with(b"\r\n") { 2 } else { 1 };
        *self = Self::of(&text[end + width..]);
        Some(&text[..end])
    }
}

/// The fields of an event in the plain format, with their text as it was encoded.
pub(crate) struct Fields<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    /// One line or more, each but the first behind `data: `.
    data: &'a str,
}

impl<'a> Fields<'a> {
    /// Splits what [`encode`] has written: one line with the id, at most one with the name, and a line or more of data.
    pub(crate) fn of(block: &'a [u8]) -> Self {
        let text = std::str::from_utf8(block).expect("events are UTF-8");
        let fields = || {
            let (id, rest) = text.strip_prefix("id: ")?.split_once('\n')?;
            let (name, data) = match rest.strip_prefix("event: ") {
                Some(rest) => rest.split_once('\n')?,
                None => ("message", rest),
            };
            Some(Fields { id, name, data: data.strip_prefix("data: ")?.strip_suffix("\n\n")? })
        };
        fields().expect("an encoded event has an id and data")
    }

    pub(crate) fn id(&self) -> StreamPosition {
        self.id.parse().expect("an encoded event has an id")
    }

    /// The payload, whose line ends are LF.
    pub(crate) fn payload(&self) -> Cow<'a, str> {
        if self.data.contains('\n') { self.data.replace("\ndata: ", "\n").into() } else { self.data.into() }
    }
}

/// A comment, which keeps a connection alive and dispatches nothing. No blank line follows: some readers (Python's httpx-sse)
/// dispatch an event at each blank line once they have an id.
pub(crate) fn comment() -> Chunk {
    Chunk::from_static(b"2\r\n:\n\r\n", 3)
}

#[cfg(test)]
mod read_back;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Payload;
    use crate::position::Epoch;
    use crate::topic::Topic;

    const POSITION: StreamPosition = StreamPosition::new(Epoch(1_795_186_660_123), 42);

    fn encoded(event: &Event) -> Chunk {
        let mut chunks = chunk::Builder::default();
        encode(POSITION, event, &mut chunks);
        chunks.finish().next().unwrap()
    }

    fn body(payload: &str) -> String {
        let event = Event::new(Topic::new("t").unwrap(), Payload::text(payload));
        String::from_utf8(encoded(&event).body().to_vec()).unwrap()
    }

    #[test]
    fn event_is_encoded_as_id_name_and_data() {
        let event = Event::new(Topic::new("metric").unwrap(), Payload::json_unchecked(r#"{"value": 45.20}"#))
            .named(EventName::new("cpu usage").unwrap());
        let chunk = encoded(&event);
        let block = "id: 1795186660123-42\nevent: cpu usage\ndata: {\"value\": 45.20}\n\n";
        assert_eq!(chunk.body(), block.as_bytes());
        assert_eq!(chunk.as_ref().framed(), format!("{:x}\r\n{block}\r\n", block.len()).as_bytes());
    }

    #[test]
    fn each_payload_line_is_a_data_line() {
        let head = "id: 1795186660123-42\n";
        for (payload, lines) in [
            ("", "data: \n"),
            ("a", "data: a\n"),
            (" a", "data:  a\n"),
            ("a\nb", "data: a\ndata: b\n"),
            ("a\rb", "data: a\ndata: b\n"),
            ("a\r\nb", "data: a\ndata: b\n"),
            ("a\n\rb", "data: a\ndata: \ndata: b\n"),
            ("a\n", "data: a\ndata: \n"),
            ("\r\n", "data: \ndata: \n"),
            ("\n\n", "data: \ndata: \ndata: \n"),
            ("id: 1\n\nevent: x", "data: id: 1\ndata: \ndata: event: x\n"),
            ("größe\u{feff}\u{2028}日本 \u{1f980}\0", "data: größe\u{feff}\u{2028}日本 \u{1f980}\0\n"),
        ] {
            assert_eq!(body(payload), format!("{head}{lines}\n"), "{payload:?}");
        }
    }

    #[test]
    fn payload_of_64_kib_is_encoded_byte_for_byte() {
        let payload = "0123456789abcdef".repeat(4096);
        assert_eq!(body(&payload), format!("id: 1795186660123-42\ndata: {payload}\n\n"));
    }

    #[test]
    fn retry_is_encoded_before_the_event() {
        let block = Block { retry: Some(5000), id: None, event: b"system", data: b"{}" };
        assert_eq!(block.encode().body(), b"retry: 5000\nevent: system\ndata: {}\n\n");
    }
}

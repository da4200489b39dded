//! The format of a saved history: lines of JSON, the last of which has the SHA-256 of all lines before it.

use std::borrow::Cow;
use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::event::{Event, EventName, Key, Payload};
use crate::hub::frame::Frame;
use crate::hub::ledger::TopicHash;
use crate::position::Sequence;
use crate::topic::Topic;

/// The first line.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// [`FORMAT`].
    pub(super) fanline_history: u32,
    pub(super) epoch: u64,
    /// The newest sequence.
    pub(super) head: Sequence,
    /// The newest sequence that the firehose does not retain. All later events of its topics are in the file.
    pub(super) firehose_evicted: Sequence,
    /// The firehose of reserved topics.
    pub(super) reserved: Reserved,
    /// The newest sequence of the dropped topics whose names are no longer known.
    pub(super) forgotten: Sequence,
    /// The key of the hashes in the ledger.
    pub(super) key: [u64; 2],
}

/// The firehose of reserved topics.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reserved {
    /// The newest sequence that it does not retain.
    pub(super) firehose_evicted: Sequence,
    /// The sequence of its last event, retained or not; 0 if there was none.
    pub(super) last: Sequence,
}

/// The format that [`Header`] and [`Line`] describe.
pub(super) const FORMAT: u32 = 1;

/// Every other line.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line<'a> {
    /// A topic that retains its events after `evicted`.
    Topic {
        #[serde(borrow)]
        topic: Cow<'a, str>,
        evicted: Sequence,
    },
    /// A topic that retains nothing.
    Dropped {
        #[serde(borrow)]
        topic: Cow<'a, str>,
        newest: Sequence,
    },
    /// The hashed topics of consecutive events that a firehose no longer retains.
    Ledger { first: Sequence, topics: Cow<'a, [TopicHash]> },
    /// A latest value or its deletion, in the order of its topic.
    #[serde(borrow)]
    Value(SavedEvent<'a>),
    #[serde(borrow)]
    Event(SavedEvent<'a>),
    /// A publisher's key, and the events that were published under it.
    Key { id: [u8; 16], content: [u8; 16], first: Sequence, last: Sequence, milliseconds_left: u64 },
    /// The last line.
    End { sha256: Cow<'a, str> },
}

/// An event.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedEvent<'a> {
    pub(super) sequence: Sequence,
    #[serde(borrow)]
    pub(super) topic: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    /// Whether the payload is JSON, or else text.
    pub(super) is_json: bool,
    #[serde(borrow)]
    pub(super) payload: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_deletion: bool,
}

impl<'a> SavedEvent<'a> {
    pub(super) fn new(frame: &'a Frame) -> Self {
        Self {
            sequence: frame.sequence(),
            topic: frame.topic().as_str().into(),
            name: frame.name().into(),
            is_json: frame.is_json(),
            payload: frame.payload(),
            key: frame.key().map(|key| key.as_str().into()),
            is_deletion: frame.is_deletion(),
        }
    }

    /// The event. The error is a rule that it breaks.
    pub(super) fn event(self) -> Result<Event, String> {
        let topic = Topic::new(&self.topic).map_err(|error| format!("the topic {:?}: {error}", self.topic))?;
        let name = EventName::new(&self.name).map_err(|error| error.to_string())?;
        let payload = match self.is_json {
            true => Payload::json(self.payload).map_err(|error| error.to_string())?,
            false => Payload::text(self.payload),
        };
        let event = Event::new(topic, payload).named(name);
        let event = match self.key {
            Some(key) => event.keyed(Key::new(&key).map_err(|error| format!("the key {key:?}: {error}"))?),
            None => event,
        };
        Ok(if self.is_deletion { event.deleting() } else { event })
    }
}

/// Why a file is not a saved history.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidHistory {
    /// Reading failed.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Another version of fanline has written it, in a format of this number.
    #[error("it has format {0}, and this version of fanline reads format {FORMAT}")]
    Format(u32),
    /// The last line is missing.
    #[error("it ends before its checksum, as after a write that was interrupted")]
    Incomplete,
    /// The checksum is of other contents.
    #[error("its contents do not match its checksum")]
    Checksum,
    /// A line breaks a rule.
    #[error("line {line}: {reason}")]
    Line {
        /// Counted from 1.
        line: u64,
        /// The rule.
        reason: String,
    },
}

/// Writes lines, and in the end their checksum.
pub(super) struct Writer<W> {
    out: W,
    line: Vec<u8>,
    digest: Sha256,
}

impl<W: Write> Writer<W> {
    pub(super) fn begin(out: W, header: &Header) -> io::Result<Self> {
        let mut writer = Self { out, line: Vec::new(), digest: Sha256::new() };
        writer.write(header)?;
        Ok(writer)
    }

    pub(super) fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        self.line.push(b'\n');
        self.digest.update(&self.line);
        self.out.write_all(&self.line)
    }

    pub(super) fn end(mut self) -> io::Result<()> {
        let sha256 = hex(&self.digest).into();
        self.write(&Line::End { sha256 })?;
        self.out.flush()
    }
}

/// Reads lines, up to a checksum that matches them.
pub(super) struct Reader<R> {
    input: R,
    line: Vec<u8>,
    number: u64,
    digest: Sha256,
}

impl<R: BufRead> Reader<R> {
    pub(super) fn begin(input: R) -> Result<(Self, Header), InvalidHistory> {
        #[derive(Deserialize)]
        struct Format {
            fanline_history: u32,
        }
        let mut reader = Self { input, line: Vec::new(), number: 0, digest: Sha256::new() };
        reader.read_line()?;
        let Format { fanline_history } = parse(&reader.line, reader.number)?;
        if fanline_history != FORMAT {
            return Err(InvalidHistory::Format(fanline_history));
        }
        let header = parse(&reader.line, reader.number)?;
        reader.digest.update(&reader.line);
        Ok((reader, header))
    }

    /// Returns the next line; `None` at the end, if the file has been read as it was written.
    pub(super) fn next(&mut self) -> Result<Option<Line<'_>>, InvalidHistory> {
        self.read_line()?;
        let line = parse(&self.line, self.number)?;
        let Line::End { sha256 } = &line else {
            self.digest.update(&self.line);
            return Ok(Some(line));
        };
        let is_last = self.input.fill_buf()?.is_empty();
        if is_last && *sha256 == hex(&self.digest) { Ok(None) } else { Err(InvalidHistory::Checksum) }
    }

    /// The error of the line that was read last.
    pub(super) fn invalid(&self, reason: impl ToString) -> InvalidHistory {
        invalid(self.number, reason)
    }

    fn read_line(&mut self) -> Result<(), InvalidHistory> {
        self.line.clear();
        self.number += 1;
        self.input.read_until(b'\n', &mut self.line)?;
        if self.line.ends_with(b"\n") { Ok(()) } else { Err(InvalidHistory::Incomplete) }
    }
}

fn parse<'a, T: Deserialize<'a>>(line: &'a [u8], number: u64) -> Result<T, InvalidHistory> {
    serde_json::from_slice(line).map_err(|error| invalid(number, error))
}

fn invalid(line: u64, reason: impl ToString) -> InvalidHistory {
    InvalidHistory::Line { line, reason: reason.to_string() }
}

/// A file of these lines, with their checksum.
#[cfg(any(test, fuzzing))]
pub(in crate::hub) fn with_checksum(lines: &[u8]) -> Vec<u8> {
    let mut out = lines.to_vec();
    Writer { out: &mut out, line: Vec::new(), digest: Sha256::new_with_prefix(lines) }.end().expect("vectors grow");
    out
}

fn hex(digest: &Sha256) -> String {
    digest.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(all(test, not(fanline_loom)))]
mod tests {
    use super::*;

    fn event(sequence: Sequence, payload: &str) -> Line<'_> {
        let (topic, name) = ("größe".into(), "message".into());
        Line::Event(SavedEvent {
            sequence,
            topic,
            name,
            is_json: false,
            payload: payload.into(),
            key: None,
            is_deletion: false,
        })
    }

    const HEADER: Header = Header {
        fanline_history: FORMAT,
        epoch: u64::MAX,
        head: 3,
        firehose_evicted: 1,
        reserved: Reserved { firehose_evicted: 0, last: 0 },
        forgotten: 0,
        key: [1, u64::MAX],
    };

    fn file() -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::begin(&mut out, &HEADER).unwrap();
        writer.write(&Line::Topic { topic: "größe".into(), evicted: 0 }).unwrap();
        writer.write(&Line::Dropped { topic: "a".into(), newest: 1 }).unwrap();
        writer.write(&Line::Ledger { first: 1, topics: vec![u64::MAX, 7].into() }).unwrap();
        writer.write(&event(2, "\"\\\n\u{0}\u{2028}")).unwrap();
        writer.write(&event(3, "")).unwrap();
        writer.end().unwrap();
        out
    }

    /// Reads a whole file. Returns its header and the number of the other lines.
    fn read(file: &[u8]) -> Result<(Header, usize), InvalidHistory> {
        let (mut reader, header) = Reader::begin(file)?;
        let mut lines = 0;
        while reader.next()?.is_some() {
            lines += 1;
        }
        Ok((header, lines))
    }

    #[test]
    fn written_lines_are_read_back() {
        let file = file();
        let (mut reader, header) = Reader::begin(&file[..]).unwrap();
        assert_eq!(header, HEADER);
        assert_eq!(reader.next().unwrap(), Some(Line::Topic { topic: "größe".into(), evicted: 0 }));
        assert_eq!(reader.next().unwrap(), Some(Line::Dropped { topic: "a".into(), newest: 1 }));
        assert_eq!(reader.next().unwrap(), Some(Line::Ledger { first: 1, topics: vec![u64::MAX, 7].into() }));
        assert_eq!(reader.next().unwrap(), Some(event(2, "\"\\\n\u{0}\u{2028}")));
        assert_eq!(reader.next().unwrap(), Some(event(3, "")));
        assert_eq!(reader.next().unwrap(), None);
    }

    #[test]
    fn damage_of_any_bit_is_detected() {
        let file = file();
        assert_eq!(read(&file).unwrap().1, 5);
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut damaged = file.clone();
                damaged[at] ^= 1 << bit;
                assert!(read(&damaged).is_err(), "bit {bit} of byte {at}: {}", String::from_utf8_lossy(&damaged));
            }
        }
    }

    #[test]
    fn file_that_was_cut_or_extended_anywhere_is_invalid() {
        let file = file();
        for end in 0..file.len() {
            assert!(matches!(read(&file[..end]), Err(InvalidHistory::Incomplete)), "{end}");
            assert!(read(&[&file[..end], &file[end + 1..]].concat()).is_err(), "without byte {end}");
        }
        for end in [&b"\n"[..], b" ", b"{}\n", &file] {
            assert!(matches!(read(&[&file, end].concat()), Err(InvalidHistory::Checksum)), "{end:?}");
        }
    }

    #[test]
    fn error_says_what_is_wrong() {
        let error = |file: &str| read(file.as_bytes()).unwrap_err().to_string();
        assert_eq!(error(""), "it ends before its checksum, as after a write that was interrupted");
        assert_eq!(
            error("{\"fanline_history\":2,\"pages\":[]}\n"),
            "it has format 2, and this version of fanline reads format 1"
        );
        assert!(error("PK\n").starts_with("line 1: expected value"), "{}", error("PK\n"));
        let text = String::from_utf8(file()).unwrap();
        assert_eq!(error(&text.replace("\"a\"", "\"b\"")), "its contents do not match its checksum");
        let named = error(&text.replace("newest", "oldest"));
        assert!(named.starts_with("line 3: unknown field `oldest`"), "{named}");
    }
}

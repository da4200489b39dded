//! Standard input, line by line, as the NDJSON that the server expects.

use std::fmt;
use std::io::{self, Read};

use bytes::Bytes;
use fanline::event::{EventName, Key};
use fanline::lines::{LineSplitter, LineTooLong};
use fanline::publication::{InvalidPublication, parse_event};
use fanline::topic::Topic;
use serde_json::value::RawValue;

use crate::cli::key_pointer::{KeyFault, KeyPointer};

/// Bounds the memory for an input without line ends. A server's own limit is far below.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// What a line of the input is.
#[derive(Debug)]
pub enum InputFormat {
    /// Any text: the payload of one event.
    Text(EventHead),
    /// One JSON value: the payload of one event, with the pointer to its key.
    Value(EventHead, Option<KeyPointer>),
    /// An event with its topic and payload.
    Event,
}

/// What all events of an input have in common, as unfinished JSON: `{"topic":…,"event":…`.
#[derive(Debug)]
pub struct EventHead(String);

impl EventHead {
    pub fn new(topic: &Topic, name: Option<&EventName>, key: Option<&Key>) -> Self {
        let mut head = format!(r#"{{"topic":{}"#, json_string(topic.as_str()));
        if let Some(name) = name {
            head.push_str(r#","event":"#);
            head.push_str(&json_string(&String::from_utf8_lossy(name.as_bytes())));
        }
        let head = Self(head);
        if let Some(key) = key { head.with_key(key) } else { head }
    }

    fn with_key(&self, key: &Key) -> Self {
        Self(format!(r#"{},"key":{}"#, self.0, json_string(key.as_str())))
    }

    /// The same for a deletion.
    pub fn deleting(&self) -> Self {
        Self(format!(r#"{},"delete":true"#, self.0))
    }

    /// The event without a payload, which must be a deletion.
    pub fn without_payload(&self) -> String {
        format!("{}}}", self.0)
    }

    /// The event with `text` as its payload.
    pub fn with_text(&self, text: &str) -> String {
        format!(r#"{},"text":{}}}"#, self.0, json_string(text))
    }

    /// The event with the JSON value `data`, byte for byte, as its payload.
    pub fn with_data(&self, data: &str) -> String {
        format!(r#"{},"data":{data}}}"#, self.0)
    }

    /// The event with the JSON value `data` as its payload, which has the key at `pointer`.
    pub fn with_keyed_data(&self, data: &str, pointer: Option<&KeyPointer>) -> Result<String, KeyFault> {
        match pointer {
            Some(pointer) => Ok(self.with_key(&pointer.find(data)?).with_data(data)),
            None => check_json(data).map(|()| self.with_data(data)).map_err(KeyFault::NotJson),
        }
    }
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Checks that `text` is one JSON value.
pub fn check_json(text: &str) -> Result<(), JsonError> {
    serde_json::from_str::<&RawValue>(text)?;
    Ok(())
}

/// What is wrong with a JSON text, and where.
#[derive(Debug, thiserror::Error)]
pub struct JsonError(#[from] serde_json::Error);

impl fmt::Display for JsonError {
    /// The message of the parser, without the line number of an only line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.0.to_string();
        f.write_str(message.split(" at line ").next().unwrap_or_default())?;
        match (self.0.line(), self.0.column()) {
            (0, _) => Ok(()),
            (1, column) => write!(f, " at column {column}"),
            (line, column) => write!(f, " at line {line}, column {column}"),
        }
    }
}

/// Why reading stopped before the end of the input. Lines are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("line {line}: {fault}")]
    Line { line: u64, fault: Fault },
    #[error("standard input: {0}")]
    Read(io::Error),
}

/// A fault of a line.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("not valid UTF-8 from byte {0} on")]
    NotUtf8(usize),
    #[error("longer than {MAX_LINE_BYTES} bytes")]
    TooLong(#[from] LineTooLong),
    #[error("{0}")]
    Key(#[from] KeyFault),
    #[error("not an event like {{\"topic\":\"t\",\"data\":1}}: {0}; for bare JSON values give --topic")]
    NotAnEvent(JsonError),
    #[error("{0}")]
    Invalid(InvalidPublication),
}

impl InputFormat {
    /// Reads `input` to its end and hands it on as NDJSON, after each read the lines that it completed, until `send`
    /// returns false. Lines before an invalid one are handed on.
    pub fn read(&self, mut input: impl Read, mut send: impl FnMut(Vec<u8>) -> bool) -> Result<(), InputError> {
        let mut lines = LineSplitter::new(MAX_LINE_BYTES);
        let mut number = 0;
        loop {
            let more = lines.fill(&mut input).map_err(InputError::Read)?;
            let mut events = Vec::new();
            let appended = lines.by_ref().try_for_each(|line| {
                number += 1;
                self.append_event(&line?, &mut events)
            });
            if !events.is_empty() && !send(events) {
                return Ok(());
            }
            appended.map_err(|fault| InputError::Line { line: number, fault })?;
            if !more {
                return Ok(());
            }
        }
    }

    fn append_event(&self, line: &Bytes, events: &mut Vec<u8>) -> Result<(), Fault> {
        let text = str::from_utf8(line).map_err(|error| Fault::NotUtf8(error.valid_up_to() + 1))?;
        match self {
            Self::Text(head) => events.extend_from_slice(head.with_text(text).as_bytes()),
            // No event. The empty line keeps the line numbers of the server's answer right.
            Self::Value(..) | Self::Event if text.trim_ascii().is_empty() => {}
            Self::Value(head, pointer) => {
                events.extend_from_slice(head.with_keyed_data(text.trim_ascii(), pointer.as_ref())?.as_bytes());
            }
            Self::Event => {
                parse_event(line, usize::MAX).map_err(|error| match error {
                    InvalidPublication::Json(error) => Fault::NotAnEvent(error.into()),
                    error => Fault::Invalid(error),
                })?;
                events.extend_from_slice(line);
            }
        }
        events.push(b'\n');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Yields one of its parts at each read.
    struct InParts<'a>(Vec<&'a [u8]>);

    impl Read for InParts<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let part = self.0.remove(0);
            buffer[..part.len()].copy_from_slice(part);
            Ok(part.len())
        }
    }

    fn head() -> EventHead {
        EventHead::new(&Topic::new("t\"").unwrap(), None, None)
    }

    /// What each read hands on, and the error.
    fn read(lines: &InputFormat, parts: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let mut sent = Vec::new();
        let ended = lines.read(InParts(parts.to_vec()), |events| {
            sent.push(String::from_utf8(events).unwrap());
            true
        });
        (sent, ended.err().map(|error| error.to_string()))
    }

    #[test]
    fn each_line_of_text_is_an_event_sent_by_the_read_that_completes_it() {
        let (sent, error) = read(&InputFormat::Text(head()), &[b"one\ntw", b"o\r\n", b"\xc3", b"\xbc", b"\n\nlast"]);
        assert_eq!(
            sent,
            [
                "{\"topic\":\"t\\\"\",\"text\":\"one\"}\n",
                "{\"topic\":\"t\\\"\",\"text\":\"two\"}\n",
                "{\"topic\":\"t\\\"\",\"text\":\"ü\"}\n{\"topic\":\"t\\\"\",\"text\":\"\"}\n",
                "{\"topic\":\"t\\\"\",\"text\":\"last\"}\n",
            ]
        );
        assert_eq!(error, None);
    }

    #[test]
    fn lines_before_invalid_utf8_are_handed_on() {
        let (sent, error) = read(&InputFormat::Text(head()), &[b"one\nab\xffc\nthree\n"]);
        assert_eq!(sent, ["{\"topic\":\"t\\\"\",\"text\":\"one\"}\n"]);
        assert_eq!(error.as_deref(), Some("line 2: not valid UTF-8 from byte 3 on"));
    }

    #[test]
    fn json_value_is_kept_byte_for_byte() {
        let name = EventName::new("update").unwrap();
        let lines = InputFormat::Value(EventHead::new(&Topic::new("t").unwrap(), Some(&name), None), None);
        let (sent, error) = read(&lines, &[b" {\"b\": 1.0, \"a\":1e3} \n\nnull\n[1,]\n"]);
        assert_eq!(
            sent,
            ["{\"topic\":\"t\",\"event\":\"update\",\"data\":{\"b\": 1.0, \"a\":1e3}}\n\n\
              {\"topic\":\"t\",\"event\":\"update\",\"data\":null}\n"]
        );
        assert_eq!(error.as_deref(), Some("line 4: not one JSON value: expected value at column 4"));
    }

    #[test]
    fn pointer_finds_the_key_of_each_line() {
        let pointer = "/id".parse().unwrap();
        let lines = InputFormat::Value(EventHead::new(&Topic::new("t").unwrap(), None, None), Some(pointer));
        let (sent, error) = read(&lines, &[b"{\"id\":\"a\"}\n{\"id\": 7}\n{}\n"]);
        assert_eq!(
            sent,
            ["{\"topic\":\"t\",\"key\":\"a\",\"data\":{\"id\":\"a\"}}\n\
              {\"topic\":\"t\",\"key\":\"7\",\"data\":{\"id\": 7}}\n"]
        );
        assert_eq!(error.as_deref(), Some("line 3: no string or number at /id"));
    }

    #[test]
    fn event_is_checked_and_kept_as_it_is() {
        let good = "{\"data\": null, \"topic\":\"a\\u0062\"}\n\n{\"topic\":\"t\",\"event\":\"e\",\"text\":\"x\"}\n";
        assert_eq!(read(&InputFormat::Event, &[good.as_bytes()]), (vec![good.to_string()], None));
    }

    #[test]
    fn invalid_event_is_reported_with_its_line() {
        for (line, fault) in [
            (
                "{\"topic\":\"a b\",\"data\":1}",
                "\"topic\": topics cannot contain spaces, commas or control characters, this one contains ' '",
            ),
            ("{\"topic\":\"t\",\"event\":\"\",\"data\":1}", "\"event\": event names cannot be empty"),
            (
                "{\"topic\":\"t\"}",
                "an event has a payload: \"data\" (any JSON value) or \"text\" (a string that is sent raw)",
            ),
            ("{\"topic\":\"t\",\"data\":1,\"text\":\"x\"}", "an event has one payload: either \"data\" or \"text\""),
            (
                "{\"topic\":\"t\",\"dta\":1}",
                "not an event like {\"topic\":\"t\",\"data\":1}: unknown field `dta`, expected one of `topic`, \
                 `event`, `data`, `text`, `key`, `delete` at column 18; for bare JSON values give --topic",
            ),
            (
                "{\"data\":1}",
                "not an event like {\"topic\":\"t\",\"data\":1}: missing field `topic` at column 10; \
                 for bare JSON values give --topic",
            ),
        ] {
            let (sent, error) = read(&InputFormat::Event, &[line.as_bytes()]);
            assert_eq!((sent.len(), error), (0, Some(format!("line 1: {fault}"))));
        }
    }

    #[test]
    fn endless_line_takes_bounded_memory() {
        let (sent, error) = match InputFormat::Text(head()).read(io::repeat(b'x'), |_| true) {
            Ok(()) => panic!("an endless line was read to its end"),
            Err(error) => (0, error.to_string()),
        };
        assert_eq!((sent, error.as_str()), (0, "line 1: longer than 16777216 bytes"));
    }
}

//! Standard input, line by line, as the NDJSON that the server takes.

use std::borrow::Cow;
use std::io::{self, Read};

use fanline::event::{EventName, InvalidEventName};
use fanline::topic::{InvalidTopic, Topic};
use memchr::memchr;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The longest line. A server takes far less in one event; without a limit an input without line ends fills the memory.
const LONGEST_LINE: usize = 16 * 1024 * 1024;

const READ_AT_ONCE: usize = 64 * 1024;

/// What a line of the input is.
#[derive(Debug)]
pub enum Lines {
    /// Any text: the payload of one event of this topic.
    Text(EventHead),
    /// One JSON value: the payload of one event of this topic.
    Value(EventHead),
    /// A publish object, with topic and payload.
    Whole,
}

/// What all events of one input have in common: `{"topic":…,"event":…` as JSON, open for the payload.
#[derive(Debug)]
pub struct EventHead(String);

impl EventHead {
    pub fn new(topic: &Topic, name: Option<&EventName>) -> Self {
        let mut head = format!(r#"{{"topic":{}"#, json_string(topic.as_str()));
        if let Some(name) = name {
            head.push_str(r#","event":"#);
            head.push_str(&json_string(&String::from_utf8_lossy(name.as_bytes())));
        }
        Self(head)
    }

    /// The event with this text as its payload.
    pub fn with_text(&self, text: &str) -> String {
        format!(r#"{},"text":{}}}"#, self.0, json_string(text))
    }

    /// The event with this JSON value, untouched, as its payload.
    pub fn with_data(&self, data: &str) -> String {
        format!(r#"{},"data":{data}}}"#, self.0)
    }
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Checks that `text` is one JSON value.
///
/// # Errors
/// Says what is wrong with it, and where.
pub fn check_json(text: &str) -> Result<(), String> {
    serde_json::from_str::<&RawValue>(text).map(drop).map_err(|error| json_complaint(&error))
}

/// The parser's message, with the line only where there is more than one.
fn json_complaint(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let what = message.split(" at line ").next().unwrap_or_default();
    match (error.line(), error.column()) {
        (0, _) => what.to_string(),
        (1, column) => format!("{what} at column {column}"),
        (line, column) => format!("{what} at line {line}, column {column}"),
    }
}

/// Why the input ends before its end. Lines are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("line {line}: {fault}")]
    Line { line: u64, fault: Fault },
    #[error("standard input: {0}")]
    Read(io::Error),
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("it is not UTF-8 from its byte {0} on")]
    NotUtf8(usize),
    #[error("it is longer than {LONGEST_LINE} bytes")]
    TooLong,
    #[error("it is not one JSON value: {0}")]
    NotJson(String),
    #[error("it is not an event like {{\"topic\":\"t\",\"data\":1}}: {0}; for bare JSON values give --topic")]
    NotAnEvent(String),
    #[error("{0}")]
    Topic(#[from] InvalidTopic),
    #[error("{0}")]
    EventName(#[from] InvalidEventName),
    #[error("an event has either data, which is any JSON value, or text, which is a string")]
    Payload,
}

impl Lines {
    /// Reads `input` to its end and hands the events on as NDJSON, at each read all the lines that it completed, until
    /// `send` returns false. Empty lines are events of [`Lines::Text`] only; the others hand them on as they are.
    ///
    /// # Errors
    /// [`InputError`] says which line is wrong; the lines before it have been handed on.
    pub fn read(&self, mut input: impl Read, mut send: impl FnMut(Vec<u8>) -> bool) -> Result<(), InputError> {
        let mut buffer = vec![0; READ_AT_ONCE];
        let mut rest_of_last_read = Vec::new();
        let mut line = 0;
        loop {
            let length = match input.read(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(InputError::Read(error)),
            };
            let mut unread = &buffer[..length];
            let mut events = Vec::new();
            let mut fault = Ok(());
            while let Some(end) = memchr(b'\n', unread) {
                line += 1;
                rest_of_last_read.extend_from_slice(&unread[..end]);
                unread = &unread[end + 1..];
                fault = self.append_event(&rest_of_last_read, &mut events);
                rest_of_last_read.clear();
                if fault.is_err() {
                    break;
                }
            }
            if fault.is_ok() {
                rest_of_last_read.extend_from_slice(unread);
                let ends_here = length == 0 && !rest_of_last_read.is_empty();
                if ends_here || rest_of_last_read.len() > LONGEST_LINE {
                    line += 1;
                    fault = self.append_event(&rest_of_last_read, &mut events);
                }
            }
            if !events.is_empty() && !send(events) {
                return Ok(());
            }
            fault.map_err(|fault| InputError::Line { line, fault })?;
            if length == 0 {
                return Ok(());
            }
        }
    }

    fn append_event(&self, line: &[u8], events: &mut Vec<u8>) -> Result<(), Fault> {
        if line.len() > LONGEST_LINE {
            return Err(Fault::TooLong);
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = str::from_utf8(line).map_err(|error| Fault::NotUtf8(error.valid_up_to() + 1))?;
        match self {
            Self::Text(head) => events.extend_from_slice(head.with_text(line).as_bytes()),
            // It is no event, and it counts in the line numbers of the server's answer.
            Self::Value(_) | Self::Whole if line.trim_ascii().is_empty() => {}
            Self::Value(head) => {
                check_json(line).map_err(Fault::NotJson)?;
                events.extend_from_slice(head.with_data(line.trim_ascii()).as_bytes());
            }
            Self::Whole => {
                check_event(line)?;
                events.extend_from_slice(line.as_bytes());
            }
        }
        events.push(b'\n');
        Ok(())
    }
}

#[derive(Deserialize)]
struct WholeEvent<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow, default)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    text: Option<Cow<'a, str>>,
}

/// Takes `null` for a value that is there, which `Option` by itself does not.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

fn check_event(line: &str) -> Result<(), Fault> {
    let event: WholeEvent<'_> =
        serde_json::from_str(line).map_err(|error| Fault::NotAnEvent(json_complaint(&error)))?;
    Topic::new(&event.topic)?;
    if let Some(name) = &event.event {
        EventName::new(name)?;
    }
    if event.data.is_some() == event.text.is_some() {
        return Err(Fault::Payload);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out one of its parts at each read.
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
        EventHead::new(&Topic::new("t\"").unwrap(), None)
    }

    /// What is handed on at each read, and the error.
    fn read(lines: &Lines, parts: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let mut sent = Vec::new();
        let ended = lines.read(InParts(parts.to_vec()), |events| {
            sent.push(String::from_utf8(events).unwrap());
            true
        });
        (sent, ended.err().map(|error| error.to_string()))
    }

    #[test]
    fn each_line_of_text_is_an_event_and_goes_out_with_the_read_that_completes_it() {
        let (sent, error) = read(&Lines::Text(head()), &[b"one\ntw", b"o\r\n", b"\xc3", b"\xbc", b"\n\nlast"]);
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
    fn the_lines_before_one_that_is_not_utf8_are_handed_on() {
        let (sent, error) = read(&Lines::Text(head()), &[b"one\nab\xffc\nthree\n"]);
        assert_eq!(sent, ["{\"topic\":\"t\\\"\",\"text\":\"one\"}\n"]);
        assert_eq!(error.as_deref(), Some("line 2: it is not UTF-8 from its byte 3 on"));
    }

    #[test]
    fn a_json_value_is_passed_on_byte_for_byte() {
        let name = EventName::new("update").unwrap();
        let lines = Lines::Value(EventHead::new(&Topic::new("t").unwrap(), Some(&name)));
        let (sent, error) = read(&lines, &[b" {\"b\": 1.0, \"a\":1e3} \n\nnull\n[1,]\n"]);
        assert_eq!(
            sent,
            ["{\"topic\":\"t\",\"event\":\"update\",\"data\":{\"b\": 1.0, \"a\":1e3}}\n\n\
              {\"topic\":\"t\",\"event\":\"update\",\"data\":null}\n"]
        );
        assert_eq!(error.as_deref(), Some("line 4: it is not one JSON value: expected value at column 4"));
    }

    #[test]
    fn a_whole_event_is_checked_and_passed_on_as_it_is() {
        let good = "{\"data\": null, \"topic\":\"a\\u0062\"}\n\n{\"topic\":\"t\",\"event\":\"e\",\"text\":\"x\"}\n";
        assert_eq!(read(&Lines::Whole, &[good.as_bytes()]), (vec![good.to_string()], None));
    }

    #[test]
    fn a_whole_event_that_the_server_would_refuse_is_told_with_its_line() {
        for (line, fault) in [
            (
                "{\"topic\":\"a b\",\"data\":1}",
                "a topic holds no white space, comma or control character, this one holds ' '",
            ),
            ("{\"topic\":\"t\",\"event\":\"\",\"data\":1}", "an event name has at least one character"),
            ("{\"topic\":\"t\"}", "an event has either data, which is any JSON value, or text, which is a string"),
            (
                "{\"topic\":\"t\",\"data\":1,\"text\":\"x\"}",
                "an event has either data, which is any JSON value, or text, which is a string",
            ),
            (
                "{\"data\":1}",
                "it is not an event like {\"topic\":\"t\",\"data\":1}: missing field `topic` at column 10; \
                 for bare JSON values give --topic",
            ),
        ] {
            let (sent, error) = read(&Lines::Whole, &[line.as_bytes()]);
            assert_eq!((sent.len(), error), (0, Some(format!("line 1: {fault}"))));
        }
    }

    #[test]
    fn a_line_without_an_end_does_not_fill_the_memory() {
        let (sent, error) = match Lines::Text(head()).read(io::repeat(b'x'), |_| true) {
            Ok(()) => panic!("an endless line was read to its end"),
            Err(error) => (0, error.to_string()),
        };
        assert_eq!((sent, error.as_str()), (0, "line 1: it is longer than 16777216 bytes"));
    }
}

//! Turns the lines of an input into events. Knows neither the thread nor the hub.

use std::borrow::Cow;
use std::io::Read;
use std::ops::RangeInclusive;

use bytes::Bytes;
use fanline::event::{Event, Payload};
use fanline::lines::{LineSplitter, LineTooLong};
use fanline::publication::{InvalidPublication, parse_event};
use fanline::topic::Topic;
use tracing::error;

const BATCH: usize = 256;

/// Up to here every refused line is logged, then only each whose count is a power of two: an input of the wrong format
/// must not fill the disk with warnings.
const WARNINGS_IN_FULL: u64 = 100;

/// What a line of the input is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// The payload of an event of this topic.
    Lines { topic: Topic },
    /// One JSON object: `{"topic", "event"?, "data" | "text"}`.
    Ndjson,
}

/// Reads one input and hands its events to `publish`.
pub struct Feed<'a, P, W> {
    format: &'a Format,
    max_event_bytes: usize,
    publish: P,
    warn: W,
    totals: Totals,
}

/// How many lines had which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub published: u64,
    /// Invalid lines, which were skipped.
    pub refused: u64,
    /// Events that may or may not have been published.
    pub unknown: u64,
    /// Lines with invalid UTF-8, published with U+FFFD in its place.
    pub replaced: u64,
    /// The first line that was not published because publishing ended before the input.
    pub unpublished_from: Option<u64>,
}

/// The fate of a batch of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Published,
    /// They may or may not have been published.
    Unknown,
    /// They were not published, and no more events can be.
    Ended,
}

#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("line refused, it has more than {0} bytes (setting max_event_bytes)")]
    TooLong(usize),
    #[error("line refused, {0}")]
    Invalid(#[from] InvalidPublication),
    #[error("the line is not valid UTF-8; U+FFFD replaces the invalid bytes, here and in later lines")]
    NotUtf8,
}

impl<'a, P: FnMut(Vec<Event>, RangeInclusive<u64>) -> Fate, W: FnMut(u64, Fault)> Feed<'a, P, W> {
    /// Hands events and the numbers of their lines to `publish`, in order, until it returns [`Fate::Ended`]. Hands
    /// faults with the number of their line to `warn`. Lines are counted from 1.
    pub fn new(format: &'a Format, max_event_bytes: usize, publish: P, warn: W) -> Self {
        Self { format, max_event_bytes, publish, warn, totals: Totals::default() }
    }

    /// Reads `input` to its end.
    pub fn run(mut self, mut input: impl Read) -> Totals {
        let mut lines = LineSplitter::new(self.max_line_bytes());
        let mut number = 0;
        loop {
            let more = lines.fill(&mut input).unwrap_or_else(|error| {
                error!(%error, "reading standard input failed");
                false
            });
            let mut batch = Vec::new();
            for line in &mut lines {
                number += 1;
                match self.event(number, line) {
                    Ok(Some(event)) => batch.push((number, event)),
                    Ok(None) => {}
                    Err(fault) => self.refuse(number, fault),
                }
                if batch.len() == BATCH && !self.flush(&mut batch) {
                    return self.totals;
                }
            }
            if !self.flush(&mut batch) || !more {
                return self.totals;
            }
        }
    }

    /// A line of JSON is longer than its payload: it also holds topic, name and escapes.
    fn max_line_bytes(&self) -> usize {
        match self.format {
            Format::Lines { .. } => self.max_event_bytes,
            Format::Ndjson => self.max_event_bytes * 2 + 4096,
        }
    }

    /// Publishes the events of a batch. Returns false when no more can be published.
    fn flush(&mut self, batch: &mut Vec<(u64, Event)>) -> bool {
        let (Some(&(first, _)), Some(&(last, _))) = (batch.first(), batch.last()) else { return true };
        let events: Vec<_> = batch.drain(..).map(|(_, event)| event).collect();
        let count = events.len() as u64;
        match (self.publish)(events, first..=last) {
            Fate::Published => self.totals.published += count,
            Fate::Unknown => self.totals.unknown += count,
            Fate::Ended => self.totals.unpublished_from = Some(first),
        }
        self.totals.unpublished_from.is_none()
    }

    fn refuse(&mut self, number: u64, fault: Fault) {
        self.totals.refused += 1;
        if self.totals.refused <= WARNINGS_IN_FULL || self.totals.refused.is_power_of_two() {
            (self.warn)(number, fault);
        }
    }

    /// The event of a line, or none for an empty line between JSON objects.
    fn event(&mut self, number: u64, line: Result<Bytes, LineTooLong>) -> Result<Option<Event>, Fault> {
        let line = line.map_err(|_| Fault::TooLong(self.max_line_bytes()))?;
        let topic = match self.format {
            Format::Ndjson if line.trim_ascii().is_empty() => return Ok(None),
            Format::Ndjson => return Ok(Some(parse_event(&line, self.max_event_bytes)?)),
            Format::Lines { topic } => topic,
        };
        let text = String::from_utf8_lossy(&line);
        if matches!(text, Cow::Owned(_)) {
            // U+FFFD has three bytes and may replace one.
            if text.len() > self.max_event_bytes {
                return Err(Fault::TooLong(self.max_event_bytes));
            }
            self.totals.replaced += 1;
            if self.totals.replaced == 1 {
                (self.warn)(number, Fault::NotUtf8);
            }
        }
        Ok(Some(Event::new(topic.clone(), Payload::text(text))))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn lines() -> Format {
        Format::Lines { topic: Topic::new("log").unwrap() }
    }

    /// The batches published, each event as `topic name payload`, and the warnings.
    fn feed(format: &Format, max_event_bytes: usize, input: impl Read) -> (Vec<Vec<String>>, Vec<String>, Totals) {
        let (mut batches, mut warnings) = (Vec::new(), Vec::new());
        let shown = |event: &Event| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            format!("{} {} {}", event.topic(), text(event.name().as_bytes()), text(event.payload().as_bytes()))
        };
        let publish = |events: Vec<Event>, _| {
            batches.push(events.iter().map(shown).collect());
            Fate::Published
        };
        let warn = |line, fault| warnings.push(format!("{line}: {fault}"));
        let totals = Feed::new(format, max_event_bytes, publish, warn).run(input);
        (batches, warnings, totals)
    }

    #[test]
    fn each_line_is_the_payload_of_an_event() {
        let (batches, warnings, totals) = feed(&lines(), 100, &b"one\r\n\n{\"two\":2}\nthree"[..]);
        assert_eq!(
            batches.concat(),
            ["log message one", "log message ", "log message {\"two\":2}", "log message three"]
        );
        assert!(warnings.is_empty());
        assert_eq!(totals.published, 4);
    }

    #[test]
    fn batch_holds_the_lines_of_one_read_up_to_256() {
        let many = "x\n".repeat(600);
        let input = b"first\n".chain(many.as_bytes());
        let (batches, ..) = feed(&lines(), 100, input);
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [1, 256, 256, 88]);
    }

    #[test]
    fn batch_has_its_line_numbers_and_its_fate_is_counted() {
        let input = b"nonsense\n{\"topic\":\"a\",\"data\":1}\n\n{\"topic\":\"a\",\"data\":2}\n\n"
            .chain(&b"{\"topic\":\"a\",\"data\":3}\n"[..])
            .chain(&b"{\"topic\":\"a\",\"data\":4}\n{\"topic\":\"a\",\"data\":5}\n"[..]);
        let mut fates = [Fate::Unknown, Fate::Published, Fate::Ended].into_iter();
        let mut batches = Vec::new();
        let publish = |events: Vec<Event>, lines| {
            batches.push((events.len(), lines));
            fates.next().unwrap()
        };
        let totals = Feed::new(&Format::Ndjson, 100, publish, |_, _| {}).run(input);
        assert_eq!(batches, [(2, 2..=4), (1, 6..=6), (2, 7..=8)]);
        let expected = Totals { published: 1, refused: 1, unknown: 2, replaced: 0, unpublished_from: Some(7) };
        assert_eq!(totals, expected);
    }

    #[test]
    fn line_over_the_limit_is_refused_with_its_number_and_the_setting() {
        let (batches, warnings, totals) = feed(&lines(), 3, &b"one\nthree\ntwo\n"[..]);
        assert_eq!(batches.concat(), ["log message one", "log message two"]);
        assert_eq!(warnings, ["2: line refused, it has more than 3 bytes (setting max_event_bytes)"]);
        assert_eq!(totals, Totals { published: 2, refused: 1, ..Totals::default() });
    }

    #[test]
    fn invalid_utf8_is_replaced_and_logged_once() {
        let (batches, warnings, totals) = feed(&lines(), 6, &b"ok\na\xffb\n\xfe\n\xff\xff\xff\n"[..]);
        assert_eq!(batches.concat(), ["log message ok", "log message a\u{fffd}b", "log message \u{fffd}"]);
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].starts_with("2: the line is not valid UTF-8"), "{warnings:?}");
        assert_eq!(warnings[1], "4: line refused, it has more than 6 bytes (setting max_event_bytes)");
        assert_eq!(totals, Totals { published: 3, refused: 1, replaced: 2, ..Totals::default() });
    }

    #[test]
    fn ndjson_line_has_its_own_topic() {
        let input = b"{\"topic\":\"a\",\"data\":{\"x\": 1}}\n\n{\"topic\":\"b\",\"event\":\"e\",\"text\":\"t\\n\"}\r\n";
        let (batches, warnings, _) = feed(&Format::Ndjson, 100, &input[..]);
        assert_eq!(batches.concat(), ["a message {\"x\": 1}", "b e t\n"]);
        assert!(warnings.is_empty());
    }

    #[test]
    fn invalid_ndjson_line_is_refused_and_later_lines_are_published() {
        let input = b"{\"topic\":\"a\",\"data\":1}\nnonsense\n\xff\n{\"topic\":\"a\",\"data\":2}\n";
        let (batches, warnings, totals) = feed(&Format::Ndjson, 100, &input[..]);
        assert_eq!(batches.concat(), ["a message 1", "a message 2"]);
        assert!(
            warnings[0].starts_with("2: line refused, ") && warnings[1].starts_with("3: line refused, "),
            "{warnings:?}"
        );
        assert_eq!(totals.refused, 2);
    }

    #[test]
    fn long_ndjson_line_is_refused_before_it_is_buffered() {
        let input = b"{\"topic\":\"a\",\"text\":\""
            .chain(io::repeat(b'x').take(1 << 20))
            .chain(&b"\"}\n{\"topic\":\"a\",\"data\":2}"[..]);
        let (batches, warnings, _) = feed(&Format::Ndjson, 100, input);
        assert_eq!(batches.concat(), ["a message 2"]);
        assert_eq!(warnings, ["1: line refused, it has more than 4296 bytes (setting max_event_bytes)"]);
    }

    #[test]
    fn input_of_wrong_format_does_not_flood_the_log() {
        let (_, warnings, totals) = feed(&Format::Ndjson, 100, "x\n".repeat(5000).as_bytes());
        assert_eq!(totals.refused, 5000);
        assert_eq!(warnings.len() as u64, WARNINGS_IN_FULL + 6);
    }
}

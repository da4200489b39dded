//! An input as events, without the thread and the hub.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;
use std::ops::RangeInclusive;

use bytes::Bytes;
use fanline::event::{Event, Payload};
use fanline::publication::{InvalidPublication, parse_event};
use fanline::topic::Topic;
use tracing::error;

use super::lines::{Line, Lines};

/// The most lines that are published at once.
const BATCH: usize = 256;

/// So many warnings are given one by one; after that only each whose count is a power of two, so that an input of the
/// wrong format does not fill a disk with warnings.
const WARNINGS_IN_FULL: u64 = 100;

/// What a line of the input is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// The payload of an event of this topic.
    Lines {
        /// The topic.
        topic: Topic,
    },
    /// One JSON object: `{"topic", "event"?, "data" | "text"}`.
    Ndjson,
}

/// One reading of an input.
pub struct Feed<'a, P, W> {
    format: &'a Format,
    max_event_bytes: usize,
    publish: P,
    warn: W,
    totals: Totals,
}

/// What became of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events published.
    pub published: u64,
    /// Lines that were no event.
    pub refused: u64,
    /// Events that may have been published or not.
    pub unknown: u64,
    /// Lines with bytes that are no UTF-8, published with U+FFFD in their place.
    pub replaced: u64,
    /// The line from which on nothing was published, if that ended before the input.
    pub unpublished_from: Option<u64>,
}

/// What became of the events that were handed over together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They were published.
    Published,
    /// They may have been published or not.
    Unknown,
    /// They were not published, and nothing will be.
    Ended,
}

/// What somebody should know of a line.
#[derive(Debug)]
pub struct Warning {
    /// Its number, counted from 1.
    pub line: u64,
    /// What it is.
    pub reason: Reason,
}

/// What there is to know of a line.
#[derive(Debug)]
pub enum Reason {
    /// It was refused for its length.
    TooLong {
        /// The setting.
        max_event_bytes: usize,
        /// The longest line that follows from it.
        longest: usize,
    },
    /// It was refused, for it is no event.
    NoEvent(InvalidPublication),
    /// It was published with U+FFFD for what is not UTF-8.
    NotUtf8,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { max_event_bytes, longest } if max_event_bytes == longest => {
                write!(f, "line refused, it has more than max_event_bytes = {max_event_bytes} bytes")
            }
            Self::TooLong { max_event_bytes, longest } => {
                write!(f, "line refused, it has more than {longest} bytes, and max_event_bytes = {max_event_bytes}")
            }
            Self::NoEvent(error) => write!(f, "line refused, {error}"),
            Self::NotUtf8 => {
                f.write_str("the line is not valid UTF-8, U+FFFD stands for what is not; this is said only once")
            }
        }
    }
}

impl<'a, P: FnMut(Vec<Event>, RangeInclusive<u64>) -> Fate, W: FnMut(&Warning)> Feed<'a, P, W> {
    /// A reading that hands events to `publish`, in order and with the numbers of their lines, until that returns
    /// [`Fate::Ended`]; and warnings to `warn`.
    pub fn new(format: &'a Format, max_event_bytes: usize, publish: P, warn: W) -> Self {
        Self { format, max_event_bytes, publish, warn, totals: Totals::default() }
    }

    /// Reads `input` to its end.
    pub fn run(mut self, input: impl Read) -> Totals {
        let mut lines = Lines::new(input, self.longest_line());
        loop {
            let more = lines.fill().unwrap_or_else(|error| {
                error!(%error, "standard input cannot be read any more");
                false
            });
            let mut batch = Vec::new();
            let mut first = 0;
            let mut last = 0;
            while let Some((number, line)) = lines.next() {
                match self.event(number, &line) {
                    Ok(Some(event)) => {
                        first = if batch.is_empty() { number } else { first };
                        last = number;
                        batch.push(event);
                    }
                    Ok(None) => {}
                    Err(reason) => self.refuse(Warning { line: number, reason }),
                }
                if batch.len() == BATCH && !self.flush(&mut batch, first..=last) {
                    return self.totals;
                }
            }
            if !self.flush(&mut batch, first..=last) || !more {
                return self.totals;
            }
        }
    }

    /// A line of JSON is longer than its payload: by topic and name, and by what escapes add to a text.
    fn longest_line(&self) -> usize {
        match self.format {
            Format::Lines { .. } => self.max_event_bytes,
            Format::Ndjson => self.max_event_bytes * 2 + 4096,
        }
    }

    /// Publishes the events of `lines`; false when that is over.
    fn flush(&mut self, batch: &mut Vec<Event>, lines: RangeInclusive<u64>) -> bool {
        if batch.is_empty() {
            return true;
        }
        let count = batch.len() as u64;
        let first = *lines.start();
        match (self.publish)(std::mem::take(batch), lines) {
            Fate::Published => self.totals.published += count,
            Fate::Unknown => self.totals.unknown += count,
            Fate::Ended => self.totals.unpublished_from = Some(first),
        }
        self.totals.unpublished_from.is_none()
    }

    fn refuse(&mut self, warning: Warning) {
        self.totals.refused += 1;
        if self.totals.refused <= WARNINGS_IN_FULL || self.totals.refused.is_power_of_two() {
            (self.warn)(&warning);
        }
    }

    /// The event of a line; none for an empty line between JSON objects.
    fn event(&mut self, number: u64, line: &Line<'_>) -> Result<Option<Event>, Reason> {
        let max_event_bytes = self.max_event_bytes;
        let &Line::Whole(line) = line else {
            return Err(Reason::TooLong { max_event_bytes, longest: self.longest_line() });
        };
        match self.format {
            Format::Ndjson if line.trim_ascii().is_empty() => Ok(None),
            Format::Ndjson => {
                parse_event(&Bytes::copy_from_slice(line), max_event_bytes).map(Some).map_err(Reason::NoEvent)
            }
            Format::Lines { topic } => {
                let text = String::from_utf8_lossy(line);
                if matches!(text, Cow::Owned(_)) {
                    // U+FFFD has three bytes and may stand for one.
                    if text.len() > max_event_bytes {
                        return Err(Reason::TooLong { max_event_bytes, longest: max_event_bytes });
                    }
                    self.totals.replaced += 1;
                    if self.totals.replaced == 1 {
                        (self.warn)(&Warning { line: number, reason: Reason::NotUtf8 });
                    }
                }
                Ok(Some(Event::new(topic.clone(), Payload::text(text))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn lines() -> Format {
        Format::Lines { topic: Topic::new("log").unwrap() }
    }

    /// What is published, as `topic name payload`, batch by batch; and what is warned of.
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
        let warn = |warning: &Warning| warnings.push(format!("{}: {}", warning.line, warning.reason));
        let totals = Feed::new(format, max_event_bytes, publish, warn).run(input);
        (batches, warnings, totals)
    }

    #[test]
    fn each_line_is_the_payload_of_an_event() {
        let (batches, warnings, totals) = feed(&lines(), 100, &b"one\r\n\n{\"two\":2}\nthree"[..]);
        assert_eq!(batches.concat(), ["log data one", "log data ", "log data {\"two\":2}", "log data three"]);
        assert!(warnings.is_empty());
        assert_eq!(totals.published, 4);
    }

    #[test]
    fn a_batch_is_what_one_read_call_brought_and_at_most_256_lines() {
        let many = "x\n".repeat(600);
        let input = b"first\n".chain(many.as_bytes());
        let (batches, ..) = feed(&lines(), 100, input);
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [1, 256, 256, 88]);
    }

    #[test]
    fn a_batch_names_its_lines_and_its_fate_is_counted() {
        let input = b"nonsense\n{\"topic\":\"a\",\"data\":1}\n\n{\"topic\":\"a\",\"data\":2}\n\n"
            .chain(&b"{\"topic\":\"a\",\"data\":3}\n"[..])
            .chain(&b"{\"topic\":\"a\",\"data\":4}\n{\"topic\":\"a\",\"data\":5}\n"[..]);
        let mut fates = [Fate::Unknown, Fate::Published, Fate::Ended].into_iter();
        let mut batches = Vec::new();
        let publish = |events: Vec<Event>, lines| {
            batches.push((events.len(), lines));
            fates.next().unwrap()
        };
        let totals = Feed::new(&Format::Ndjson, 100, publish, |_: &Warning| {}).run(input);
        assert_eq!(batches, [(2, 2..=4), (1, 6..=6), (2, 7..=8)]);
        let expected = Totals { published: 1, refused: 1, unknown: 2, replaced: 0, unpublished_from: Some(7) };
        assert_eq!(totals, expected);
    }

    #[test]
    fn a_line_over_the_limit_is_refused_with_its_number_and_the_setting() {
        let (batches, warnings, totals) = feed(&lines(), 3, &b"one\nthree\ntwo\n"[..]);
        assert_eq!(batches.concat(), ["log data one", "log data two"]);
        assert_eq!(warnings, ["2: line refused, it has more than max_event_bytes = 3 bytes"]);
        assert_eq!(totals, Totals { published: 2, refused: 1, ..Totals::default() });
    }

    #[test]
    fn bytes_that_are_no_utf_8_are_replaced_and_warned_of_once() {
        let (batches, warnings, totals) = feed(&lines(), 6, &b"ok\na\xffb\n\xfe\n\xff\xff\xff\n"[..]);
        assert_eq!(batches.concat(), ["log data ok", "log data a\u{fffd}b", "log data \u{fffd}"]);
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].starts_with("2: the line is not valid UTF-8"), "{warnings:?}");
        assert_eq!(warnings[1], "4: line refused, it has more than max_event_bytes = 6 bytes");
        assert_eq!(totals, Totals { published: 3, refused: 1, replaced: 2, ..Totals::default() });
    }

    #[test]
    fn a_line_of_ndjson_names_its_own_topic() {
        let input = b"{\"topic\":\"a\",\"data\":{\"x\": 1}}\n\n{\"topic\":\"b\",\"event\":\"e\",\"text\":\"t\\n\"}\r\n";
        let (batches, warnings, _) = feed(&Format::Ndjson, 100, &input[..]);
        assert_eq!(batches.concat(), ["a data {\"x\": 1}", "b e t\n"]);
        assert!(warnings.is_empty());
    }

    #[test]
    fn a_bad_line_of_ndjson_is_refused_with_its_number_and_the_rest_goes_on() {
        let input = b"{\"topic\":\"a\",\"data\":1}\nnonsense\n\xff\n{\"topic\":\"a\",\"data\":2}\n";
        let (batches, warnings, totals) = feed(&Format::Ndjson, 100, &input[..]);
        assert_eq!(batches.concat(), ["a data 1", "a data 2"]);
        assert!(
            warnings[0].starts_with("2: line refused, ") && warnings[1].starts_with("3: line refused, "),
            "{warnings:?}"
        );
        assert_eq!(totals.refused, 2);
    }

    #[test]
    fn a_long_line_of_ndjson_is_refused_before_it_is_held() {
        let input = b"{\"topic\":\"a\",\"text\":\""
            .chain(io::repeat(b'x').take(1 << 20))
            .chain(&b"\"}\n{\"topic\":\"a\",\"data\":2}"[..]);
        let (batches, warnings, _) = feed(&Format::Ndjson, 100, input);
        assert_eq!(batches.concat(), ["a data 2"]);
        assert_eq!(warnings, ["1: line refused, it has more than 4296 bytes, and max_event_bytes = 100"]);
    }

    #[test]
    fn an_input_of_the_wrong_format_does_not_flood_the_log() {
        let (_, warnings, totals) = feed(&Format::Ndjson, 100, "x\n".repeat(5000).as_bytes());
        assert_eq!(totals.refused, 5000);
        assert_eq!(warnings.len() as u64, WARNINGS_IN_FULL + 6);
    }
}

//! The marker at the start of each payload: which event it is, and when it was due.
//!
//! `flb-<run>-<topic>-<publisher>-<number>-<due>-`, in hexadecimal digits of fixed width. Letters, digits and dashes
//! pass any encoding unchanged, so the marker can be found anywhere in a stream. The run tells events of another run
//! apart, such as replayed ones. Numbers count from 0 for each topic of each publisher. A publisher sends one event at a
//! time, so these numbers must arrive in order.

use memchr::memmem::Finder;

/// Bytes of a marker.
pub const LENGTH: usize = 48;
pub const MAX_PUBLISHERS: u64 = 65_536;
/// Six hexadecimal digits.
pub const MAX_TOPICS: u64 = 1 << 24;

/// The content of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub topic: u32,
    pub publisher: u32,
    pub number: u32,
    /// Nanoseconds of the run's clock.
    pub due: u64,
}

/// Writes and finds the markers of one run.
pub struct Marker {
    prefix: String,
    finder: Finder<'static>,
    /// Fills the payload.
    pad: String,
}

impl Marker {
    /// The markers of run number `run`, in payloads of `payload` bytes.
    pub fn new(run: u32, payload: usize) -> Self {
        let prefix = format!("flb-{run:08x}-");
        let finder = Finder::new(&prefix).into_owned();
        Self { prefix, finder, pad: "x".repeat(payload.saturating_sub(LENGTH)) }
    }

    pub fn payload(&self, mark: Mark) -> String {
        let Mark { topic, publisher, number, due } = mark;
        let Self { prefix, pad, .. } = self;
        format!("{prefix}{topic:06x}-{publisher:05x}-{number:08x}-{due:012x}-{pad}")
    }

    /// The mark of the first payload in `text`, unless the payload was changed, and where it ends.
    pub fn find(&self, text: &[u8]) -> Option<(Option<Mark>, usize)> {
        let start = self.finder.find(text)?;
        let end = start + LENGTH + self.pad.len();
        let mark = text.get(start..end).and_then(|payload| self.parse(payload));
        Some((mark, end.min(text.len())))
    }

    fn parse(&self, payload: &[u8]) -> Option<Mark> {
        let (text, pad) = payload.split_at(LENGTH);
        let dashes = [19, 25, 34, 47].iter().all(|at| text[*at] == b'-');
        (dashes && pad == self.pad.as_bytes()).then_some(())?;
        Some(Mark {
            topic: read_hex(&text[13..19])? as u32,
            publisher: read_hex(&text[20..25])? as u32,
            number: read_hex(&text[26..34])? as u32,
            due: read_hex(&text[35..47])?,
        })
    }
}

fn read_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark { topic: 0xfffff, publisher: 3, number: 70_000, due: 123_456_789_012 };

    #[test]
    fn marker_is_found_anywhere() {
        let marker = Marker::new(0xdead_beef, 60);
        let payload = marker.payload(MARK).into_bytes();
        assert_eq!(payload.len(), 60);
        assert_eq!(marker.find(&payload), Some((Some(MARK), 60)));
        let inside = [b"data: {\"a\":[\"", &payload[..], b"\"]}\n\n"].concat();
        assert_eq!(marker.find(&inside), Some((Some(MARK), 73)));
        assert_eq!(marker.find(&inside[73..]), None);
    }

    #[test]
    fn marker_of_another_run_is_ignored() {
        assert_eq!(Marker::new(2, LENGTH).find(Marker::new(1, LENGTH).payload(MARK).as_bytes()), None);
    }

    #[test]
    fn cut_or_changed_payload_is_corrupted() {
        let marker = Marker::new(1, 60);
        let whole = marker.payload(MARK).into_bytes();
        assert_eq!(marker.find(&whole[..59]), Some((None, 59)));
        for at in 13..60 {
            let mut changed = whole.clone();
            changed[at] = b'?';
            assert_eq!(marker.find(&changed), Some((None, 60)), "byte {at}");
        }
    }
}

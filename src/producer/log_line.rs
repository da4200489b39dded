//! A log line as the payload of an event, with bounded size.

use std::fmt::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};

use super::payload::Timestamp;

/// The most bytes of text that are kept of a line, its message and fields together.
pub const MAX_TEXT: usize = 8 * 1024;
const MAX_FIELDS: usize = 32;

/// A log line. What exceeds the bounds is cut off.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "log")]
pub struct LogLine {
    level: String,
    target: &'static str,
    message: String,
    fields: Map<String, Value>,
    timestamp: Timestamp,
    /// Lines lost before this one.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropped: u64,
    #[serde(skip)]
    room: usize,
}

impl LogLine {
    pub fn new(event: &tracing::Event<'_>, dropped: u64) -> Self {
        let metadata = event.metadata();
        let mut line = Self {
            level: metadata.level().as_str().to_ascii_lowercase(),
            target: metadata.target(),
            message: String::new(),
            fields: Map::new(),
            timestamp: Timestamp::now(),
            dropped,
            room: MAX_TEXT,
        };
        event.record(&mut line);
        line
    }

    fn keep(&mut self, field: &Field, value: impl Into<Value>) {
        if self.fields.len() < MAX_FIELDS {
            self.fields.insert(field.name().to_owned(), value.into());
        }
    }

    fn keep_text(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let mut clipped = Clipped { text: String::new(), room: self.room };
        // An error means that the room is used up; what fits is kept.
        let _ = clipped.write_fmt(value);
        self.room -= clipped.text.len();
        if field.name() == "message" {
            self.message = clipped.text;
        } else {
            self.keep(field, clipped.text);
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Visit for LogLine {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep_text(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep_text(field, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, value);
    }
}

/// Text that stops growing when its room is used up.
struct Clipped {
    text: String,
    room: usize,
}

impl Write for Clipped {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let fits = more.floor_char_boundary(self.room.min(more.len()));
        self.text.push_str(&more[..fits]);
        self.room -= fits;
        if fits == more.len() {
            return Ok(());
        }
        self.room = 0;
        Err(fmt::Error)
    }
}

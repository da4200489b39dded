//! What is kept of a log line: bounded, whatever was logged.

use std::fmt::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::Level;
use tracing::field::{Field, Visit};

use super::timestamp::Timestamp;

/// The most bytes of text that are kept of a line, its message and its fields together.
pub const LONGEST: usize = 8 * 1024;
/// The most fields that are kept of a line.
const MOST_FIELDS: usize = 32;

/// What is kept of a log line, as its event says it.
#[derive(Debug, Serialize)]
pub struct Line {
    r#type: &'static str,
    level: &'static str,
    target: &'static str,
    message: String,
    fields: Map<String, Value>,
    timestamp: Timestamp,
    #[serde(skip_serializing_if = "is_zero")]
    dropped: u64,
}

impl Line {
    /// The line that `event` makes, after `dropped` lines that were left out.
    pub fn new(event: &tracing::Event<'_>, dropped: u64) -> Self {
        let metadata = event.metadata();
        let mut text = Text::default();
        event.record(&mut text);
        Self {
            r#type: "log",
            level: level(metadata.level()),
            target: metadata.target(),
            message: text.message,
            fields: text.fields,
            timestamp: Timestamp::now(),
            dropped,
        }
    }

    /// How many lines are missing if this one is not published.
    pub fn weight(&self) -> u64 {
        self.dropped + 1
    }

    /// Counts `more` lines before this one as missing.
    pub fn add_dropped(&mut self, more: u64) {
        self.dropped += more;
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn level(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The message and the fields of a line, up to [`LONGEST`] bytes.
#[derive(Default)]
struct Text {
    message: String,
    fields: Map<String, Value>,
    length: usize,
}

impl Text {
    fn keep(&mut self, field: &Field, value: Value) {
        if self.fields.len() < MOST_FIELDS {
            self.fields.insert(field.name().to_owned(), value);
        }
    }

    fn keep_text(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let mut clipped = Clipped { text: String::new(), room: LONGEST - self.length };
        // An error means that the room is used up; what fits is kept.
        let _ = clipped.write_fmt(value);
        self.length += clipped.text.len();
        if field.name() == "message" {
            self.message = clipped.text;
        } else {
            self.keep(field, clipped.text.into());
        }
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep_text(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep_text(field, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.keep_text(field, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, value.into());
    }
}

/// A text that stops growing when its room is used up.
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

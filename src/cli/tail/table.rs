//! The latest values as a table that is drawn again where it was, for `fanline tail --mode latest` on a terminal.
//!
//! A row is a topic, or a key of a topic if the pointer finds one in the payload. Rows beyond the height of the terminal are counted.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};

use rustix::termios::tcgetwinsize;
use serde::Deserialize;
use serde_json::value::RawValue;
use sse_core::MessageEvent;

use super::line::Envelope;
use crate::cli::key_pointer::KeyPointer;
use crate::cli::printable;

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub rows: usize,
    pub columns: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self { rows: 24, columns: 80 }
    }
}

impl Size {
    /// The size of the terminal that is standard output.
    pub fn of_output() -> Self {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
                Self { rows: size.ws_row.into(), columns: size.ws_col.into() }
            }
            _ => Self::default(),
        }
    }
}

#[derive(Debug, Default)]
pub struct Table {
    pointer: Option<KeyPointer>,
    /// The values, by topic and key.
    values: BTreeMap<(String, String), String>,
    /// The number of lines on the terminal.
    drawn: usize,
    has_changed: bool,
}

/// The data of a deletion, unless its publisher gave it another.
#[derive(Deserialize)]
struct Deleted {
    topic: String,
    key: Option<String>,
}

impl Table {
    pub fn new(pointer: Option<KeyPointer>) -> Self {
        Self { pointer, ..Self::default() }
    }

    /// Takes a published event.
    pub fn add(&mut self, event: &MessageEvent) {
        let Ok(Envelope { topic, event, data, text }) = serde_json::from_str(&event.data) else { return };
        self.has_changed = true;
        let json = data.map(RawValue::get);
        if event == "delete" {
            let deleted = json.and_then(|json| serde_json::from_str::<Deleted>(json).ok());
            let (topic, key) = deleted.map_or((topic.into_owned(), None), |deleted| (deleted.topic, deleted.key));
            self.values.remove(&(topic, key.unwrap_or_default()));
            return;
        }
        let key = self.pointer.as_ref().zip(json).and_then(|(pointer, json)| pointer.find(json).ok());
        let key = key.map_or(String::new(), |key| key.as_str().to_owned());
        let value = json.map(Cow::Borrowed).or(text).unwrap_or_default();
        self.values.insert((topic.into_owned(), key), printable::escape(&value).into_owned());
    }

    /// Forgets everything: the whole snapshot follows.
    pub fn clear(&mut self) {
        self.values.clear();
        self.has_changed = true;
    }

    /// Draws the table over the one before, if it has changed.
    pub fn draw(&mut self, size: Size, out: &mut impl Write) -> io::Result<()> {
        if !std::mem::take(&mut self.has_changed) {
            return Ok(());
        }
        if self.drawn > 0 {
            // Up to the first line of the table, and erase to the end of the screen.
            write!(out, "\x1b[{}A\r\x1b[J", self.drawn)?;
        }
        // One line is left for the cursor, and one for the number of other rows.
        let shown = self.values.len().min(size.rows.saturating_sub(2).max(1));
        let rows = || self.values.iter().take(shown);
        let width =
            |part: fn(&(String, String)) -> &str| rows().map(|(row, _)| part(row).chars().count()).max().unwrap_or(0);
        let (topics, keys) = (width(|row| &row.0), width(|row| &row.1));
        for ((topic, key), value) in rows() {
            let key = if keys > 0 { format!("{key:keys$}  ") } else { String::new() };
            let line: String = format!("{topic:topics$}  {key}{value}").chars().take(size.columns).collect();
            writeln!(out, "{line}")?;
        }
        self.drawn = shown;
        if self.values.len() > shown {
            writeln!(out, "… and {} more", self.values.len() - shown)?;
            self.drawn += 1;
        }
        Ok(())
    }

    /// Leaves the table where it is: the next one is drawn below.
    pub fn leave(&mut self) {
        self.drawn = 0;
        self.has_changed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, topic: &str, data: &str) -> MessageEvent {
        let data = format!(r#"{{"type":"event","id":"7-1","topic":"{topic}","event":"{name}","data":{data}}}"#);
        MessageEvent { event: name.to_owned().into(), data, last_event_id: Some("7-1".into()) }
    }

    fn drawn(table: &mut Table, size: Size) -> String {
        let mut out = Vec::new();
        table.draw(size, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rows_are_replaced_where_they_were() {
        let mut table = Table::new(Some("/id".parse().unwrap()));
        table.add(&event("message", "rooms", r#"{"id":"red","free":1}"#));
        table.add(&event("message", "rooms", r#"{"id":"blue","free":2}"#));
        table.add(&event("message", "cpu", "45.2"));
        let size = Size::default();
        let first =
            "cpu          45.2\nrooms  blue  {\"id\":\"blue\",\"free\":2}\nrooms  red   {\"id\":\"red\",\"free\":1}\n";
        assert_eq!(drawn(&mut table, size), first);
        assert_eq!(drawn(&mut table, size), "", "nothing has changed");
        table.add(&event("delete", "rooms", r#"{"topic":"rooms","key":"red"}"#));
        table.add(&event("message", "rooms", r#"{"id":"blue","free":3}"#));
        let second = "\x1b[3A\r\x1b[Jcpu          45.2\nrooms  blue  {\"id\":\"blue\",\"free\":3}\n";
        assert_eq!(drawn(&mut table, size), second);
        table.clear();
        assert_eq!(drawn(&mut table, size), "\x1b[2A\r\x1b[J");
    }

    #[test]
    fn table_fits_the_terminal_and_escapes_values() {
        let mut table = Table::new(None);
        for number in 0..5 {
            table.add(&event("message", &format!("t{number}"), r#""a long value""#));
        }
        let small = Size { rows: 4, columns: 8 };
        assert_eq!(drawn(&mut table, small), "t0  \"a l\nt1  \"a l\n… and 3 more\n");
        let mut table = Table::new(None);
        let text = r#"{"type":"event","id":"7-1","topic":"t","event":"message","text":"\u001b[2J"}"#;
        table.add(&MessageEvent { event: "message".into(), data: text.into(), last_event_id: None });
        assert!(!drawn(&mut table, Size::default()).contains('\x1b'));
    }
}

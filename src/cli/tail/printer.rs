//! The output of `fanline tail`: events on standard output, notices on standard error.
//!
//! Events named `system`, `heartbeat`, `gap` or `snapshot` are the server's own and not counted as received.

use std::fmt::Display;
use std::io::{self, BufWriter, Write};
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::Value;
use sse_core::MessageEvent;

use super::line;
use super::table::{Size, Table};

/// How events are written.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The payload of each published event and a line end
    Data,
    /// The time when it came, topic, name and payload of each published event on one line
    Log,
    /// The latest value of each topic and key, drawn again when one changes; for --mode latest on a terminal
    Table,
    /// The stream byte for byte, with ids, names, heartbeats and gaps; only with --transport sse
    Sse,
    /// Each event as {"type":"event","id","topic","event","data"} on one line, with "text" for a text, and the server's
    /// own events as {"type","id","data"}
    Json,
}

impl Format {
    /// Whether the topic of each event is needed.
    pub fn needs_envelope(self) -> bool {
        matches!(self, Self::Log | Self::Table | Self::Json)
    }
}

/// How everything is written.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub format: Format,
    /// With [`Format::Log`], in terminal colours.
    pub is_coloured: bool,
    /// Without notices about the connection.
    pub is_quiet: bool,
}

/// The two outputs, and the counts of received and missed events.
pub struct Printer<O: Write, N: Write> {
    events: BufWriter<O>,
    notices: N,
    style: Style,
    table: Table,
    /// The incomplete block, with [`Format::Sse`].
    block: Vec<u8>,
    received: u64,
    /// Gaps, and the number of events in them as far as known.
    gaps: u64,
    missed: u64,
    has_unknown_gap: bool,
}

impl<O: Write, N: Write> Printer<O, N> {
    const BUFFER: usize = 64 * 1024;

    pub fn new(events: O, notices: N, style: Style) -> Self {
        let events = BufWriter::with_capacity(Self::BUFFER, events);
        let table = Table::default();
        Self {
            events,
            notices,
            style,
            table,
            block: Vec::new(),
            received: 0,
            gaps: 0,
            missed: 0,
            has_unknown_gap: false,
        }
    }

    /// Draws `table`, with [`Format::Table`].
    pub fn with_table(self, table: Table) -> Self {
        Self { table, ..self }
    }

    /// Published events received.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether events are to have their envelope as data.
    pub fn needs_envelope(&self) -> bool {
        self.style.format.needs_envelope()
    }

    /// Whether [`raw`](Self::raw) needs the stream's bytes.
    pub fn wants_raw(&self) -> bool {
        self.style.format == Format::Sse
    }

    /// Takes the bytes that the parser consumed, before the event that they complete.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.block.extend_from_slice(bytes);
    }

    /// The parser needs more input. A block of comments completes no event and is written now.
    pub fn input_used_up(&mut self) -> io::Result<()> {
        if [&b"\n\n"[..], b"\r\r", b"\r\n\r\n"].iter().any(|end| self.block.ends_with(end)) {
            self.write_block()?;
        }
        Ok(())
    }

    /// Drops the incomplete block of a lost connection.
    pub fn forget_block(&mut self) {
        self.block.clear();
    }

    fn write_block(&mut self) -> io::Result<()> {
        self.events.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }

    /// Writes one event in the chosen format.
    pub fn event(&mut self, event: &MessageEvent) -> io::Result<()> {
        let is_published = !matches!(&*event.event, "system" | "heartbeat" | "gap" | "snapshot");
        self.received += u64::from(is_published);
        let gap = (event.event == "gap").then(|| serde_json::from_str::<Gap>(&event.data).unwrap_or_default());
        if let Some(gap) = &gap {
            self.count_gap(gap.missed);
        }
        match self.style.format {
            Format::Sse => self.write_block(),
            Format::Json => line::write_json(event, is_published, &mut self.events),
            Format::Data if is_published => {
                self.events.write_all(event.data.as_bytes())?;
                self.events.write_all(b"\n")
            }
            Format::Log if is_published => {
                line::write_log(event, SystemTime::now(), self.style.is_coloured, &mut self.events)
            }
            Format::Table if is_published => {
                self.table.add(event);
                Ok(())
            }
            Format::Data | Format::Log | Format::Table => {
                if gap.is_some() {
                    // With --mode latest, the whole snapshot follows.
                    self.table.clear();
                }
                self.flush()?;
                match gap {
                    Some(gap) => self.warn(gap),
                    None if event.event == "system" => self.note(system_notice(&event.data)),
                    None => {}
                }
                Ok(())
            }
        }
    }

    /// Reports an event over the limit as missed.
    pub fn skipped(&mut self, limit: usize) -> io::Result<()> {
        self.count_gap(Some(1));
        self.flush()?;
        self.warn(format_args!("gap: an event of more than {limit} bytes was skipped"));
        Ok(())
    }

    /// Writes a line about the connection to standard error, unless quiet.
    pub fn note(&mut self, line: impl Display) {
        if !self.style.is_quiet {
            self.warn(line);
        }
    }

    fn warn(&mut self, line: impl Display) {
        self.table.leave();
        // A closed standard error is no failure.
        let _ = writeln!(self.notices, "{line}");
    }

    /// Flushes the events.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.style.format == Format::Table {
            self.table.draw(Size::of_output(), &mut self.events)?;
        }
        self.events.flush()
    }

    /// Flushes the events and reports missed ones.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        if self.gaps > 0 {
            let at_least = if self.has_unknown_gap { "at least " } else { "" };
            let line = format!("received {}, missed {at_least}{}", self.received, self.missed);
            self.warn(line);
        }
        Ok(())
    }

    fn count_gap(&mut self, missed: Option<u64>) {
        self.gaps += 1;
        self.missed = self.missed.saturating_add(missed.unwrap_or(0));
        self.has_unknown_gap |= missed.is_none();
    }
}

/// The data of a `gap` event. Another server may omit any field.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Gap {
    reason: Option<String>,
    from: Option<String>,
    to: Option<String>,
    missed: Option<u64>,
}

impl Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "gap: {}, missed ", self.reason.as_deref().unwrap_or("no reason given"))?;
        match self.missed {
            Some(1) => f.write_str("1 event")?,
            Some(missed) => write!(f, "{missed} events")?,
            None => f.write_str("an unknown number of events")?,
        }
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, " (from {from} to {to})"),
            (Some(from), None) => write!(f, " (from {from})"),
            (None, Some(to)) => write!(f, " (up to {to})"),
            (None, None) => Ok(()),
        }
    }
}

/// The data of a `system` event as one line.
fn system_notice(data: &str) -> String {
    let fields: Value = serde_json::from_str(data).unwrap_or_default();
    let Some(message) = fields["message"].as_str() else {
        return format!("server: {}", data.escape_debug());
    };
    let mut line = match message {
        "connected" => "connected".to_string(),
        other => format!("server: {other}"),
    };
    for (field, before, after) in [
        ("client_id", "as ", ""),
        ("position", "at ", ""),
        ("expires_in", "in ", " s"),
        ("replayed", "with ", " replayed"),
    ] {
        match &fields[field] {
            Value::String(text) => line.push_str(&format!(", {before}{}{after}", text.escape_debug())),
            Value::Number(number) => line.push_str(&format!(", {before}{number}{after}")),
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &'static str, data: &str) -> MessageEvent {
        MessageEvent { event: name.into(), data: data.into(), last_event_id: Some("1-7".into()) }
    }

    /// Prints the events. Returns standard output and standard error.
    fn printed(format: Format, is_quiet: bool, events: &[MessageEvent]) -> (String, String) {
        let (mut out, mut notices) = (Vec::new(), Vec::new());
        let mut printer = Printer::new(&mut out, &mut notices, Style { format, is_coloured: false, is_quiet });
        for event in events {
            printer.event(event).unwrap();
        }
        printer.finish().unwrap();
        (String::from_utf8(out).unwrap(), String::from_utf8(notices).unwrap())
    }

    fn all_kinds() -> [MessageEvent; 5] {
        [
            event("system", r#"{"message":"connected","client_id":"c1","position":"1-7","replayed":2,"retry":5000}"#),
            event("data", "one\ntwo"),
            event("heartbeat", r#"{"timestamp":1,"clients":2}"#),
            event("gap", r#"{"reason":"lagged","from":"1-8","to":"1-1241","missed":1234}"#),
            event("update", ""),
        ]
    }

    #[test]
    fn data_format_is_the_payload_and_notices_go_to_standard_error() {
        let (out, notices) = printed(Format::Data, false, &all_kinds());
        assert_eq!(out, "one\ntwo\n\n");
        assert_eq!(
            notices,
            "connected, as c1, at 1-7, with 2 replayed\n\
             gap: lagged, missed 1234 events (from 1-8 to 1-1241)\n\
             received 2, missed 1234\n"
        );
    }

    #[test]
    fn quiet_omits_notices_but_not_gaps() {
        let (_, notices) = printed(Format::Data, true, &all_kinds());
        assert_eq!(notices, "gap: lagged, missed 1234 events (from 1-8 to 1-1241)\nreceived 2, missed 1234\n");
    }

    #[test]
    fn json_format_has_a_line_for_every_event() {
        let (out, notices) = printed(Format::Json, false, &all_kinds());
        let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let types: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
        assert_eq!(types, ["system", "event", "heartbeat", "gap", "event"]);
        assert_eq!(notices, "received 2, missed 1234\n");
    }

    #[test]
    fn gap_of_unknown_size_makes_the_total_a_lower_bound() {
        let unknown = event("gap", r#"{"reason":"epoch","from":"1-8","to":"2-1","missed":null}"#);
        let known = event("gap", r#"{"reason":"evicted","from":"2-1","to":"2-3","missed":1}"#);
        let (_, notices) = printed(Format::Data, false, &[unknown, known]);
        assert_eq!(
            notices,
            "gap: epoch, missed an unknown number of events (from 1-8 to 2-1)\n\
             gap: evicted, missed 1 event (from 2-1 to 2-3)\n\
             received 0, missed at least 1\n"
        );
    }

    #[test]
    fn unreadable_gap_is_reported() {
        let (_, notices) = printed(Format::Data, false, &[event("gap", "?")]);
        assert_eq!(
            notices,
            "gap: no reason given, missed an unknown number of events\nreceived 0, missed at least 0\n"
        );
    }

    #[test]
    fn system_event_is_always_one_line() {
        assert_eq!(system_notice(r#"{"message":"server restarting"}"#), "server: server restarting");
        assert_eq!(system_notice(r#"{"message":"token expires","expires_in":60}"#), "server: token expires, in 60 s");
        assert_eq!(system_notice("two\nlines"), "server: two\\nlines");
    }
}

//! One event as one line: JSON for programs, or time, topic, name and payload for people.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sse_core::MessageEvent;

use crate::cli::printable;

/// The data of a published event when the stream has `format=envelope`.
#[derive(Deserialize)]
pub struct Envelope<'a> {
    #[serde(borrow)]
    pub topic: Cow<'a, str>,
    #[serde(borrow)]
    pub event: Cow<'a, str>,
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
    #[serde(borrow)]
    pub text: Option<Cow<'a, str>>,
}

/// A line for an event without an envelope: one of the server's own, or of a server that has no envelopes.
#[derive(Serialize)]
struct Bare<'a> {
    r#type: &'a str,
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

/// Writes the envelope of a published event as it is, on one line. The server's own events have their name as `type`.
pub fn write_json(event: &MessageEvent, is_published: bool, out: &mut impl Write) -> io::Result<()> {
    if is_published && serde_json::from_str::<Envelope<'_>>(&event.data).is_ok() {
        return writeln!(out, "{}", joined(&event.data));
    }
    let name: &str = &event.event;
    let data = if is_published { None } else { serde_json::from_str(&event.data).ok() };
    let line = Bare {
        r#type: if is_published { "event" } else { name },
        id: event.last_event_id.as_deref(),
        event: is_published.then_some(name),
        data,
        text: data.is_none().then_some(&*event.data),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// Writes a published event for people. Characters that a terminal would interpret are escaped.
pub fn write_log(event: &MessageEvent, time: SystemTime, is_coloured: bool, out: &mut impl Write) -> io::Result<()> {
    let envelope = serde_json::from_str(&event.data).unwrap_or(Envelope {
        topic: "".into(),
        event: (&*event.event).into(),
        data: None,
        text: Some((&*event.data).into()),
    });
    let json = envelope.data.map(|json| joined(json.get()));
    let payload = json.or(envelope.text).unwrap_or_default();
    let time = humantime::format_rfc3339_millis(time).to_string();
    let name = if envelope.event == "message" { "" } else { &envelope.event };
    // Dim, cyan, yellow.
    for (text, colour) in [(time.as_str(), "2"), (&envelope.topic, "36"), (name, "33")] {
        let text = printable::escape(text);
        match (text.is_empty(), is_coloured) {
            (true, _) => {}
            (false, true) => write!(out, "\x1b[{colour}m{text}\x1b[0m ")?,
            (false, false) => write!(out, "{text} ")?,
        }
    }
    writeln!(out, "{}", printable::escape(&payload))
}

/// JSON on one line. Its line ends are between tokens.
fn joined(json: &str) -> Cow<'_, str> {
    if json.contains('\n') { json.replace('\n', " ").into() } else { json.into() }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn event(name: &'static str, data: &str) -> MessageEvent {
        MessageEvent { event: name.into(), data: data.into(), last_event_id: Some("1-7".into()) }
    }

    fn json(name: &'static str, is_published: bool, data: &str) -> String {
        let mut line = Vec::new();
        write_json(&event(name, data), is_published, &mut line).unwrap();
        String::from_utf8(line).unwrap()
    }

    fn log(name: &'static str, data: &str, is_coloured: bool) -> String {
        let mut line = Vec::new();
        write_log(&event(name, data), UNIX_EPOCH + Duration::from_millis(1500), is_coloured, &mut line).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn envelope_is_written_as_it_is_on_one_line() {
        let envelope = r#"{"type":"event","id":"1-7","topic":"t","event":"message","data":{"b": 1.0,"a":1e3}}"#;
        assert_eq!(json("message", true, envelope), format!("{envelope}\n"));
        assert_eq!(json("message", true, &envelope.replace(": ", ":\n")), format!("{envelope}\n"));
    }

    #[test]
    fn event_without_an_envelope_becomes_a_line_of_the_same_form() {
        let data = r#"{"reason":"lagged","missed":3}"#;
        assert_eq!(json("gap", false, data), format!("{{\"type\":\"gap\",\"id\":\"1-7\",\"data\":{data}}}\n"));
        assert_eq!(json("gap", false, "?"), "{\"type\":\"gap\",\"id\":\"1-7\",\"text\":\"?\"}\n");
        assert_eq!(json("x", true, "{}"), "{\"type\":\"event\",\"id\":\"1-7\",\"event\":\"x\",\"text\":\"{}\"}\n");
    }

    #[test]
    fn log_line_has_time_topic_name_and_payload() {
        let named = r#"{"type":"event","id":"1-7","topic":"a.b","event":"update","data":{"x": 1}}"#;
        assert_eq!(log("update", named, false), "1970-01-01T00:00:01.500Z a.b update {\"x\": 1}\n");
        assert_eq!(
            log("update", named, true),
            "\x1b[2m1970-01-01T00:00:01.500Z\x1b[0m \x1b[36ma.b\x1b[0m \x1b[33mupdate\x1b[0m {\"x\": 1}\n"
        );
        let text = r#"{"type":"event","id":"1-7","topic":"t","event":"message","text":"two\nlines\u001b[2J"}"#;
        assert_eq!(log("message", text, false), "1970-01-01T00:00:01.500Z t two\\nlines\\u{1b}[2J\n");
        assert_eq!(log("x", "bare", false), "1970-01-01T00:00:01.500Z x bare\n");
    }
}

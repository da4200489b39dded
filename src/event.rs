//! An event as a publisher hands it in: validated once, at the border, and passed through byte for byte.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::topic::Topic;

/// What a publisher hands to the hub.
///
/// The payload is UTF-8. Nobody re-formats it: a JSON payload reaches subscribers with the white space, the number
/// formats and the key order that its publisher gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    topic: Topic,
    name: EventName,
    payload: Payload,
}

impl Event {
    /// An event of `topic` with the default name `data`.
    pub fn new(topic: Topic, payload: Payload) -> Self {
        Self { topic, name: EventName::DATA, payload }
    }

    /// The same event under another name: what `EventSource` calls its type.
    #[must_use]
    pub fn named(self, name: EventName) -> Self {
        Self { name, ..self }
    }

    /// What it is about.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Its name.
    pub fn name(&self) -> &EventName {
        &self.name
    }

    /// What it carries.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }
}

/// What an event carries: UTF-8 text, of which is known whether it is one JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    text: Bytes,
    is_json: bool,
}

impl Payload {
    /// Raw text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: Bytes::from(text.into()), is_json: false }
    }

    /// Text that holds one JSON value. The caller has parsed it: nothing here looks at it again.
    pub fn json(text: impl Into<String>) -> Self {
        Self { text: Bytes::from(text.into()), is_json: true }
    }

    /// Takes bytes that are known to be UTF-8, and JSON where they are said to be.
    pub(crate) fn of_utf8(text: Bytes, is_json: bool) -> Self {
        debug_assert!(std::str::from_utf8(&text).is_ok());
        Self { text, is_json }
    }

    /// The payload's bytes: always UTF-8.
    pub fn as_bytes(&self) -> &Bytes {
        &self.text
    }

    /// Whether the payload is one JSON value, so that a transport that speaks JSON embeds it as it is.
    pub fn is_json(&self) -> bool {
        self.is_json
    }
}

/// A validated event name: 1 to 255 bytes of UTF-8 without control characters.
///
/// An SSE field ends at CR or LF, so neither can be part of a name (WHATWG HTML, section 9.2.6).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EventName(Bytes);

impl EventName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// The name of an event whose publisher gave it none: `data`.
    pub const DATA: Self = Self(Bytes::from_static(b"data"));

    /// The names of what the server says itself.
    pub const OF_THE_SERVER: [&str; 3] = ["system", "gap", "heartbeat"];

    /// Takes `text` as a name, or says which rule it breaks.
    ///
    /// # Errors
    /// [`InvalidEventName`] when `text` is empty, too long, holds a control character, or is a name by which the server
    /// speaks to clients itself: nobody else is to tell them of a gap.
    pub fn new(text: &str) -> Result<Self, InvalidEventName> {
        if text == "data" {
            return Ok(Self::DATA);
        }
        if text.is_empty() {
            return Err(InvalidEventName::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidEventName::TooLong(text.len()));
        }
        if let Some(name) = Self::OF_THE_SERVER.into_iter().find(|name| *name == text) {
            return Err(InvalidEventName::Reserved(name));
        }
        match text.chars().find(|c| c.is_control()) {
            Some(c) => Err(InvalidEventName::Character(c)),
            None => Ok(Self(Bytes::copy_from_slice(text.as_bytes()))),
        }
    }

    /// The name's bytes: always UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

impl FromStr for EventName {
    type Err = InvalidEventName;

    fn from_str(text: &str) -> Result<Self, InvalidEventName> {
        Self::new(text)
    }
}

/// Why a text is no event name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidEventName {
    /// There is no text.
    Empty,
    /// It has this many bytes, more than [`EventName::MAX_BYTES`].
    TooLong(usize),
    /// It holds this control character.
    Character(char),
    /// It is this one of [`EventName::OF_THE_SERVER`].
    Reserved(&'static str),
}

impl fmt::Display for InvalidEventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("an event name has at least one character"),
            Self::TooLong(bytes) => {
                write!(f, "an event name has at most {} bytes, this one has {bytes}", EventName::MAX_BYTES)
            }
            Self::Reserved(name) => {
                let names = EventName::OF_THE_SERVER.join(", ");
                write!(f, "{name:?} is how the server itself speaks to clients ({names}): take another event name")
            }
            Self::Character(c) => write!(f, "an event name holds no control character, this one holds {c:?}"),
        }
    }
}

impl std::error::Error for InvalidEventName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_name_defaults_to_data() {
        let event = Event::new(Topic::new("t").unwrap(), Payload::text("x"));
        assert_eq!(event.name().as_bytes(), b"data");
        assert_eq!(event.named(EventName::new("update now").unwrap()).name().as_bytes(), b"update now");
    }

    #[test]
    fn a_text_that_is_no_name_is_refused_with_the_rule_it_breaks() {
        assert_eq!(EventName::new(""), Err(InvalidEventName::Empty));
        assert_eq!(EventName::new(&"x".repeat(256)), Err(InvalidEventName::TooLong(256)));
        for c in ['\r', '\n', '\0', '\t', '\u{1b}', '\u{85}'] {
            assert_eq!(EventName::new(&format!("a{c}")), Err(InvalidEventName::Character(c)));
        }
        for name in EventName::OF_THE_SERVER {
            assert_eq!(EventName::new(name), Err(InvalidEventName::Reserved(name)));
            assert!(EventName::new(&format!("{name}s")).is_ok());
        }
    }
}

//! Events as publishers hand them in: validated once, then passed through byte for byte.

mod key;

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::Serialize;
use thiserror::Error;

use crate::topic::Topic;
pub use key::{InvalidKey, Key};

/// An event to publish.
///
/// The payload is UTF-8 and is never re-formatted: a JSON payload reaches subscribers with the white space, the number
/// formats and the key order that its publisher gave it.
///
/// ```
/// use fanline::event::{Event, Payload};
/// use fanline::topic::Topic;
///
/// let event = Event::new(Topic::new("orders:17")?, Payload::json(r#"{"state": "paid"}"#)?);
/// assert_eq!(event.name().as_str(), "message"); // `onmessage` in browsers
/// let event = event.named("updated".parse()?); // `addEventListener("updated", …)`
/// assert_eq!(event.name().as_str(), "updated");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    topic: Topic,
    name: EventName,
    payload: Payload,
    key: Option<Key>,
    is_deletion: bool,
}

impl Event {
    /// An event of `topic` without a name of its own: [`EventName::MESSAGE`].
    pub fn new(topic: Topic, payload: Payload) -> Self {
        Self { topic, name: EventName::MESSAGE, payload, key: None, is_deletion: false }
    }

    /// An event that deletes the latest value of `key`, or the topic's value without a key. Its name is
    /// [`EventName::DELETE`], its payload JSON with the topic and the key.
    ///
    /// ```
    /// use fanline::event::Event;
    ///
    /// let event = Event::deletion("sensors".parse()?, Some("17".parse()?));
    /// assert_eq!(event.name().as_str(), "delete");
    /// assert_eq!(event.payload().as_str(), r#"{"topic":"sensors","key":"17"}"#);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn deletion(topic: Topic, key: Option<Key>) -> Self {
        #[derive(Serialize)]
        struct Deleted<'a> {
            topic: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            key: Option<&'a str>,
        }
        let deleted = Deleted { topic: topic.as_str(), key: key.as_ref().map(Key::as_str) };
        let payload = Payload::serialize(&deleted).expect("texts are JSON");
        Self { topic, name: EventName::DELETE, payload, key, is_deletion: true }
    }

    /// The same event as the latest value of `key`. Without a key an event is the single value of its topic.
    #[must_use]
    pub fn keyed(self, key: Key) -> Self {
        Self { key: Some(key), ..self }
    }

    /// The same event as one that deletes the latest value of its key. It keeps its name and its payload.
    #[must_use]
    pub fn deleting(self) -> Self {
        Self { is_deletion: true, ..self }
    }

    /// The same event under another name: what `EventSource` calls its type.
    #[must_use]
    pub fn named(self, name: EventName) -> Self {
        Self { name, ..self }
    }

    /// The topic that it is published to.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Its name.
    pub fn name(&self) -> &EventName {
        &self.name
    }

    /// Its payload.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The key of which it is the latest value.
    pub fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// Whether it deletes the latest value of its key.
    pub fn is_deletion(&self) -> bool {
        self.is_deletion
    }
}

/// An event's payload: UTF-8 text, with a mark that says whether it is one JSON value.
///
/// ```
/// use fanline::event::Payload;
///
/// let text = Payload::text("1.0842");
/// let json = Payload::json(r#"{"rate": 1.0842}"#)?;
/// let value = Payload::serialize(&[1.0842, 1.0843])?;
/// assert_eq!([&text, &json, &value].map(Payload::is_json), [false, true, true]);
/// assert_eq!(value.as_str(), "[1.0842,1.0843]");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    text: Bytes,
    is_json: bool,
}

/// The text is not one JSON value.
#[derive(Debug, Error)]
#[error("the payload is not one JSON value: {0}")]
pub struct InvalidJson(serde_json::Error);

/// The value cannot be written as JSON.
#[derive(Debug, Error)]
#[error("the value cannot be written as JSON: {0}")]
pub struct SerializeError(serde_json::Error);

impl Payload {
    /// Plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: Bytes::from(text.into()), is_json: false }
    }

    /// Text that holds one JSON value.
    ///
    /// # Errors
    /// [`InvalidJson`] with the place where the text is not JSON.
    ///
    /// ```
    /// use fanline::event::Payload;
    ///
    /// assert!(Payload::json(r#"{"cpu": 45.20}"#).is_ok());
    /// assert!(Payload::json("{cpu}").is_err());
    /// ```
    pub fn json(text: impl Into<String>) -> Result<Self, InvalidJson> {
        let text = text.into();
        serde_json::from_str::<&serde_json::value::RawValue>(&text).map_err(InvalidJson)?;
        Ok(Self::json_unchecked(text))
    }

    /// A value as JSON.
    ///
    /// # Errors
    /// [`SerializeError`] when the value has a form that JSON does not have, such as a map whose keys are no strings.
    ///
    /// ```
    /// use fanline::event::Payload;
    /// use serde::Serialize;
    ///
    /// #[derive(Serialize)]
    /// struct Sample {
    ///     cpu: f64,
    /// }
    ///
    /// let payload = Payload::serialize(&Sample { cpu: 45.2 }).unwrap();
    /// assert_eq!(payload, Payload::json(r#"{"cpu":45.2}"#).unwrap());
    /// ```
    pub fn serialize<T: Serialize + ?Sized>(value: &T) -> Result<Self, SerializeError> {
        let text = serde_json::to_vec(value).map_err(SerializeError)?;
        Ok(Self::of_utf8(text.into(), true))
    }

    /// Text that is known to hold one JSON value, for example because a serializer wrote it. Other text reaches
    /// subscribers that expect JSON.
    pub fn json_unchecked(text: impl Into<String>) -> Self {
        Self { text: Bytes::from(text.into()), is_json: true }
    }

    /// Bytes that are known to be UTF-8, and JSON where `is_json`.
    pub(crate) fn of_utf8(text: Bytes, is_json: bool) -> Self {
        debug_assert!(std::str::from_utf8(&text).is_ok());
        Self { text, is_json }
    }

    /// The payload's text. Checks the bytes: [`as_bytes`](Self::as_bytes) costs nothing.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).expect("a payload is UTF-8")
    }

    /// The payload's bytes: always UTF-8.
    pub fn as_bytes(&self) -> &Bytes {
        &self.text
    }

    /// Whether the payload is one JSON value, which a JSON transport embeds unchanged.
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

    /// The name of an event whose publisher gave it none: `message`. `EventSource` reads that name into an event without an
    /// `event:` line and calls `onmessage`, so the line is not sent.
    pub const MESSAGE: Self = Self(Bytes::from_static(b"message"));

    /// The name of a [deletion](Event::deletion) whose publisher gave it none: `delete`.
    pub const DELETE: Self = Self(Bytes::from_static(b"delete"));

    /// The names of the server's control events, which publishers cannot use.
    pub const RESERVED: [&str; 4] = ["system", "gap", "heartbeat", "snapshot"];

    /// Validates `text` as a name.
    ///
    /// # Errors
    /// [`InvalidEventName`] when `text` is empty, too long, contains a control character, or is [reserved](Self::RESERVED).
    pub fn new(text: &str) -> Result<Self, InvalidEventName> {
        if text.as_bytes() == Self::MESSAGE.as_bytes() {
            return Ok(Self::MESSAGE);
        }
        if text.is_empty() {
            return Err(InvalidEventName::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidEventName::TooLong(text.len()));
        }
        if let Some(name) = Self::RESERVED.into_iter().find(|name| *name == text) {
            return Err(InvalidEventName::Reserved(name));
        }
        match text.chars().find(|c| c.is_control()) {
            Some(c) => Err(InvalidEventName::Character(c)),
            None => Ok(Self(Bytes::copy_from_slice(text.as_bytes()))),
        }
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a name is UTF-8")
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

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventName {
    type Err = InvalidEventName;

    fn from_str(text: &str) -> Result<Self, InvalidEventName> {
        Self::new(text)
    }
}

/// The rule that an event name breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidEventName {
    /// The name is empty.
    #[error("event names cannot be empty")]
    Empty,
    /// The name has this many bytes, more than [`EventName::MAX_BYTES`].
    #[error("event names can have at most {max} bytes, this one has {0}", max = EventName::MAX_BYTES)]
    TooLong(usize),
    /// The name contains this control character.
    #[error("event names cannot contain control characters, this one contains {0:?}")]
    Character(char),
    /// The name is one of [`EventName::RESERVED`].
    #[error("the event name {0:?} is reserved for the server ({names}); choose another name", names = EventName::RESERVED.join(", "))]
    Reserved(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_without_a_name_is_a_message() {
        let event = Event::new(Topic::new("t").unwrap(), Payload::text("x"));
        assert_eq!(event.name(), &EventName::MESSAGE);
        assert_eq!(EventName::new("message"), Ok(EventName::MESSAGE));
        assert_eq!(event.named(EventName::new("update now").unwrap()).name().as_bytes(), b"update now");
    }

    #[test]
    fn invalid_names_are_rejected_with_the_rule() {
        assert_eq!(EventName::new(""), Err(InvalidEventName::Empty));
        assert_eq!(EventName::new(&"x".repeat(256)), Err(InvalidEventName::TooLong(256)));
        for c in ['\r', '\n', '\0', '\t', '\u{1b}', '\u{85}'] {
            assert_eq!(EventName::new(&format!("a{c}")), Err(InvalidEventName::Character(c)));
        }
        for name in EventName::RESERVED {
            assert_eq!(EventName::new(name), Err(InvalidEventName::Reserved(name)));
            assert!(EventName::new(&format!("{name}s")).is_ok());
        }
    }

    #[test]
    fn deletions_have_a_default_name_and_payload() {
        let topic = || Topic::new("t").unwrap();
        let key = Key::new("a \"b\"").unwrap();
        let event = Event::deletion(topic(), Some(key.clone()));
        assert_eq!((event.name(), event.key(), event.is_deletion()), (&EventName::DELETE, Some(&key), true));
        assert_eq!(event.payload().as_str(), r#"{"topic":"t","key":"a \"b\""}"#);
        assert_eq!(Event::deletion(topic(), None).payload().as_str(), r#"{"topic":"t"}"#);
        let event = Event::new(topic(), Payload::text("gone")).keyed(key).deleting();
        assert_eq!((event.name(), event.payload().as_str(), event.is_deletion()), (&EventName::MESSAGE, "gone", true));
    }

    #[test]
    fn values_are_written_as_json() {
        let payload = Payload::serialize(&("größe", 1.5, None::<u8>)).unwrap();
        assert_eq!(payload, Payload::json(r#"["größe",1.5,null]"#).unwrap());
        let map = std::collections::HashMap::from([((1, 2), 3)]);
        let error = Payload::serialize(&map).unwrap_err().to_string();
        assert_eq!(error, "the value cannot be written as JSON: key must be a string");
    }

    #[test]
    fn json_payloads_are_one_value_and_keep_their_format() {
        let payload = Payload::json(r#" {"b": 1.50, "a": null} "#).unwrap();
        assert!(payload.is_json());
        assert_eq!(&payload.as_bytes()[..], br#" {"b": 1.50, "a": null} "#);
        for text in ["", "{", "1 2", "'a'", "{\"a\": }"] {
            let error = Payload::json(text).unwrap_err().to_string();
            assert!(error.starts_with("the payload is not one JSON value: "), "{text:?}: {error}");
        }
    }
}

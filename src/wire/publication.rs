//! Published events as JSON objects.
//!
//! ```json
//! {"topic": "metric", "event": "sample", "data": {"name": "cpu_usage", "value": 45.2}}
//! ```
//!
//! `topic` is required. The payload is either `data`, any JSON value, which is kept byte for byte, or `text`, a string
//! whose content is sent raw. `event` is the event's name, without which browsers receive it with `onmessage`. The event is the
//! latest value of `key`. `"delete": true` deletes that value, and needs no payload. Unknown fields are errors, so that a
//! misspelled one does not silently lose its value.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::event::{Event, EventName, InvalidEventName, InvalidKey, Key, Payload};
use crate::topic::{InvalidTopic, Topic};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow, default)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(default)]
    delete: bool,
}

/// Fields of a JSON object. The derived implementation alone would also accept an array of their values.
struct Object<'a>(Fields<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor;

        impl<'de> Visitor<'de> for MapVisitor {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event, which is an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<'de>, A::Error> {
                Fields::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(MapVisitor)
    }
}

/// A message that publishes an event: its fields, with those that every message has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageFields<'a> {
    #[serde(rename = "type")]
    _type: IgnoredAny,
    #[serde(default, rename = "ref")]
    _ref: IgnoredAny,
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow, default)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(default)]
    delete: bool,
}

/// Distinguishes `null` from a missing key.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Why a body cannot be published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPublication {
    /// Not the expected JSON; the message has the line and column.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Not UTF-8 from this byte on, counted from 0.
    #[error("the text is not valid UTF-8 from byte {0} on")]
    Utf8(usize),
    /// An invalid topic.
    #[error("\"topic\": {0}")]
    Topic(#[from] InvalidTopic),
    /// An invalid event name.
    #[error("\"event\": {0}")]
    EventName(#[from] InvalidEventName),
    /// An invalid key.
    #[error("\"key\": {0}")]
    Key(#[from] InvalidKey),
    /// No payload.
    #[error("an event has a payload: \"data\" (any JSON value) or \"text\" (a string that is sent raw)")]
    NoPayload,
    /// Two payloads.
    #[error("an event has one payload: either \"data\" or \"text\"")]
    TwoPayloads,
    /// A payload over the limit.
    #[error("the payload has {bytes} bytes, and the limit is {max_bytes} (setting max_event_bytes)")]
    TooLarge {
        /// Length of the payload.
        bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// An invalid element of an array.
    #[error("event {index} of the array: {error}")]
    InArray {
        /// Index of the element, counted from 0.
        index: usize,
        /// Its error.
        error: Box<InvalidPublication>,
    },
}

impl InvalidPublication {
    /// Whether the payload is valid but too large.
    pub fn is_too_large(&self) -> bool {
        match self {
            Self::TooLarge { .. } => true,
            Self::InArray { error, .. } => error.is_too_large(),
            _ => false,
        }
    }
}

/// Parses JSON. One check of all bytes for UTF-8 costs less than one of each string.
fn from_json<'a, T: Deserialize<'a>>(json: &'a [u8]) -> serde_json::Result<T> {
    match std::str::from_utf8(json) {
        Ok(text) => serde_json::from_str(text),
        // Returns the error with its line and column.
        Err(_) => serde_json::from_slice(json),
    }
}

/// Parses one event, a JSON object.
///
/// # Errors
/// [`InvalidPublication`]; malformed JSON is reported with line and column.
pub fn parse_event(json: &Bytes, max_event_bytes: usize) -> Result<Event, InvalidPublication> {
    parse_event_after(json, max_event_bytes, None)
}

/// Like [`parse_event`]. An event of the topic `before`, that of an earlier event, shares its memory and is not checked again.
pub(crate) fn parse_event_after(
    json: &Bytes,
    max_event_bytes: usize,
    before: Option<&Topic>,
) -> Result<Event, InvalidPublication> {
    from_json::<Object<'_>>(json)?.0.into_event(json, max_event_bytes, before)
}

/// Parses the event of a WebSocket message of the type `publish`, a JSON object that has the keys `type` and `ref` as well.
///
/// # Errors
/// As [`parse_event`].
pub(crate) fn parse_publish_message(json: &Bytes, max_event_bytes: usize) -> Result<Event, InvalidPublication> {
    let MessageFields { topic, event, data, text, key, delete, .. } = serde_json::from_slice(json)?;
    Fields { topic, event, data, text, key, delete }.into_event(json, max_event_bytes, None)
}

/// Whether the text is an array, if it is JSON.
pub(crate) fn is_array(json: &[u8]) -> bool {
    json.trim_ascii_start().first() == Some(&b'[')
}

/// Parses a JSON array of events, all or none, or one event.
///
/// # Errors
/// [`InvalidPublication`] of the first invalid event.
pub fn parse_events(json: &Bytes, max_event_bytes: usize) -> Result<Vec<Event>, InvalidPublication> {
    if !is_array(json) {
        return parse_event(json, max_event_bytes).map(|event| vec![event]);
    }
    let objects: Vec<Object<'_>> = from_json(json)?;
    let events = objects.into_iter().enumerate().map(|(index, Object(fields))| {
        fields
            .into_event(json, max_event_bytes, None)
            .map_err(|error| InvalidPublication::InArray { index, error: Box::new(error) })
    });
    events.collect()
}

/// Parses a whole body as the payload of an event: one JSON value, or raw text.
///
/// # Errors
/// [`InvalidPublication`] when the body is too large, not UTF-8, or not the JSON it should be.
pub fn parse_payload(body: Bytes, is_json: bool, max_event_bytes: usize) -> Result<Payload, InvalidPublication> {
    if is_json {
        let value: &RawValue = from_json(&body)?;
        return payload(body.slice_ref(value.get().as_bytes()), true, max_event_bytes);
    }
    std::str::from_utf8(&body).map_err(|error| InvalidPublication::Utf8(error.valid_up_to()))?;
    payload(body, false, max_event_bytes)
}

impl Fields<'_> {
    /// The event, whose payload is a slice of `json` where possible.
    fn into_event(self, json: &Bytes, max_bytes: usize, before: Option<&Topic>) -> Result<Event, InvalidPublication> {
        let topic = match before.filter(|before| before.as_str() == self.topic) {
            Some(before) => before.clone(),
            None => Topic::new(&self.topic)?,
        };
        let name = self.event.as_deref().map(EventName::new).transpose()?;
        let key = self.key.as_deref().map(Key::new).transpose()?;
        let payload = match (self.data, self.text) {
            (Some(data), None) => Some(payload(json.slice_ref(data.get().as_bytes()), true, max_bytes)?),
            (None, Some(Cow::Borrowed(text))) => Some(payload(json.slice_ref(text.as_bytes()), false, max_bytes)?),
            (None, Some(Cow::Owned(text))) => Some(payload(Bytes::from(text), false, max_bytes)?),
            (None, None) if self.delete => None,
            (None, None) => return Err(InvalidPublication::NoPayload),
            (Some(_), Some(_)) => return Err(InvalidPublication::TwoPayloads),
        };
        Ok(event(topic, name, key, payload, self.delete))
    }
}

/// An event of these parts. Without a payload it is a deletion.
pub(crate) fn event(
    topic: Topic,
    name: Option<EventName>,
    key: Option<Key>,
    payload: Option<Payload>,
    is_deletion: bool,
) -> Event {
    let event = match payload {
        None => Event::deletion(topic, key),
        Some(payload) => {
            let event = Event::new(topic, payload);
            let event = if let Some(key) = key { event.keyed(key) } else { event };
            if is_deletion { event.deleting().named(EventName::DELETE) } else { event }
        }
    };
    if let Some(name) = name { event.named(name) } else { event }
}

fn payload(text: Bytes, is_json: bool, max_bytes: usize) -> Result<Payload, InvalidPublication> {
    match text.len() {
        bytes if bytes > max_bytes => Err(InvalidPublication::TooLarge { bytes, max_bytes }),
        _ => Ok(Payload::of_utf8(text, is_json)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(json: &str) -> Result<Event, String> {
        parse_event(&Bytes::copy_from_slice(json.as_bytes()), 100).map_err(|error| error.to_string())
    }

    fn payload(json: &str) -> (String, bool) {
        let event = event(json).unwrap();
        (String::from_utf8(event.payload().as_bytes().to_vec()).unwrap(), event.payload().is_json())
    }

    #[test]
    fn data_is_kept_byte_for_byte() {
        for value in
            [r#"{"b":1.00, "a" :[1e400,"\u00fc"]}"#, "null", "\"x\"", "[\n 1 ]", "123456789012345678901234567890"]
        {
            assert_eq!(payload(&format!(r#"{{"topic":"t","data": {value} }}"#)), (value.to_owned(), true));
        }
    }

    #[test]
    fn text_is_unescaped() {
        assert_eq!(payload(r#"{"topic":"t","text":"plain"}"#), ("plain".to_owned(), false));
        assert_eq!(payload(r#"{"text":"two\nlines \u00fc","topic":"t"}"#), ("two\nlines ü".to_owned(), false));
        assert_eq!(payload(r#"{"text":"","topic":"t"}"#), (String::new(), false));
    }

    #[test]
    fn errors_name_the_fault() {
        for (json, expected) in [
            ("", "EOF while parsing"),
            ("{\"topic\":\n\"t\",}", "line 2 column 5"),
            (r#"{"topic":"t"}"#, "an event has a payload"),
            (r#"{"topic":"t","data":1,"text":"x"}"#, "either \"data\" or \"text\""),
            (r#"{"data":1}"#, "missing field `topic`"),
            (r#"{"topic":"a b","data":1}"#, "\"topic\": topics cannot contain spaces"),
            (r#"{"topic":"t","event":"a\nb","data":1}"#, "\"event\": event names cannot contain control characters"),
            (r#"{"topic":"t","dta":1}"#, "unknown field `dta`"),
            (r#"{"topic":"t","key":"","data":1}"#, "\"key\": "),
            (r#"{"topic":"t","key":"a\nb","data":1}"#, "control character"),
            (r#"{"topic":"t","key":7,"data":1}"#, "invalid type: integer `7`, expected a string"),
            (r#"{"topic":"t","key":"k","delete":"yes"}"#, "expected a boolean"),
            (r#"{"topic":"t","key":"k","delete":false}"#, "an event has a payload"),
            (r#"{"topic":"t","topic":"u","data":1}"#, "duplicate field `topic`"),
            (r#"{"topic":"t","data":1} x"#, "trailing characters"),
            (r#"{"topic":"t","text":"\ud800"}"#, "hex escape"),
            (r#"{"topic":"t","text":null}"#, "an event has a payload"),
            ("[1]", "expected an event, which is an object"),
            (r#"["t",null,1,null]"#, "expected an event, which is an object"),
        ] {
            let error = event(json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
        let error = event(&format!(r#"{{"topic":"t","text":"{}"}}"#, "x".repeat(101))).unwrap_err();
        assert_eq!(error, "the payload has 101 bytes, and the limit is 100 (setting max_event_bytes)");
    }

    #[test]
    fn key_and_deletion_are_read() {
        let read = |fields: &str| event(&format!(r#"{{"topic":"t",{fields}}}"#)).unwrap();
        let parts = |event: &Event| {
            let key = event.key().map(|key| key.as_str().to_owned());
            (key, event.is_deletion(), event.name().to_string(), event.payload().as_str().to_owned())
        };
        let expected = |key: Option<&str>, is_deletion: bool, name: &str, payload: &str| {
            (key.map(str::to_owned), is_deletion, name.to_owned(), payload.to_owned())
        };
        for (fields, event) in [
            (r#""data":1"#, expected(None, false, "message", "1")),
            (r#""key":"a\u00fc/1","data":1,"delete":false"#, expected(Some("aü/1"), false, "message", "1")),
            (r#""key":null,"text":"x""#, expected(None, false, "message", "x")),
            (r#""delete":true"#, expected(None, true, "delete", r#"{"topic":"t"}"#)),
            (r#""delete":true,"key":"k""#, expected(Some("k"), true, "delete", r#"{"topic":"t","key":"k"}"#)),
            (r#""delete":true,"key":"k","data":null"#, expected(Some("k"), true, "delete", "null")),
            (r#""delete":true,"event":"gone","text":"x""#, expected(None, true, "gone", "x")),
            (r#""delete":true,"event":"message""#, expected(None, true, "message", r#"{"topic":"t"}"#)),
        ] {
            assert_eq!(parts(&read(fields)), event, "{fields}");
        }
    }

    #[test]
    fn topic_before_is_taken_only_where_it_is_the_same() {
        let before = Topic::new("a").unwrap();
        let topic = |json: &'static str| {
            parse_event_after(&Bytes::from_static(json.as_bytes()), 3, Some(&before))
                .map(|event| event.topic().to_string())
        };
        assert_eq!(topic(r#"{"topic":"a","data":1}"#).unwrap(), "a");
        assert_eq!(topic(r#"{"topic":"\u0061","data":1}"#).unwrap(), "a");
        assert_eq!(topic(r#"{"topic":"ab","data":1}"#).unwrap(), "ab");
        assert!(topic(r#"{"topic":"a b","data":1}"#).is_err());
    }

    #[test]
    fn array_is_valid_as_a_whole_or_not_at_all() {
        let parse = |json: &'static str| parse_events(&Bytes::from_static(json.as_bytes()), 3);
        let events = parse(r#" [{"topic":"a","data":1},{"topic":"b","text":"2"}]"#).unwrap();
        assert_eq!(events.iter().map(|event| event.topic().as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(parse("[]").unwrap(), []);
        let error = parse(r#"[{"topic":"a","data":1},{"topic":"b*","data":2}]"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "event 1 of the array: \"topic\": topics cannot contain '*'; patterns are only for subscribing"
        );
        assert!(parse(r#"[{"topic":"a","data":1234}]"#).unwrap_err().is_too_large());
    }

    #[test]
    fn body_can_be_the_payload() {
        let parse = |body: &'static [u8], is_json| parse_payload(Bytes::from_static(body), is_json, 9);
        assert_eq!(parse(b" {\"a\": 1}\n", true).unwrap().as_bytes(), "{\"a\": 1}");
        assert_eq!(parse(b"a\nb", false).unwrap().as_bytes(), "a\nb");
        assert!(parse(b"{", true).is_err());
        assert!(matches!(parse(b"ab\xff", false), Err(InvalidPublication::Utf8(2))));
        assert!(parse(b"0123456789", false).unwrap_err().is_too_large());
    }
}

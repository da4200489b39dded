//! The messages of clients: JSON objects with a `type`.
//!
//! Unknown fields are errors, so that a misspelled one does not silently lose its value. `ref`, a string or a number, is
//! repeated in the answer, also in that of an invalid message if it can be read.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::super::interval;
use super::super::options::Options;
use super::reply::{Code, Refused};
use crate::conn::Interval;
use crate::event::Event;
use crate::hub::{Mode, Start};
use crate::topic::TopicFilter;
use crate::wire::publication::parse_publish_message;

/// A message of a client.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    /// Adds filters, and replays their events from `start` if there is one.
    Subscribe {
        filters: Vec<TopicFilter>,
        start: Option<Start>,
        /// The mode of a connection without filters.
        mode: Option<Mode>,
        /// The interval of the connection from now on.
        interval: Option<Interval>,
    },
    /// Removes filters.
    Unsubscribe {
        filters: Vec<TopicFilter>,
    },
    Publish(Box<Event>),
    Ping,
}

/// What repeats a message's `ref`: its JSON.
pub(super) type Ref = Option<Box<str>>;

/// The fields that all messages have.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "ref")]
    reference: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribe<'a> {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    #[serde(default, rename = "ref")]
    _reference: IgnoredAny,
    #[serde(borrow)]
    topics: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    last_event_id: Option<Cow<'a, str>>,
    #[serde(default)]
    history: Option<u64>,
    #[serde(default)]
    mode: Option<ModeName>,
    #[serde(borrow, default)]
    interval: Option<IntervalText<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ModeName {
    Events,
    Latest,
}

impl From<ModeName> for Mode {
    fn from(name: ModeName) -> Self {
        match name {
            ModeName::Events => Self::Events,
            ModeName::Latest => Self::Latest,
        }
    }
}

/// An interval as in the query, or a number of milliseconds.
#[derive(Deserialize)]
#[serde(untagged, expecting = "\"interval\" is a string such as \"100ms\", or a number of milliseconds")]
enum IntervalText<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Millis(u64),
}

impl IntervalText<'_> {
    fn parse(&self, options: &Options) -> Result<Interval, Refused> {
        let interval = match self {
            Self::Text(text) => interval::parse(text, options),
            Self::Millis(millis) => interval::parse(&millis.to_string(), options),
        };
        interval.map_err(|detail| malformed(format!("\"interval\": {detail}")))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unsubscribe<'a> {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    #[serde(default, rename = "ref")]
    _reference: IgnoredAny,
    #[serde(borrow)]
    topics: Vec<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ping {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    #[serde(default, rename = "ref")]
    _reference: IgnoredAny,
}

/// Parses a message. Its `ref` is returned even if the message is invalid.
pub(super) fn parse(text: &str, options: &Options) -> (Ref, Result<Message, Refused>) {
    // A sequence of values would be read as the fields of a struct.
    if !text.trim_ascii_start().starts_with('{') {
        return (None, Err(malformed("expected a JSON object with a \"type\"")));
    }
    let head: Head<'_> = match serde_json::from_str(text) {
        Ok(head) => head,
        Err(error) => return (None, Err(malformed(error))),
    };
    let reference = match head.reference.map(RawValue::get) {
        Some(json) if !json.starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit()) => {
            return (None, Err(malformed("\"ref\" is a string or a number")));
        }
        json => json.map(Box::from),
    };
    let Some(kind) = head.kind else {
        return (reference, Err(malformed("the message has no \"type\"")));
    };
    (reference, parse_kind(&kind, text, options))
}

fn parse_kind(kind: &str, text: &str, options: &Options) -> Result<Message, Refused> {
    match kind {
        "subscribe" => {
            let Subscribe { topics, last_event_id, history, mode, interval, .. } =
                serde_json::from_str(text).map_err(malformed)?;
            let start = match last_event_id.as_deref() {
                Some("earliest") => Some(Start::Earliest),
                Some(id) => Some(id.trim().parse().map_or(Start::UnknownId, Start::After)),
                None => history.map(Start::Newest),
            };
            let interval = interval.map(|interval| interval.parse(options)).transpose()?;
            Ok(Message::Subscribe { filters: filters(&topics)?, start, mode: mode.map(Mode::from), interval })
        }
        "unsubscribe" => {
            let Unsubscribe { topics, .. } = serde_json::from_str(text).map_err(malformed)?;
            Ok(Message::Unsubscribe { filters: filters(&topics)? })
        }
        "publish" => {
            let event = parse_publish_message(&Bytes::copy_from_slice(text.as_bytes()), options.max_event_bytes)?;
            Ok(Message::Publish(Box::new(event)))
        }
        "ping" => serde_json::from_str::<Ping>(text).map(|_| Message::Ping).map_err(malformed),
        other => {
            let detail = format!("{other:?} is no type of message: expected subscribe, unsubscribe, publish or ping");
            Err(Refused::new(Code::UnknownType, detail))
        }
    }
}

/// The filters that `topics` names, each once.
fn filters(topics: &[Cow<'_, str>]) -> Result<Vec<TopicFilter>, Refused> {
    if topics.is_empty() {
        return Err(malformed("\"topics\" is empty: name a topic, or \"**\" for all topics"));
    }
    let mut filters = Vec::new();
    for text in topics {
        let filter = TopicFilter::new(text).map_err(|error| {
            Refused::new(Code::InvalidTopic, format!("\"topics\": {text:?} is not a topic or pattern: {error}"))
        })?;
        if !filters.contains(&filter) {
            filters.push(filter);
        }
    }
    Ok(filters)
}

fn malformed(detail: impl ToString) -> Refused {
    Refused::new(Code::Malformed, detail.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::Key;

    fn parse(text: &str) -> (Ref, Result<Message, Refused>) {
        super::parse(text, &Options { max_event_bytes: 100, ..Options::default() })
    }

    fn parsed(text: &str) -> Message {
        parse(text).1.unwrap()
    }

    fn filters(texts: &[&str]) -> Vec<TopicFilter> {
        texts.iter().map(|text| TopicFilter::new(text).unwrap()).collect()
    }

    #[test]
    fn messages_are_read() {
        let subscribe = |text: &str, start| {
            let expected = Message::Subscribe { filters: filters(&["a", "b:*"]), start, mode: None, interval: None };
            assert_eq!(parsed(&format!(r#"{{"type":"subscribe","topics":["a","b:*","a"]{text}}}"#)), expected);
        };
        subscribe("", None);
        subscribe(r#","last_event_id":"7-42""#, Some(Start::After("7-42".parse().unwrap())));
        subscribe(r#","last_event_id":"earliest""#, Some(Start::Earliest));
        subscribe(r#","last_event_id":"?","history":3"#, Some(Start::UnknownId));
        subscribe(r#","last_event_id":null,"history":3"#, Some(Start::Newest(3)));
        for interval in [r#""250ms""#, r#""0.25s""#, "250"] {
            let text = format!(r#"{{"type":"subscribe","topics":["a"],"interval":{interval}}}"#);
            let interval = Interval::new(Duration::from_millis(250));
            let expected = Message::Subscribe { filters: filters(&["a"]), start: None, mode: None, interval };
            assert_eq!(parsed(&text), expected);
        }
        let latest = parsed(r#"{"type":"subscribe","topics":["a"],"mode":"latest"}"#);
        assert!(matches!(latest, Message::Subscribe { mode: Some(Mode::Latest), .. }));
        let unsubscribe = Message::Unsubscribe { filters: filters(&["a"]) };
        assert_eq!(parsed(r#" {"topics":["\u0061"],"type":"unsubscribe"}"#), unsubscribe);
        assert_eq!(parsed(r#"{"type":"ping","ref":null}"#), Message::Ping);
        let Message::Publish(event) = parsed(r#"{"type":"publish","topic":"t","event":"e","data":{"a": 1},"ref":9}"#)
        else {
            panic!("a publication")
        };
        assert_eq!((event.topic().as_str(), event.name().as_bytes()), ("t", &b"e"[..]));
        assert_eq!(event.payload().as_bytes(), r#"{"a": 1}"#);
        let Message::Publish(event) = parsed(r#"{"type":"publish","topic":"t","key":"k","delete":true}"#) else {
            panic!("a publication")
        };
        assert_eq!((event.key().map(Key::as_str), event.is_deletion()), (Some("k"), true));
    }

    #[test]
    fn reference_is_known_even_if_the_message_is_invalid() {
        for (text, expected) in [
            (r#"{"type":"ping","ref":"x\"y"}"#, Some(r#""x\"y""#)),
            (r#"{"ref":-1.5e3,"type":"pong"}"#, Some("-1.5e3")),
            (r#"{"ref":7}"#, Some("7")),
            (r#"{"type":"ping"}"#, None),
            (r#"{"type":"ping","ref":null}"#, None),
            (r#"{"type":"ping","ref":[1]}"#, None),
            (r#"{"type":"ping","ref":true}"#, None),
            (r#"["ping",1]"#, None),
        ] {
            assert_eq!(parse(text).0.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn errors_name_the_fault() {
        use Code::{InvalidTopic, Malformed, TooLarge, UnknownType};
        let large = format!(r#"{{"type":"publish","topic":"t","text":"{}"}}"#, "x".repeat(101));
        for (text, code, expected) in [
            ("", Malformed, "expected a JSON object"),
            ("\"ping\"", Malformed, "expected a JSON object"),
            (r#"["ping"]"#, Malformed, "expected a JSON object"),
            ("{\"type\":\n\"ping\",}", Malformed, "line 2 column 8"),
            ("{}", Malformed, "no \\\"type\\\""),
            (r#"{"type":1}"#, Malformed, "expected a string"),
            (r#"{"type":"ping","type":"ping"}"#, Malformed, "duplicate field `type`"),
            (r#"{"type":"ping","topic":"t"}"#, Malformed, "unknown field `topic`"),
            (r#"{"type":"ping","ref":{}}"#, Malformed, "a string or a number"),
            (r#"{"type":"Ping"}"#, UnknownType, "\\\"Ping\\\" is no type of message: expected subscribe"),
            (r#"{"type":"subscribe"}"#, Malformed, "missing field `topics`"),
            (r#"{"type":"subscribe","topics":[]}"#, Malformed, "\\\"topics\\\" is empty"),
            (r#"{"type":"subscribe","topics":"a"}"#, Malformed, "expected a sequence"),
            (r#"{"type":"subscribe","topics":["a b"]}"#, InvalidTopic, "\\\"a b\\\" is not a topic or pattern"),
            (r#"{"type":"subscribe","topics":["a"],"history":-1}"#, Malformed, "invalid value"),
            (
                r#"{"type":"subscribe","topics":["a"],"interval":5}"#,
                Malformed,
                "\\\"interval\\\": expected a time from",
            ),
            (r#"{"type":"subscribe","topics":["a"],"interval":[]}"#, Malformed, "a string such as"),
            (
                r#"{"type":"subscribe","topics":["a"],"mode":"last"}"#,
                Malformed,
                "unknown variant `last`, expected `events` or `latest`",
            ),
            (r#"{"type":"unsubscribe","topics":["a"],"last_event_id":"1"}"#, Malformed, "unknown field"),
            (r#"{"type":"publish","data":1}"#, Malformed, "missing field `topic`"),
            (r#"{"type":"publish","topic":"t"}"#, Malformed, "an event has a payload"),
            (r#"{"type":"publish","topic":"t*","data":1}"#, InvalidTopic, "cannot contain '*'"),
            (r#"{"type":"publish","topic":"t","data":1,"key":""}"#, Malformed, "\\\"key\\\": "),
            (&large, TooLarge, "the payload has 101 bytes, and the limit is 100 (setting max_event_bytes)"),
        ] {
            let error = parse(text).1.unwrap_err();
            assert_eq!(error.code(), code, "{text}");
            assert!(format!("{error:?}").contains(expected), "{text}: {error:?}");
        }
    }
}

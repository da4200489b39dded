//! How an event is stored as an entry of the Redis stream.
//!
//! The entry's id is the event's position. Its fields are `t`, the topic; `e`, the event's name unless that is `data`; `k`, the
//! key, if it has one; `r`, if it deletes the value of its key; and the payload, `d` for JSON or `x` for text. Short names keep
//! entries small, and `redis-cli` can still show a stream.
//!
//! An event without a name is stored as [`EventName::MESSAGE`]. Earlier versions named such events `data`, and their entries keep
//! that name. They deliver a new entry as an event named `message`, which browsers treat like one without a name.

use bytes::Bytes;
use redis::{FromRedisValue, ParsingError, Value, from_redis_value};

use super::connection::Error;
use crate::event::{Event, EventName, Key, Payload};
use crate::position::StreamPosition;
use crate::topic::Topic;

/// An entry of the stream. `XRANGE` returns a `Vec<Entry>`, `XREAD` a [`Streams`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) position: StreamPosition,
    /// `None` for the mark of a new epoch, and for an entry that another program wrote.
    pub(super) event: Option<Event>,
}

/// The name that an entry without the field `e` stands for.
const DEFAULT_NAME: &str = "data";

/// The field of a payload that is JSON.
pub(super) const JSON: &str = "d";

/// The entries of each stream by its key. Empty when `XREAD` timed out.
pub(super) type Streams = Vec<(String, Vec<Entry>)>;

/// An event's arguments for the publishing script: topic, name (empty for `data`), key (empty without one), `1` for a deletion
/// (or else empty), field of the payload, payload.
pub(super) fn arguments(event: &Event) -> [&[u8]; 6] {
    let key = event.key().map_or(&b""[..], |key| key.as_str().as_bytes());
    let deletion: &[u8] = if event.is_deletion() { b"1" } else { b"" };
    let name = if event.name().as_bytes() == DEFAULT_NAME.as_bytes() { b"" } else { event.name().as_bytes() };
    let field = if event.payload().is_json() { JSON.as_bytes() } else { b"x" };
    [event.topic().as_str().as_bytes(), name, key, deletion, field, event.payload().as_bytes()]
}

/// About how many bytes an event takes in a command.
pub(super) fn weight(event: &Event) -> usize {
    arguments(event).iter().map(|argument| argument.len()).sum::<usize>() + 64
}

pub(super) fn position(id: &str) -> Result<StreamPosition, Error> {
    id.parse().map_err(|_| Error::Unavailable(format!("{id:?} is not the id of a stream entry")))
}

impl FromRedisValue for Entry {
    fn from_redis_value(entry: Value) -> Result<Self, ParsingError> {
        let (id, fields): (String, Vec<Vec<u8>>) = from_redis_value(entry)?;
        let position = position(&id).map_err(|error| error.to_string())?;
        Ok(Self { position, event: event(fields) })
    }
}

fn event(fields: Vec<Vec<u8>>) -> Option<Event> {
    let (mut topic, mut name, mut payload) = (None, None, None);
    let (mut key, mut is_deletion) = (None, false);
    let mut fields = fields.into_iter();
    while let (Some(field), Some(value)) = (fields.next(), fields.next()) {
        match &*field {
            b"t" => topic = Some(Topic::new(std::str::from_utf8(&value).ok()?).ok()?),
            b"e" => name = Some(EventName::new(std::str::from_utf8(&value).ok()?).ok()?),
            b"k" => key = Some(Key::new(std::str::from_utf8(&value).ok()?).ok()?),
            b"r" => is_deletion = true,
            b"d" | b"x" => {
                std::str::from_utf8(&value).ok()?;
                payload = Some(Payload::of_utf8(Bytes::from(value), *field == *b"d"));
            }
            _ => {}
        }
    }
    let name = name.or_else(|| EventName::new(DEFAULT_NAME).ok())?;
    let event = Event::new(topic?, payload?).named(name);
    let event = if let Some(key) = key { event.keyed(key) } else { event };
    Some(if is_deletion { event.deleting() } else { event })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: impl AsRef<[u8]>) -> Value {
        Value::BulkString(text.as_ref().to_vec())
    }

    fn stored(id: &str, event: &Event) -> Value {
        let [topic, name, key, deletion, field, payload] = arguments(event);
        let mut fields = vec![bulk("t"), bulk(topic)];
        if !name.is_empty() {
            fields.extend([bulk("e"), bulk(name)]);
        }
        for (field, value) in [("k", key), ("r", deletion)] {
            if !value.is_empty() {
                fields.extend([bulk(field), bulk(value)]);
            }
        }
        fields.extend([bulk(field), bulk(payload)]);
        Value::Array(vec![bulk(id), Value::Array(fields)])
    }

    #[test]
    fn stored_event_is_read_back_unchanged() {
        let topic = || Topic::new("a:ü").unwrap();
        for event in [
            Event::new(topic(), Payload::json_unchecked(r#"{"a": 1}"#)),
            Event::new(topic(), Payload::text("")),
            Event::new(topic(), Payload::text("1")).named(EventName::new("data").unwrap()),
            Event::new(topic(), Payload::text("two\r\nlines")).named(EventName::new("update").unwrap()),
            Event::new(topic(), Payload::text("1")).keyed(Key::new("k 1").unwrap()),
            Event::deletion(topic(), Some(Key::new("k 1").unwrap())),
            Event::deletion(topic(), None),
        ] {
            let read: Vec<Entry> = from_redis_value(Value::Array(vec![stored("7-42", &event)])).unwrap();
            assert_eq!(read, [Entry { position: "7-42".parse().unwrap(), event: Some(event) }]);
        }
    }

    /// Both versions may share a stream while servers are updated one by one.
    #[test]
    fn earlier_versions_and_this_one_read_the_names_of_each_other() {
        let name_of = |fields: &[&str]| {
            let fields = Value::Array(fields.iter().map(bulk).collect());
            let read: Entry = from_redis_value(Value::Array(vec![bulk("7-1"), fields])).unwrap();
            String::from_utf8(read.event.unwrap().name().as_bytes().to_vec()).unwrap()
        };
        assert_eq!(name_of(&["t", "a", "d", "1"]), "data");
        assert_eq!(name_of(&["t", "a", "e", "update", "d", "1"]), "update");
        let event = Event::new(Topic::new("a").unwrap(), Payload::json_unchecked("1"));
        assert_eq!(arguments(&event), [&b"a"[..], b"message", b"", b"", b"d", b"1"]);
        assert_eq!(arguments(&event.named(EventName::new("data").unwrap()))[1], b"");
    }

    #[test]
    fn foreign_entry_has_a_position_and_no_event() {
        for fields in
            [&["fanline", "n"][..], &["t", "a"], &["d", "1"], &["t", "a,b", "d", "1"], &["t", "a", "e", "", "d", "1"]]
        {
            let fields = Value::Array(fields.iter().map(bulk).collect());
            let read: Vec<Entry> =
                from_redis_value(Value::Array(vec![Value::Array(vec![bulk("7-1"), fields])])).unwrap();
            assert_eq!(read, [Entry { position: "7-1".parse().unwrap(), event: None }]);
        }
        assert!(from_redis_value::<Entry>(Value::Array(vec![bulk("seven"), Value::Array(vec![])])).is_err());
        assert!(from_redis_value::<Streams>(Value::Nil).unwrap().is_empty());
    }
}

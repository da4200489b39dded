//! An event as an entry of the Redis stream, and back.
//!
//! The entry's id is the event's position. Its fields are `t`, the topic; `e`, the event's name, unless that is `data`; and
//! the payload: `d` when it is JSON, `x` when it is text. So a stream can be read with `redis-cli`, and its cost is that of
//! two or three short fields.

use bytes::Bytes;
use redis::{RedisResult, Value, from_redis_value};

use crate::event::{Event, EventName, Payload};
use crate::position::{Epoch, Sequence, StreamPosition};
use crate::topic::Topic;

/// An entry as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) position: StreamPosition,
    /// None for what is no event: the mark of a new epoch, or something that another program wrote.
    pub(super) event: Option<Event>,
}

/// What a publishing script wants of an event: topic, name (empty when it is `data`), field of the payload, payload.
pub(super) fn arguments(event: &Event) -> [&[u8]; 4] {
    let name = if *event.name() == EventName::DATA { b"" } else { event.name().as_bytes() };
    let field: &[u8] = if event.payload().is_json() { b"d" } else { b"x" };
    [event.topic().as_str().as_bytes(), name, field, event.payload().as_bytes()]
}

/// What an event takes on its way, about.
pub(super) fn weight(event: &Event) -> usize {
    arguments(event).iter().map(|argument| argument.len()).sum::<usize>() + 64
}

/// The entries of `XRANGE`, which are those of one stream of `XREAD` as well.
pub(super) fn entries(reply: Value) -> RedisResult<Vec<Entry>> {
    let Value::Array(entries) = reply else { return Ok(Vec::new()) };
    entries.into_iter().map(entry).collect()
}

/// The entries of `XREAD` of one stream; none when the time was over.
pub(super) fn read_entries(reply: Value) -> RedisResult<Vec<Entry>> {
    let Value::Array(mut streams) = reply else { return Ok(Vec::new()) };
    match streams.pop() {
        Some(Value::Array(mut stream)) => entries(stream.pop().unwrap_or(Value::Nil)),
        _ => Ok(Vec::new()),
    }
}

/// A position as Redis spells it.
pub(super) fn position(id: &str) -> Option<StreamPosition> {
    let (epoch, sequence) = id.split_once('-')?;
    Some(StreamPosition::new(Epoch(epoch.parse().ok()?), sequence.parse::<Sequence>().ok()?))
}

fn entry(entry: Value) -> RedisResult<Entry> {
    let (id, fields): (String, Vec<Vec<u8>>) = from_redis_value(entry)?;
    let invalid = || {
        let detail = format!("{id:?} is no id of a stream entry");
        redis::RedisError::from((redis::ErrorKind::UnexpectedReturnType, "stream entry", detail))
    };
    let position = position(&id).ok_or_else(invalid)?;
    Ok(Entry { position, event: event(fields) })
}

fn event(fields: Vec<Vec<u8>>) -> Option<Event> {
    let (mut topic, mut name, mut payload) = (None, None, None);
    let mut fields = fields.into_iter();
    while let (Some(field), Some(value)) = (fields.next(), fields.next()) {
        match &*field {
            b"t" => topic = Some(Topic::new(std::str::from_utf8(&value).ok()?).ok()?),
            b"e" => name = Some(EventName::new(std::str::from_utf8(&value).ok()?).ok()?),
            b"d" | b"x" => {
                std::str::from_utf8(&value).ok()?;
                payload = Some(Payload::of_utf8(Bytes::from(value), *field == *b"d"));
            }
            _ => {}
        }
    }
    let event = Event::new(topic?, payload?);
    Some(match name {
        Some(name) => event.named(name),
        None => event,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: impl AsRef<[u8]>) -> Value {
        Value::BulkString(text.as_ref().to_vec())
    }

    fn stored(id: &str, event: &Event) -> Value {
        let [topic, name, field, payload] = arguments(event);
        let mut fields = vec![bulk("t"), bulk(topic)];
        if !name.is_empty() {
            fields.extend([bulk("e"), bulk(name)]);
        }
        fields.extend([bulk(field), bulk(payload)]);
        Value::Array(vec![bulk(id), Value::Array(fields)])
    }

    #[test]
    fn an_event_comes_back_as_it_was_stored() {
        let topic = || Topic::new("a:ü").unwrap();
        for event in [
            Event::new(topic(), Payload::json(r#"{"a": 1}"#)),
            Event::new(topic(), Payload::text("")),
            Event::new(topic(), Payload::text("two\r\nlines")).named(EventName::new("update").unwrap()),
        ] {
            let read = entries(Value::Array(vec![stored("7-42", &event)])).unwrap();
            assert_eq!(read, [Entry { position: "7-42".parse().unwrap(), event: Some(event) }]);
        }
    }

    #[test]
    fn what_another_program_wrote_is_no_event_but_has_its_place() {
        for fields in
            [&["fanline", "n"][..], &["t", "a"], &["d", "1"], &["t", "a,b", "d", "1"], &["t", "a", "e", "", "d", "1"]]
        {
            let fields = Value::Array(fields.iter().map(bulk).collect());
            let read = entries(Value::Array(vec![Value::Array(vec![bulk("7-1"), fields])])).unwrap();
            assert_eq!(read, [Entry { position: "7-1".parse().unwrap(), event: None }]);
        }
        assert!(entries(Value::Array(vec![Value::Array(vec![bulk("seven"), Value::Array(vec![])])])).is_err());
        assert!(read_entries(Value::Nil).unwrap().is_empty());
    }
}

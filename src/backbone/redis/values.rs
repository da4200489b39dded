//! The latest values in Redis: a hash that the publishing script changes in the same step as the stream.
//!
//! A field is the topic and the key, on two lines. Its content is the position, the name, the field of the payload as in
//! [`entry`], and the payload, on one line each. A deletion removes the field, and so it outlives neither the
//! stream nor the servers that have read it. Values that left the stream's window stay.

use std::collections::HashMap;

use bytes::Bytes;
use redis::cmd;

use super::Context;
use super::connection::{Connection, Error};
use super::entry;
use super::tail::is_before;
use crate::event::{Event, EventName, Key, Payload};
use crate::position::StreamPosition;
use crate::topic::Topic;

/// How many values one command reads, about.
const COUNT: usize = 1024;

/// Reads the values up to `last`, in the order of their positions. Later ones are in the stream behind it.
pub(super) async fn read(
    redis: &mut Connection,
    context: &Context,
    last: StreamPosition,
) -> Result<Vec<(StreamPosition, Event)>, Error> {
    let mut values = HashMap::new();
    let mut cursor = 0;
    loop {
        let mut scan = cmd("HSCAN");
        scan.arg(&context.keys.values).arg(cursor).arg("COUNT").arg(COUNT);
        let (next, fields): (u64, HashMap<Vec<u8>, Vec<u8>>) = redis.query(&scan).await?;
        // A field may come twice, later with a newer value.
        values.extend(fields);
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    let values = values.into_iter().filter_map(|(field, content)| value(&field, content));
    let mut values: Vec<_> = values.filter(|(at, _)| !is_before(last, *at)).collect();
    values.sort_unstable_by_key(|(at, _)| (at.epoch, at.sequence));
    Ok(values)
}

/// The value of a field. `None` for what another program wrote.
fn value(field: &[u8], content: Vec<u8>) -> Option<(StreamPosition, Event)> {
    let (topic, key) = std::str::from_utf8(field).ok()?.split_once('\n')?;
    let content = Bytes::from(content);
    let text = std::str::from_utf8(&content).ok()?;
    let mut lines = text.splitn(4, '\n');
    let (at, name, kind, payload) = (lines.next()?, lines.next()?, lines.next()?, lines.next()?);
    let payload = Payload::of_utf8(content.slice_ref(payload.as_bytes()), kind == entry::JSON);
    let event = Event::new(Topic::new(topic).ok()?, payload).named(EventName::new(name).ok()?);
    Some((at.parse().ok()?, event.keyed(Key::new(key).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_read_as_the_script_writes_it() {
        let (at, event) = value("a:ü\nk 1".as_bytes(), b"7-42\nupdate\nd\n[1,\n2]".to_vec()).unwrap();
        let payload = Payload::json("[1,\n2]").unwrap();
        let expected = Event::new(Topic::new("a:ü").unwrap(), payload).named("update".parse().unwrap());
        assert_eq!((at.to_string().as_str(), event), ("7-42", expected.keyed("k 1".parse().unwrap())));
        for (field, content) in
            [("a", "7-1\nn\nd\n1"), ("a\nk", "7-1\nn\nd"), ("a\n", "7-1\nn\nd\n1"), ("a\nk", "x\nn\nd\n1")]
        {
            assert!(value(field.as_bytes(), content.as_bytes().to_vec()).is_none(), "{field:?} {content:?}");
        }
    }
}

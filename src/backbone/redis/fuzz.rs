use redis::from_redis_value;

use super::entry::{Entry, Streams};
use crate::event::EventName;
use crate::topic::Topic;

/// Parses an answer of Redis as it arrives on the socket.
pub(crate) fn entry(data: &[u8]) {
    let Ok(value) = redis::parse_redis_value(data) else { return };
    let entries = from_redis_value::<Vec<Entry>>(value.clone()).into_iter().flatten();
    let streams = from_redis_value::<Streams>(value).into_iter().flatten().flat_map(|(_, entries)| entries);
    for entry in entries.chain(streams) {
        let Some(event) = entry.event else { continue };
        assert!(Topic::new(event.topic().as_str()).is_ok());
        assert!(std::str::from_utf8(event.payload().as_bytes()).is_ok());
        assert!(EventName::new(std::str::from_utf8(event.name().as_bytes()).expect("a name is UTF-8")).is_ok());
    }
}

use super::entry::{entries, position, read_entries};
use crate::event::EventName;
use crate::position::StreamPosition;
use crate::topic::Topic;

/// An answer of Redis, as it comes over its socket.
pub(crate) fn entry(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        // What is an id here is the same one there.
        let own = text.parse::<StreamPosition>();
        assert!(own.is_err() || position(text) == own.ok());
    }
    let Ok(value) = redis::parse_redis_value(data) else { return };
    for entry in [entries(value.clone()), read_entries(value)].into_iter().flatten().flatten() {
        let Some(event) = entry.event else { continue };
        assert!(Topic::new(event.topic().as_str()).is_ok());
        assert!(std::str::from_utf8(event.payload().as_bytes()).is_ok());
        assert!(EventName::new(std::str::from_utf8(event.name().as_bytes()).expect("a name is UTF-8")).is_ok());
    }
}

//! JSON payloads of the built-in producers.

use std::sync::LazyLock;
use std::time::SystemTime;

use fanline::event::{Event, EventName, Payload};
use fanline::topic::Topic;
use serde::{Serialize, Serializer};

/// The name of the built-in producers' events.
static NAME: LazyLock<EventName> = LazyLock::new(|| EventName::new("data").expect("it is a valid name"));

/// An event named `data` whose payload is `body` as JSON.
pub fn json_event(topic: &Topic, body: &impl Serialize) -> Event {
    let json = serde_json::to_string(body).expect("plain strings, numbers and maps serialise");
    Event::new(topic.clone(), Payload::json_unchecked(json)).named(NAME.clone())
}

/// A time that serialises as RFC 3339 in UTC with milliseconds, such as `2026-03-01T12:00:00.000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(pub SystemTime);

impl Timestamp {
    pub fn now() -> Self {
        Self(SystemTime::now())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_millis(self.0))
    }
}

/// Which one of several things a value is about: the kind of thing (core, interface, mount) and its name.
pub type Tag = (&'static str, String);

/// Serialises a tag as an object with one member, or none.
pub fn tag_as_object<S: Serializer>(tag: &Option<Tag>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(tag.iter().map(|(kind, name)| (kind, name)))
}

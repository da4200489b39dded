//! The query of `POST /publish/{topic}`: what an event has besides its topic and its payload.

use bytes::Bytes;

use super::super::problem::Problem;
use super::{PAYLOAD_TYPES, unsupported};
use crate::event::{Event, EventName, Key};
use crate::topic::Topic;
use crate::wire::publication::{self, parse_payload};

/// The query of `POST /publish/{topic}`.
#[derive(Default)]
pub(super) struct PublishQuery {
    name: Option<EventName>,
    key: Option<Key>,
    pub(super) is_deletion: bool,
}

impl PublishQuery {
    pub(super) fn parse(query: &str) -> Result<Self, Problem> {
        let invalid = |parameter: &str, error: String| Problem::bad_request(format!("parameter {parameter}: {error}"));
        let mut parsed = Self::default();
        for (parameter, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*parameter {
                "event" => parsed.name = Some(EventName::new(&value).map_err(|e| invalid("event", e.to_string()))?),
                "key" => parsed.key = Some(Key::new(&value).map_err(|e| invalid("key", e.to_string()))?),
                "delete" => {
                    let is_deletion = value.parse().map_err(|_| invalid("delete", "expected true or false".into()));
                    parsed.is_deletion = is_deletion?;
                }
                _ => {}
            }
        }
        Ok(parsed)
    }

    /// The event with `body` as its payload. A deletion has a default one: `is_json` is `None` if its body has no type.
    pub(super) fn event(
        self,
        topic: Topic,
        body: Bytes,
        is_json: Option<bool>,
        max_bytes: usize,
    ) -> Result<Event, Problem> {
        let Self { name, key, is_deletion } = self;
        let payload = match is_json {
            _ if is_deletion && body.is_empty() => None,
            Some(is_json) => Some(parse_payload(body, is_json, max_bytes)?),
            None => return Err(unsupported(PAYLOAD_TYPES)),
        };
        Ok(publication::event(topic, name, key, payload, is_deletion))
    }
}

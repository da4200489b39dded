//! What arrives on a stream.

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use sse_core::MessageEvent;

use super::TestError;
use crate::event::EventName;
use crate::position::StreamPosition;

/// How much of the data an error shows, in bytes.
const SHOWN: usize = 300;

/// An event that a [`TestStream`](super::TestStream) has received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestEvent {
    id: Option<String>,
    name: String,
    topic: Option<String>,
    data: String,
}

/// The data of a published event on a stream with `format=envelope`.
#[derive(Deserialize)]
struct Envelope<'a> {
    r#type: &'a str,
    id: &'a str,
    topic: String,
    event: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    text: Option<String>,
}

impl TestEvent {
    pub(super) fn new(message: MessageEvent) -> Self {
        let id = message.last_event_id.as_deref().map(str::to_owned);
        let is_own = |envelope: &Envelope<'_>| envelope.r#type == "event" && Some(envelope.id) == id.as_deref();
        match serde_json::from_str(&message.data).ok().filter(is_own) {
            Some(Envelope { topic, event, data, text, .. }) => {
                let data = text.or_else(|| Some(data?.get().to_owned())).unwrap_or_default();
                Self { id, name: event, topic: Some(topic), data }
            }
            None => Self { id, name: message.event.to_string(), topic: None, data: message.data.to_string() },
        }
    }

    /// The event's id, or that of the event before if it has none: what `EventSource` calls `lastEventId`.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The id as a position. `None` unless it is an id of fanline.
    pub fn position(&self) -> Option<StreamPosition> {
        self.id.as_deref()?.parse().ok()
    }

    /// The event's name, `message` when its publisher gave none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The event's topic. `None` unless the stream has `format=envelope`.
    pub fn topic(&self) -> Option<&str> {
        self.topic.as_deref()
    }

    /// The payload. On a stream with `format=envelope`, that in the envelope.
    pub fn data(&self) -> &str {
        &self.data
    }

    /// Parses the payload as JSON.
    ///
    /// # Errors
    /// [`TestError::Json`] shows the event, and what is wrong at which place.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, TestError> {
        serde_json::from_str(&self.data).map_err(|error| TestError::Json { event: Box::new(self.clone()), error })
    }

    /// Whether it was published. Others come from the server: `system`, `gap`, `heartbeat` and `snapshot`.
    pub fn is_published(&self) -> bool {
        !EventName::RESERVED.contains(&&*self.name)
    }

    /// Whether events are missing here.
    pub fn is_gap(&self) -> bool {
        self.name == "gap"
    }
}

/// The event on one line, with the beginning of its data.
impl fmt::Display for TestEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = &self.id {
            write!(f, "{id} ")?;
        }
        if let Some(topic) = &self.topic {
            write!(f, "{topic} ")?;
        }
        write!(f, "{} ", self.name)?;
        let end = self.data.floor_char_boundary(SHOWN);
        f.write_str(&self.data[..end].replace('\n', "\\n"))?;
        if end < self.data.len() {
            write!(f, "… ({} bytes)", self.data.len())?;
        }
        Ok(())
    }
}

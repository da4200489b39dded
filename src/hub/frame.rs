//! An event in a ring: encoded, numbered, shared.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use super::encoder::EncodedRun;
use crate::event::Key;
use crate::position::{Sequence, StreamPosition};
use crate::sync::Arc;
use crate::topic::Topic;
use crate::wire::Format;
use crate::wire::chunk::{ChunkRef, Place};
use crate::wire::sse::Fields;

/// An event as the rings hold it and connections write it. Cloning shares the bytes.
///
/// Only the encoded event is kept: [`id`](Self::id), [`name`](Self::name), [`payload`](Self::payload) and
/// [`json`](Self::json) read their part of it.
#[derive(Clone, Debug)]
pub struct Frame {
    sequence: Sequence,
    /// Where its plain encoding is in that of the run.
    place: Place,
    run: Arc<EncodedRun>,
}

impl Frame {
    pub(super) fn new(sequence: Sequence, place: Place, run: Arc<EncodedRun>) -> Self {
        Self { sequence, place, run }
    }

    pub(super) fn run(&self) -> &EncodedRun {
        &self.run
    }

    /// The event's number in the hub's one order. On a hub whose events are numbered elsewhere it differs from the
    /// sequence of the [`id`](Self::id).
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// The event's topic.
    pub fn topic(&self) -> &Topic {
        self.run.topic()
    }

    /// Whether the payload is one JSON value, as its publisher has said.
    pub fn is_json(&self) -> bool {
        self.run.is_json()
    }

    /// The event's id, to resume after it with [`Start::After`](super::Start::After).
    pub fn id(&self) -> StreamPosition {
        self.fields().id()
    }

    /// The event's name, `message` when the publisher gave none.
    pub fn name(&self) -> &str {
        self.fields().name
    }

    /// The event's payload as Server-Sent Events deliver it: line ends (CR, LF, CRLF) are LF. Borrowed unless it has
    /// several lines.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use fanline::event::{Event, Payload};
    /// use fanline::hub::{Delivery, Hub, Start, SubscriptionFilter};
    /// use fanline::topic::Topic;
    ///
    /// let hub = Hub::default();
    /// let (mut subscription, _) = hub.subscribe(SubscriptionFilter::everything(), Start::Live);
    /// let event = Event::new(Topic::new("metric").unwrap(), Payload::json(r#"{"cpu": 45.2}"#).unwrap());
    /// let id = hub.publish(event.named("sample".parse().unwrap())).await.unwrap();
    ///
    /// let Some(Delivery::Event(frame)) = subscription.next().await else { panic!("nothing is missing") };
    /// assert_eq!((frame.topic().as_str(), frame.name(), frame.id()), ("metric", "sample", id));
    /// assert_eq!(frame.payload(), r#"{"cpu": 45.2}"#);
    /// # }
    /// ```
    pub fn payload(&self) -> Cow<'_, str> {
        self.fields().payload()
    }

    /// Parses the payload as JSON.
    ///
    /// # Errors
    /// [`DeserializeError`] names the event, and what is wrong at which place of the payload.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanline::event::{Event, Payload};
    /// use fanline::hub::{Delivery, Hub, Start, SubscriptionFilter};
    /// use fanline::topic::Topic;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Sample {
    ///     cpu: f64,
    /// }
    ///
    /// let hub = Hub::default();
    /// let (mut subscription, _) = hub.subscribe(SubscriptionFilter::everything(), Start::Live);
    /// hub.publish(Event::new(Topic::new("metric")?, Payload::serialize(&Sample { cpu: 45.2 })?)).await?;
    ///
    /// let Some(Delivery::Event(frame)) = subscription.next().await else { panic!("nothing is missing") };
    /// assert_eq!(frame.json::<Sample>()?.cpu, 45.2);
    /// assert!(frame.json::<u64>().unwrap_err().to_string().contains("invalid type: map, expected u64"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, DeserializeError> {
        let of_this = |error| DeserializeError { id: self.id(), topic: self.topic().clone(), error };
        serde_json::from_str(&self.payload()).map_err(of_this)
    }

    /// The key of which the event is the latest value, as its publisher gave it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanline::event::{Event, Payload};
    /// use fanline::hub::{Delivery, Hub, Start};
    ///
    /// let hub = Hub::default();
    /// let (mut subscription, _) = hub.subscribe("sensors".parse()?, Start::Live);
    /// hub.publish(Event::new("sensors".parse()?, Payload::text("21.5")).keyed("kitchen".parse()?)).await?;
    ///
    /// let Some(Delivery::Event(frame)) = subscription.next().await else { panic!("nothing is missing") };
    /// assert_eq!((frame.key().map(|key| key.as_str()), frame.is_deletion()), (Some("kitchen"), false));
    /// # Ok(())
    /// # }
    /// ```
    pub fn key(&self) -> Option<&Key> {
        self.run.keying(self.sequence)?.key.as_ref()
    }

    /// Whether the event deletes the latest value of its key.
    pub fn is_deletion(&self) -> bool {
        self.run.keying(self.sequence).is_some_and(|keying| keying.is_deletion)
    }

    /// The event as Server-Sent Events: whole lines, with the empty line at the end.
    pub fn sse(&self) -> &[u8] {
        self.plain().body()
    }

    fn fields(&self) -> Fields<'_> {
        Fields::of(self.sse())
    }

    /// The encoding in `format`. The envelopes of a run are made when the first of them is asked for, and so are its messages.
    pub(crate) fn chunk(&self, format: Format) -> ChunkRef<'_> {
        match format {
            Format::Plain => self.plain(),
            Format::Envelope => self.run.envelope(self.sequence).as_ref(),
            Format::Message => self.run.message(self.sequence).as_ref(),
        }
    }

    /// The plain encoding, which most readers write.
    fn plain(&self) -> ChunkRef<'_> {
        self.place.of(self.run.block())
    }

    /// Whether this may come after `before` in one slice: it follows it in memory, or is in another block.
    pub(super) fn may_follow(&self, before: &Self) -> bool {
        self.plain().follows(before.plain()) || !self.plain().is_beside(before.plain())
    }

    /// The same event in memory of its own, for a reader that outlives those of the run.
    pub(super) fn alone(&self) -> Self {
        let (block, place) = self.plain().alone();
        Self { sequence: self.sequence, place, run: Arc::new(self.run.alone(self.sequence, block)) }
    }

    /// The memory of a latest value, approximately.
    pub(super) fn value_weight(&self) -> usize {
        let key = self.key().map_or(0, |key| key.as_str().len());
        self.plain().framed().len() + key + size_of::<Self>() + size_of::<EncodedRun>()
    }

    /// The memory that leaves the history with this frame, approximately: its cell in a segment, and the block and the run
    /// that it ends. Its other encodings are counted by [`DerivedBytes`](super::encoder::DerivedBytes).
    pub(crate) fn weight(&self) -> usize {
        let block = self.plain().weight();
        let run = if block > 0 { size_of::<EncodedRun>() } else { 0 };
        block + run + size_of::<Self>()
    }
}

/// The payload of an event is not JSON of the expected type.
#[derive(Debug, thiserror::Error)]
#[error("the payload of event {id} of topic {topic} is not the expected JSON: {error}")]
pub struct DeserializeError {
    id: StreamPosition,
    topic: Topic,
    error: serde_json::Error,
}

#[cfg(all(test, not(fanline_loom)))]
mod tests {
    use super::*;
    use crate::event::{Event, EventName, Payload};
    use crate::hub::encoder::Encoder;
    use crate::hub::numbering::Numbering;
    use crate::position::Epoch;

    fn frame(name: &str, payload: &str) -> Frame {
        let event = Event::new(Topic::new("t").unwrap(), Payload::text(payload)).named(EventName::new(name).unwrap());
        let mut encoder = Encoder::new(Numbering { epoch: Epoch(7), offset: 100 }, 1);
        encoder.push(142, &event);
        encoder.finish(&Default::default()).unwrap().next().unwrap()
    }

    #[test]
    fn frame_exposes_the_parts_of_its_event() {
        for (payload, expected) in [
            ("", ""),
            ("a", "a"),
            (" größe: 1", " größe: 1"),
            ("a\nb", "a\nb"),
            ("a\r\n\rb", "a\n\nb"),
            ("\n", "\n"),
            ("\n\n\n", "\n\n\n"),
            ("data: a\ndata: b", "data: a\ndata: b"),
            ("a\n\nevent: x\ndata: ", "a\n\nevent: x\ndata: "),
        ] {
            for name in ["cpu data: usage", "message"] {
                let frame = frame(name, payload);
                assert_eq!(frame.payload(), expected, "{payload:?}");
                assert_eq!((frame.name(), frame.id()), (name, StreamPosition::new(Epoch(7), 42)));
            }
        }
        assert!(matches!(frame("message", "one line").payload(), Cow::Borrowed(_)));
    }

    #[test]
    fn payload_is_parsed_as_the_type_asked_for() {
        assert_eq!(frame("message", "[1,\n2]").json::<Vec<u8>>().unwrap(), [1, 2]);
        assert_eq!(frame("message", "1.5").json::<f64>().unwrap(), 1.5);
        let error = frame("message", "[1,\n\"2\"]").json::<Vec<u8>>().unwrap_err().to_string();
        let expected = "the payload of event 7-42 of topic t is not the expected JSON: invalid type: string \"2\", \
                        expected u8 at line 2 column 3";
        assert_eq!(error, expected);
    }

    #[test]
    fn frame_is_four_words() {
        assert_eq!(size_of::<Frame>(), size_of::<[usize; 4]>(), "a ring has one for each event that it retains");
    }
}

//! An event in a ring: encoded, numbered, shared.

use std::borrow::Cow;

use crate::position::{Sequence, StreamPosition};
use crate::topic::Topic;
use crate::wire::chunk::Chunk;

/// An event as the rings hold it and connections write it. Cloning shares the bytes.
///
/// Only the encoded event is kept: [`id`](Self::id), [`name`](Self::name) and [`payload`](Self::payload) read their part of
/// it.
#[derive(Clone, Debug)]
pub struct Frame {
    sequence: Sequence,
    topic: Topic,
    chunk: Chunk,
}

impl Frame {
    pub(crate) fn new(sequence: Sequence, topic: Topic, chunk: Chunk) -> Self {
        Self { sequence, topic, chunk }
    }

    /// The event's number in the hub's one order. On a hub whose events are numbered elsewhere it differs from the
    /// sequence of the [`id`](Self::id).
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// The event's topic.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The event's id, to resume after it with [`Start::After`](super::Start::After).
    pub fn id(&self) -> StreamPosition {
        self.fields().id.parse().expect("an encoded event has an id")
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
    /// let Delivery::Event(frame) = subscription.next().await else { panic!("nothing is missing") };
    /// assert_eq!((frame.topic().as_str(), frame.name(), frame.id()), ("metric", "sample", id));
    /// assert_eq!(frame.payload(), r#"{"cpu": 45.2}"#);
    /// # }
    /// ```
    pub fn payload(&self) -> Cow<'_, str> {
        let data = self.fields().data;
        if data.contains('\n') { data.replace("\ndata: ", "\n").into() } else { data.into() }
    }

    /// The event as Server-Sent Events: whole lines, with the empty line at the end.
    pub fn sse(&self) -> &[u8] {
        self.chunk.body()
    }

    /// Splits what `wire::sse` has encoded: one line with the id, at most one with the name, and a line or more of data.
    fn fields(&self) -> Fields<'_> {
        let text = std::str::from_utf8(self.sse()).expect("events are UTF-8");
        let fields = || {
            let (id, rest) = text.strip_prefix("id: ")?.split_once('\n')?;
            let (name, data) = match rest.strip_prefix("event: ") {
                Some(rest) => rest.split_once('\n')?,
                None => ("message", rest),
            };
            Some(Fields { id, name, data: data.strip_prefix("data: ")?.strip_suffix("\n\n")? })
        };
        fields().expect("an encoded event has an id and data")
    }

    pub(crate) fn chunk(&self) -> &Chunk {
        &self.chunk
    }

    /// The memory that leaves the history with this frame, approximately: its cell in a segment, and the block that it
    /// ends.
    pub(crate) fn weight(&self) -> usize {
        self.chunk.weight() + size_of::<Self>()
    }
}

struct Fields<'a> {
    id: &'a str,
    name: &'a str,
    data: &'a str,
}

#[cfg(all(test, not(fanline_loom)))]
mod tests {
    use super::*;
    use crate::event::{Event, EventName, Payload};
    use crate::position::Epoch;
    use crate::wire::{chunk, sse};

    fn frame(name: &str, payload: &str) -> Frame {
        let topic = Topic::new("t").unwrap();
        let event = Event::new(topic.clone(), Payload::text(payload)).named(EventName::new(name).unwrap());
        let mut block = chunk::Builder::default();
        sse::encode(StreamPosition::new(Epoch(7), 42), &event, &mut block);
        Frame::new(142, topic, block.finish().next().unwrap())
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
        assert!(matches!(frame("data", "one line").payload(), Cow::Borrowed(_)));
    }
}

//! Encoded events are read back by an independent parser, however their bytes are cut.

use std::time::Duration;

use eventsource_stream::{EventStream, EventStreamError};
use futures_util::future::FutureExt;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::event::Payload;
use crate::position::Epoch;
use crate::topic::Topic;

/// A part of a stream.
#[derive(Clone, Debug)]
enum Piece {
    Published { position: StreamPosition, name: Option<String>, payload: String },
    Control { retry: Option<u64>, position: Option<StreamPosition>, data: String },
    Comment,
}

/// An event as a reader sees it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    id: String,
    event: String,
    data: String,
    retry: Option<u64>,
}

fn position() -> impl Strategy<Value = StreamPosition> {
    (any::<u64>(), any::<u64>()).prop_map(|(epoch, sequence)| StreamPosition::new(Epoch(epoch), sequence))
}

/// Texts that often contain what has a meaning in the format.
fn payload() -> impl Strategy<Value = String> {
    let special =
        ["\n", "\r", "\r\n", "\n\n", ":", " ", "data: ", "id: 1", "retry: 1", "event: x", "\0", "\u{feff}", "日本"];
    let part = prop_oneof![
        3 => prop::sample::select(special.to_vec()).prop_map(str::to_owned),
        1 => any::<String>(),
        1 => "[a-z{}\":]{0,300}",
    ];
    vec(part, 0..8).prop_map(|parts| parts.concat())
}

fn name() -> impl Strategy<Value = String> {
    "\\PC{1,12}|[: ]{1,3}[a-z]{0,3}".prop_filter("a valid event name", |name| EventName::new(name).is_ok())
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        6 => (position(), prop::option::of(name()), payload())
            .prop_map(|(position, name, payload)| Piece::Published { position, name, payload }),
        2 => (prop::option::of(any::<u64>()), prop::option::of(position()), payload())
            .prop_map(|(retry, position, data)| Piece::Control { retry, position, data }),
        1 => Just(Piece::Comment),
    ]
}

impl Piece {
    fn encode(&self) -> Chunk {
        match self {
            Self::Published { position, name, payload } => {
                let event = Event::new(Topic::new("t").unwrap(), Payload::text(payload.clone()));
                let event = match name {
                    Some(name) => event.named(EventName::new(name).unwrap()),
                    None => event,
                };
                let mut chunks = chunk::Builder::default();
                encode(*position, &event, &mut chunks);
                chunks.finish().next().unwrap()
            }
            Self::Control { retry, position, data } => {
                Block { retry: *retry, id: *position, event: b"system", data: data.as_bytes() }.encode()
            }
            Self::Comment => comment(),
        }
    }

    /// The event that a reader sees after `last_id`. An id stays until another one arrives, and line ends become LF.
    fn seen(&self, last_id: &mut String) -> Option<Seen> {
        let (position, event, data, retry) = match self {
            Self::Published { position, name, payload } => {
                (Some(position), name.as_deref().unwrap_or("message"), payload, None)
            }
            Self::Control { retry, position, data } => (position.as_ref(), "system", data, *retry),
            Self::Comment => return None,
        };
        if let Some(position) = position {
            *last_id = position.to_string();
        }
        let data = data.replace("\r\n", "\n").replace('\r', "\n");
        Some(Seen { id: last_id.clone(), event: event.to_owned(), data, retry })
    }
}

/// Reads `wire`, cut at `cuts`.
fn read(wire: &[u8], cuts: &[Index]) -> Vec<Seen> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).chain([0, wire.len()]).collect();
    cuts.sort_unstable();
    let packets = cuts.windows(2).map(|cut| Ok::<_, std::convert::Infallible>(&wire[cut[0]..cut[1]]));
    let events = EventStream::new(iter(packets)).map(|event: Result<_, EventStreamError<_>>| {
        let event = event?;
        let retry = event.retry.map(|retry: Duration| u64::try_from(retry.as_millis()).expect("a number was encoded"));
        Ok::<_, EventStreamError<_>>(Seen { id: event.id, event: event.event, data: event.data, retry })
    });
    events.try_collect().now_or_never().expect("all bytes are ready").expect("a valid event stream")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn published_events_are_read_back_wherever_bytes_are_cut(
        pieces in vec(piece(), 1..12),
        cuts in vec(any::<Index>(), 0..20),
    ) {
        let chunks: Vec<_> = pieces.iter().map(Piece::encode).collect();
        let wire = chunks.iter().map(Chunk::body).collect::<Vec<_>>().concat();
        let mut last_id = String::new();
        let expected: Vec<_> = pieces.iter().filter_map(|piece| piece.seen(&mut last_id)).collect();
        prop_assert_eq!(read(&wire, &cuts), expected);
    }

    #[test]
    fn published_events_are_read_back_byte_by_byte(piece in piece()) {
        let wire = piece.encode().to_body();
        let everywhere: Vec<_> = wire.iter().map(std::slice::from_ref).map(Ok::<_, std::convert::Infallible>).collect();
        let events = EventStream::new(iter(everywhere)).try_collect::<Vec<_>>().now_or_never().expect("all bytes are ready");
        let data: Vec<_> = events.expect("a valid event stream").into_iter().map(|event| event.data).collect();
        let expected: Vec<_> = piece.seen(&mut String::new()).into_iter().map(|seen| seen.data).collect();
        prop_assert_eq!(data, expected);
    }
}

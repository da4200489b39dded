use bytes::Bytes;
use eventsource_stream::EventStream;
use futures_util::future::FutureExt;
use futures_util::stream::{StreamExt, iter};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::chunk;
use super::lines::{LineSplitter, LineTooLong};
use super::publication::{parse_event, parse_events, parse_payload};
use super::{envelope, sse};
use crate::event::{Event, EventName, Payload};
use crate::position::{Epoch, StreamPosition};
use crate::topic::Topic;

const MAX_EVENT_BYTES: usize = 1000;

/// Input: a body, parsed in each format.
pub(crate) fn publication(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    for is_json in [true, false] {
        if let Ok(payload) = parse_payload(body.clone(), is_json, MAX_EVENT_BYTES) {
            check(&payload, &body);
        }
    }
    let event = parse_event(&body, MAX_EVENT_BYTES);
    let events = parse_events(&body, MAX_EVENT_BYTES);
    for event in event.iter().chain(events.iter().flatten()) {
        assert_eq!(Topic::new(event.topic().as_str()).as_ref(), Ok(event.topic()));
        let name = std::str::from_utf8(event.name().as_bytes()).expect("a name is UTF-8");
        assert_eq!(EventName::new(name).as_ref(), Ok(event.name()));
        check(event.payload(), &body);
    }
    if let Ok(event) = &event {
        assert_eq!(events.expect("what is an event is one event"), std::slice::from_ref(event));
    }
    // In an array it is the same event, or is rejected as well.
    if !data.contains(&b',') || event.is_ok() {
        let array = parse_events(&[b"[", data, b"]"].concat().into(), MAX_EVENT_BYTES);
        match (event, array) {
            (Ok(event), Ok(array)) => assert_eq!(array, [event]),
            (Err(_), array) => assert!(array.is_err() || data.trim_ascii().is_empty()),
            (Ok(_), Err(error)) => panic!("alone it is an event: {error}"),
        }
    }
}

fn check(payload: &Payload, body: &[u8]) {
    let bytes = payload.as_bytes();
    assert!(bytes.len() <= MAX_EVENT_BYTES && std::str::from_utf8(bytes).is_ok());
    if payload.is_json() {
        serde_json::from_slice::<IgnoredAny>(bytes).expect("it is JSON");
        assert!(memchr::memmem::find(body, bytes).is_some(), "it goes through byte for byte");
    }
}

/// Input: a body of lines, split into blocks whose lengths depend on the first byte.
pub(crate) fn lines(data: &[u8]) {
    const LONGEST: usize = 40;
    let length = data.first().map_or(1, |byte| usize::from(byte % 32) + 1);
    let mut lines = LineSplitter::new(LONGEST);
    let mut found = Vec::new();
    for block in data.chunks(length) {
        lines.push(Bytes::copy_from_slice(block));
        found.extend(&mut lines);
    }
    lines.finish();
    found.extend(lines);

    let mut expected: Vec<_> = data
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .map(|line| if line.len() > LONGEST { Err(LineTooLong) } else { Ok(Bytes::copy_from_slice(line)) })
        .collect();
    // The end of the last line begins no further line.
    if data.last().is_none_or(|byte| *byte == b'\n') {
        expected.pop();
    }
    assert_eq!(found, expected);
}

/// Input: events separated by U+001E. U+001F separates the name of an event from its payload, which is JSON where it can be.
/// Readers of both formats get the same events.
pub(crate) fn sse(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let event = |text: &str| {
        let (name, payload) = text.split_once('\u{1f}').unwrap_or(("message", text));
        let payload = Payload::json(payload).unwrap_or_else(|_| Payload::text(payload));
        let event = Event::new(Topic::new("a\"\\ü").expect("it is one"), payload);
        event.named(EventName::new(name).unwrap_or(EventName::MESSAGE))
    };
    let events: Vec<_> = text.split('\u{1e}').map(event).collect();
    let at = |number: usize| StreamPosition::new(Epoch(u64::MAX), number as u64);
    let mut block = chunk::Builder::default();
    for (number, event) in events.iter().enumerate() {
        sse::encode(at(number), event, &mut block);
    }
    let (bytes, places) = block.finish_block();
    let chunks: Vec<_> = places.map(|place| place.of(&bytes)).collect();
    let bodies: Vec<_> = chunks.iter().map(|chunk| chunk.body().to_vec()).collect();
    assert_eq!(unframed(&chunks.iter().flat_map(|chunk| chunk.framed()).copied().collect::<Vec<_>>()), bodies);
    assert_eq!(unframed(chunks[0].framed_to(chunks[chunks.len() - 1])), bodies);

    for (body, event) in bodies.iter().zip(&events) {
        envelope::encode(body, event.topic(), event.payload().is_json(), &mut block);
    }
    let envelopes: Vec<_> = block.finish().map(|chunk| chunk.body().to_vec()).collect();
    let (plain, envelopes) = (read_back(bodies), read_back(envelopes));
    assert_eq!((plain.len(), envelopes.len()), (events.len(), events.len()));
    for (number, (event, (plain, envelope))) in events.iter().zip(plain.iter().zip(&envelopes)).enumerate() {
        let id = at(number).to_string();
        assert_eq!((&plain.id, plain.retry), (&id, None));
        assert_eq!(plain.event.as_bytes(), event.name().as_bytes());
        let payload = std::str::from_utf8(event.payload().as_bytes()).expect("it is UTF-8");
        assert_eq!(plain.data, payload.replace("\r\n", "\n").replace('\r', "\n"));
        assert_eq!((&envelope.id, &envelope.event), (&plain.id, &plain.event));
        check_envelope(event, plain, &envelope.data);
    }
}

/// Parses the events of a stream.
fn read_back(bodies: Vec<Vec<u8>>) -> Vec<eventsource_stream::Event> {
    let events = EventStream::new(iter(bodies.into_iter().map(Ok::<_, ()>))).collect::<Vec<_>>();
    let events = events.now_or_never().expect("all of it is there");
    events.into_iter().map(|event| event.expect("it is an event stream")).collect()
}

/// Asserts that an envelope has what a reader of the plain format gets, and the topic.
fn check_envelope(event: &Event, plain: &eventsource_stream::Event, json: &str) {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Envelope<'a> {
        r#type: String,
        id: String,
        topic: String,
        event: String,
        #[serde(borrow)]
        data: Option<&'a RawValue>,
        text: Option<String>,
    }
    let envelope: Envelope<'_> = serde_json::from_str(json).expect("an envelope is JSON");
    assert_eq!((&*envelope.r#type, &envelope.id, &*envelope.topic), ("event", &plain.id, event.topic().as_str()));
    assert_eq!(envelope.event, plain.event);
    if event.payload().is_json() {
        assert!(json.ends_with(&format!(r#","data":{}}}"#, plain.data)), "byte for byte: {json}");
        assert_eq!(envelope.text, None);
    } else {
        assert_eq!((envelope.data.map(RawValue::get), envelope.text.as_ref()), (None, Some(&plain.data)));
        assert!(!json.contains('\n'), "a text is one line: {json}");
    }
}

/// The content of chunks, parsed strictly.
fn unframed(mut framed: &[u8]) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    while !framed.is_empty() {
        let line = memchr::memmem::find(framed, b"\r\n").expect("a chunk has a head");
        let digits = std::str::from_utf8(&framed[..line]).expect("of digits");
        let length = usize::from_str_radix(digits, 16).expect("of digits");
        assert!(length > 0 && digits == format!("{length:x}"));
        let (body, rest) = framed[line + 2..].split_at(length);
        bodies.push(body.to_vec());
        framed = rest.strip_prefix(b"\r\n").expect("a chunk has an end");
    }
    bodies
}

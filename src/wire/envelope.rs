//! The envelope: an event as one JSON object, for clients that read several topics.
//!
//! ```json
//! {"type":"event","id":"1795186660123-42","topic":"metric","event":"message","data":{"value": 45.20}}
//! ```
//!
//! A JSON payload is `data`, byte for byte; a text is `text`, a string, in its place. In Server-Sent Events the object takes
//! one `data:` line. White space within a JSON payload may have line ends: then it takes a line for each, which a reader joins
//! again. As in the plain format, all line ends of a payload are LF. A WebSocket message is the object alone.

use std::io::Write;

use super::sse::{Block, Fields};
use super::{chunk, websocket};
use crate::topic::Topic;

/// Encodes the envelope of an event from its plain encoding `plain`.
pub(crate) fn encode(plain: &[u8], topic: &Topic, is_json: bool, out: &mut chunk::Builder) {
    let fields = Fields::of(plain);
    let data = object(&fields, topic, is_json);
    Block { retry: None, id: Some(fields.id()), event: fields.name.as_bytes(), data: &data }.encode_into(out);
}

/// Encodes the envelope as a WebSocket message.
pub(crate) fn encode_message(plain: &[u8], topic: &Topic, is_json: bool, out: &mut chunk::Builder) {
    websocket::push_text(&object(&Fields::of(plain), topic, is_json), out);
}

/// The envelope as JSON.
fn object(fields: &Fields<'_>, topic: &Topic, is_json: bool) -> Vec<u8> {
    let payload = fields.payload();
    let mut json = Vec::with_capacity(payload.len() + topic.as_str().len() + 128);
    let write = |json: &mut Vec<u8>| {
        write!(json, r#"{{"type":"event","id":"{}","topic":"#, fields.id)?;
        serde_json::to_writer(&mut *json, topic.as_str())?;
        json.write_all(br#","event":"#)?;
        serde_json::to_writer(&mut *json, fields.name)?;
        if is_json {
            json.write_all(br#","data":"#)?;
            json.write_all(payload.as_bytes())?;
        } else {
            json.write_all(br#","text":"#)?;
            serde_json::to_writer(&mut *json, &payload)?;
        }
        json.write_all(b"}")
    };
    write(&mut json).expect("a vector takes all that is written");
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventName, Payload};
    use crate::position::{Epoch, StreamPosition};
    use crate::wire::sse;

    fn envelope(topic: &str, name: &str, payload: Payload) -> String {
        let topic = Topic::new(topic).unwrap();
        let is_json = payload.is_json();
        let event = Event::new(topic.clone(), payload).named(EventName::new(name).unwrap());
        let mut block = chunk::Builder::default();
        sse::encode(StreamPosition::new(Epoch(7), 42), &event, &mut block);
        let plain = block.finish().next().unwrap();
        encode(plain.body(), &topic, is_json, &mut block);
        String::from_utf8(block.finish().next().unwrap().body().to_vec()).unwrap()
    }

    #[test]
    fn json_payload_is_embedded_byte_for_byte() {
        for json in [r#"{"b": 1.50,  "a":[1e400, "\u00fc"]}"#, "null", r#""text""#, "-0.0"] {
            assert_eq!(
                envelope("metric", "message", Payload::json(json).unwrap()),
                format!(
                    "id: 7-42\ndata: {{\"type\":\"event\",\"id\":\"7-42\",\"topic\":\"metric\",\"event\":\"message\",\"data\":{json}}}\n\n"
                )
            );
        }
    }

    #[test]
    fn line_ends_between_json_tokens_begin_data_lines() {
        let json = "{\n  \"a\": [\r\n1,\r2]\n}";
        let expected = "id: 7-42\nevent: e\n\
             data: {\"type\":\"event\",\"id\":\"7-42\",\"topic\":\"t\",\"event\":\"e\",\"data\":{\n\
             data:   \"a\": [\ndata: 1,\ndata: 2]\ndata: }}\n\n";
        assert_eq!(envelope("t", "e", Payload::json(json).unwrap()), expected);
    }

    #[test]
    fn text_is_a_string_in_one_line() {
        for (text, string) in [
            ("", r#""""#),
            ("größe \u{1f980}", "\"größe \u{1f980}\""),
            ("a\nb\r\nc\rd\n", r#""a\nb\nc\nd\n""#),
            ("\"\\\t\0\u{1f}\u{2028}</script>", "\"\\\"\\\\\\t\\u0000\\u001f\u{2028}</script>\""),
            ("{\"is\": \"text\"}", r#""{\"is\": \"text\"}""#),
        ] {
            assert_eq!(
                envelope("t", "e", Payload::text(text)),
                format!(
                    "id: 7-42\nevent: e\ndata: {{\"type\":\"event\",\"id\":\"7-42\",\"topic\":\"t\",\"event\":\"e\",\"text\":{string}}}\n\n"
                )
            );
        }
    }

    #[test]
    fn topic_and_name_are_escaped() {
        assert!(
            envelope(r#"a"b\c:ü"#, r#"say "x""#, Payload::text(""))
                .contains(r#""topic":"a\"b\\c:ü","event":"say \"x\"""#)
        );
    }
}

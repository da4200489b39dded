//! What an event or a control message of a stream becomes in the log of its client.

use serde_json::Value;

use crate::id::Id;
use crate::parser::Block;
use crate::recording::{Gap, Line, Refusal};

/// Returns the text of an event in an envelope. `None` if the envelope differs from the fields of its block. Each event's name
/// is its topic here.
pub fn text_in_envelope(block: &Block) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Envelope {
        r#type: String,
        id: String,
        topic: String,
        event: String,
        text: String,
    }
    let envelope: Envelope = serde_json::from_str(&block.data).ok()?;
    let is_same = envelope.r#type == "event"
        && envelope.id == block.last_id
        && envelope.topic == block.name
        && envelope.event == block.name
        && !block.data.contains('\n');
    is_same.then_some(envelope.text)
}

pub fn system_line(block: &Block, id: Option<Id>, sent: &str) -> Line {
    let Ok(data) = serde_json::from_str::<Value>(&block.data) else {
        return Line::Malformed(format!("not JSON: {block:?}"));
    };
    match data["message"].as_str() {
        Some("connected") => Line::Hello { id, position: data["position"].as_str().and_then(Id::parse) },
        Some("unavailable") if block.last_id == sent => {
            Line::Refused { why: Refusal::InBand(data["reason"].as_str().unwrap_or("?").to_owned()) }
        }
        Some("unavailable") => Line::Malformed(format!("a refusal that changes the last id {sent:?}: {block:?}")),
        text => Line::System { id, text: text.unwrap_or("?").to_owned() },
    }
}

pub fn gap_line(block: &Block, id: Option<Id>, behind: Option<u64>) -> Line {
    let Ok(data) = serde_json::from_str::<Value>(&block.data) else {
        return Line::Malformed(format!("not JSON: {block:?}"));
    };
    let position = |name: &str| data[name].as_str().and_then(Id::parse);
    let topics = data["topics"].as_array();
    let topics = topics.map(|topics| topics.iter().filter_map(|topic| Some(topic.as_str()?.to_owned())).collect());
    Line::Gap(Box::new(Gap {
        id,
        reason: data["reason"].as_str().unwrap_or("?").to_owned(),
        from: position("from"),
        to: position("to"),
        missed: data["missed"].as_u64(),
        topics,
        behind,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelope_must_repeat_the_fields_of_its_block() {
        let text = |data: &str| {
            let (last_id, name) = ("7-1".to_owned(), "a:1".to_owned());
            text_in_envelope(&Block { last_id, has_id: true, name, data: data.to_owned() })
        };
        let envelope = r#"{"type":"event","id":"7-1","topic":"a:1","event":"a:1","text":"x\n"}"#;
        assert_eq!(text(envelope).as_deref(), Some("x\n"));
        for (part, other) in [
            ("\"event\",\"id", "\"gap\",\"id"),
            ("7-1", "7-2"),
            ("topic\":\"a:1", "topic\":\"a:2"),
            ("event\":\"a:1", "event\":\"message"),
            ("text", "data"),
            ("}", ",\"more\":1}"),
            (",\"text", ",\n\"text"),
        ] {
            assert!(envelope.contains(part), "{part}");
            assert_eq!(text(&envelope.replace(part, other)), None, "{part}");
        }
    }
}

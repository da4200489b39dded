//! The events of topic `metric`: one for each measured value.

use fanline::event::{Event, Payload};
use fanline::topic::Topic;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::timestamp::Timestamp;

/// The topic of metrics.
pub const TOPIC: &str = "metric";

/// A measured value.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// What was measured.
    pub name: &'static str,
    /// How much it was.
    pub value: Value,
    /// Of what.
    pub unit: &'static str,
    /// Which one of several: a core, an interface, a mount point. None for the machine or the server as a whole.
    pub tag: Option<(&'static str, String)>,
}

/// A number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A whole one: bytes and counts.
    Whole(u64),
    /// Any other: percentages and rates, to two decimals.
    Real(f64),
}

impl Value {
    /// The number, for comparing.
    #[expect(clippy::cast_precision_loss, reason = "thresholds need no 53rd bit")]
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Whole(value) => value as f64,
            Self::Real(value) => value,
        }
    }
}

impl Metric {
    /// A whole number of `unit`.
    pub fn whole(name: &'static str, value: u64, unit: &'static str) -> Self {
        Self { name, value: Value::Whole(value), unit, tag: None }
    }

    /// A number of `unit`, rounded to two decimals. JSON has no infinity: what is not finite becomes 0.
    pub fn real(name: &'static str, value: f64, unit: &'static str) -> Self {
        let value = if value.is_finite() { (value * 100.0).round() / 100.0 } else { 0.0 };
        Self { name, value: Value::Real(value), unit, tag: None }
    }

    /// The same, of one of several.
    #[must_use]
    pub fn of(self, key: &'static str, which: impl Into<String>) -> Self {
        Self { tag: Some((key, which.into())), ..self }
    }

    /// The event that says it.
    pub fn event(&self, topic: &Topic, timestamp: Timestamp) -> Event {
        let body = Body {
            r#type: "metric",
            name: self.name,
            value: self.value,
            unit: self.unit,
            timestamp,
            tags: Tags(self.tag.as_ref()),
        };
        json_event(topic, &body)
    }
}

/// An event whose payload is `body` as JSON.
///
/// # Panics
/// Never for the bodies of this module tree: they have string keys and nothing that refuses to be serialised.
pub fn json_event(topic: &Topic, body: &impl Serialize) -> Event {
    let json = serde_json::to_string(body).expect("plain strings, numbers and maps serialise");
    Event::new(topic.clone(), Payload::json(json))
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    name: &'static str,
    value: Value,
    unit: &'static str,
    timestamp: Timestamp,
    tags: Tags<'a>,
}

/// A tag as the JSON object that it is a member of.
pub struct Tags<'a>(pub Option<&'a (&'static str, String)>);

impl Serialize for Tags<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(usize::from(self.0.is_some())))?;
        if let Some((key, value)) = self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_metric_is_one_json_object() {
        let topic = Topic::new(TOPIC).unwrap();
        let time = Timestamp(UNIX_EPOCH + Duration::from_millis(1_772_366_400_250));
        let event = Metric::real("cpu_usage", 45.2041, "percent").of("core", "0").event(&topic, time);
        assert_eq!(event.topic(), &topic);
        assert!(event.payload().is_json());
        assert_eq!(
            event.payload().as_bytes(),
            r#"{"type":"metric","name":"cpu_usage","value":45.2,"unit":"percent","timestamp":"2026-03-01T12:00:00.250Z","tags":{"core":"0"}}"#
        );
        let whole = Metric::whole("memory_used", 1 << 40, "bytes").event(&topic, time);
        assert!(std::str::from_utf8(whole.payload().as_bytes()).unwrap().contains(r#""value":1099511627776,"#));
    }

    #[test]
    fn a_value_that_json_cannot_say_is_zero() {
        assert_eq!(Metric::real("x", f64::NAN, "").value, Value::Real(0.0));
    }
}

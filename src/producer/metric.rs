//! The events of topic `metric`: one for each measured value.

use fanline::event::Event;
use fanline::topic::Topic;
use serde::Serialize;

use super::payload::{Tag, Timestamp, json_event, tag_as_object};

pub const TOPIC: &str = "metric";

/// A measured value.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    pub name: &'static str,
    pub value: Value,
    pub unit: &'static str,
    /// The core, interface or mount point measured, unless the value is of the machine or server as a whole.
    pub tag: Option<Tag>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Bytes and counts.
    Whole(u64),
    /// Percentages and rates, to two decimals.
    Real(f64),
}

impl Value {
    /// The number, for comparisons.
    #[expect(clippy::cast_precision_loss, reason = "thresholds need no 53rd bit")]
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Whole(value) => value as f64,
            Self::Real(value) => value,
        }
    }
}

impl Metric {
    pub fn whole(name: &'static str, value: u64, unit: &'static str) -> Self {
        Self { name, value: Value::Whole(value), unit, tag: None }
    }

    /// A number of `unit`, rounded to two decimals. JSON has no infinity: a value that is not finite becomes 0.
    pub fn real(name: &'static str, value: f64, unit: &'static str) -> Self {
        let value = if value.is_finite() { (value * 100.0).round() / 100.0 } else { 0.0 };
        Self { name, value: Value::Real(value), unit, tag: None }
    }

    /// `count` in `seconds`, as `unit` per second.
    #[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
    pub fn rate(name: &'static str, count: u64, seconds: f64, unit: &'static str) -> Self {
        Self::real(name, count as f64 / seconds, unit)
    }

    /// `part` of `whole` in percent; of nothing, nothing is used.
    #[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
    pub fn percent(name: &'static str, part: u64, whole: u64) -> Self {
        Self::real(name, if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }, "percent")
    }

    #[must_use]
    pub fn of(self, kind: &'static str, name: impl Into<String>) -> Self {
        Self { tag: Some((kind, name.into())), ..self }
    }

    pub fn event(&self, topic: &Topic, timestamp: Timestamp) -> Event {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: &'static str,
            name: &'static str,
            value: Value,
            unit: &'static str,
            timestamp: Timestamp,
            #[serde(serialize_with = "tag_as_object")]
            tags: &'a Option<Tag>,
        }
        let Self { name, value, unit, ref tag } = *self;
        json_event(topic, &Body { r#type: "metric", name, value, unit, timestamp, tags: tag })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn metric_is_one_json_object() {
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
    fn machine_without_swap_uses_none_of_it() {
        assert_eq!(Metric::percent("x", 0, 0).value, Value::Real(0.0));
    }

    #[test]
    fn value_without_json_form_is_zero() {
        assert_eq!(Metric::real("x", f64::NAN, "").value, Value::Real(0.0));
        assert_eq!(Metric::rate("x", 1, 0.0, "").value, Value::Real(0.0));
    }
}

//! The events of topic `metric`: one for each measured value.

use fanline::event::{Event, Key};
use fanline::topic::Topic;
use serde::Serialize;
use serde_json::Number;

use super::payload::{Tag, Timestamp, json_event, tag_as_object};

pub const TOPIC: &str = "metric";

/// A measured value.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    pub name: &'static str,
    pub value: Number,
    pub unit: &'static str,
    /// The core, interface or mount point measured, unless the value is of the machine or server as a whole.
    pub tag: Option<Tag>,
}

impl Metric {
    pub fn whole(name: &'static str, value: u64, unit: &'static str) -> Self {
        Self { name, value: value.into(), unit, tag: None }
    }

    /// A number of `unit`, rounded to two decimals. JSON has no infinity: a value that is not finite becomes 0.
    pub fn real(name: &'static str, value: f64, unit: &'static str) -> Self {
        let value = Number::from_f64((value * 100.0).round() / 100.0).unwrap_or_else(|| 0.into());
        Self { name, value, unit, tag: None }
    }

    /// `count` in `seconds`, as `unit` per second.
    #[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
    pub fn rate(name: &'static str, count: u64, seconds: f64, unit: &'static str) -> Self {
        Self::real(name, count as f64 / seconds, unit)
    }

    /// `part` of `whole` in percent; 0 if `whole` is 0.
    #[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
    pub fn percent(name: &'static str, part: u64, whole: u64) -> Self {
        Self::real(name, if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }, "percent")
    }

    /// This metric of one core, interface or mount point.
    #[must_use]
    pub fn of(self, kind: &'static str, name: impl Into<String>) -> Self {
        Self { tag: Some((kind, name.into())), ..self }
    }

    pub fn event(&self, topic: &Topic, timestamp: Timestamp) -> Event {
        #[derive(Serialize)]
        #[serde(tag = "type", rename = "metric")]
        struct Body<'a> {
            name: &'static str,
            value: &'a Number,
            unit: &'static str,
            timestamp: Timestamp,
            #[serde(serialize_with = "tag_as_object")]
            tags: &'a Option<Tag>,
        }
        let body = Body { name: self.name, value: &self.value, unit: self.unit, timestamp, tags: &self.tag };
        let event = json_event(topic, &body);
        // A mount point may have a name that is no key.
        match Key::new(&self.key()) {
            Ok(key) => event.keyed(key),
            Err(_) => event,
        }
    }

    /// What this is the latest value of. The console has it as the name of a row.
    fn key(&self) -> String {
        match &self.tag {
            None => self.name.to_owned(),
            Some((kind, tag)) => format!("{} {kind}: {tag}", self.name),
        }
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
        assert_eq!(event.key().map(Key::as_str), Some("cpu_usage core: 0"));
        let whole = Metric::whole("memory_used", 1 << 40, "bytes").event(&topic, time);
        assert!(std::str::from_utf8(whole.payload().as_bytes()).unwrap().contains(r#""value":1099511627776,"#));
    }

    #[test]
    fn machine_without_swap_uses_none_of_it() {
        assert_eq!(Metric::percent("x", 0, 0).value.as_f64(), Some(0.0));
    }

    #[test]
    fn value_without_json_form_is_zero() {
        assert_eq!(Metric::real("x", f64::NAN, "").value, 0.into());
        assert_eq!(Metric::rate("x", 1, 0.0, "").value, 0.into());
    }
}

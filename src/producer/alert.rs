//! The events of topic `alert`: one when a metric crosses its threshold, one when it is back.
//!
//! Both require several samples in a row, and an alert ends at a lower value than it begins (hysteresis): a metric that
//! oscillates around its threshold raises one alert, not one a second.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Number;

use super::metric::Metric;
use super::payload::{Tag, Timestamp, tag_as_object};

pub const TOPIC: &str = "alert";

/// When a metric raises an alert, and when it resolves it.
#[derive(Debug)]
struct Rule {
    metric: &'static str,
    /// Watches each metric that has a tag of this kind, or else the one without a tag.
    tag: Option<&'static str>,
    what: &'static str,
    /// Samples of at least this value count towards raising.
    threshold: f64,
    /// Samples below this value count towards resolving.
    back_below: f64,
    raise_after: u32,
    resolve_after: u32,
}

impl Rule {
    const USAGE: Self =
        Self { metric: "", tag: None, what: "", threshold: 90.0, back_below: 80.0, raise_after: 1, resolve_after: 3 };
    const COUNT: Self = Self { threshold: 1.0, back_below: 1.0, resolve_after: 10, ..Self::USAGE };

    fn watches(&self, metric: &Metric) -> bool {
        metric.name == self.metric && metric.tag.as_ref().map(|(kind, _)| *kind) == self.tag
    }
}

const RULES: [Rule; 5] = [
    Rule { metric: "cpu_usage", what: "processor usage", raise_after: 3, ..Rule::USAGE },
    Rule { metric: "memory_usage", what: "memory usage", back_below: 85.0, ..Rule::USAGE },
    Rule { metric: "disk_usage", tag: Some("mount"), what: "disk usage", back_below: 88.0, ..Rule::USAGE },
    Rule { metric: "subscribers_cut_off", what: "slow subscribers cut off", ..Rule::COUNT },
    Rule {
        metric: "accept_pauses",
        what: "pauses in accepting connections because no file descriptor was left",
        ..Rule::COUNT
    },
];

/// Whether an alert is raised, and how many samples in a row speak for the other state.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    raised: bool,
    against: u32,
}

/// An alert that was raised or resolved; as JSON, the payload of its event.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename = "alert")]
pub struct Alert {
    pub level: Level,
    pub name: &'static str,
    pub message: String,
    pub value: Number,
    pub threshold: f64,
    timestamp: Timestamp,
    #[serde(rename = "tags", serialize_with = "tag_as_object")]
    pub tag: Option<Tag>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Warning,
    Resolved,
}

impl Alert {
    fn new(rule: &Rule, raised: bool, value: Number, tag: Option<Tag>, timestamp: Timestamp) -> Self {
        let of = tag.as_ref().map(|(_, name)| format!(" of {name}")).unwrap_or_default();
        let (level, state) = match raised {
            true => (Level::Warning, format!("at or above {}", rule.threshold)),
            false => (Level::Resolved, format!("back below {}", rule.back_below)),
        };
        let message = format!("{}{of}: {}, {state}", rule.what, number(&value));
        Self { level, name: rule.metric, message, value, threshold: rule.threshold, timestamp, tag }
    }
}

/// The state of each rule for each metric it watches. It has no clock: it counts samples.
#[derive(Debug, Default)]
pub struct Alerts(BTreeMap<(usize, Option<String>), State>);

impl Alerts {
    /// Takes a sample and returns the alerts that it raises or resolves.
    pub fn observe(&mut self, sample: &[Metric], now: Timestamp) -> Vec<Alert> {
        let mut alerts = Vec::new();
        let mut states = BTreeMap::new();
        for (index, rule) in RULES.iter().enumerate() {
            for metric in sample.iter().filter(|metric| rule.watches(metric)) {
                let key = (index, metric.tag.as_ref().map(|(_, name)| name.clone()));
                let before = self.0.remove(&key).unwrap_or_default();
                let after = before.step(rule, number(&metric.value));
                if after.raised != before.raised {
                    alerts.push(Alert::new(rule, after.raised, metric.value.clone(), metric.tag.clone(), now));
                }
                states.insert(key, after);
            }
        }
        // The rest was not in the sample: an unmounted disk is no longer full.
        for ((index, name), state) in std::mem::replace(&mut self.0, states) {
            let rule = &RULES[index];
            if state.raised {
                alerts.push(Alert::new(rule, false, 0.into(), rule.tag.zip(name), now));
            }
        }
        alerts
    }
}

fn number(value: &Number) -> f64 {
    value.as_f64().unwrap_or_default()
}

impl State {
    fn step(self, rule: &Rule, value: f64) -> Self {
        let (is_against, enough) = match self.raised {
            false => (value >= rule.threshold, rule.raise_after),
            true => (value < rule.back_below, rule.resolve_after),
        };
        let against = if is_against { self.against + 1 } else { 0 };
        if against >= enough { Self { raised: !self.raised, against: 0 } } else { Self { against, ..self } }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use fanline::topic::Topic;

    use super::super::payload::json_event;
    use super::*;

    /// 2026-03-01T12:00:00Z.
    fn noon() -> Timestamp {
        Timestamp(UNIX_EPOCH + Duration::from_secs(1_772_366_400))
    }

    fn cpu(value: f64) -> Vec<Metric> {
        vec![Metric::real("cpu_usage", value, "percent")]
    }

    fn levels(alerts: &mut Alerts, samples: &[f64]) -> Vec<Option<Level>> {
        samples.iter().map(|value| alerts.observe(&cpu(*value), noon()).first().map(|alert| alert.level)).collect()
    }

    #[test]
    fn busy_processor_raises_alert_at_third_sample_in_a_row() {
        let warning = Some(Level::Warning);
        assert_eq!(levels(&mut Alerts::default(), &[90.0, 99.0, 95.0, 99.0]), [None, None, warning, None]);
        assert_eq!(levels(&mut Alerts::default(), &[99.0, 99.0, 89.0, 99.0, 99.0]), [None; 5]);
    }

    #[test]
    fn alert_ends_once_and_only_well_below_its_threshold() {
        let mut alerts = Alerts::default();
        levels(&mut alerts, &[99.0; 3]);
        assert_eq!(levels(&mut alerts, &[85.0; 10]), [None; 10]);
        assert_eq!(levels(&mut alerts, &[79.0, 79.0, 85.0]), [None; 3]);
        assert_eq!(levels(&mut alerts, &[10.0, 10.0, 10.0, 10.0]), [None, None, Some(Level::Resolved), None]);
    }

    #[test]
    fn metric_swinging_around_its_threshold_raises_one_alert() {
        let mut alerts = Alerts::default();
        levels(&mut alerts, &[99.0; 3]);
        let swinging: Vec<_> = (0..100).map(|n| if n % 2 == 0 { 89.9 } else { 90.1 }).collect();
        assert!(levels(&mut alerts, &swinging).iter().all(Option::is_none));
    }

    #[test]
    fn one_busy_core_raises_no_alert() {
        let mut alerts = Alerts::default();
        let core = [Metric::real("cpu_usage", 100.0, "percent").of("core", "0")];
        assert!((0..10).all(|_| alerts.observe(&core, noon()).is_empty()));
    }

    #[test]
    fn each_disk_is_watched_alone_and_resolved_when_unmounted() {
        let disk = |mount: &str, value| Metric::real("disk_usage", value, "percent").of("mount", mount);
        let mut alerts = Alerts::default();
        let news = alerts.observe(&[disk("/", 50.0), disk("/data", 91.5)], noon());
        assert_eq!(news.len(), 1);
        assert_eq!(news[0].message, "disk usage of /data: 91.5, at or above 90");
        assert_eq!(
            alerts.observe(&[disk("/", 95.0), disk("/data", 95.0)], noon())[0].tag,
            Some(("mount", "/".to_owned()))
        );
        let news = alerts.observe(&[disk("/", 95.0)], noon());
        assert_eq!((news.len(), news[0].level), (1, Level::Resolved));
        assert_eq!(news[0].tag, Some(("mount", "/data".to_owned())));
    }

    #[test]
    fn alert_of_cut_off_subscriber_ends_after_ten_samples_without() {
        let mut alerts = Alerts::default();
        let mut observe = |count| alerts.observe(&[Metric::whole("subscribers_cut_off", count, "subscribers")], noon());
        assert_eq!(observe(2)[0].value, 2.into());
        assert!((0..9).all(|_| observe(0).is_empty()));
        assert_eq!(observe(0)[0].level, Level::Resolved);
    }

    #[test]
    fn alert_is_one_json_object() {
        let alert = Alerts::default().observe(&[Metric::real("memory_usage", 93.25, "percent")], noon()).remove(0);
        let event = json_event(&Topic::new(TOPIC).unwrap(), &alert);
        assert_eq!(
            event.payload().as_bytes(),
            concat!(
                r#"{"type":"alert","level":"warning","name":"memory_usage","message":"memory usage: 93.25, at or above 90","#,
                r#""value":93.25,"threshold":90.0,"timestamp":"2026-03-01T12:00:00.000Z","tags":{}}"#
            )
        );
    }
}

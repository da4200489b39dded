//! The events of topic `alert`: one when a metric crosses its threshold for good, one when it is back.
//!
//! Both take a number of samples in a row, and coming back takes a lower value than crossing did: a metric that swings
//! around its threshold raises one alert and not one a second.

use std::collections::BTreeMap;

use fanline::event::Event;
use fanline::topic::Topic;
use serde::Serialize;

use super::metric::{Metric, Tags, Value, json_event};
use super::timestamp::Timestamp;

/// The topic of alerts.
pub const TOPIC: &str = "alert";

/// What is watched.
const RULES: [Rule; 5] = [
    Rule {
        metric: "cpu_usage",
        tag: None,
        what: "processor usage",
        threshold: 90.0,
        back_below: 80.0,
        raise_after: 3,
        resolve_after: 3,
    },
    Rule {
        metric: "memory_usage",
        tag: None,
        what: "memory usage",
        threshold: 90.0,
        back_below: 85.0,
        raise_after: 1,
        resolve_after: 3,
    },
    Rule {
        metric: "disk_usage",
        tag: Some("mount"),
        what: "disk usage",
        threshold: 90.0,
        back_below: 88.0,
        raise_after: 1,
        resolve_after: 3,
    },
    Rule {
        metric: "subscribers_cut_off",
        tag: None,
        what: "slow subscribers cut off",
        threshold: 1.0,
        back_below: 1.0,
        raise_after: 1,
        resolve_after: 10,
    },
    Rule {
        metric: "accept_pauses",
        tag: None,
        what: "pauses in accepting connections for want of descriptors",
        threshold: 1.0,
        back_below: 1.0,
        raise_after: 1,
        resolve_after: 10,
    },
];

/// When a metric is alarming.
#[derive(Debug)]
struct Rule {
    /// The metric.
    metric: &'static str,
    /// Which of the metrics of that name: those with this tag, each for itself, or the one without any.
    tag: Option<&'static str>,
    /// The metric, for people.
    what: &'static str,
    /// A sample of this much or more counts towards an alert.
    threshold: f64,
    /// A sample below this counts towards its end.
    back_below: f64,
    /// So many samples in a row raise it.
    raise_after: u32,
    /// So many samples in a row resolve it.
    resolve_after: u32,
}

impl Rule {
    fn watches(&self, metric: &Metric) -> bool {
        metric.name == self.metric && metric.tag.as_ref().map(|(key, _)| *key) == self.tag
    }
}

/// Whether an alert is up, and how many samples in a row speak for the other state.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    raised: bool,
    against: u32,
}

/// What is new.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Whether it was raised or resolved.
    pub level: Level,
    /// The metric.
    pub name: &'static str,
    /// What happened, for people.
    pub message: String,
    /// The metric's value.
    pub value: Value,
    /// The value that raises the alert.
    pub threshold: f64,
    /// Which one of several.
    pub tag: Option<(&'static str, String)>,
}

/// Whether an alert begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It begins.
    Warning,
    /// It ends.
    Resolved,
}

impl Alert {
    /// The event that says it.
    pub fn event(&self, topic: &Topic, timestamp: Timestamp) -> Event {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: &'static str,
            level: Level,
            name: &'static str,
            message: &'a str,
            value: Value,
            threshold: f64,
            timestamp: Timestamp,
            tags: Tags<'a>,
        }
        let Self { level, name, message, value, threshold, tag } = self;
        let body = Body {
            r#type: "alert",
            level: *level,
            name,
            message,
            value: *value,
            threshold: *threshold,
            timestamp,
            tags: Tags(tag.as_ref()),
        };
        json_event(topic, &body)
    }
}

/// The alerts that are up, and those on their way. It has no clock: it counts samples.
#[derive(Debug, Default)]
pub struct Alerts(BTreeMap<(usize, Option<String>), State>);

impl Alerts {
    /// Takes a sample and says what is new.
    pub fn observe(&mut self, sample: &[Metric]) -> Vec<Alert> {
        let mut news = Vec::new();
        let mut states = BTreeMap::new();
        for (index, rule) in RULES.iter().enumerate() {
            for metric in sample.iter().filter(|metric| rule.watches(metric)) {
                let key = (index, metric.tag.as_ref().map(|(_, which)| which.clone()));
                let before = self.0.remove(&key).unwrap_or_default();
                let after = step(rule, before, metric.value.as_f64());
                if after.raised != before.raised {
                    news.push(alert(rule, after.raised, metric.value, metric.tag.clone()));
                }
                states.insert(key, after);
            }
        }
        // What is left was not in the sample: a disk that was unmounted is no longer full.
        for ((index, which), _) in std::mem::replace(&mut self.0, states).into_iter().filter(|(_, state)| state.raised)
        {
            let rule = &RULES[index];
            news.push(alert(rule, false, Value::Whole(0), rule.tag.zip(which)));
        }
        news
    }
}

fn step(rule: &Rule, State { raised, against }: State, value: f64) -> State {
    let (is_against, enough) = match raised {
        false => (value >= rule.threshold, rule.raise_after),
        true => (value < rule.back_below, rule.resolve_after),
    };
    let against = if is_against { against + 1 } else { 0 };
    if against >= enough { State { raised: !raised, against: 0 } } else { State { raised, against } }
}

fn alert(rule: &Rule, raised: bool, value: Value, tag: Option<(&'static str, String)>) -> Alert {
    let of = tag.as_ref().map(|(_, which)| format!(" of {which}")).unwrap_or_default();
    let (level, state) = match raised {
        true => (Level::Warning, format!("at or above {}", rule.threshold)),
        false => (Level::Resolved, format!("back below {}", rule.back_below)),
    };
    let message = format!("{}{of}: {}, {state}", rule.what, value.as_f64());
    Alert { level, name: rule.metric, message, value, threshold: rule.threshold, tag }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn cpu(value: f64) -> Vec<Metric> {
        vec![Metric::real("cpu_usage", value, "percent")]
    }

    fn levels(alerts: &mut Alerts, samples: &[f64]) -> Vec<Option<Level>> {
        samples.iter().map(|value| alerts.observe(&cpu(*value)).first().map(|alert| alert.level)).collect()
    }

    #[test]
    fn a_busy_processor_is_alarming_in_the_third_sample_in_a_row() {
        let warning = Some(Level::Warning);
        assert_eq!(levels(&mut Alerts::default(), &[90.0, 99.0, 95.0, 99.0]), [None, None, warning, None]);
        assert_eq!(levels(&mut Alerts::default(), &[99.0, 99.0, 89.0, 99.0, 99.0]), [None; 5]);
    }

    #[test]
    fn an_alert_ends_once_and_only_well_below_its_threshold() {
        let mut alerts = Alerts::default();
        levels(&mut alerts, &[99.0; 3]);
        assert_eq!(levels(&mut alerts, &[85.0; 10]), [None; 10]);
        assert_eq!(levels(&mut alerts, &[79.0, 79.0, 85.0]), [None; 3]);
        assert_eq!(levels(&mut alerts, &[10.0, 10.0, 10.0, 10.0]), [None, None, Some(Level::Resolved), None]);
    }

    #[test]
    fn a_metric_that_swings_around_its_threshold_raises_one_alert() {
        let mut alerts = Alerts::default();
        levels(&mut alerts, &[99.0; 3]);
        let swinging: Vec<_> = (0..100).map(|n| if n % 2 == 0 { 89.9 } else { 90.1 }).collect();
        assert!(levels(&mut alerts, &swinging).iter().all(Option::is_none));
    }

    #[test]
    fn one_busy_core_is_not_alarming() {
        let mut alerts = Alerts::default();
        let core = [Metric::real("cpu_usage", 100.0, "percent").of("core", "0")];
        assert!((0..10).all(|_| alerts.observe(&core).is_empty()));
    }

    #[test]
    fn each_disk_is_watched_for_itself_and_forgotten_when_it_is_gone() {
        let disk = |mount: &str, value| Metric::real("disk_usage", value, "percent").of("mount", mount);
        let mut alerts = Alerts::default();
        let news = alerts.observe(&[disk("/", 50.0), disk("/data", 91.5)]);
        assert_eq!(news.len(), 1);
        assert_eq!(news[0].message, "disk usage of /data: 91.5, at or above 90");
        assert_eq!(alerts.observe(&[disk("/", 95.0), disk("/data", 95.0)])[0].tag, Some(("mount", "/".to_owned())));
        let news = alerts.observe(&[disk("/", 95.0)]);
        assert_eq!((news.len(), news[0].level), (1, Level::Resolved));
        assert_eq!(news[0].tag, Some(("mount", "/data".to_owned())));
    }

    #[test]
    fn a_subscriber_cut_off_is_alarming_until_ten_samples_had_none() {
        let mut alerts = Alerts::default();
        let mut observe = |count| alerts.observe(&[Metric::whole("subscribers_cut_off", count, "subscribers")]);
        assert_eq!(observe(2)[0].value, Value::Whole(2));
        assert!((0..9).all(|_| observe(0).is_empty()));
        assert_eq!(observe(0)[0].level, Level::Resolved);
    }

    #[test]
    fn an_alert_is_one_json_object() {
        let alert = Alerts::default().observe(&[Metric::real("memory_usage", 93.25, "percent")]).remove(0);
        let event =
            alert.event(&Topic::new(TOPIC).unwrap(), Timestamp(UNIX_EPOCH + Duration::from_secs(1_772_366_400)));
        assert_eq!(
            event.payload().as_bytes(),
            concat!(
                r#"{"type":"alert","level":"warning","name":"memory_usage","message":"memory usage: 93.25, at or above 90","#,
                r#""value":93.25,"threshold":90.0,"timestamp":"2026-03-01T12:00:00.000Z","tags":{}}"#
            )
        );
    }
}

//! Which events a subscription wants.

use crate::topic::{Topic, TopicFilter, TopicPattern};

/// The topics that a subscription wants.
///
/// A named topic is read from its own ring, so that busier topics do not evict its history. Patterns, and everything, are
/// read from the firehose. An event that matches several filters is delivered once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionFilter {
    /// Named topics, each once.
    pub(super) topics: Vec<Topic>,
    pub(super) rest: Rest,
    /// Of the events of the firehose, those that each of these filters matches, or does not match.
    conditions: Vec<(SubscriptionFilter, bool)>,
}

/// What is read from the firehose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Rest {
    Nothing,
    Matching(Vec<TopicPattern>),
    #[default]
    Everything,
}

impl SubscriptionFilter {
    /// All events of the hub.
    pub fn everything() -> Self {
        Self::default()
    }

    /// The events that match one of `filters`; no filter means everything.
    pub fn of(filters: impl IntoIterator<Item = TopicFilter>) -> Self {
        let (mut topics, mut patterns) = (Vec::new(), Vec::new());
        for filter in filters {
            match filter {
                TopicFilter::Exact(topic) if !topics.contains(&topic) => topics.push(topic),
                TopicFilter::Pattern(pattern) if !patterns.contains(&pattern) => patterns.push(pattern),
                _ => {}
            }
        }
        if patterns.iter().any(TopicPattern::is_everything) || (topics.is_empty() && patterns.is_empty()) {
            return Self::everything();
        }
        let rest = if patterns.is_empty() { Rest::Nothing } else { Rest::Matching(patterns) };
        Self { topics, rest, conditions: Vec::new() }
    }

    /// No event.
    pub(super) fn nothing() -> Self {
        Self { topics: Vec::new(), rest: Rest::Nothing, conditions: Vec::new() }
    }

    /// Of these events, those that `other` matches, or does not match.
    pub(super) fn only(mut self, other: &Self, matches: bool) -> Self {
        self.topics.retain(|topic| other.matches(topic) == matches);
        if self.rest == Rest::Everything {
            self.rest = Rest::Matching(vec![TopicPattern::everything()]);
        }
        if self.reads_firehose() {
            self.conditions.push((other.clone(), matches));
        }
        self
    }

    /// Whether all events match.
    pub fn is_everything(&self) -> bool {
        self.rest == Rest::Everything
    }

    /// Whether events of `topic` match.
    pub fn matches(&self, topic: &Topic) -> bool {
        self.topics.contains(topic) || self.matches_in_firehose(topic)
    }

    /// Whether this reads every event of the hub: for a pattern, or for everything.
    pub(crate) fn reads_firehose(&self) -> bool {
        self.rest != Rest::Nothing
    }

    pub(super) fn matches_in_firehose(&self, topic: &Topic) -> bool {
        match &self.rest {
            Rest::Nothing => false,
            Rest::Everything => true,
            Rest::Matching(patterns) => {
                patterns.iter().any(|pattern| pattern.matches(topic))
                    && !self.topics.contains(topic)
                    && self.conditions.iter().all(|(filter, matches)| filter.matches(topic) == *matches)
            }
        }
    }
}

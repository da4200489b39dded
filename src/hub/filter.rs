//! Which events a subscription wants.

use std::str::FromStr;

use crate::topic::{InvalidTopic, Topic, TopicFilter, TopicPattern};

/// The topics that a subscription wants.
///
/// A named topic is read from its own ring, so that busier topics do not evict its history. Patterns, and everything, are
/// read from the firehose; patterns of [reserved](Topic::is_reserved) topics from one of their own. An event that matches
/// several filters is delivered once.
///
/// ```
/// use fanline::hub::SubscriptionFilter;
/// use fanline::topic::Topic;
///
/// // Topics and patterns separated by commas.
/// let filter: SubscriptionFilter = "orders:*, metric".parse()?;
/// assert!(filter.matches(&Topic::new("orders:17")?));
/// // A list of filters, such as topics that were built from ids.
/// let filter = SubscriptionFilter::of([Topic::of(["comment", "17"])?.into(), "metrics.**".parse()?]);
/// assert!(filter.matches(&Topic::new("metrics.cpu")?) && !filter.is_everything());
/// # Ok::<_, fanline::topic::InvalidTopic>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionFilter {
    /// Named topics, each once.
    pub(super) topics: Vec<Topic>,
    pub(super) rest: Rest,
    /// Patterns of reserved topics.
    pub(super) reserved: Vec<TopicPattern>,
    /// Of the events of the firehoses, those that each of these filters matches, or does not match.
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
    /// All events of the hub but those of reserved topics.
    pub fn everything() -> Self {
        Self::default()
    }

    /// The events that match one of `filters`; no filter means everything.
    pub fn of(filters: impl IntoIterator<Item = TopicFilter>) -> Self {
        let (mut topics, mut patterns, mut reserved) = (Vec::new(), Vec::new(), Vec::new());
        for filter in filters {
            match filter {
                TopicFilter::Exact(topic) if !topics.contains(&topic) => topics.push(topic),
                TopicFilter::Pattern(pattern) => {
                    let patterns = if pattern.is_reserved() { &mut reserved } else { &mut patterns };
                    if !patterns.contains(&pattern) {
                        patterns.push(pattern);
                    }
                }
                TopicFilter::Exact(_) => {}
            }
        }
        let is_empty = topics.is_empty() && patterns.is_empty() && reserved.is_empty();
        let rest = if is_empty || patterns.iter().any(TopicPattern::is_everything) {
            // The firehose has the others.
            topics.retain(Topic::is_reserved);
            Rest::Everything
        } else if patterns.is_empty() {
            Rest::Nothing
        } else {
            Rest::Matching(patterns)
        };
        Self { topics, rest, reserved, conditions: Vec::new() }
    }

    /// No event.
    pub(crate) fn nothing() -> Self {
        Self { rest: Rest::Nothing, ..Self::default() }
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

    /// Whether all events match but those of reserved topics.
    pub fn is_everything(&self) -> bool {
        self.rest == Rest::Everything
    }

    /// Whether events of `topic` match.
    pub fn matches(&self, topic: &Topic) -> bool {
        self.topics.contains(topic) || self.matches_in_firehose(topic)
    }

    /// Whether this reads a firehose: for a pattern, or for everything.
    pub(crate) fn reads_firehose(&self) -> bool {
        self.reads(false) || self.reads(true)
    }

    /// Whether this reads the firehose of reserved topics, or that of all others.
    pub(super) fn reads(&self, of_reserved: bool) -> bool {
        if of_reserved { !self.reserved.is_empty() } else { self.rest != Rest::Nothing }
    }

    /// The patterns by which this selects events from a firehose, if it wants neither all of them nor none.
    pub(super) fn patterns(&self, of_reserved: bool) -> Option<&[TopicPattern]> {
        match &self.rest {
            _ if of_reserved => Some(&self.reserved),
            Rest::Matching(patterns) => Some(patterns),
            Rest::Nothing | Rest::Everything => None,
        }
    }

    /// Whether this selects events from a firehose, by their topics.
    pub(super) fn selects(&self) -> bool {
        matches!(self.rest, Rest::Matching(_)) || !self.reserved.is_empty()
    }

    /// Whether events of `topic` are read from a firehose.
    pub(super) fn matches_in_firehose(&self, topic: &Topic) -> bool {
        let matches = |patterns: &[TopicPattern]| patterns.iter().any(|pattern| pattern.matches(topic));
        let is_in_rest = match &self.rest {
            Rest::Nothing => false,
            Rest::Everything => !topic.is_reserved(),
            Rest::Matching(patterns) => matches(patterns),
        };
        (is_in_rest || matches(&self.reserved))
            && !self.topics.contains(topic)
            && self.conditions.iter().all(|(filter, matches)| filter.matches(topic) == *matches)
    }
}

impl From<TopicFilter> for SubscriptionFilter {
    fn from(filter: TopicFilter) -> Self {
        Self::of([filter])
    }
}

impl From<Topic> for SubscriptionFilter {
    fn from(topic: Topic) -> Self {
        TopicFilter::from(topic).into()
    }
}

impl FromStr for SubscriptionFilter {
    type Err = InvalidTopic;

    /// Parses topics and patterns separated by commas, at least one.
    fn from_str(text: &str) -> Result<Self, InvalidTopic> {
        text.split(',').map(|filter| filter.trim().parse()).collect::<Result<Vec<_>, _>>().map(Self::of)
    }
}

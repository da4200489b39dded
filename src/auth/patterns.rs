//! Sets of topics in grants and settings.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use crate::topic::{InvalidTopic, Topic, TopicFilter};

/// The placeholder for the subject of a token.
const SUBJECT: &str = "{sub}";

/// A set of topics, given as topics and patterns.
///
/// Text from clients belongs into [`Topic::of`], which refuses separators and wildcards, and not into a text that is parsed.
///
/// ```
/// use fanline::auth::Patterns;
/// use fanline::topic::{Topic, TopicFilter};
///
/// let room = Patterns::from(Topic::of(["room", "17"]).unwrap());
/// assert_eq!(room, "room:17".parse().unwrap());
///
/// let patterns: Patterns = "news, user:anna:**".parse().unwrap();
/// assert!(patterns.matches(&Topic::new("user:anna:inbox").unwrap()));
/// assert!(patterns.covers(&TopicFilter::new("user:anna:*").unwrap()));
/// assert!(!patterns.covers(&TopicFilter::new("user:*").unwrap()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns(Arc<[TopicFilter]>);

impl Patterns {
    /// All topics that are not [reserved](Topic::is_reserved).
    pub fn everything() -> Self {
        static EVERYTHING: LazyLock<Patterns> = LazyLock::new(|| TopicFilter::everything().into());
        EVERYTHING.clone()
    }

    /// All topics, reserved ones included.
    pub fn all_topics() -> Self {
        static ALL: LazyLock<Patterns> = LazyLock::new(|| {
            let filters = ["**", "user:**", "presence:**"];
            filters.map(|text| TopicFilter::new(text).expect("a valid pattern")).into_iter().collect()
        });
        ALL.clone()
    }

    /// Parses `texts` and replaces `{sub}` with `subject`.
    ///
    /// # Errors
    /// [`InvalidPatterns`] names the first invalid text. A subject must fit into one segment of a topic: a separator or
    /// wildcard in it would widen the pattern.
    pub fn of_subject<T: AsRef<str>>(
        texts: impl IntoIterator<Item = T>,
        subject: Option<&str>,
    ) -> Result<Self, InvalidPatterns> {
        let parse = |text: T| {
            let text = text.as_ref();
            if !text.contains(SUBJECT) {
                return TopicFilter::new(text).map_err(|error| InvalidPatterns::Pattern(text.to_owned(), error));
            }
            let subject = subject.filter(|subject| !subject.is_empty());
            let subject = subject.ok_or_else(|| InvalidPatterns::NoSubject(text.to_owned()))?;
            let fits = |c: char| {
                !matches!(c, ':' | '.' | '/' | '*' | ',' | '{' | '}') && !c.is_control() && !c.is_whitespace()
            };
            if !subject.chars().all(fits) {
                return Err(InvalidPatterns::Subject(text.to_owned()));
            }
            TopicFilter::new(&text.replace(SUBJECT, subject))
                .map_err(|error| InvalidPatterns::Pattern(text.to_owned(), error))
        };
        texts.into_iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(feature = "auth")]
    pub(super) fn iter(&self) -> impl Iterator<Item = &TopicFilter> {
        self.0.iter()
    }

    /// Whether the set contains all topics that are not reserved.
    pub fn is_everything(&self) -> bool {
        self.0.iter().any(|filter| filter.as_str() == "**")
    }

    /// Whether the set contains `topic`.
    pub fn matches(&self, topic: &Topic) -> bool {
        self.0.iter().any(|filter| filter.matches(topic))
    }

    /// Whether one pattern of the set matches everything that `filter` matches.
    pub fn covers(&self, filter: &TopicFilter) -> bool {
        self.0.iter().any(|granted| granted.covers(filter))
    }

    /// Whether a stream of `filters` may have events of the set. It has all that are not reserved if there are no filters. What
    /// several patterns have in common is not computed: any two that are reserved, or not, count.
    pub(crate) fn touches(&self, filters: &[TopicFilter]) -> bool {
        let everything = TopicFilter::everything();
        let filters = if filters.is_empty() { std::slice::from_ref(&everything) } else { filters };
        filters.iter().any(|filter| match filter {
            TopicFilter::Exact(topic) => self.matches(topic),
            TopicFilter::Pattern(_) => self.0.iter().any(|own| own.is_reserved() == filter.is_reserved()),
        })
    }

    /// Returns the first of `filters` that the set does not cover. Without filters, that is `**`.
    pub(crate) fn first_missing<'a>(&self, filters: &'a [TopicFilter]) -> Option<&'a str> {
        if filters.is_empty() && !self.is_everything() {
            return Some("**");
        }
        filters.iter().find(|filter| !self.covers(filter)).map(TopicFilter::as_str)
    }
}

impl<F: Into<TopicFilter>> FromIterator<F> for Patterns {
    fn from_iter<T: IntoIterator<Item = F>>(filters: T) -> Self {
        Self(filters.into_iter().map(Into::into).collect())
    }
}

impl From<TopicFilter> for Patterns {
    fn from(filter: TopicFilter) -> Self {
        Self(Arc::new([filter]))
    }
}

impl From<Topic> for Patterns {
    fn from(topic: Topic) -> Self {
        TopicFilter::from(topic).into()
    }
}

impl FromStr for Patterns {
    type Err = InvalidPatterns;

    /// Parses topics and patterns separated by commas.
    fn from_str(text: &str) -> Result<Self, InvalidPatterns> {
        Self::of_subject(text.split(',').map(str::trim).filter(|text| !text.is_empty()), None)
    }
}

impl fmt::Display for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(TopicFilter::as_str).collect();
        f.write_str(&texts.join(","))
    }
}

/// Why a text is not a set of patterns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPatterns {
    /// The text is neither a topic nor a pattern.
    #[error("{0:?} is not a topic or pattern: {1}")]
    Pattern(String, InvalidTopic),
    /// The pattern contains `{sub}`, and there is no subject.
    #[error("the pattern {0:?} requires a subject (claim sub)")]
    NoSubject(String),
    /// The pattern contains `{sub}`, and the subject would change its meaning.
    #[error(
        "the pattern {0:?} requires a subject (claim sub) without separators (: . /), '*', commas, braces, white space and \
         control characters"
    )]
    Subject(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_replaces_its_placeholder() {
        let patterns = Patterns::of_subject(["user:{sub}", "room.{sub}-x.**"], Some("anna")).unwrap();
        assert_eq!(patterns.to_string(), "user:anna,room.anna-x.**");
        assert_eq!(Patterns::of_subject(["a"], None).unwrap().to_string(), "a");
    }

    #[test]
    fn a_subject_never_widens_its_pattern() {
        for subject in ["*", "**", "a:b", "a.b", "a/b", "a,b", "a b", "a\nb", "a\u{0}", "{sub}", "x*"] {
            let error = Patterns::of_subject(["user:{sub}"], Some(subject)).unwrap_err();
            assert_eq!(error, InvalidPatterns::Subject("user:{sub}".into()), "{subject:?}");
            // Patterns without the placeholder ignore the subject.
            assert!(Patterns::of_subject(["user:*"], Some(subject)).is_ok());
        }
        for subject in [None, Some("")] {
            let error = Patterns::of_subject(["user:{sub}"], subject).unwrap_err();
            assert_eq!(error, InvalidPatterns::NoSubject("user:{sub}".into()));
        }
    }

    #[test]
    fn each_filter_must_be_covered_by_one_pattern() {
        let patterns: Patterns = "a:*, b, c.**".parse().unwrap();
        let filters = |texts: &[&str]| texts.iter().map(|text| TopicFilter::new(text).unwrap()).collect::<Vec<_>>();
        assert_eq!(patterns.first_missing(&filters(&["a:x", "a:*", "b", "c.d.*"])), None);
        assert_eq!(patterns.first_missing(&filters(&["b", "a:**"])), Some("a:**"));
        assert_eq!(patterns.first_missing(&[]), Some("**"));
        assert_eq!(Patterns::everything().first_missing(&[]), None);
        assert_eq!(Patterns::default().first_missing(&filters(&["a"])), Some("a"));
    }
}

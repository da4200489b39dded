//! What an event is about, and which topics a subscriber asks for.
//!
//! A [`Topic`] is a name that publishers and subscribers share, such as `metric`, `comment:17` or `eu/plant-3/line.2`.
//! The characters `:` `.` `/` separate its segments. A [`TopicFilter`] is a topic or a pattern: `*` stands for exactly
//! one segment, `**` (only at the end) for all that remain, one at the least.
//!
//! | filter | takes | leaves |
//! |---|---|---|
//! | `comment:*` | `comment:17` | `comment`, `comment:17:reply`, `comment.17` |
//! | `metrics.**` | `metrics.cpu`, `metrics.cpu/0` | `metrics` |
//! | `**` | everything | |

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

const SEPARATORS: [char; 3] = [':', '.', '/'];

/// A validated topic: 1 to 255 bytes of UTF-8 without control characters, white space, commas and `*`.
///
/// Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

impl Topic {
    /// The longest topic, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// Takes `text` as a topic, or says which rule it breaks.
    ///
    /// # Errors
    /// [`InvalidTopic`] when `text` is empty, too long or holds a character that no topic has.
    pub fn new(text: &str) -> Result<Self, InvalidTopic> {
        check_length(text)?;
        match text.chars().find(|&c| c == '*' || is_forbidden(c)) {
            Some('*') => Err(InvalidTopic::Wildcard),
            Some(c) => Err(InvalidTopic::Character(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The topic's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Topic {
    type Err = InvalidTopic;

    fn from_str(text: &str) -> Result<Self, InvalidTopic> {
        Self::new(text)
    }
}

impl std::borrow::Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Why a text is neither a topic nor a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidTopic {
    /// There is no text.
    Empty,
    /// It has this many bytes, more than [`Topic::MAX_BYTES`].
    TooLong(usize),
    /// It holds this character.
    Character(char),
    /// It holds a `*`, and events are published to one topic, not to a pattern.
    Wildcard,
    /// Its `*` shares a segment with other characters, or its `**` is not the last segment.
    MisplacedWildcard,
}

impl fmt::Display for InvalidTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a topic has at least one character"),
            Self::TooLong(bytes) => write!(f, "a topic has at most {} bytes, this one has {bytes}", Topic::MAX_BYTES),
            Self::Character(c) => {
                write!(f, "a topic holds no white space, comma or control character, this one holds {c:?}")
            }
            Self::Wildcard => f.write_str("a topic holds no '*'; patterns are for subscribing"),
            Self::MisplacedWildcard => f.write_str(
                "in a pattern '*' stands for a whole segment between ':' '.' '/', and '**' for all the last ones",
            ),
        }
    }
}

impl std::error::Error for InvalidTopic {}

/// What a subscriber asks for: one topic, or a pattern that many topics match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicFilter {
    /// This topic.
    Exact(Topic),
    /// Every topic that matches.
    Pattern(TopicPattern),
}

impl TopicFilter {
    /// Takes `text` as a topic or, where it holds a `*`, as a pattern.
    ///
    /// # Errors
    /// [`InvalidTopic`] says which rule is broken.
    pub fn new(text: &str) -> Result<Self, InvalidTopic> {
        if !text.contains('*') {
            return Topic::new(text).map(Self::Exact);
        }
        check_length(text)?;
        if let Some(c) = text.chars().find(|&c| is_forbidden(c)) {
            return Err(InvalidTopic::Character(c));
        }
        let mut segments = text.split(SEPARATORS).peekable();
        while let Some(segment) = segments.next() {
            let fits = match segment {
                "*" => true,
                "**" => segments.peek().is_none(),
                other => !other.contains('*'),
            };
            if !fits {
                return Err(InvalidTopic::MisplacedWildcard);
            }
        }
        Ok(Self::Pattern(TopicPattern(text.into())))
    }

    /// Whether this filter takes `topic`.
    pub fn matches(&self, topic: &Topic) -> bool {
        match self {
            Self::Exact(exact) => exact == topic,
            Self::Pattern(pattern) => pattern.matches(topic),
        }
    }

    /// Whether this filter takes every topic that `other` takes.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(one), Self::Exact(other)) => one == other,
            (Self::Exact(_), Self::Pattern(_)) => false,
            (Self::Pattern(pattern), other) => pattern.takes_all_of(other.as_str()),
        }
    }

    /// How many of its segments are wildcards.
    pub(crate) fn wildcards(&self) -> usize {
        self.as_str().split(SEPARATORS).filter(|segment| segment.starts_with('*')).count()
    }

    /// The filter's text, as it was given.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Exact(topic) => topic.as_str(),
            Self::Pattern(TopicPattern(text)) => text,
        }
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TopicFilter {
    type Err = InvalidTopic;

    fn from_str(text: &str) -> Result<Self, InvalidTopic> {
        Self::new(text)
    }
}

/// A filter with wildcards, see [`TopicFilter`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicPattern(Arc<str>);

impl TopicPattern {
    /// Whether this pattern takes every topic there can be.
    pub fn is_everything(&self) -> bool {
        &*self.0 == "**"
    }

    /// Whether this pattern takes `topic`.
    pub fn matches(&self, topic: &Topic) -> bool {
        self.takes_all_of(topic.as_str())
    }

    /// Whether this pattern takes `text`, or all that it takes where it is a pattern itself. Segment stands against
    /// segment: a `*` there is one that is not empty, like any that this pattern's `*` takes, and none of its words.
    fn takes_all_of(&self, text: &str) -> bool {
        let (mut pattern, mut text) = (&*self.0, text);
        loop {
            let (wanted, found) = (first_segment(pattern), first_segment(text));
            match wanted {
                "**" => return !text.is_empty(),
                "*" if !found.is_empty() && found != "**" => {}
                _ if wanted == found => {}
                _ => return false,
            }
            pattern = &pattern[wanted.len()..];
            text = &text[found.len()..];
            match (pattern.chars().next(), text.chars().next()) {
                (None, None) => return true,
                (Some(wanted), Some(found)) if wanted == found => {
                    pattern = &pattern[1..];
                    text = &text[1..];
                }
                _ => return false,
            }
        }
    }
}

fn first_segment(text: &str) -> &str {
    &text[..text.find(SEPARATORS).unwrap_or(text.len())]
}

fn check_length(text: &str) -> Result<(), InvalidTopic> {
    match text.len() {
        0 => Err(InvalidTopic::Empty),
        1..=Topic::MAX_BYTES => Ok(()),
        more => Err(InvalidTopic::TooLong(more)),
    }
}

fn is_forbidden(c: char) -> bool {
    c == ',' || c.is_control() || c.is_whitespace()
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(any(test, fuzzing))]
mod naive;
#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(filter: &str, topic: &str) -> bool {
        TopicFilter::new(filter).unwrap().matches(&Topic::new(topic).unwrap())
    }

    #[test]
    fn a_topic_is_any_short_word() {
        for text in ["metric", "comment:17", "a/b.c:d", "größe", "日本", "a::b", "%", "-"] {
            assert_eq!(Topic::new(text).unwrap().as_str(), text);
        }
        assert!(Topic::new(&"x".repeat(255)).is_ok());
    }

    #[test]
    fn a_text_that_is_no_topic_is_refused_with_the_rule_it_breaks() {
        assert_eq!(Topic::new(""), Err(InvalidTopic::Empty));
        assert_eq!(Topic::new(&"ü".repeat(128)), Err(InvalidTopic::TooLong(256)));
        assert_eq!(Topic::new("a*"), Err(InvalidTopic::Wildcard));
        for c in [' ', ',', '\n', '\r', '\0', '\u{7f}', '\u{85}', '\u{a0}', '\u{2028}'] {
            assert_eq!(Topic::new(&format!("a{c}b")), Err(InvalidTopic::Character(c)));
            assert_eq!(TopicFilter::new(&format!("a{c}*")), Err(InvalidTopic::Character(c)));
        }
    }

    #[test]
    fn a_star_takes_exactly_one_segment() {
        assert!(matches("comment:*", "comment:17"));
        assert!(!matches("comment:*", "comment"));
        assert!(!matches("comment:*", "comment:"));
        assert!(!matches("comment:*", "comment:17:reply"));
        assert!(!matches("comment:*", "comment.17"));
        assert!(matches("*/line.*", "plant/line.2"));
        assert!(matches("*", "metric"));
        assert!(!matches("*", "metric.cpu"));
    }

    #[test]
    fn two_stars_take_all_that_remains() {
        assert!(matches("metrics.**", "metrics.cpu"));
        assert!(matches("metrics.**", "metrics.cpu/0:user"));
        assert!(!matches("metrics.**", "metrics"));
        assert!(!matches("metrics.**", "metrics."));
        assert!(!matches("metrics.**", "metrics:cpu"));
        assert!(matches("**", "a.b.c"));
        assert!(matches("*.**", "a.b.c"));
        assert!(!matches("*.**", "a"));
    }

    #[test]
    fn a_filter_without_a_star_takes_its_own_topic_only() {
        assert!(matches("a.b", "a.b"));
        assert!(!matches("a.b", "a.b.c"));
        assert!(matches!(TopicFilter::new("a.b"), Ok(TopicFilter::Exact(_))));
    }

    #[test]
    fn a_star_beside_other_characters_is_refused() {
        for text in ["a*", "a.b*", "*a.b", "***", "**.a", "a.**.b", "a.*b"] {
            assert_eq!(TopicFilter::new(text), Err(InvalidTopic::MisplacedWildcard), "{text}");
        }
    }
}

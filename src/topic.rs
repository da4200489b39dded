//! Topics, and filters that match them.
//!
//! A [`Topic`] is a name that publishers and subscribers share, such as `metric`, `comment:17` or `eu/plant-3/line.2`.
//! The characters `:` `.` `/` separate its segments. A [`TopicFilter`] is a topic or a pattern: `*` matches exactly one
//! segment, `**` (only at the end) one or more.
//!
//! | filter | matches | does not match |
//! |---|---|---|
//! | `comment:*` | `comment:17` | `comment`, `comment:17:reply`, `comment.17` |
//! | `metrics.**` | `metrics.cpu`, `metrics.cpu/0` | `metrics` |
//! | `**` | everything but reserved topics | `user:anna` |
//!
//! **Reserved topics** begin with `user:` or `presence:`. They are about persons, so a pattern that begins with a wildcard matches
//! none of them: only a filter that names the prefix does, such as `user:*`.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use smol_str::SmolStr;

const SEPARATORS: [char; 3] = [':', '.', '/'];

/// How many prefixes a topic has at most.
const MAX_PREFIXES: usize = 8;

/// The prefixes of reserved topics.
const USER: &str = "user:";
const PRESENCE: &str = "presence:";

/// A validated topic: 1 to 255 bytes of UTF-8 without control characters, white space, commas and `*`.
///
/// Cloning allocates no memory.
///
/// ```
/// use fanline::topic::{InvalidTopic, Topic};
///
/// let topic: Topic = "eu/plant-3/line.2".parse()?;
/// assert_eq!(topic, Topic::new("eu/plant-3/line.2")?);
/// // `of` checks its parts, which may come from clients.
/// assert_eq!(Topic::of(["comment", "17", "created"])?.as_str(), "comment:17:created");
/// assert_eq!(Topic::new("two words"), Err(InvalidTopic::Character(' ')));
/// # Ok::<_, InvalidTopic>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(SmolStr);

impl Topic {
    /// The longest topic, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// Validates `text` as a topic.
    ///
    /// # Errors
    /// [`InvalidTopic`] when `text` is empty, too long or contains a forbidden character.
    pub fn new(text: &str) -> Result<Self, InvalidTopic> {
        check_length(text)?;
        if is_plain(text) {
            return Ok(Self(text.into()));
        }
        match text.chars().find(|&c| c == '*' || is_forbidden(c)) {
            Some('*') => Err(InvalidTopic::Wildcard),
            Some(c) => Err(InvalidTopic::Character(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The topic of these parts, joined by `:`, as in `comment:17:created`. A part cannot have separators: an id from a
    /// client does not become two segments, which other patterns would match.
    ///
    /// # Errors
    /// [`InvalidTopic`] when a part is empty or has a separator, and as [`Topic::new`].
    ///
    /// ```
    /// use fanline::topic::{InvalidTopic, Topic};
    ///
    /// let id = 17.to_string();
    /// assert_eq!(Topic::of(["comment", &id, "created"]).unwrap().as_str(), "comment:17:created");
    /// assert_eq!(Topic::of(["comment", "17:deleted"]), Err(InvalidTopic::Separator { part: 2, separator: ':' }));
    /// ```
    pub fn of<P: AsRef<str>>(parts: impl IntoIterator<Item = P>) -> Result<Self, InvalidTopic> {
        let mut text = String::new();
        for (index, part) in parts.into_iter().enumerate() {
            let (number, part) = (index + 1, part.as_ref());
            if part.is_empty() {
                return Err(InvalidTopic::EmptyPart(number));
            }
            if let Some(separator) = part.chars().find(|c| SEPARATORS.contains(c)) {
                return Err(InvalidTopic::Separator { part: number, separator });
            }
            if index > 0 {
                text.push(':');
            }
            text.push_str(part);
        }
        Self::new(&text)
    }

    /// The topic of a user, `user:{user}`: all connections of this user receive its events. `None` if the text is not a
    /// topic, or if `user` contains a `:`, because `user:anna:inbox` is a topic of the application.
    pub fn of_user(user: &str) -> Option<Self> {
        let fits = !user.is_empty() && !user.contains(':');
        fits.then(|| Self::new(&format!("{USER}{user}")).ok()).flatten()
    }

    /// The topic of the joins and leaves of this topic, `presence:{topic}`. `None` if that is too long.
    pub fn of_presence(&self) -> Option<Self> {
        Self::new(&format!("{PRESENCE}{self}")).ok()
    }

    /// Whether the topic is reserved: it begins with `user:` or `presence:`.
    pub fn is_reserved(&self) -> bool {
        is_reserved(&self.0)
    }

    /// The topic's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The topic's text up to each of its first eight separators: `a:` and `a:b.` of `a:b.c`.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = &str> {
        prefixes(&self.0)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
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

/// The rule that a topic or a filter breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTopic {
    /// The text is empty.
    #[error("topics cannot be empty")]
    Empty,
    /// The text has this many bytes, more than [`Topic::MAX_BYTES`].
    #[error("topics can have at most {max} bytes, this one has {0}", max = Topic::MAX_BYTES)]
    TooLong(usize),
    /// The text contains this character.
    #[error("topics cannot contain spaces, commas or control characters, this one contains {0:?}")]
    Character(char),
    /// A part of [`Topic::of`] is empty: this one, counted from 1.
    #[error("part {0} of the topic is empty")]
    EmptyPart(usize),
    /// A part of [`Topic::of`] contains a separator.
    #[error("part {part} of the topic contains {separator:?}, which separates segments; encode it, or use Topic::new")]
    Separator {
        /// The part, counted from 1.
        part: usize,
        /// The separator.
        separator: char,
    },
    /// A topic to publish to contains a `*`.
    #[error("topics cannot contain '*'; patterns are only for subscribing")]
    Wildcard,
    /// A `*` shares a segment with other characters, or `**` is not the last segment.
    #[error("in a pattern '*' must be a whole segment between ':' '.' '/', and '**' must be the last segment")]
    MisplacedWildcard,
}

/// A topic, or a pattern that many topics match.
///
/// ```
/// use fanline::topic::{Topic, TopicFilter};
///
/// let filter: TopicFilter = "comment:*".parse()?;
/// assert!(filter.matches(&Topic::new("comment:17")?));
/// assert!(!filter.matches(&Topic::new("comment:17:reply")?));
/// assert!(TopicFilter::new("comment:**")?.covers(&filter));
/// # Ok::<_, fanline::topic::InvalidTopic>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicFilter {
    /// This topic.
    Exact(Topic),
    /// Every topic that matches the pattern.
    Pattern(TopicPattern),
}

impl TopicFilter {
    /// Validates `text` as a pattern if it contains a `*`, and as a topic otherwise.
    ///
    /// # Errors
    /// [`InvalidTopic`] is the rule that it breaks.
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

    /// The pattern `**`.
    pub(crate) fn everything() -> Self {
        Self::Pattern(TopicPattern::everything())
    }

    /// Whether every topic that matches is reserved; otherwise none is.
    pub fn is_reserved(&self) -> bool {
        is_reserved(self.as_str())
    }

    pub(crate) fn is_pattern(&self) -> bool {
        matches!(self, Self::Pattern(_))
    }

    /// Whether this is the filter of `topic` alone.
    pub(crate) fn is_exactly(&self, topic: &Topic) -> bool {
        matches!(self, Self::Exact(exact) if exact == topic)
    }

    /// Whether `topic` matches.
    pub fn matches(&self, topic: &Topic) -> bool {
        match self {
            Self::Exact(exact) => exact == topic,
            Self::Pattern(pattern) => pattern.matches(topic),
        }
    }

    /// Whether every topic that matches `other` matches this filter as well.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(one), Self::Exact(other)) => one == other,
            (Self::Exact(_), Self::Pattern(_)) => false,
            (Self::Pattern(pattern), other) => pattern.covers(other.as_str()),
        }
    }

    /// The number of wildcard segments.
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

impl From<Topic> for TopicFilter {
    fn from(topic: Topic) -> Self {
        Self::Exact(topic)
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

/// A filter with wildcards; see [`TopicFilter`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicPattern(Arc<str>);

impl TopicPattern {
    /// The pattern `**`.
    pub(crate) fn everything() -> Self {
        static EVERYTHING: LazyLock<Arc<str>> = LazyLock::new(|| "**".into());
        Self(EVERYTHING.clone())
    }

    /// Whether every topic matches that is not reserved.
    pub fn is_everything(&self) -> bool {
        &*self.0 == "**"
    }

    /// Whether every topic that matches is reserved; otherwise none is.
    pub(crate) fn is_reserved(&self) -> bool {
        is_reserved(&self.0)
    }

    /// The text before the first wildcard, up to the eighth separator at most: each topic that matches has this among its
    /// [prefixes](Topic::prefixes). Empty if the pattern begins with a wildcard.
    pub(crate) fn prefix(&self) -> &str {
        let (literal, _) = self.0.split_once('*').unwrap_or_default();
        prefixes(literal).last().unwrap_or_default()
    }

    /// Whether `topic` matches.
    pub fn matches(&self, topic: &Topic) -> bool {
        self.covers(topic.as_str())
    }

    /// Whether this pattern matches the topic `text`. If `text` is a pattern: whether this matches all that `text` matches.
    /// Segments are compared pairwise. A `*` in `text` is a non-empty segment, which only a wildcard covers.
    fn covers(&self, text: &str) -> bool {
        if self.0.starts_with('*') && is_reserved(text) {
            return false;
        }
        // The pattern of nearly all publishers.
        if self.is_everything() {
            return true;
        }
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

fn is_reserved(text: &str) -> bool {
    text.starts_with(USER) || text.starts_with(PRESENCE)
}

fn prefixes(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(SEPARATORS).take(MAX_PREFIXES).map(|(index, _)| &text[..=index])
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

/// Whether all characters are ASCII and allowed in topics. Most topics are found valid by this alone, at less cost.
fn is_plain(text: &str) -> bool {
    // Without an early end, so that many bytes are compared at once.
    text.bytes().fold(true, |is_plain, byte| is_plain & byte.is_ascii_graphic() & (byte != b'*') & (byte != b','))
}

fn is_forbidden(c: char) -> bool {
    c == ',' || c.is_control() || c.is_whitespace()
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;

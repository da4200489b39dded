//! Labels of a client.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A label of a client, which `/clients` and the log show: text of 1 to 255 bytes without control characters and commas.
///
/// ```
/// use fanline::auth::Tag;
///
/// assert_eq!(Tag::new("beta")?.as_str(), "beta");
/// assert!(Tag::new("two\nlines").is_err());
/// # Ok::<_, fanline::auth::InvalidTag>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tag(Arc<str>);

impl Tag {
    pub(crate) const MAX_BYTES: usize = 255;

    /// Checks `text`.
    ///
    /// # Errors
    /// [`InvalidTag`] says which rule the text breaks.
    pub fn new(text: &str) -> Result<Self, InvalidTag> {
        match text.chars().find(|&c| c.is_control() || c == ',') {
            _ if text.is_empty() => Err(InvalidTag::Empty),
            _ if text.len() > Self::MAX_BYTES => Err(InvalidTag::TooLong(text.len())),
            Some(c) => Err(InvalidTag::Character(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Not a [`Tag`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTag {
    /// The text is empty.
    #[error("a tag cannot be empty")]
    Empty,
    /// The text is too long. Holds its length in bytes.
    #[error("the limit is {max} bytes, and the value has {0}", max = Tag::MAX_BYTES)]
    TooLong(usize),
    /// The text has a character that is not allowed.
    #[error("control characters and commas, such as {0:?}, are not allowed")]
    Character(char),
}

impl FromStr for Tag {
    type Err = InvalidTag;

    fn from_str(text: &str) -> Result<Self, InvalidTag> {
        Self::new(text)
    }
}

impl AsRef<str> for Tag {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_text_without_control_characters_and_commas() {
        for text in ["beta", "two words", "größer", &"x".repeat(255)] {
            assert_eq!(text.parse::<Tag>().unwrap().to_string(), text);
        }
        for (text, error) in [
            ("", InvalidTag::Empty),
            ("a\tb", InvalidTag::Character('\t')),
            ("a,b", InvalidTag::Character(',')),
            (&"x".repeat(256), InvalidTag::TooLong(256)),
        ] {
            assert_eq!(Tag::new(text), Err(error), "{text:?}");
        }
    }
}

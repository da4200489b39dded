//! Keys of latest values.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// A validated key: 1 to 255 bytes of UTF-8 without control characters.
///
/// A topic has one latest value for each key, for subscribers in the [mode](crate::hub::Mode) `latest`. Cloning shares the text.
///
/// ```
/// use fanline::event::{InvalidKey, Key};
///
/// let key: Key = "sensor 17".parse()?;
/// assert_eq!(key.as_str(), "sensor 17");
/// assert_eq!(Key::new(""), Err(InvalidKey::Empty));
/// # Ok::<_, InvalidKey>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

impl Key {
    /// The longest key, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// Validates `text` as a key.
    ///
    /// # Errors
    /// [`InvalidKey`] when `text` is empty, too long or contains a control character.
    pub fn new(text: &str) -> Result<Self, InvalidKey> {
        if text.is_empty() {
            return Err(InvalidKey::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidKey::TooLong(text.len()));
        }
        match text.chars().find(|c| c.is_control()) {
            Some(c) => Err(InvalidKey::Character(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Key {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        Self::new(text)
    }
}

/// The rule that a key breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// The key is empty.
    #[error("keys cannot be empty; an event without a key is the single value of its topic")]
    Empty,
    /// The key has this many bytes, more than [`Key::MAX_BYTES`].
    #[error("keys can have at most {max} bytes, this one has {0}", max = Key::MAX_BYTES)]
    TooLong(usize),
    /// The key contains this control character.
    #[error("keys cannot contain control characters, this one contains {0:?}")]
    Character(char),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_short_texts_without_control_characters() {
        for text in ["a", "sensor 17", "größe,*", &"x".repeat(255)] {
            assert_eq!(Key::new(text).unwrap().as_str(), text);
        }
        assert_eq!(Key::new(""), Err(InvalidKey::Empty));
        assert_eq!(Key::new(&"x".repeat(256)), Err(InvalidKey::TooLong(256)));
        for c in ['\r', '\n', '\0', '\u{85}'] {
            assert_eq!(Key::new(&format!("a{c}")), Err(InvalidKey::Character(c)));
        }
    }
}

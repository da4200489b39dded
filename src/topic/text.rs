//! The text of a topic: shared, or in place if it is short.
//!
//! Topics are compared and cloned for each publication. Those of most hubs are short, and need neither memory of their own nor
//! a reference count. In a hub with very many topics the text of one is then in the processor's cache together with what
//! else is read of it.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// The longest text in place, in bytes: a text takes three words.
const SHORT: usize = 22;

/// See the module's documentation. A text has one representation, so that equality is that of the fields.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Text {
    Short {
        length: u8,
        /// UTF-8, and zeros.
        bytes: [u8; SHORT],
    },
    /// Longer than [`SHORT`].
    Long(Arc<str>),
}

impl Text {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => &bytes[..usize::from(*length)],
            Self::Long(text) => text.as_bytes(),
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        if text.len() > SHORT {
            return Self::Long(text.into());
        }
        let mut bytes = [0; SHORT];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Self::Short { length: text.len() as u8, bytes }
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Short { .. } => std::str::from_utf8(self.as_bytes()).expect("it was a text"),
            Self::Long(text) => text,
        }
    }
}

/// As that of `str`, by which maps with topics are searched, without looking whether the bytes are UTF-8.
impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
        state.write_u8(0xff);
    }
}

/// As that of `str`: UTF-8 has the order of the characters.
impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_takes_three_words() {
        assert_eq!(size_of::<Option<Text>>(), size_of::<[usize; 3]>(), "each topic and each event has one");
    }

    fn text() -> impl Strategy<Value = String> {
        // Around the longest in place, with a common beginning, and with characters of several bytes.
        "a{0,22}[abéλ😀]{0,4}"
    }

    proptest! {
        #[test]
        fn text_behaves_like_a_string(one in text(), other in text()) {
            let (short, long) = (Text::from(&*one), Text::from(&*other));
            prop_assert_eq!(&*short, &*one);
            prop_assert_eq!(short.as_bytes(), one.as_bytes());
            prop_assert_eq!(short.clone() == short, true);
            prop_assert_eq!(short == long, one == other);
            prop_assert_eq!(short.cmp(&long), one.cmp(&other));
            let hasher = std::hash::RandomState::new();
            prop_assert_eq!(hasher.hash_one(&short), hasher.hash_one(&*one));
        }
    }
}

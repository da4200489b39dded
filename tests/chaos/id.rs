//! Event ids: `<epoch>-<sequence>`, two numbers without leading zeros.

use std::fmt;

/// Within an epoch, ids are ordered by sequence. Across epochs the derived order means nothing; maps need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    pub epoch: u64,
    pub sequence: u64,
}

impl Id {
    pub const fn new(epoch: u64, sequence: u64) -> Self {
        Self { epoch, sequence }
    }

    /// Returns `None` unless `text` is the canonical spelling of an id.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, sequence) = text.split_once('-')?;
        let id = Self::new(epoch.parse().ok()?, sequence.parse().ok()?);
        (id.to_string() == text).then_some(id)
    }

    /// Whether this is `0-0`, the position of a stream that was requested with an unknown id.
    pub fn is_zero(self) -> bool {
        self == Self::new(0, 0)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.sequence)
    }
}

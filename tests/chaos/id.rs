//! The id of an event: `<epoch>-<sequence>`, two numbers without leading zeros.

use std::fmt;

/// Ids of one epoch compare by their sequence. Ids of different epochs have no order; the derived one is for maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    pub epoch: u64,
    pub sequence: u64,
}

impl Id {
    pub const fn new(epoch: u64, sequence: u64) -> Self {
        Self { epoch, sequence }
    }

    /// None for a text that is not an id, or is not spelled as ids are.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, sequence) = text.split_once('-')?;
        let id = Self::new(epoch.parse().ok()?, sequence.parse().ok()?);
        (id.to_string() == text).then_some(id)
    }

    /// What a server names after an id that it cannot place: it names no event.
    pub fn is_nowhere(self) -> bool {
        self == Self::new(0, 0)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.sequence)
    }
}

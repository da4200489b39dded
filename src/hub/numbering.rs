//! How the hub's sequences are spelled on the wire, and where the one order was broken.
//!
//! Within the hub sequences only ever grow. On the wire they count from 1 in each epoch. A hub that numbers its events
//! itself has one epoch, and the two are the same. Where a backbone numbers them, a [`Break`] is where readers cannot go
//! on with what follows: another epoch began, or this hub was away for so long that events are missing in between.

use super::gap::GapReason;
use crate::position::{Epoch, Sequence, StreamPosition};

/// An epoch, and the hub's sequence that is 0 in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbering {
    pub(crate) epoch: Epoch,
    pub(crate) offset: Sequence,
}

impl Numbering {
    pub(crate) fn position(self, sequence: Sequence) -> StreamPosition {
        StreamPosition::new(self.epoch, sequence.saturating_sub(self.offset))
    }

    /// The hub's sequence of a position of this epoch.
    pub(crate) fn sequence(self, position: StreamPosition) -> Option<Sequence> {
        if position.epoch == self.epoch { self.offset.checked_add(position.sequence) } else { None }
    }
}

/// Where the hub's order was broken: nothing up to `base` is retained, and readers that have not passed it are told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Break {
    pub(crate) numbering: Numbering,
    pub(crate) base: Sequence,
    pub(crate) reason: GapReason,
}

/// All breaks since the hub began, which is the first.
pub(crate) struct Breaks(Vec<Break>);

impl Breaks {
    pub(crate) fn new(epoch: Epoch) -> Self {
        let numbering = Numbering { epoch, offset: 0 };
        Self(vec![Break { numbering, base: 0, reason: GapReason::Epoch }])
    }

    pub(crate) fn push(&mut self, one: Break) {
        self.0.push(one);
    }

    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn last(&self) -> Break {
        *self.0.last().expect("the first one stays")
    }

    /// The wire's position of a sequence of the hub.
    pub(crate) fn position(&self, sequence: Sequence) -> StreamPosition {
        let of = self.0.iter().rev().find(|one| one.numbering.offset <= sequence);
        of.unwrap_or(&self.0[0]).numbering.position(sequence)
    }
}

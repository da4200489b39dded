//! How the hub's sequences become positions, and where the order was broken.
//!
//! Within the hub sequences only grow; positions count from 1 in each epoch. A hub that numbers its events itself has one
//! epoch, and the two are the same. Where a backbone numbers them, a [`Break`] separates events that do not follow each
//! other: another epoch began, or events in between are missing because the hub was away for too long.

use std::collections::VecDeque;

use super::gap::GapReason;
use crate::position::{Epoch, Sequence, StreamPosition};

/// How many epochs keep their numbering. A subscription needs an older one only if as many breaks followed its last read.
const MAX_NUMBERINGS: usize = 64;

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

/// A break of the order: nothing up to `base` is retained, and readers that have not passed it get a gap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Break {
    pub(crate) numbering: Numbering,
    pub(crate) base: Sequence,
    pub(crate) reason: GapReason,
}

/// The breaks of the order; the hub's beginning is the first.
pub(crate) struct Breaks {
    count: u32,
    /// The last break of each of the newest numberings.
    newest: VecDeque<Break>,
}

impl Breaks {
    pub(crate) fn new(epoch: Epoch) -> Self {
        let numbering = Numbering { epoch, offset: 0 };
        let first = Break { numbering, base: 0, reason: GapReason::Epoch };
        Self { count: 1, newest: VecDeque::from([first]) }
    }

    pub(crate) fn push(&mut self, new: Break) {
        self.count += 1;
        if self.last().numbering == new.numbering {
            self.newest.pop_back();
        } else if self.newest.len() == MAX_NUMBERINGS {
            self.newest.pop_front();
        }
        self.newest.push_back(new);
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    pub(crate) fn last(&self) -> Break {
        *self.newest.back().expect("there is always one")
    }

    /// The position of a sequence of the hub. Sequences of forgotten epochs are before the first event of the oldest
    /// known one.
    pub(crate) fn position(&self, sequence: Sequence) -> StreamPosition {
        let epoch = self.newest.iter().rev().find(|known| known.numbering.offset <= sequence);
        epoch.unwrap_or(&self.newest[0]).numbering.position(sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_epochs_are_remembered() {
        let mut breaks = Breaks::new(Epoch(0));
        for number in 1..=100 {
            let numbering = Numbering { epoch: Epoch(number), offset: 10 * number };
            for base in [10 * number, 10 * number + 3] {
                breaks.push(Break { numbering, base, reason: GapReason::Evicted });
            }
        }
        assert_eq!((breaks.count(), breaks.newest.len()), (201, MAX_NUMBERINGS));
        assert_eq!((breaks.last().base, breaks.position(1005)), (1003, StreamPosition::new(Epoch(100), 5)));
        assert_eq!(breaks.position(999), StreamPosition::new(Epoch(99), 9));
        let oldest = 101 - MAX_NUMBERINGS as u64;
        assert_eq!(breaks.position(5), StreamPosition::new(Epoch(oldest), 0));
    }
}

//! The channels that have had events, in the order in which they are looked at.

use std::collections::BTreeMap;

use crate::hub::channel::Channel;
use crate::position::Sequence;
use crate::sync::Arc;

/// A tree, not a list that is moved as a whole when it grows.
#[derive(Default)]
pub(super) struct Queue {
    /// By the sequence that it is queued with, then by its number.
    channels: BTreeMap<(Sequence, u64), Arc<Channel>>,
    /// How many have been queued so far.
    count: u64,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }

    pub(super) fn push(&mut self, sequence: Sequence, channel: Arc<Channel>) {
        self.count += 1;
        self.channels.insert((sequence, self.count), channel);
    }

    /// The first channel, and the sequence that it is queued with.
    pub(super) fn first(&self) -> Option<(Sequence, &Arc<Channel>)> {
        self.channels.first_key_value().map(|(&(sequence, _), channel)| (sequence, channel))
    }

    /// Removes the first channel, and returns it with the sequence that it was queued with.
    pub(super) fn pop(&mut self) -> Option<(Sequence, Arc<Channel>)> {
        self.channels.pop_first().map(|((sequence, _), channel)| (sequence, channel))
    }
}

//! What a subscription selects from the firehoses.

use super::{Cursor, Subscription};
use crate::hub::channel::Channel;
use crate::hub::filter::SubscriptionFilter;
use crate::hub::prefixes::PrefixList;
use crate::ring::Read;

pub(super) struct Selection {
    pub(super) filter: SubscriptionFilter,
    /// The prefixes that the subscription listens to. A firehose of which it has none wakes it with each event.
    pub(super) prefixes: PrefixList,
}

impl Subscription {
    /// Moves the firehoses' cursors past events that are known not to be wanted.
    pub(super) fn skip_unwanted(&mut self) {
        if self.selection.is_some() {
            for number in 0..self.cursors.len() {
                self.cursors[number].index = self.next_index(&self.cursors[number]);
            }
        }
    }

    /// The index that the cursor reads next. It is behind events that are known not to be wanted.
    pub(super) fn next_index(&self, cursor: &Cursor) -> u64 {
        let Cursor { channel, index } = cursor;
        let Some(selection) = self.selection.as_deref().filter(|_| channel.topic.is_none()) else { return *index };
        let next = || self.history.prefixes_of(channel).next(&selection.prefixes, *index);
        // Where topics are named too, the cursor shows how far these are read: it only passes what was evicted.
        match selection.names_topics_of(channel) {
            false => next(),
            true if matches!(channel.ring.read(*index), Read::Lagged) => next().min(channel.end_of(self.taken)),
            true => *index,
        }
    }

    /// The filter to apply to the events of the channel; `None` accepts all of them.
    pub(super) fn filter_of(&self, channel: &Channel) -> Option<&SubscriptionFilter> {
        self.selection.as_deref().filter(|_| channel.topic.is_none()).map(|selection| &selection.filter)
    }
}

impl Selection {
    fn names_topics_of(&self, firehose: &Channel) -> bool {
        self.filter.topics.iter().any(|topic| topic.is_reserved() == firehose.is_reserved)
    }
}

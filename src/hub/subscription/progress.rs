//! How far a subscription is.

use super::{Cursor, Subscription};

impl Subscription {
    /// The number of events of its channels that this has passed, out of [`Hub::appended`](crate::hub::Hub).
    pub(crate) fn passed(&self) -> u64 {
        match &*self.cursors {
            // As most have, without a look at its channel.
            [cursor] => cursor.index,
            _ => self.counted().map(|cursor| cursor.index).sum(),
        }
    }

    /// The number of events of its channels that this is behind, including those that a pattern does not match.
    pub(crate) fn behind(&self) -> u64 {
        let behind = |cursor| {
            let next = self.next_index(cursor);
            cursor.channel.appended().saturating_sub(next)
        };
        self.counted().map(behind).sum()
    }

    /// The cursors that show how far this is behind. A firehose has the events of named topics too, which are not counted
    /// again; those that have left it and are still read from a topic's ring are not counted.
    fn counted(&self) -> impl Iterator<Item = &Cursor> {
        // The firehoses come last.
        let firehoses = self.cursors.iter().rev().take_while(|cursor| cursor.channel.topic.is_none());
        let (mut has_reserved, mut has_others) = (false, false);
        for firehose in firehoses {
            has_reserved |= firehose.channel.is_reserved;
            has_others |= !firehose.channel.is_reserved;
        }
        self.cursors.iter().filter(move |Cursor { channel, .. }| {
            channel.topic.is_none() || !(if channel.is_reserved { has_reserved } else { has_others })
        })
    }
}

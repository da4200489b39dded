//! A subscription whose reader takes compressed blocks, which the readers of one ring share.

use std::ops::Range;

use super::Subscription;
use crate::hub::compression::Member;
use crate::hub::merge::Batch;
use crate::wire::Format;

impl Subscription {
    /// The gzip member of a reader, whose blocks are framed in chunks or not. It shares compressed blocks with the other readers of
    /// its ring. `None` if this reads several rings, or selects events from one.
    pub(crate) fn compressed(&self, format: Format, is_framed: bool) -> Option<Member> {
        let (history, cursor) = (&self.history, self.cursors.first().filter(|_| self.is_of_one_ring())?);
        Some(history.compression.member(&cursor.channel, format, is_framed, &history.derived_bytes))
    }

    /// Whether this reads all of one ring, and nothing else.
    pub(crate) fn is_of_one_ring(&self) -> bool {
        self.cursors.len() == 1 && self.filter.is_none() && !self.is_of_latest()
    }

    /// The indices of the frames of `batch`, which was filled last, in the only ring that this reads. `None` if they are from
    /// elsewhere.
    pub(in crate::hub) fn indices_in_ring(&self, batch: &Batch) -> Option<Range<u64>> {
        if self.is_catching_up() || !self.is_of_one_ring() { None } else { batch.indices() }
    }
}

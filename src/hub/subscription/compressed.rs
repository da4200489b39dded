//! A subscription whose reader takes compressed blocks: those that the readers of one ring share, or those of the
//! [latest values](super::shared) that readers with one interval share.

use std::ops::Range;

use super::Subscription;
use crate::hub::compression::Member;
use crate::hub::merge::Batch;
use crate::wire::Format;

impl Subscription {
    /// The gzip member of a reader, whose blocks are framed in chunks or not. `None` if it shares none.
    pub(crate) fn compressed(&self, format: Format, is_framed: bool) -> Option<Member> {
        let history = &self.history;
        match self.cursors.first() {
            Some(cursor) if self.is_of_one_ring() => {
                Some(history.compression.member(&cursor.channel, format, is_framed, &history.derived_bytes))
            }
            _ => self.has_intervals_to_share().then(|| Member::without_ring(format, is_framed)),
        }
    }

    /// Whether it can be compressed together with others.
    pub(crate) fn is_compressible(&self, has_interval: bool) -> bool {
        self.is_of_one_ring() || (has_interval && self.has_intervals_to_share())
    }

    /// Whether this shares with others what it reads at one moment, if it has an interval.
    fn has_intervals_to_share(&self) -> bool {
        self.is_of_latest() && self.selection.is_none()
    }

    /// Whether this reads all of one ring, and nothing else.
    fn is_of_one_ring(&self) -> bool {
        self.cursors.len() == 1 && self.selection.is_none() && !self.is_of_latest()
    }

    /// The indices of the frames of `batch`, which was filled last, in the only ring that this reads. `None` if they are from
    /// elsewhere.
    pub(in crate::hub) fn indices_in_ring(&self, batch: &Batch) -> Option<Range<u64>> {
        if self.is_catching_up() || !self.is_of_one_ring() { None } else { batch.indices() }
    }
}

//! Archives: where subscriptions read events that have left the rings.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use super::encoder::DerivedBytes;
use super::frame::Frame;
use crate::position::{Sequence, StreamPosition};
use crate::ring::{Read, Ring};
use crate::sync::Arc;

/// Events that are kept beyond the rings of a [relayed](super::Hub::relayed) hub: by a backbone, or on disk.
///
/// A subscription whose next event has left the rings reads pages until the rings have what comes next. A future is
/// dropped when its answer is no longer awaited.
pub trait Archive: Send + Sync {
    /// Reads the oldest retained events after `after`, of all topics, so that subscriptions with different filters share
    /// the page. It may begin with earlier events, which a subscription skips. `None` when there are none, or when they
    /// cannot be read: the subscription gets a [`Gap`](super::Gap) instead.
    fn page_after(&self, after: StreamPosition) -> ArchiveFuture<Page>;

    /// Returns the position after which the oldest retained event comes. `None` when that cannot be found out.
    fn before_oldest(&self) -> ArchiveFuture<StreamPosition>;

    /// Returns whether `position` was ever given to an event, in the current epoch or an earlier one. The event may be
    /// one that the hub does not have yet. `None` when that cannot be found out.
    fn has_issued(&self, position: StreamPosition) -> ArchiveFuture<bool>;
}

/// The answer of an [`Archive`].
pub type ArchiveFuture<T> = Pin<Box<dyn Future<Output = Option<T>> + Send>>;

/// Consecutive events, encoded once for all subscriptions that read them; see
/// [`Relay::page`](super::relay::Relay::page). Cheap to clone.
#[derive(Clone)]
pub struct Page {
    /// The frames have the sequences of the hub's rings.
    pub(super) frames: Arc<Ring<Frame>>,
    pub(super) bytes: usize,
    pub(super) derived_bytes: DerivedBytes,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl Page {
    /// The memory that it takes, approximately. It grows when the first reader of another format comes.
    pub fn bytes(&self) -> usize {
        self.bytes + self.derived_bytes.get() as usize
    }

    /// The index of the first frame after `sequence`.
    pub(super) fn index_after(&self, sequence: Sequence) -> u64 {
        self.frames.partition_point(|frame| frame.sequence() <= sequence)
    }

    /// The sequence of the frame at `index`.
    pub(super) fn sequence_at(&self, index: u64) -> Option<Sequence> {
        match self.frames.read(index) {
            Read::Run(run) => Some(run.get(index).sequence()),
            _ => None,
        }
    }
}

//! What a stream's task reads events from: a [`Subscription`], or a [`Feed`] whose topics change.

use std::task::{Context, Poll, Waker};

use super::gzip::CompressedSubscription;
use crate::hub::{Batch, Feed, Notice, Sample, Subscription};
use crate::position::StreamPosition;

/// The methods are those of [`Subscription`].
pub(super) trait Source: Send + 'static {
    fn poll_fill(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), Notice>>;
    fn take(&mut self, batch: &Batch, count: usize);
    fn wake(&mut self, waker: &Waker);
    fn sleep(&mut self);
    fn sample_in(&self, batch: &Batch, count: usize) -> Option<Sample>;
    fn position(&self) -> StreamPosition;
    fn has_gap(&self) -> bool;
    fn has_lagged(&self) -> bool;
    fn passed(&self) -> u64;
    fn behind(&self) -> u64;
    fn is_catching_up(&self) -> bool;
    fn is_in_snapshot(&self) -> bool;
}

/// Implements [`Source`] by the methods of these names, of the value itself or of a field.
macro_rules! source {
    ($type:ty $(, $field:ident)?) => {
        impl Source for $type {
            fn poll_fill(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), Notice>> {
                self$(.$field)?.poll_fill(cx, batch)
            }

            fn take(&mut self, batch: &Batch, count: usize) {
                self$(.$field)?.take(batch, count);
            }

            fn wake(&mut self, waker: &Waker) {
                self$(.$field)?.wake(waker);
            }

            fn sleep(&mut self) {
                self$(.$field)?.sleep();
            }

            fn sample_in(&self, batch: &Batch, count: usize) -> Option<Sample> {
                self$(.$field)?.sample_in(batch, count)
            }

            fn position(&self) -> StreamPosition {
                self$(.$field)?.position()
            }

            fn has_gap(&self) -> bool {
                self$(.$field)?.has_gap()
            }

            fn has_lagged(&self) -> bool {
                self$(.$field)?.has_lagged()
            }

            fn passed(&self) -> u64 {
                self$(.$field)?.passed()
            }

            fn behind(&self) -> u64 {
                self$(.$field)?.behind()
            }

            fn is_catching_up(&self) -> bool {
                self$(.$field)?.is_catching_up()
            }

            fn is_in_snapshot(&self) -> bool {
                self$(.$field)?.is_in_snapshot()
            }
        }
    };
}

source!(Subscription);
source!(Feed);
source!(CompressedSubscription, subscription);

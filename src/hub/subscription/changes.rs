//! Reading latest values in the process.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::{Notice, Snapshot, Subscription};
use crate::hub::frame::Frame;
use crate::hub::gap::Gap;
use crate::position::StreamPosition;

/// A reader of the latest values of some topics of a [`Hub`](crate::Hub): a [`Stream`] of [`Change`].
///
/// It begins with the present value of each topic and key, in the order in which they were published. [`Change::Snapshot`] marks
/// the end of these. Then come changes: of several values that one key has had since the last read, only the newest. It
/// therefore never lags, and ends like a [`Subscription`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::collections::HashMap;
/// use fanline::event::{Event, Payload};
/// use fanline::hub::{Change, Hub, Start};
///
/// let hub = Hub::default();
/// let reading = |key: &str, text| Ok::<_, Box<dyn std::error::Error>>(
///     Event::new("rooms".parse()?, Payload::text(text)).keyed(key.parse()?)
/// );
/// for (key, text) in [("kitchen", "20.5"), ("hall", "18.0"), ("kitchen", "21.0")] {
///     hub.publish(reading(key, text)?).await?;
/// }
///
/// let (mut values, _) = hub.subscribe_latest("rooms".parse()?, Start::Earliest);
/// let mut table = HashMap::new();
/// loop {
///     match values.next().await.expect("the hub is open") {
///         Change::Event(frame) if frame.is_deletion() => _ = table.remove(&frame.key().cloned()),
///         Change::Event(frame) => _ = table.insert(frame.key().cloned(), frame.payload().into_owned()),
///         Change::Gap(_) => table.clear(),
///         Change::Snapshot(snapshot) => break assert_eq!(snapshot.entries, 2),
///     }
/// }
/// assert_eq!(table[&Some("kitchen".parse()?)], "21.0");
/// # Ok(())
/// # }
/// ```
pub struct LatestSubscription(Subscription);

/// What a [`LatestSubscription`] delivers.
#[derive(Clone, Debug)]
pub enum Change {
    /// The value of its topic and key, or [its deletion](Frame::is_deletion).
    Event(Frame),
    /// The values are complete.
    Snapshot(Snapshot),
    /// Deletions may be missing: the reader discards all values. They follow again, with another [`Change::Snapshot`].
    Gap(Gap),
}

impl LatestSubscription {
    pub(in crate::hub) fn new(subscription: Subscription) -> Self {
        Self(subscription)
    }

    /// Returns the next change as soon as there is one; `None` when the hub is closed and everything was read.
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Change> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The position up to which everything was delivered.
    pub fn position(&self) -> StreamPosition {
        self.0.position()
    }
}

impl Stream for LatestSubscription {
    type Item = Change;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        let delivery = ready!(self.get_mut().0.poll_delivery(cx));
        Poll::Ready(delivery.map(|delivery| match delivery {
            Ok(frame) => Change::Event(frame),
            Err(Notice::Snapshot(snapshot)) => Change::Snapshot(snapshot),
            Err(Notice::Gap(gap)) => Change::Gap(gap),
        }))
    }
}

impl fmt::Debug for LatestSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatestSubscription").field("position", &self.position()).finish_non_exhaustive()
    }
}

//! The end of a subscription, as a `Stream`.

use std::future::poll_fn;

use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use super::*;
use crate::hub::archive::{ArchiveFuture, Page};

/// What a subscription delivers, as text.
fn text(delivery: Delivery) -> String {
    match delivery {
        Delivery::Event(frame) => frame.sequence().to_string(),
        Delivery::Gap(gap) => format!("gap {:?} {}", gap.missed, gap.to.sequence),
    }
}

#[tokio::test]
async fn subscription_ends_behind_the_last_event_of_a_closed_hub() {
    let hub = hub(2, 8);
    let (subscription, _) = hub.subscribe(filter(&["a"]), Start::Live);
    publish_some(&hub, 3, "a");
    hub.close();
    assert_eq!(subscription.map(text).collect::<Vec<_>>().await, ["gap Some(1) 1", "2", "3"]);
    let (late, _) = hub.subscribe(filter(&["a"]), Start::Earliest);
    assert_eq!(late.map(text).collect::<Vec<_>>().await, ["2", "3"]);
}

#[tokio::test]
async fn closing_wakes_subscriptions_that_wait() {
    for filters in [&["a"][..], &["a", "b"], &["b:*"], &["user:*"], &[]] {
        let hub = hub(8, 8);
        let (mut subscription, _) = hub.subscribe(filter(filters), Start::Live);
        let (waiting, mut waits) = mpsc::unbounded_channel();
        let reader = tokio::spawn(poll_fn(move |cx| {
            let polled = poll_next(&mut subscription, cx.waker());
            waiting.send(polled.is_pending()).unwrap();
            polled
        }));
        assert_eq!(waits.recv().await, Some(true));
        hub.close();
        assert!(reader.await.unwrap().is_none(), "{filters:?}");
        assert!(hub.is_closed());
    }
}

#[tokio::test]
async fn subscription_ends_with_the_last_handle_of_its_hub() {
    let hub = hub(8, 8);
    let (mut subscription, _) = hub.subscribe(filter(&["a"]), Start::Live);
    let other = hub.clone();
    drop(hub);
    publish(&other, "a");
    assert_eq!(subscription.next().await.map(text).as_deref(), Some("1"));
    assert!(subscription.next().now_or_never().is_none(), "a handle is left");
    drop(other);
    assert!(subscription.next().await.is_none());
    assert!(subscription.next().await.is_none());
}

/// An archive that never answers.
struct Silent;

impl Archive for Silent {
    fn page_after(&self, _: StreamPosition) -> ArchiveFuture<Page> {
        Box::pin(std::future::pending())
    }

    fn before_oldest(&self) -> ArchiveFuture<StreamPosition> {
        Box::pin(std::future::pending())
    }

    fn has_issued(&self, _: StreamPosition) -> ArchiveFuture<bool> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn subscription_that_reads_an_archive_does_not_end_before_it() {
    let options = HubOptions { history: 2, firehose_history: 2, ..HubOptions::default() };
    let (hub, relay, _requests) = Hub::relayed(&options, Duration::ZERO, Some(Arc::new(Silent)));
    relay.begin_after(at(0), GapReason::Epoch);
    relay.append(&["a"; 9].map(event));
    let (mut behind, _) = hub.subscribe(filter(&["a"]), Start::After(at(1)));
    let (mut live, _) = hub.subscribe(filter(&["a"]), Start::Live);
    hub.close();
    assert!(live.next().await.is_none());
    assert!(behind.next().now_or_never().is_none(), "events are missing that the archive may have");
}

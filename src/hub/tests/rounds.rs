//! Subscriptions whose streams are polled in rounds.

use super::*;
use crate::hub::{SleeperKey, WakeGroup};

fn stream(hub: &Hub, group: &std::sync::Arc<WakeGroup>, topics: &[&str]) -> (Subscription, SleeperKey) {
    let opened = hub.subscribe_in(group, filter(topics), Mode::Events, Start::Live, usize::MAX).unwrap();
    let mut subscription = opened.0;
    let key = subscription.read_in_rounds();
    (subscription, key)
}

/// The next round, which is empty if no stream was woken.
fn round(group: &WakeGroup) -> Vec<SleeperKey> {
    let mut round = Vec::new();
    let is_ready = pin!(group.round(&mut round)).poll(&mut Context::from_waker(Waker::noop())).is_ready();
    assert_eq!(is_ready, !round.is_empty());
    round
}

#[test]
fn woken_stream_is_in_the_next_round_once() {
    let (hub, group) = (hub(8, 8), WakeGroup::dispatched());
    let ((mut a, key_a), (_b, key_b)) = (stream(&hub, &group, &["a"]), stream(&hub, &group, &["a", "b"]));
    assert!(round(&group).is_empty());
    publish(&hub, "a");
    publish(&hub, "a");
    group.wake_stream(key_a);
    publish(&hub, "b");
    assert_eq!(round(&group), [key_a, key_b]);
    assert!(round(&group).is_empty());
    a.sleep();
    publish(&hub, "a");
    assert_eq!(round(&group), [key_b], "events do not wake a stream that sleeps");
    group.wake_stream(key_a);
    assert_eq!(round(&group), [key_a], "requests do");
    assert!(a.wake(Waker::noop()) && !a.wake(Waker::noop()), "it reads once more after it awaits events again");
    publish(&hub, "a");
    assert_eq!(round(&group), [key_a, key_b]);
    drop(a);
    group.wake_stream(key_a);
    assert!(round(&group).is_empty(), "the stream has ended");
}

/// A reader of a pattern is polled for events that begin like it, and for every 256th of all.
#[test]
fn round_has_only_streams_that_may_want_an_event() {
    let (hub, group) = (hub(8, 4096), WakeGroup::dispatched());
    publish_some(&hub, 4096, "log");
    let patterns: Vec<_> = (0..10).map(|user| format!("user.{user}.*")).collect();
    let mut streams: Vec<_> = patterns.iter().map(|pattern| stream(&hub, &group, &[pattern])).collect();
    let all: Vec<_> = streams.iter().map(|(_, key)| *key).collect();
    publish(&hub, "log");
    assert_eq!(round(&group), all);
    for count in 1..256 {
        publish(&hub, if count % 3 == 0 { "user.7.login" } else { "log" });
        let expected = if count % 3 == 0 { &all[7..8] } else { &[] };
        assert_eq!(round(&group), expected);
    }
    publish(&hub, "log");
    assert_eq!(round(&group), all);
    let received = streams.iter_mut().map(|(subscription, _)| drain(subscription).0.len());
    assert_eq!(received.collect::<Vec<_>>(), [0, 0, 0, 0, 0, 0, 0, 85, 0, 0]);
}

#[test]
fn streams_at_one_place_share_a_batch() {
    let (hub, group) = (hub(8, 8), WakeGroup::dispatched());
    let mut streams = [(); 3].map(|()| stream(&hub, &group, &["a"]).0);
    let (mut all, mut other) = (stream(&hub, &group, &[]).0, stream(&hub, &group, &["b"]).0);
    let mut batch = Batch::default();
    let mut read = |subscription: &mut Subscription, take: usize| {
        subscription.fill(&mut batch).unwrap();
        subscription.take(&batch, take.min(batch.len()));
        (batch.frames().map(Frame::sequence).collect::<Vec<_>>(), batch.frames().next().map(std::ptr::from_ref))
    };
    publish_some(&hub, 2, "a");
    let first = read(&mut streams[0], 2);
    assert_eq!(first.0, [1, 2]);
    assert_eq!(read(&mut streams[1], 1), first);
    assert_eq!(read(&mut streams[1], 0).0, [2], "behind what it has taken");
    assert_eq!(read(&mut streams[0], 0).0, [0; 0]);
    publish_some(&hub, 1, "a");
    assert_eq!(read(&mut streams[2], 9).0, [1, 2, 3], "with what came since");
    assert_eq!(read(&mut all, 9).0, [1, 2, 3]);
    assert_eq!(read(&mut other, 9).0, [0; 0]);
    publish(&hub, "b");
    assert_eq!(read(&mut streams[0], 9).0, [3]);
    assert_eq!(read(&mut other, 9).0, [4]);
    assert_eq!(read(&mut all, 9).0, [4]);
}

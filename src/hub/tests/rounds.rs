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

//! Publishing, subscribing and waking.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Wake;

use super::*;

#[test]
fn sequences_are_dense_over_all_topics() {
    let hub = hub(10, 64);
    assert_eq!(["a", "b", "a"].map(|topic| publish(&hub, topic)), [1, 2, 3]);
    let events = ["a", "c"].map(event);
    let published = now(hub.publish_all(events.to_vec())).unwrap().unwrap();
    assert_eq!((published.first, published.last), (at(4), at(5)));
    assert_eq!(hub.position(), at(5));
    assert_eq!(now(hub.publish_all(Vec::new())), Ok(None));
}

#[test]
fn subscriptions_get_the_events_of_their_topics_in_order() {
    let hub = hub(10, 64);
    let mut subscriptions =
        [&["a"][..], &["a", "b:1"], &["b:*"], &["b:*", "b:1"], &[]].map(|f| hub.subscribe(filter(f), Start::Live).0);
    for topic in ["a", "b:1", "c", "b:2", "a"] {
        publish(&hub, topic);
    }
    let expected: [&[u64]; 5] = [&[1, 5], &[1, 2, 5], &[2, 4], &[2, 4], &[1, 2, 3, 4, 5]];
    for (subscription, expected) in subscriptions.iter_mut().zip(expected) {
        assert_eq!(drain(subscription), (expected.to_vec(), vec![]));
    }
}

#[test]
fn subscriptions_begin_at_their_start() {
    let hub = hub(10, 64);
    for topic in ["a", "b", "a", "b", "c", "a"] {
        publish(&hub, topic);
    }
    let opening =
        |position, replayed| Opening { id: at(position), position: Some(at(position)), replayed: Some(replayed) };
    assert_eq!(read(&hub, &["a"], Start::Live), (vec![], vec![], opening(6, 0)));
    assert_eq!(read(&hub, &["a"], Start::Earliest), (vec![1, 3, 6], vec![], opening(0, 3)));
    assert_eq!(read(&hub, &["a"], Start::After(at(1))), (vec![3, 6], vec![], opening(1, 2)));
    assert_eq!(read(&hub, &["a"], Start::After(at(6))), (vec![], vec![], opening(6, 0)));
    assert_eq!(read(&hub, &["a", "b"], Start::Newest(3)), (vec![3, 4, 6], vec![], opening(2, 3)));
    assert_eq!(read(&hub, &["*"], Start::Newest(2)), (vec![5, 6], vec![], opening(4, 2)));
    assert_eq!(read(&hub, &[], Start::Newest(100)), (vec![1, 2, 3, 4, 5, 6], vec![], opening(0, 6)));
    assert_eq!(read(&hub, &["a"], Start::Newest(0)), (vec![], vec![], opening(6, 0)));
}

#[test]
fn closed_hub_rejects_publishes_and_still_replays() {
    let hub = hub(10, 64);
    publish(&hub, "a");
    hub.close();
    assert_eq!(now(hub.publish(event("a"))), Err(PublishError::Closed));
    assert_eq!(read(&hub, &["a"], Start::Earliest).0, [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_threads_see_one_order() {
    let hub = hub(100_000, 100_000);
    let (publishers, events) = (4, 5000);
    let subscribers: Vec<_> = (0..4)
        .map(|n| {
            let filters: &[&str] = if n % 2 == 0 { &[] } else { &["t0", "t1", "t2", "t3"] };
            let (mut subscription, _) = hub.subscribe(filter(filters), Start::Live);
            tokio::spawn(async move {
                for expected in 1..=publishers * events {
                    let Some(Delivery::Event(frame)) = subscription.next().await else { panic!("a gap") };
                    assert_eq!(frame.sequence(), expected);
                }
            })
        })
        .collect();
    for n in 0..publishers {
        let hub = hub.clone();
        tokio::spawn(async move {
            let topic = Topic::new(&format!("t{n}")).unwrap();
            for _ in 0..events {
                hub.publish(Event::new(topic.clone(), Payload::text("x"))).await.unwrap();
            }
        });
    }
    for subscriber in subscribers {
        subscriber.await.unwrap();
    }
}

struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn publish_wakes_only_readers_of_its_topic() {
    let hub = hub(100, 100);
    let group = WakeGroup::dispatched();
    let subscribe = |topic: &str| {
        let wakes = std::sync::Arc::new(Wakes(AtomicUsize::new(0)));
        let (mut subscription, _) =
            hub.subscribe_in(&group, filter(&[topic]), Mode::Events, Start::Live, usize::MAX).unwrap();
        let waker = Waker::from(wakes.clone());
        assert!(poll_next(&mut subscription, &waker).is_pending());
        (subscription, wakes)
    };
    let quiet: Vec<_> = (0..1000).map(|number| subscribe(&format!("quiet:{number}"))).collect();
    let (_busy, wakes) = subscribe("busy");
    for round in 1..=100 {
        publish(&hub, "busy");
        assert!(pin!(group.round(&mut Vec::new())).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(wakes.0.load(Relaxed), round);
    }
    assert!(quiet.iter().all(|(_, wakes)| wakes.0.load(Relaxed) == 0));
}

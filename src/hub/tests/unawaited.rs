//! Publishing without waiting, from synchronous code.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::Wake;
use std::thread;

use super::*;

/// The publications that the queue of a hub, or of its backbone, has room for.
const ROOM: usize = 4096;

fn numbered(topic: &str, number: u64) -> Event {
    Event::new(Topic::new(topic).unwrap(), Payload::text(number.to_string()))
}

#[test]
fn threads_publish_each_event_once_and_in_order() {
    let hub = hub(50_000, 50_000);
    let (mut subscription, _) = hub.subscribe(filter(&[]), Start::Live);
    let events = 2000;
    thread::scope(|threads| {
        for topic in ["a", "b", "c"] {
            let hub = &hub;
            threads.spawn(move || {
                for number in 0..events {
                    let mut event = numbered(topic, number);
                    while let Err(error) = hub.try_publish(event) {
                        event = error.into_event();
                        thread::yield_now();
                    }
                }
            });
        }
        threads.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for number in 0..events {
                runtime.block_on(hub.publish(numbered("async", number))).unwrap();
            }
        });
    });
    let mut next = BTreeMap::new();
    for sequence in 1..=4 * events {
        let Some(Delivery::Event(frame)) = now(subscription.next()) else { panic!("a gap") };
        assert_eq!(frame.sequence(), sequence);
        let next = next.entry(frame.topic().clone()).or_insert(0);
        assert_eq!(frame.json::<u64>().unwrap(), *next);
        *next += 1;
    }
}

#[test]
fn event_that_does_not_fit_comes_back() {
    let hub = hub(8, 8);
    // Nothing drains the queue meanwhile.
    hub.0.sequencer.exclusively(&hub.0.history, || {
        for _ in 0..ROOM {
            hub.try_publish(event("a")).unwrap();
        }
        let error = hub.try_publish(event("b")).unwrap_err();
        assert_eq!(error, TryPublishError::Full(event("b")));
        assert!(error.to_string().starts_with("the queue of the hub is full: nothing was published; try again"));
        assert_eq!((format!("{error:?}"), error.into_event()), ("Full(..)".to_owned(), event("b")));
    });
    assert_eq!(hub.stats().published, ROOM as u64, "what was accepted is published");
    hub.try_publish(event("b")).unwrap();
    assert_eq!(hub.position(), at(ROOM as u64 + 1));
}

#[test]
fn closed_hub_returns_the_event() {
    let hub = hub(8, 8);
    hub.close();
    let error = hub.try_publish(event("a")).unwrap_err();
    assert_eq!(error.to_string(), PublishError::Closed.to_string());
    assert_eq!(error, TryPublishError::Closed(event("a")));
}

#[test]
fn accepted_events_are_published_before_the_hub_is_closed() {
    for round in 0..20 {
        let (hub, accepted, mut published) = (hub(8, 8), AtomicU64::new(0), 0);
        thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    loop {
                        match hub.try_publish(event("a")) {
                            Ok(()) => _ = accepted.fetch_add(1, Relaxed),
                            Err(TryPublishError::Closed(_)) => break,
                            Err(_) => {}
                        }
                    }
                });
            }
            while hub.stats().published < round {
                thread::yield_now();
            }
            hub.close();
            published = hub.stats().published;
        });
        assert_eq!((published, hub.stats().published), (accepted.load(Relaxed), published));
    }
}

/// Publishes again whenever it is woken, so that the queue never runs dry.
struct Republish {
    hub: Hub,
    is_done: AtomicBool,
    wakes: AtomicU64,
}

impl Wake for Republish {
    fn wake(self: std::sync::Arc<Self>) {
        if !self.is_done.load(Relaxed) {
            assert!(self.wakes.fetch_add(1, Relaxed) < 100_000, "the role of the sequencer is never given up");
            self.hub.try_publish(event("a")).unwrap();
        }
    }
}

#[test]
fn publisher_that_drains_the_queue_lets_others_take_over() {
    let hub = hub(8, 8);
    let (is_done, wakes) = (AtomicBool::new(false), AtomicU64::new(0));
    let republish = std::sync::Arc::new(Republish { hub: hub.clone(), is_done, wakes });
    let (mut subscription, _) = hub.subscribe(filter(&["a"]), Start::Live);
    assert!(poll_next(&mut subscription, &republish.clone().into()).is_pending());
    thread::scope(|threads| {
        threads.spawn(|| {
            while hub.stats().published < 100 {
                thread::yield_now();
            }
            hub.0.sequencer.exclusively(&hub.0.history, || republish.is_done.store(true, Relaxed));
        });
        hub.try_publish(event("a")).unwrap();
    });
    assert_eq!(hub.stats().published, republish.wakes.load(Relaxed) + 1);
}

#[test]
fn backbone_gets_what_its_queue_has_room_for() {
    let (hub, relay, mut requests) = Hub::relayed(&HubOptions::default(), Duration::ZERO, None);
    relay.begin_after(at(0), GapReason::Epoch);
    for _ in 0..ROOM {
        hub.try_publish(event("a")).unwrap();
    }
    assert_eq!(hub.try_publish(event("b")), Err(TryPublishError::Full(event("b"))));
    let request = requests.try_recv().unwrap();
    assert!(!request.is_abandoned(), "a publisher that does not wait wants its event published");
    relay.append(&request.events);
    request.answer(Ok(Published { first: at(1), last: at(1) }));
    hub.try_publish(event("b")).unwrap();
    assert_eq!((hub.position(), hub.stats().unacknowledged), (at(1), 0));
    hub.close();
    assert_eq!(hub.try_publish(event("c")), Err(TryPublishError::Closed(event("c"))));
}

#[test]
fn events_that_the_backbone_does_not_acknowledge_are_counted() {
    let (hub, _relay, mut requests) = Hub::relayed(&HubOptions::default(), Duration::ZERO, None);
    for _ in 0..3 {
        hub.try_publish(event("a")).unwrap();
    }
    requests.try_recv().unwrap().answer(Err(PublishError::Refused));
    assert_eq!(hub.stats().unacknowledged, 1);
    drop(requests.try_recv().unwrap());
    assert_eq!(hub.stats().unacknowledged, 2);
    drop(requests);
    assert_eq!(hub.stats().unacknowledged, 3);
    assert_eq!(hub.try_publish(event("b")), Err(TryPublishError::Closed(event("b"))));
}

//! Latest values in single cases.

use super::*;

/// Reads all that is ready: the events' sequences, the marks, and the gaps.
fn changes(values: &mut LatestSubscription) -> (Vec<u64>, Vec<Snapshot>, Vec<Gap>) {
    let (mut events, mut marks, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
    while let Poll::Ready(Some(change)) = pin!(&mut *values).poll_next(&mut Context::from_waker(Waker::noop())) {
        match change {
            Change::Event(frame) => events.push(frame.sequence()),
            Change::Snapshot(snapshot) => marks.push(snapshot),
            Change::Gap(gap) => gaps.push(gap),
        }
    }
    (events, marks, gaps)
}

fn latest(hub: &Hub, filters: &[&str], start: Start) -> (Vec<u64>, Vec<Snapshot>, Vec<Gap>) {
    changes(&mut hub.subscribe_latest(filter(filters), start).0)
}

fn mark(entries: u64, sequence: u64) -> Vec<Snapshot> {
    vec![Snapshot { entries, position: at(sequence) }]
}

#[test]
fn snapshot_has_the_newest_value_of_each_key_and_ends_with_a_mark() {
    let hub = hub(10, 10);
    for (topic, key) in [("a", "x"), ("a", "y"), ("a", "x"), ("b", "x")] {
        put(&hub, topic, key);
    }
    publish_some(&hub, 2, "c");
    assert_eq!(latest(&hub, &["a"], Start::Earliest), (vec![2, 3], mark(2, 6), vec![]));
    assert_eq!(latest(&hub, &["a", "b", "c"], Start::Earliest), (vec![2, 3, 4, 6], mark(4, 6), vec![]));
    assert_eq!(latest(&hub, &["**"], Start::Earliest), (vec![2, 3, 4, 6], mark(4, 6), vec![]));
    assert_eq!(latest(&hub, &["**"], Start::After(at(2))), (vec![3, 4, 6], mark(3, 6), vec![]));
    assert_eq!(latest(&hub, &["**"], Start::Live), (vec![], mark(0, 6), vec![]));
}

#[test]
fn slow_reader_gets_one_event_for_each_key() {
    let hub = hub(4, 4);
    let (mut values, _) = hub.subscribe_latest(filter(&["a"]), Start::Earliest);
    assert_eq!(changes(&mut values), (vec![], mark(0, 0), vec![]));
    for number in 0..100 {
        put(&hub, "a", ["x", "y", "z"][number % 3]);
    }
    assert_eq!(changes(&mut values), (vec![98, 99, 100], vec![], vec![]));
}

#[test]
fn values_with_keys_outlive_their_rings_and_topics() {
    let options = HubOptions {
        epoch: EPOCH,
        history: 1,
        firehose_history: 1,
        topic_ttl: Duration::ZERO,
        ..HubOptions::default()
    };
    let hub = Hub::new(&options);
    put(&hub, "a", "x");
    put(&hub, "a", "y");
    publish(&hub, "a");
    publish(&hub, "b");
    (0..3).for_each(|_| now(hub.evict_expired()));
    assert_eq!((hub.stats().topics, hub.stats().latest_keys), (1, 2));
    let (topics, count) = hub.topics(None, 10, |_| true);
    assert_eq!((topics.len(), count, topics[0].topic.as_str()), (1, 1, "a"));
    let listed = &topics[0];
    assert_eq!((listed.retained_events, listed.retained_bytes, listed.last), (0, 0, Some(at(3))));
    assert_eq!((listed.latest_keys, listed.latest_bytes), (2, hub.stats().latest_bytes));
    assert_eq!(latest(&hub, &["a"], Start::Earliest).0, [1, 2]);
    assert_eq!(latest(&hub, &["**"], Start::Earliest).0, [1, 2]);
    put(&hub, "a", "x");
    assert_eq!(latest(&hub, &["a"], Start::Earliest).0, [2, 5]);
    assert_eq!((hub.topics(None, 10, |_| true).1, hub.stats().topics), (1, 1), "it is listed once");
}

#[test]
fn topic_without_channel_is_listed_until_its_deletions_are_forgotten() {
    let options = HubOptions { topic_ttl: Duration::ZERO, tombstone_ttl: Duration::ZERO, ..HubOptions::default() };
    let hub = Hub::new(&options);
    let topics = ["a", "b", "c", "d", "e"];
    topics.iter().for_each(|topic| _ = put(&hub, topic, "x"));
    (0..3).for_each(|_| now(hub.evict_expired()));
    let (page, count) = hub.topics(Some("b"), 2, |_| true);
    let names: Vec<_> = page.iter().map(|topic| topic.topic.as_str()).collect();
    assert_eq!((names, count), (vec!["c", "d"], 5), "in pages, by name");
    let (subscription, _) = hub.subscribe(filter(&["a"]), Start::Live);
    assert_eq!((hub.topics(None, 10, |_| true).1, hub.stats().topics), (5, 5));
    drop(subscription);
    assert_eq!((hub.topics(None, 10, |_| true).1, hub.stats().topics), (5, 5));
    for topic in topics {
        now(hub.publish(Event::deletion(Topic::new(topic).unwrap(), Some(Key::new("x").unwrap())))).unwrap();
    }
    (0..3).for_each(|_| now(hub.evict_expired()));
    assert_eq!((hub.topics(None, 10, |_| true).1, hub.stats().topics), (0, 0));
}

#[test]
fn reader_behind_a_forgotten_deletion_discards_what_it_knows() {
    let options = HubOptions { epoch: EPOCH, tombstone_ttl: Duration::ZERO, ..HubOptions::default() };
    let hub = Hub::new(&options);
    put(&hub, "a", "x");
    put(&hub, "a", "y");
    now(hub.publish(Event::deletion(Topic::new("a").unwrap(), Some(Key::new("x").unwrap())))).unwrap();
    assert_eq!(latest(&hub, &["a"], Start::After(at(2))), (vec![3], mark(1, 3), vec![]));
    assert_eq!(latest(&hub, &["a"], Start::Earliest), (vec![2], mark(1, 3), vec![]), "it never had the value");
    now(hub.evict_expired());
    now(hub.evict_expired());
    assert_eq!(hub.stats().tombstones, 0);
    let (events, marks, gaps) = latest(&hub, &["a"], Start::After(at(2)));
    assert_eq!((events, marks), (vec![2], mark(1, 3)));
    assert_eq!((gaps[0].reason, gaps[0].from, gaps[0].resume), (GapReason::Evicted, Some(at(2)), at(0)));
    let (events, marks, gaps) = latest(&hub, &["a"], Start::After(at(0)));
    assert_eq!((events, marks, gaps.len()), (vec![2], mark(1, 3), 1), "resuming there is the same");
    let (events, _, gaps) = latest(&hub, &["a"], Start::UnknownId);
    assert_eq!((events, gaps[0].reason), (vec![2], GapReason::UnknownId));
}

#[test]
fn key_that_is_no_longer_updated_is_deleted_by_an_event() {
    let hub = Hub::new(&HubOptions { epoch: EPOCH, latest_ttl: Some(Duration::from_secs(2)), ..HubOptions::default() });
    put(&hub, "a", "x");
    put(&hub, "user:a", "y");
    publish(&hub, "a");
    let (mut values, _) = hub.subscribe_latest(filter(&["a", "user:a"]), Start::Earliest);
    assert_eq!(changes(&mut values).0, [1, 2, 3]);
    now(hub.evict_expired());
    assert_eq!(put(&hub, "user:a", "y"), 4);
    now(hub.evict_expired());
    assert_eq!(changes(&mut values).0, [4]);
    now(hub.evict_expired());
    assert_eq!(changes(&mut values).0, [5], "the deletion of x");
    now(hub.evict_expired());
    assert_eq!(changes(&mut values).0, [6], "the deletion of y, two seconds after its update");
    (0..5).for_each(|_| now(hub.evict_expired()));
    assert_eq!((hub.position().sequence, hub.stats().expired_keys), (6, 2), "each is deleted once");
    assert_eq!(latest(&hub, &["a", "user:a"], Start::Earliest).0, [3], "a value without a key stays");
    let (mut events, _) = hub.subscribe(filter(&["a"]), Start::After(at(4)));
    let Poll::Ready(Some(Delivery::Event(deletion))) = poll_next(&mut events, Waker::noop()) else {
        panic!("no event")
    };
    let expected = r#"{"topic":"a","key":"x"}"#;
    assert_eq!((deletion.name(), &*deletion.payload(), deletion.is_deletion()), ("delete", expected, true));
}

#[test]
fn new_key_beyond_the_limits_is_refused_and_others_continue() {
    let hub = Hub::new(&HubOptions { epoch: EPOCH, max_keys: 2, ..HubOptions::default() });
    put(&hub, "a", "x");
    put(&hub, "b", "x");
    let refused = now(hub.publish_all(vec![event("c"), keyed(event("c"), Some("x"))]));
    assert_eq!(refused, Err(PublishError::TooManyValues { max_keys: 2 }));
    assert_eq!(put(&hub, "a", "x"), 3, "nothing of a refused publication is published");
    hub.try_publish(keyed(event("c"), Some("x"))).unwrap();
    assert_eq!((hub.position().sequence, hub.stats().unacknowledged), (3, 1));
    now(hub.publish(Event::deletion(Topic::new("a").unwrap(), Some(Key::new("x").unwrap())))).unwrap();
    assert_eq!(put(&hub, "c", "x"), 5);
    let hub = Hub::new(&HubOptions { epoch: EPOCH, history_bytes: 2000, ..HubOptions::default() });
    let large = |key| keyed(Event::new(Topic::new("a").unwrap(), Payload::text("x".repeat(600))), Some(key));
    now(hub.publish(large("x"))).unwrap();
    assert_eq!(now(hub.publish(large("y"))), Err(PublishError::ValuesTooLarge { max_bytes: 1000 }));
    now(hub.publish(large("x"))).unwrap();
    assert_eq!(hub.stats().latest_keys, 1);
}

#[test]
fn many_values_are_read_in_order_in_several_batches() {
    let hub = hub(10, 10);
    let topics = ["a", "b"];
    for number in 0..3000 {
        put(&hub, topics[number % 2], &(number % 1500).to_string());
    }
    let expected: Vec<u64> = (1501..=3000).collect();
    assert_eq!(latest(&hub, &["a", "b"], Start::Earliest), (expected.clone(), mark(1500, 3000), vec![]));
    assert_eq!(latest(&hub, &["**"], Start::Earliest), (expected, mark(1500, 3000), vec![]));
}

#[test]
fn values_of_one_publication_are_written_without_those_in_between() {
    let hub = hub(100, 100);
    let events = ["x", "y", "x", "z"].map(|key| keyed(event("a"), Some(key)));
    now(hub.publish_all(events.to_vec())).unwrap();
    let (mut subscription, _) =
        hub.subscribe_in(&WakeGroup::inline(), filter(&["a"]), Mode::Latest, Start::Earliest, usize::MAX).unwrap();
    let mut batch = Batch::default();
    assert!(subscription.poll_fill(&mut Context::from_waker(Waker::noop()), &mut batch).is_ready());
    let mut slices = [std::io::IoSlice::new(&[]); 8];
    let offer = batch.offer(crate::wire::Format::Plain, true, &mut slices);
    let text: Vec<u8> = slices[..offer.slices].iter().flat_map(|slice| slice.to_vec()).collect();
    let ids = String::from_utf8(text).unwrap();
    let ids: Vec<_> = ids.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids, ["1000-2", "1000-3", "1000-4"]);
    assert_eq!((offer.frames, offer.slices), (3, 1), "they follow each other in memory");
}

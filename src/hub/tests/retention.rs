//! What is retained: bytes, topics, and what makes room.

use super::*;

#[test]
fn byte_limit_evicts_from_heaviest_topic() {
    let options = HubOptions { history: 100_000, history_bytes: 1 << 20, ..HubOptions::default() };
    let hub = Hub::new(&options);
    publish(&hub, "quiet");
    for _ in 0..20_000 {
        publish(&hub, "busy");
        assert!(hub.stats().retained_bytes <= 1 << 20);
    }
    assert_eq!(read(&hub, &["quiet"], Start::Earliest).0, [1]);
    let busy = read(&hub, &["busy"], Start::Earliest).0;
    assert!((1000..20_000).contains(&busy.len()), "{}", busy.len());
    assert_eq!(
        read(&hub, &["busy"], Start::After(StreamPosition::new(hub.position().epoch, 1))).1[0].missed,
        Some(20_000 - busy.len() as u64)
    );
}

#[test]
fn firehose_makes_room_before_the_topic_of_its_events() {
    let hub = Hub::new(&HubOptions { history_bytes: 1 << 20, ..HubOptions::default() });
    let payload = Payload::text("x".repeat(300_000));
    for _ in 0..2 {
        now(hub.publish(Event::new(Topic::new("a").unwrap(), payload.clone()))).unwrap();
        assert!(hub.stats().retained_bytes <= 1 << 20);
    }
    assert_eq!(read(&hub, &["a"], Start::Earliest).0, [1, 2]);
}

#[test]
fn default_history_outlasts_a_second_at_ten_thousand_events() {
    for filters in [&["a"][..], &["a", "b"], &["*"], &["**"]] {
        let hub = Hub::default();
        let (mut subscription, _) = hub.subscribe(filter(filters), Start::Live);
        let payload = Payload::text("x".repeat(3000));
        for _ in 0..10_000 {
            now(hub.publish(Event::new(Topic::new("a").unwrap(), payload.clone()))).unwrap();
            assert!(hub.stats().retained_bytes <= 64 << 20);
        }
        let (sequences, gaps) = drain(&mut subscription);
        assert!(sequences.into_iter().eq(1..=10_000) && gaps.is_empty(), "{filters:?}");
    }
}

#[test]
fn expired_topic_leaves_exact_gap() {
    let hub = Hub::new(&HubOptions { epoch: EPOCH, topic_ttl: Duration::from_secs(2), ..HubOptions::default() });
    publish(&hub, "a");
    publish(&hub, "a");
    let (subscription, _) = hub.subscribe(filter(&["b"]), Start::Live);
    now(hub.evict_expired());
    now(hub.evict_expired());
    assert_eq!(hub.stats().topics, 2);
    drop(subscription);
    now(hub.evict_expired());
    assert_eq!(hub.stats().topics, 0);
    assert_eq!(read(&hub, &["a"], Start::After(at(2))).1, []);
    let gaps = read(&hub, &["a"], Start::After(at(1))).1;
    let gap =
        Gap { reason: GapReason::Evicted, from: Some(at(1)), to: at(2), missed: Some(1), topics: None, resume: at(2) };
    assert_eq!(gaps, [gap]);
    publish(&hub, "a");
    assert_eq!(
        read(&hub, &["a"], Start::After(at(2))),
        (vec![3], vec![], Opening { id: at(2), position: Some(at(2)), replayed: Some(1) })
    );
}

#[test]
fn topics_that_were_used_again_expire_together() {
    let hub = Hub::new(&HubOptions { topic_ttl: Duration::from_secs(1), ..HubOptions::default() });
    for topic in ["a", "b", "c", "a", "b"] {
        publish(&hub, topic);
    }
    now(hub.evict_expired());
    publish(&hub, "c");
    now(hub.evict_expired());
    assert_eq!(hub.stats().topics, 1, "all but the one that was used in the last second");
}

#[test]
fn quietest_unsubscribed_topics_make_room() {
    let hub = Hub::new(&HubOptions { epoch: EPOCH, history_topics: 32, ..HubOptions::default() });
    let (mut subscription, _) = hub.subscribe(filter(&["t0"]), Start::Live);
    for n in 0..1000 {
        publish(&hub, &format!("t{n}"));
        publish(&hub, "busy");
        assert!(hub.stats().topics <= 32);
    }
    assert_eq!(drain(&mut subscription).0, [1]);
    assert_eq!(read(&hub, &["t0"], Start::Earliest).0, [1], "a topic with a subscriber stays");
    assert_eq!(read(&hub, &["busy"], Start::After(at(1900))).0.len(), 50, "and so does one in use");
    assert_eq!(read(&hub, &["t999"], Start::After(at(1900))).0, [1999]);
    let gaps = read(&hub, &["t1"], Start::After(at(1))).1;
    let gap =
        Gap { reason: GapReason::Evicted, from: Some(at(1)), to: at(3), missed: Some(1), topics: None, resume: at(3) };
    assert_eq!(gaps, [gap], "resuming a dropped topic gives its gap");
    assert_eq!(read(&hub, &["t1"], Start::After(at(3))).1, [], "unless nothing was missed");
}

/// More topics are dropped than are remembered by name.
#[test]
fn forgotten_topic_has_a_gap_only_where_events_are_missing() {
    let hub = Hub::new(&HubOptions { epoch: EPOCH, history_topics: 4, ..HubOptions::default() });
    publish_some(&hub, 2, "forgotten");
    for n in 0..100 {
        publish(&hub, &format!("t{n}"));
    }
    for after in [2, 3, 100] {
        assert_eq!(read(&hub, &["forgotten"], Start::After(at(after))).1, [], "after {after}");
    }
    let (_, gaps, _) = read(&hub, &["never", "forgotten", "t99"], Start::After(at(1)));
    let gap = Gap {
        reason: GapReason::Evicted,
        from: Some(at(1)),
        to: at(2),
        missed: Some(1),
        topics: Some(filters(&["forgotten"])),
        resume: at(2),
    };
    assert_eq!(gaps, [gap]);
    publish(&hub, "forgotten");
    assert_eq!(read(&hub, &["forgotten"], Start::After(at(2))).0, [103]);
    assert_eq!(read(&hub, &["forgotten"], Start::After(at(0))).1[0].missed, Some(2));
}

#[test]
fn subscribed_topics_are_passed_over_when_making_room() {
    let hub = Hub::new(&HubOptions { epoch: EPOCH, history_topics: 32, ..HubOptions::default() });
    let names: Vec<_> = (0..200).map(|n| format!("t{n}")).collect();
    let subscriptions: Vec<_> = names.iter().map(|name| hub.subscribe(filter(&[name]), Start::Live)).collect();
    for name in &names {
        publish(&hub, name);
    }
    for n in 0..1000 {
        publish(&hub, &format!("new{n}"));
        assert!(hub.stats().topics <= 200 + 32);
    }
    drop(subscriptions);
    publish(&hub, "x");
    for n in 0..8 {
        publish(&hub, &format!("newer{n}"));
    }
    assert!(hub.stats().topics <= 32, "{}", hub.stats().topics);
}

#[test]
fn topics_without_events_evict_no_others() {
    let hub = Hub::new(&HubOptions { epoch: EPOCH, history_topics: 32, ..HubOptions::default() });
    for n in 0..30 {
        publish(&hub, &format!("t{n}"));
    }
    let names: Vec<_> = (0..200).map(|n| format!("strange{n}")).collect();
    let subscriptions: Vec<_> = names.iter().map(|name| hub.subscribe(filter(&[name]), Start::Live)).collect();
    publish(&hub, "new");
    publish(&hub, &names[0]);
    assert_eq!(hub.stats().topics, 30 + 200 + 1);
    assert_eq!(read(&hub, &["t0"], Start::Earliest).0, [1], "nothing was dropped");
    publish(&hub, "newer");
    assert_eq!(read(&hub, &["t0"], Start::Earliest).0, [0; 0], "the thirty-third topic with events");
    drop(subscriptions);
    now(hub.evict_expired());
    assert!(hub.stats().topics <= 32, "the other topics have no subscribers");
}

#[test]
fn refused_subscription_leaves_no_topics() {
    let hub = hub(10, 64);
    let group = WakeGroup::dispatched();
    let subscribe =
        |topics: &[&str]| hub.subscribe_in(&group, filter(topics), Mode::Events, Start::Live, 3).map(|(it, _)| it);
    publish(&hub, "used");
    let three = subscribe(&["a", "b", "c", "used"]).unwrap();
    assert_eq!(subscribe(&["used", "a", "d"]).err(), Some(TooManyTopics));
    assert_eq!((hub.stats().topics, hub.topics(None, 9, |_| true).0[0].subscribers), (4, 1), "a has no new subscriber");
    let others = [subscribe(&["a", "b", "c", "used"]).unwrap(), subscribe(&["x:*"]).unwrap(), subscribe(&[]).unwrap()];
    publish(&hub, "b");
    let fourth = subscribe(&["d"]).unwrap();
    assert!(subscribe(&["e"]).is_err());
    drop((three, others, fourth));
    subscribe(&["e", "f", "g"]).unwrap();
}

#[test]
fn block_memory_is_counted_until_its_last_event_is_evicted() {
    let hub = hub(32, 32);
    let events = |count: usize| vec![Event::new(Topic::new("a").unwrap(), Payload::text("x".repeat(1000))); count];
    // A run has an eighth of the history: here four.
    now(hub.publish_all(events(32))).unwrap();
    let full = hub.stats().retained_bytes;
    assert!(full > 2 * 32 * 1000, "in the topic's ring and in the firehose");
    // The ring gives a segment of 16 when all of it is evicted, and that ends with the last event of a run.
    for _ in 0..4 {
        now(hub.publish_all(events(15))).unwrap();
        assert!(hub.stats().retained_bytes > full);
        now(hub.publish_all(events(1))).unwrap();
        let bytes = hub.stats().retained_bytes;
        assert!((full..full + 2 * 1000).contains(&bytes), "{bytes} next to {full}");
    }
}

/// Nothing evicts what has expired here: a hub on its own stays bounded.
#[test]
fn topics_of_dropped_subscriptions_do_not_accumulate() {
    let hub = hub(10, 64);
    let _kept: Vec<_> = (0..10).map(|n| hub.subscribe(filter(&[&format!("kept{n}")]), Start::Live)).collect();
    for n in 0..1000 {
        drop(hub.subscribe(filter(&[&format!("t{n}")]), Start::Live));
        assert!(hub.stats().topics <= 32, "{} after {n}", hub.stats().topics);
    }
    assert!(hub.topics(None, 100, |topic| topic.as_str().starts_with("kept")).1 == 10);
}

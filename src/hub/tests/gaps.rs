//! Gaps: evicted, lagged, of another epoch, of an unknown position.

use super::*;

#[test]
fn resume_after_eviction_gets_exact_gap() {
    let hub = hub(2, 64);
    for topic in ["a", "b", "a", "a", "b", "a"] {
        publish(&hub, topic);
    }
    let (sequences, gaps, opening) = read(&hub, &["a"], Start::After(at(1)));
    assert_eq!((sequences, opening.position), (vec![4, 6], Some(at(1))));
    let gap =
        Gap { reason: GapReason::Evicted, from: Some(at(1)), to: at(3), missed: Some(1), topics: None, resume: at(3) };
    assert_eq!(gaps, [gap]);
    assert_eq!(read(&hub, &["a"], Start::After(at(3))).1, []);
}

#[test]
fn quiet_topic_has_no_gap() {
    let hub = hub(2, 4);
    publish(&hub, "quiet");
    for _ in 0..100 {
        publish(&hub, "busy");
    }
    assert_eq!(read(&hub, &["quiet"], Start::After(at(0))).0, [1]);
    assert_eq!(read(&hub, &["quiet"], Start::After(at(1))).1, []);
    assert_eq!(read(&hub, &["never"], Start::After(at(1))).1, []);
}

#[test]
fn gap_in_one_topic_does_not_skip_the_others() {
    let hub = hub(2, 64);
    for topic in ["a", "b", "a", "b", "a", "a", "a"] {
        publish(&hub, topic);
    }
    let (sequences, gaps, _) = read(&hub, &["a", "b"], Start::After(at(1)));
    assert_eq!(sequences, [2, 4, 6, 7]);
    let gap = Gap {
        reason: GapReason::Evicted,
        from: Some(at(1)),
        to: at(5),
        missed: Some(2),
        topics: Some(filters(&["a"])),
        resume: at(1),
    };
    assert_eq!(gaps, [gap]);
}

/// The busy topic lost 2 and 3, which come after the quiet topic's 1: between 1 and 4 events are missing.
#[test]
fn earliest_start_of_several_topics_reports_events_missing_in_between() {
    let hub = hub(2, 64);
    for topic in ["quiet", "busy", "busy", "busy", "busy"] {
        publish(&hub, topic);
    }
    let gap = Gap {
        reason: GapReason::Evicted,
        from: Some(at(0)),
        to: at(3),
        missed: Some(2),
        topics: Some(filters(&["busy"])),
        resume: at(0),
    };
    for start in [Start::Earliest, Start::Newest(100), Start::After(at(0))] {
        let (sequences, gaps, opening) = read(&hub, &["quiet", "busy"], start);
        assert_eq!((sequences, gaps), (vec![1, 4, 5], vec![gap.clone()]), "{start:?}");
        assert_eq!(opening, Opening { id: at(0), position: Some(at(0)), replayed: Some(3) });
    }
    assert_eq!(read(&hub, &["busy"], Start::Earliest).1, []);
}

#[test]
fn lagged_reader_gets_gap_and_resumes_at_oldest() {
    let hub = hub(4, 64);
    let (mut subscription, _) = hub.subscribe(filter(&["a"]), Start::Live);
    for _ in 0..10 {
        publish(&hub, "a");
    }
    let (sequences, gaps) = drain(&mut subscription);
    assert_eq!(sequences, [7, 8, 9, 10]);
    let gap =
        Gap { reason: GapReason::Lagged, from: Some(at(0)), to: at(6), missed: Some(6), topics: None, resume: at(6) };
    assert_eq!(gaps, [gap]);
}

/// The firehose has lost its first six events, and the topic's ring has lost none: of `log` nothing is missing.
#[test]
fn gap_of_some_filters_names_them() {
    let hub = hub(100, 4);
    let names = ["log", "zz:*", "quiet", "*.y"];
    let (mut subscription, _) = hub.subscribe(filter(&names), Start::Live);
    publish_some(&hub, 10, "log");
    let topics = Some(filters(&["zz:*", "*.y"]));
    let lagged = Gap {
        reason: GapReason::Lagged,
        from: Some(at(0)),
        to: at(6),
        missed: None,
        topics: topics.clone(),
        resume: at(0),
    };
    assert_eq!(drain(&mut subscription), ((1..=10).collect(), vec![lagged.clone()]));
    let evicted = Gap { reason: GapReason::Evicted, from: Some(at(2)), resume: at(2), ..lagged };
    let (sequences, gaps, _) = read(&hub, &names, Start::After(at(2)));
    assert_eq!((sequences, gaps), ((3..=10).collect(), vec![evicted]));
    let (_, gaps, _) = read(&hub, &["zz:*"], Start::After(at(2)));
    assert_eq!(gaps[0].topics, None, "there is no other filter");
}

#[test]
fn each_filter_that_lost_events_has_its_own_gap() {
    let hub = hub(2, 64);
    for topic in ["a", "b"].repeat(5) {
        publish(&hub, topic);
    }
    let (_, gaps, _) = read(&hub, &["a", "b"], Start::After(at(0)));
    let gap = |topic: &str, to, resume| Gap {
        reason: GapReason::Evicted,
        from: Some(at(0)),
        to: at(to),
        missed: Some(3),
        topics: Some(filters(&[topic])),
        resume: at(resume),
    };
    assert_eq!(gaps, [gap("a", 5, 0), gap("b", 6, 6)], "a client that disconnects in between gets both again");
}

#[test]
fn position_of_another_epoch_gets_gap_and_full_replay() {
    let hub = hub(2, 64);
    for _ in 0..3 {
        publish(&hub, "a");
    }
    let old = StreamPosition::new(Epoch(999), 2);
    let (sequences, gaps, opening) = read(&hub, &["a"], Start::After(old));
    assert_eq!((sequences, opening), (vec![2, 3], Opening { id: old, position: None, replayed: Some(2) }));
    let gap = Gap { reason: GapReason::Epoch, from: Some(old), to: at(1), missed: None, topics: None, resume: at(1) };
    assert_eq!(gaps, [gap]);
}

/// A newer epoch may belong to a server that is ahead of this one.
#[test]
fn with_a_backbone_position_of_newer_epoch_is_unknown() {
    let (hub, relay, _requests) = Hub::relayed(&HubOptions::default(), Duration::from_secs(1), None);
    relay.begin_after(at(5), GapReason::Epoch);
    let newer = StreamPosition::new(Epoch(EPOCH.0 + 1), 2);
    let (_, gaps, opening) = read(&hub, &["a"], Start::After(newer));
    assert_eq!((gaps[0].reason, gaps[0].from, opening.id), (GapReason::UnknownId, None, StreamPosition::UNKNOWN));
    let older = StreamPosition::new(Epoch(EPOCH.0 - 1), 2);
    let (_, gaps, opening) = read(&hub, &["a"], Start::After(older));
    assert_eq!((gaps[0].reason, gaps[0].from, opening.id), (GapReason::Epoch, Some(older), older));
}

#[test]
fn unknown_position_gets_gap_and_full_replay() {
    let hub = hub(10, 64);
    publish(&hub, "a");
    for start in [Start::UnknownId, Start::After(at(2)), Start::After(StreamPosition::UNKNOWN)] {
        let (sequences, gaps, opening) = read(&hub, &["a"], start);
        assert_eq!(opening, Opening { id: StreamPosition::UNKNOWN, position: None, replayed: Some(1) });
        let gap =
            Gap { reason: GapReason::UnknownId, from: None, to: at(0), missed: None, topics: None, resume: at(0) };
        assert_eq!((sequences, gaps), (vec![1], vec![gap]));
    }
}

/// The backbone begins a new epoch behind 3: what it had after that may be lost.
#[test]
fn sequences_skipped_at_a_break_do_not_count_as_published() {
    let options = HubOptions { epoch: EPOCH, ..HubOptions::default() };
    let (hub, relay, _requests) = Hub::relayed(&options, Duration::from_secs(1), None);
    let event = event("a");
    relay.begin_after(at(1_000_000), GapReason::Epoch);
    relay.append(&vec![event.clone(); 3]);
    relay.begin_after(at(2_000_000), GapReason::Evicted);
    relay.append(std::slice::from_ref(&event));
    assert_eq!(hub.stats().published, 4);
}

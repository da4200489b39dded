//! The hub by its public face.

use std::future::Future;
use std::io::IoSlice;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use super::*;
use crate::event::Payload;
use crate::topic::{Topic, TopicFilter};

const EPOCH: Epoch = Epoch(1000);

fn hub(history: usize, firehose_history: usize) -> Hub {
    Hub::new(&HubOptions { epoch: EPOCH, history, firehose_history, ..HubOptions::default() })
}

fn at(sequence: u64) -> StreamPosition {
    StreamPosition::new(EPOCH, sequence)
}

/// The answer of a future that has no reason to wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

fn publish(hub: &Hub, topic: &str) -> u64 {
    now(hub.publish(Event::new(Topic::new(topic).unwrap(), Payload::text("x")))).unwrap().sequence
}

fn publish_some(hub: &Hub, count: usize, topic: &str) {
    for _ in 0..count {
        publish(hub, topic);
    }
}

fn filters(filters: &[&str]) -> Option<Vec<TopicFilter>> {
    Some(filters.iter().map(|filter| TopicFilter::new(filter).unwrap()).collect())
}

fn interest(filters: &[&str]) -> Interest {
    Interest::of(filters.iter().map(|filter| TopicFilter::new(filter).unwrap()))
}

/// What is ready: sequences, and gaps as (from, to, missed, resume).
fn drain(subscription: &mut Subscription) -> (Vec<u64>, Vec<Gap>) {
    let (mut sequences, mut gaps) = (Vec::new(), Vec::new());
    while let Poll::Ready(delivery) = subscription.poll_next(&mut Context::from_waker(Waker::noop())) {
        match delivery {
            Delivery::Event(frame) => sequences.push(frame.sequence()),
            Delivery::Gap(gap) => gaps.push(gap),
        }
    }
    (sequences, gaps)
}

fn read(hub: &Hub, filters: &[&str], start: Start) -> (Vec<u64>, Vec<Gap>, Opening) {
    let (mut subscription, opening) = hub.subscribe(interest(filters), start);
    let (sequences, gaps) = drain(&mut subscription);
    (sequences, gaps, opening)
}

#[test]
fn sequences_are_dense_over_all_topics() {
    let hub = hub(10, 64);
    assert_eq!(["a", "b", "a"].map(|topic| publish(&hub, topic)), [1, 2, 3]);
    let events = ["a", "c"].map(|topic| Event::new(Topic::new(topic).unwrap(), Payload::text("x")));
    let published = now(hub.publish_all(events.to_vec())).unwrap().unwrap();
    assert_eq!((published.first, published.last), (at(4), at(5)));
    assert_eq!(hub.position(), at(5));
    assert_eq!(now(hub.publish_all(Vec::new())), Ok(None));
}

#[test]
fn each_subscriber_gets_the_events_of_its_topics_in_order() {
    let hub = hub(10, 64);
    let mut subscriptions =
        [&["a"][..], &["a", "b:1"], &["b:*"], &["b:*", "b:1"], &[]].map(|f| hub.subscribe(interest(f), Start::Live).0);
    for topic in ["a", "b:1", "c", "b:2", "a"] {
        publish(&hub, topic);
    }
    let expected: [&[u64]; 5] = [&[1, 5], &[1, 2, 5], &[2, 4], &[2, 4], &[1, 2, 3, 4, 5]];
    for (subscription, expected) in subscriptions.iter_mut().zip(expected) {
        assert_eq!(drain(subscription), (expected.to_vec(), vec![]));
    }
}

#[test]
fn a_subscriber_starts_where_it_asks_to() {
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
fn who_comes_back_after_its_events_were_evicted_is_told_how_many() {
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
fn a_topic_that_was_quiet_sees_no_gap() {
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
fn a_gap_in_one_topic_does_not_skip_the_others() {
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
        topics: filters(&["a"]),
        resume: at(1),
    };
    assert_eq!(gaps, [gap]);
}

/// The busy topic lost 2 and 3, which come after the quiet topic's 1: whoever gets 1 and then 4 has a hole between them.
#[test]
fn who_starts_with_the_earliest_of_several_topics_is_told_what_is_missing_after_it() {
    let hub = hub(2, 64);
    for topic in ["quiet", "busy", "busy", "busy", "busy"] {
        publish(&hub, topic);
    }
    let gap = Gap {
        reason: GapReason::Evicted,
        from: Some(at(0)),
        to: at(3),
        missed: Some(2),
        topics: filters(&["busy"]),
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
fn a_reader_that_lags_is_told_and_goes_on_with_the_oldest() {
    let hub = hub(4, 64);
    let (mut subscription, _) = hub.subscribe(interest(&["a"]), Start::Live);
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
fn a_gap_names_its_filters_when_it_is_not_about_all() {
    let hub = hub(100, 4);
    let names = ["log", "zz:*", "quiet", "*.y"];
    let (mut subscription, _) = hub.subscribe(interest(&names), Start::Live);
    publish_some(&hub, 10, "log");
    let topics = filters(&["zz:*", "*.y"]);
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
fn each_filter_that_lost_events_has_a_gap_of_its_own() {
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
        topics: Some(vec![TopicFilter::new(topic).unwrap()]),
        resume: at(resume),
    };
    assert_eq!(gaps, [gap("a", 5, 0), gap("b", 6, 6)], "a client that is cut off in between comes back to both");
}

/// A socket that takes one frame of each batch: there is always a frame that was offered and not taken. The cursor of the
/// pattern delivers nothing, so that no frame of its own moves it on.
#[test]
fn partial_writes_leave_no_cursor_behind() {
    let hub = hub(2000, 1000);
    let (mut subscription, _) = hub.subscribe(interest(&["log", "zz:*"]), Start::Live);
    let mut batch = Batch::default();
    publish_some(&hub, 100, "log");
    for taken in 1..5000 {
        publish(&hub, if taken % 100 == 0 { "zz:1" } else { "log" });
        assert_eq!(subscription.fill(&mut batch), Ok(()), "after {taken}");
        assert_eq!(batch.frames().next().map(Frame::sequence), Some(taken));
        subscription.take(&batch, 1);
        assert!(!subscription.has_lagged());
        assert_eq!(subscription.behind(), 100, "an event counts once, although it stands in two rings");
        assert_eq!(hub.appended(&interest(&["log", "zz:*"])) - subscription.passed(), 100);
    }
}

/// Between the batch and its partial write the firehose loses what the batch took from the topic's ring.
#[test]
fn an_event_that_was_taken_before_the_firehose_evicted_it_is_no_gap() {
    let hub = hub(100, 4);
    let (mut subscription, _) = hub.subscribe(interest(&["a", "zz:*"]), Start::Live);
    publish_some(&hub, 4, "a");
    let mut batch = Batch::default();
    subscription.fill(&mut batch).unwrap();
    publish_some(&hub, 3, "b");
    subscription.take(&batch, 3);
    assert!(!subscription.has_lagged());
    assert_eq!(drain(&mut subscription), (vec![4], vec![]));
}

/// Like the one before, but the pattern's event was not taken yet.
#[test]
fn an_event_that_the_firehose_evicts_before_it_is_taken_is_told() {
    let hub = hub(100, 2);
    let (mut subscription, _) = hub.subscribe(interest(&["a", "zz:*"]), Start::Live);
    publish(&hub, "a");
    publish(&hub, "zz:1");
    let mut batch = Batch::default();
    subscription.fill(&mut batch).unwrap();
    for topic in ["b", "a", "b"] {
        publish(&hub, topic);
    }
    subscription.take(&batch, 1);
    assert!(subscription.has_lagged());
    let (sequences, gaps) = drain(&mut subscription);
    assert_eq!((sequences, gaps[0].from, gaps[0].to), (vec![4], Some(at(1)), at(3)));
    assert_eq!((&gaps[0].topics, gaps.len()), (&filters(&["zz:*"]), 1));
}

#[test]
fn a_position_of_another_epoch_gets_a_gap_and_all_that_is_retained() {
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

/// A newer epoch can be another server's, of which this one has not heard yet.
#[test]
fn with_a_backbone_a_position_of_a_newer_epoch_is_unknown() {
    let (hub, relay, _requests) = Hub::relayed(&HubOptions::default(), Duration::from_secs(1));
    relay.begin_after(at(5), GapReason::Epoch);
    let newer = StreamPosition::new(Epoch(EPOCH.0 + 1), 2);
    let (_, gaps, opening) = read(&hub, &["a"], Start::After(newer));
    assert_eq!((gaps[0].reason, gaps[0].from, opening.id), (GapReason::UnknownId, None, StreamPosition::UNKNOWN));
    let older = StreamPosition::new(Epoch(EPOCH.0 - 1), 2);
    let (_, gaps, opening) = read(&hub, &["a"], Start::After(older));
    assert_eq!((gaps[0].reason, gaps[0].from, opening.id), (GapReason::Epoch, Some(older), older));
}

#[test]
fn a_position_that_was_never_given_gets_a_gap_and_all_that_is_retained() {
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
fn sequences_that_are_left_out_at_a_break_are_no_events() {
    let options = HubOptions { epoch: EPOCH, ..HubOptions::default() };
    let (hub, relay, _requests) = Hub::relayed(&options, Duration::from_secs(1));
    let event = Event::new(Topic::new("a").unwrap(), Payload::text("x"));
    relay.begin_after(at(1_000_000), GapReason::Epoch);
    relay.append(&vec![event.clone(); 3]);
    relay.begin_after(at(2_000_000), GapReason::Evicted);
    relay.append(std::slice::from_ref(&event));
    assert_eq!(hub.stats().published, 4);
}

#[test]
fn the_topic_that_holds_the_most_gives_first_when_the_bytes_run_out() {
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
fn an_idle_topic_goes_and_who_comes_back_to_it_is_told() {
    let hub = Hub::new(&HubOptions { epoch: EPOCH, topic_ttl: Duration::from_secs(2), ..HubOptions::default() });
    publish(&hub, "a");
    publish(&hub, "a");
    let (subscription, _) = hub.subscribe(interest(&["b"]), Start::Live);
    hub.sweep();
    hub.sweep();
    assert_eq!(hub.stats().topics, 2);
    drop(subscription);
    hub.sweep();
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
fn the_quietest_topics_without_subscribers_make_room_for_new_ones() {
    let hub = Hub::new(&HubOptions { epoch: EPOCH, history_topics: 32, ..HubOptions::default() });
    let (mut subscription, _) = hub.subscribe(interest(&["t0"]), Start::Live);
    for n in 0..1000 {
        publish(&hub, &format!("t{n}"));
        publish(&hub, "busy");
        assert!(hub.stats().topics <= 32);
    }
    assert_eq!(drain(&mut subscription).0, [1]);
    assert_eq!(read(&hub, &["t0"], Start::Earliest).0, [1], "a topic with a subscriber stays");
    assert_eq!(read(&hub, &["busy"], Start::After(at(1900))).0.len(), 50, "and so does one that is used");
    assert_eq!(read(&hub, &["t999"], Start::After(at(1900))).0, [1999]);
    let gaps = read(&hub, &["t1"], Start::After(at(1))).1;
    let gap =
        Gap { reason: GapReason::Evicted, from: Some(at(1)), to: at(3), missed: Some(1), topics: None, resume: at(3) };
    assert_eq!(gaps, [gap], "who comes back to one that is gone is told");
    assert_eq!(read(&hub, &["t1"], Start::After(at(3))).1, [], "or not, when it has seen all of it");
}

/// More topics are dropped than are remembered by name.
#[test]
fn a_forgotten_topic_has_a_gap_only_where_an_event_is_missing() {
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
        topics: filters(&["forgotten"]),
        resume: at(2),
    };
    assert_eq!(gaps, [gap]);
    publish(&hub, "forgotten");
    assert_eq!(read(&hub, &["forgotten"], Start::After(at(2))).0, [103]);
    assert_eq!(read(&hub, &["forgotten"], Start::After(at(0))).1[0].missed, Some(2));
}

#[test]
fn topics_with_subscribers_are_no_reason_to_look_for_room_again_and_again() {
    let hub = Hub::new(&HubOptions { epoch: EPOCH, history_topics: 32, ..HubOptions::default() });
    let names: Vec<_> = (0..200).map(|n| format!("t{n}")).collect();
    let subscriptions: Vec<_> = names.iter().map(|name| hub.subscribe(interest(&[name]), Start::Live)).collect();
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
fn topics_that_only_subscribers_have_heard_of_take_no_room_of_the_others() {
    let hub = Hub::new(&HubOptions { epoch: EPOCH, history_topics: 32, ..HubOptions::default() });
    for n in 0..30 {
        publish(&hub, &format!("t{n}"));
    }
    let names: Vec<_> = (0..200).map(|n| format!("strange{n}")).collect();
    let subscriptions: Vec<_> = names.iter().map(|name| hub.subscribe(interest(&[name]), Start::Live)).collect();
    publish(&hub, "new");
    publish(&hub, &names[0]);
    assert_eq!(hub.stats().topics, 30 + 200 + 1);
    assert_eq!(read(&hub, &["t0"], Start::Earliest).0, [1], "nothing went");
    publish(&hub, "newer");
    assert_eq!(read(&hub, &["t0"], Start::Earliest).0, [0; 0], "the thirty-third topic with events");
    drop(subscriptions);
    hub.sweep();
    assert!(hub.stats().topics <= 32, "nobody keeps the others");
}

#[test]
fn no_more_topics_than_may_are_without_an_event_and_a_refused_subscription_leaves_nothing() {
    let hub = hub(10, 64);
    let group = WakeGroup::dispatched();
    let subscribe = |topics: &[&str]| hub.subscribe_in(&group, interest(topics), Start::Live, 3).map(|(it, _)| it);
    publish(&hub, "used");
    let three = subscribe(&["a", "b", "c", "used"]).unwrap();
    assert_eq!(subscribe(&["used", "a", "d"]).err(), Some(TooManyTopics));
    assert_eq!((hub.stats().topics, hub.topics(None, 9, |_| true).0[0].subscribers), (4, 1), "a has no new subscriber");
    let others = [subscribe(&["a", "b", "c", "used"]).unwrap(), subscribe(&["x:*"]).unwrap(), subscribe(&[]).unwrap()];
    publish(&hub, "b");
    let fourth = subscribe(&["d"]).unwrap();
    assert!(subscribe(&["e"]).is_err());
    drop((three, others, fourth));
    assert!(subscribe(&["e"]).is_err(), "they are there until they are swept");
    hub.sweep();
    subscribe(&["e", "f", "g"]).unwrap();
}

#[test]
fn a_closed_hub_takes_nothing_and_gives_what_it_has() {
    let hub = hub(10, 64);
    publish(&hub, "a");
    hub.close();
    let event = Event::new(Topic::new("a").unwrap(), Payload::text("x"));
    assert_eq!(now(hub.publish(event)), Err(PublishError::Closed));
    assert_eq!(read(&hub, &["a"], Start::Earliest).0, [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn publishers_and_subscribers_on_many_threads_see_one_order() {
    let hub = hub(100_000, 100_000);
    let (publishers, events) = (4, 5000);
    let subscribers: Vec<_> = (0..4)
        .map(|n| {
            let filters: &[&str] = if n % 2 == 0 { &[] } else { &["t0", "t1", "t2", "t3"] };
            let (mut subscription, _) = hub.subscribe(interest(filters), Start::Live);
            tokio::spawn(async move {
                for expected in 1..=publishers * events {
                    let Delivery::Event(frame) = subscription.next().await else { panic!("a gap") };
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

/// What a connection would write: how many frames and slices, and the bytes.
fn offer(hub: &Hub, filters: &[&str], is_framed: bool, room: usize) -> (usize, usize, Vec<u8>) {
    let (mut subscription, _) = hub.subscribe(interest(filters), Start::Earliest);
    let mut batch = Batch::default();
    subscription.fill(&mut batch).unwrap();
    let mut slices = vec![IoSlice::new(&[]); room];
    let offer = batch.offer(is_framed, &mut slices);
    let bytes = slices[..offer.slices].iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>();
    assert_eq!(bytes.len(), offer.bytes);
    let whole = batch.frames().take(offer.frames);
    let one_by_one: Vec<&[u8]> =
        whole.map(|frame| if is_framed { frame.chunk().framed() } else { frame.sse() }).collect();
    assert_eq!(bytes, one_by_one.concat());
    (offer.frames, offer.slices, bytes)
}

#[test]
fn what_was_published_together_is_written_as_one_slice() {
    let hub = hub(1000, 10_000);
    let event = |topic: &str| Event::new(Topic::new(topic).unwrap(), Payload::text("x"));
    now(hub.publish_all(vec![event("a"); 100])).unwrap();
    let (frames, slices, bytes) = offer(&hub, &["a"], true, 16);
    assert_eq!((frames, slices), (100, 1), "over the ends of the ring's segments");
    assert_eq!(offer(&hub, &["**"], true, 16).2, bytes);
    assert_eq!(offer(&hub, &["a", "b"], true, 16).2, bytes);
    let (frames, slices, _) = offer(&hub, &["a"], false, 16);
    assert_eq!((frames, slices), (16, 16), "without framing an event is a slice, and no more fit");

    now(hub.publish_all(vec![event("b"), event("b"), event("a"), event("b"), event("b"), event("b")])).unwrap();
    let (frames, slices, _) = offer(&hub, &["**"], true, 16);
    assert_eq!((frames, slices), (106, 4), "one for each run of a topic");
    let (frames, slices, _) = offer(&hub, &["b"], true, 16);
    assert_eq!((frames, slices), (5, 2), "what another topic stands between is in two places");
    let (frames, slices, _) = offer(&hub, &["**"], true, 2);
    assert_eq!((frames, slices), (102, 2));
}

#[test]
fn the_memory_of_a_run_is_counted_while_one_of_its_events_is_retained() {
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

struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn a_busy_topic_wakes_nobody_who_reads_another() {
    let hub = hub(100, 100);
    let group = WakeGroup::dispatched();
    let subscribe = |topic: &str| {
        let wakes = std::sync::Arc::new(Wakes(AtomicUsize::new(0)));
        let (mut subscription, _) = hub.subscribe_in(&group, interest(&[topic]), Start::Live, usize::MAX).unwrap();
        let waker = Waker::from(wakes.clone());
        assert!(subscription.poll_next(&mut Context::from_waker(&waker)).is_pending());
        (subscription, wakes)
    };
    let quiet: Vec<_> = (0..1000).map(|number| subscribe(&format!("quiet:{number}"))).collect();
    let (_busy, wakes) = subscribe("busy");
    for round in 1..=100 {
        publish(&hub, "busy");
        assert!(pin!(group.dispatch()).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(wakes.0.load(Relaxed), round);
    }
    assert!(quiet.iter().all(|(_, wakes)| wakes.0.load(Relaxed) == 0));
}

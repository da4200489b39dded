//! A hub that continues a saved history delivers what the saved hub would have delivered.

use std::task::{Context, Poll, Waker};

use futures_util::StreamExt;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::event::{EventName, Payload};
use crate::hub::{Change, Delivery, Gap, IdempotencyKey, PublishError, PublishedOnce, Start, SubscriptionFilter};
use crate::position::StreamPosition;
use crate::topic::TopicFilter;

const EPOCH: Epoch = Epoch(1000);

fn options(history: usize, firehose_history: usize) -> HubOptions {
    HubOptions { epoch: EPOCH, history, firehose_history, ..HubOptions::default() }
}

fn at(sequence: Sequence) -> StreamPosition {
    StreamPosition::new(EPOCH, sequence)
}

fn publish(hub: &Hub, topic: &str, payload: Payload) -> Result<StreamPosition, PublishError> {
    let event = Event::new(Topic::new(topic).unwrap(), payload).named(EventName::new(&format!("of {topic}")).unwrap());
    let published = std::pin::pin!(hub.publish(event)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(published) = published else { panic!("a hub without a backbone publishes at once") };
    published
}

fn publish_all(hub: &Hub, topics: &[&str]) {
    for topic in topics {
        publish(hub, topic, Payload::text("x")).unwrap();
    }
}

fn saved(hub: &Hub) -> Vec<u8> {
    let mut file = Vec::new();
    hub.save(&mut file).unwrap();
    file
}

fn continued(options: &HubOptions, hub: &Hub) -> Hub {
    Hub::continued(options, &saved(hub)[..]).unwrap()
}

/// Subscribes and reads all that is ready: the encoded events, and the gaps.
fn read(hub: &Hub, filters: &[&str], start: Start) -> (Vec<String>, Vec<Gap>) {
    let filter = SubscriptionFilter::of(filters.iter().map(|filter| TopicFilter::new(filter).unwrap()));
    let (mut subscription, _) = hub.subscribe(filter, start);
    let (mut events, mut gaps) = (Vec::new(), Vec::new());
    while let Poll::Ready(Some(delivery)) = subscription.poll_next_unpin(&mut Context::from_waker(Waker::noop())) {
        match delivery {
            Delivery::Event(frame) => events.push(String::from_utf8(frame.sse().to_vec()).unwrap()),
            Delivery::Gap(gap) => gaps.push(gap),
        }
    }
    (events, gaps)
}

#[test]
fn epoch_and_numbering_continue() {
    let before = Hub::new(&options(10, 20));
    publish_all(&before, &["a", "b", "a"]);
    let after = continued(&HubOptions::default(), &before);
    assert_eq!(after.position(), at(3));
    assert_eq!(publish(&after, "b", Payload::text("4")).unwrap(), at(4));
    let (events, gaps) = read(&after, &["**"], Start::After(at(1)));
    assert_eq!(events.iter().map(|event| &event[..10]).collect::<Vec<_>>(), ["id: 1000-2", "id: 1000-3", "id: 1000-4"]);
    assert_eq!(gaps, []);
    assert_eq!((after.stats().published, after.stats().restored, after.stats().retained_events), (1, 3, 4));
}

fn publish_once(hub: &Hub, key: &str, payload: &str) -> Result<PublishedOnce, PublishError> {
    let events = vec![Event::new(Topic::new("t").unwrap(), Payload::text(payload))];
    let key = IdempotencyKey::new(b"publisher", key, &events);
    let mut published = std::pin::pin!(hub.publish_once(events, key));
    loop {
        // Publishing yields to others first.
        if let Poll::Ready(answer) = published.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return answer;
        }
    }
}

#[test]
fn keys_continue() {
    let before = Hub::new(&options(10, 20));
    publish_all(&before, &["a", "b"]);
    let first = publish_once(&before, "order-17", "17").unwrap();
    let after = continued(&options(10, 20), &before);
    let again = publish_once(&after, "order-17", "17").unwrap();
    assert_eq!((again.published, again.published.first, again.is_repeat), (first.published, at(3), true));
    assert_eq!(publish_once(&after, "order-17", "18"), Err(PublishError::KeyReused));
    assert_eq!((after.position(), after.stats().idempotency_keys), (at(3), 1));
    assert_eq!(publish_once(&after, "order-18", "18").unwrap().published.first, at(4));
}

#[test]
fn key_of_events_that_are_not_in_the_history_is_invalid() {
    let before = Hub::new(&options(10, 20));
    publish_once(&before, "order-17", "17").unwrap();
    let file = String::from_utf8(saved(&before)).unwrap();
    let lines = &file[..file.rfind("{\"end\"").unwrap()];
    for (from, to) in [("\"first\":1", "\"first\":0"), ("\"last\":1", "\"last\":2"), ("\"first\":1", "\"first\":2")] {
        assert!(lines.contains(from), "{lines}");
        let damaged = lines::with_checksum(lines.replace(from, to).as_bytes());
        let error = Hub::continued(&options(10, 20), &damaged[..]).unwrap_err().to_string();
        assert!(error.contains("a key cannot be for events"), "{error}");
    }
}

#[test]
fn events_are_encoded_as_before() {
    let before = Hub::new(&options(10, 20));
    for payload in ["", "a", "a\nb", "a\r\n\rb", "\n", " größe: \u{0}\u{2028}\"\\", "data: a\n\nid: 1"] {
        publish(&before, "a", Payload::text(payload)).unwrap();
    }
    for json in ["{\"b\": 1.50,\n \"a\":[1e400]}", " null ", "-0.0"] {
        publish(&before, "a", Payload::json(json).unwrap()).unwrap();
    }
    let expected = read(&before, &["a"], Start::Earliest);
    let after = continued(&options(10, 20), &before);
    assert_eq!(read(&after, &["a"], Start::Earliest), expected);
    let envelopes = |hub: &Hub| {
        let mut envelopes = Vec::new();
        let Read::Run(run) = hub.0.history.firehose.ring.read(0) else { panic!("the firehose has events") };
        for frame in run.indices().map(|index| run.get(index)) {
            envelopes.push(frame.chunk(crate::wire::Format::Envelope).to_body());
        }
        envelopes
    };
    assert_eq!(envelopes(&after), envelopes(&before));
}

#[test]
fn keys_and_deletions_of_events_continue() {
    let before = Hub::new(&options(10, 20));
    let topic = || Topic::new("a").unwrap();
    let events = vec![
        Event::new(topic(), Payload::text("1")).keyed("\"k\"".parse().unwrap()),
        Event::new(topic(), Payload::text("2")),
        Event::deletion(topic(), Some("\"k\"".parse().unwrap())),
        Event::deletion(topic(), None),
    ];
    let published = std::pin::pin!(before.publish_all(events)).poll(&mut Context::from_waker(Waker::noop()));
    assert!(published.is_ready());
    let keys = |hub: &Hub| {
        let Read::Run(run) = hub.0.history.firehose.ring.read(0) else { panic!("the firehose has events") };
        let key = |index| run.get(index).key().map(ToString::to_string);
        run.indices().map(|index| (key(index), run.get(index).is_deletion())).collect::<Vec<_>>()
    };
    let key = || Some("\"k\"".to_owned());
    assert_eq!(keys(&before), [(key(), false), (None, false), (key(), true), (None, true)]);
    assert_eq!(keys(&continued(&options(10, 20), &before)), keys(&before));
}

#[test]
fn latest_values_continue_without_their_rings() {
    let before = Hub::new(&options(1, 1));
    let keyed = |key: &str, text| Event::new(Topic::new("a").unwrap(), Payload::text(text)).keyed(key.parse().unwrap());
    let deletion = Event::deletion(Topic::new("a").unwrap(), Some("y".parse().unwrap()));
    let events = vec![keyed("x", "1"), keyed("y", "2"), keyed("x", "3"), keyed("z", "4"), deletion];
    assert!(std::pin::pin!(before.publish_all(events)).poll(&mut Context::from_waker(Waker::noop())).is_ready());
    publish_all(&before, &["b"]);
    let after = continued(&options(1, 1), &before);
    assert_eq!((after.stats().latest_keys, after.stats().latest_bytes), (2, before.stats().latest_bytes));
    assert_eq!(after.stats().tombstones, 1);
    let read = |filter: &str, start| {
        let (mut values, _) = after.subscribe_latest(filter.parse().unwrap(), start);
        let mut changes = Vec::new();
        while let Poll::Ready(Some(change)) = values.poll_next_unpin(&mut Context::from_waker(Waker::noop())) {
            changes.push(match change {
                Change::Event(frame) => frame.payload().into_owned(),
                Change::Gap(gap) => gap.reason.as_str().to_owned(),
                Change::Snapshot(snapshot) => format!("{} values", snapshot.entries),
            });
        }
        changes
    };
    assert_eq!(read("a", Start::Earliest), ["3", "4", "2 values"]);
    assert_eq!(read("**", Start::Earliest), ["3", "4", "x", "3 values"]);
    assert_eq!(read("a", Start::After(at(5))), ["evicted", "3", "4", "2 values"]);
    let damaged =
        String::from_utf8(saved(&before)).unwrap().replace("{\"value\":{\"sequence\":4", "{\"value\":{\"sequence\":3");
    let damaged = lines::with_checksum(&damaged.as_bytes()[..damaged.rfind("{\"end\"").unwrap()]);
    let error = Hub::continued(&options(1, 1), &damaged[..]).unwrap_err().to_string();
    assert_eq!(error, "line 3: value 3 cannot follow value 3 of its topic");
}

#[test]
fn empty_hub_continues_its_epoch() {
    let after = continued(&HubOptions::default(), &Hub::new(&options(10, 20)));
    assert_eq!(after.position(), at(0));
    assert_eq!(publish(&after, "a", Payload::text("x")).unwrap(), at(1));
}

#[test]
fn saving_closes_the_hub() {
    let hub = Hub::new(&options(10, 20));
    publish_all(&hub, &["a"]);
    saved(&hub);
    assert!(matches!(publish(&hub, "a", Payload::text("x")), Err(PublishError::Closed)));
    assert_eq!(read(&hub, &["a"], Start::Earliest).0.len(), 1, "it stays readable");
}

#[test]
fn relayed_hub_is_not_saved() {
    let (hub, ..) = Hub::relayed(&options(10, 20), std::time::Duration::ZERO, None);
    assert_eq!(hub.save(Vec::new()).unwrap_err().kind(), io::ErrorKind::Unsupported);
}

#[test]
fn failed_write_is_reported() {
    let hub = Hub::new(&options(10, 20));
    publish_all(&hub, &["a"]);
    assert_eq!(hub.save(&mut [0; 100][..]).unwrap_err().kind(), io::ErrorKind::WriteZero);
    // The history is unchanged.
    assert_eq!(continued(&options(10, 20), &hub).position(), at(1));
}

#[test]
fn smaller_limits_evict_the_oldest_events() {
    let before = Hub::new(&options(10, 20));
    publish_all(&before, &["a", "a", "b", "a", "a"]);
    let after = continued(&options(2, 4), &before);
    let (events, gaps) = read(&after, &["a"], Start::After(at(0)));
    assert_eq!(events.len(), 2);
    assert_eq!((gaps[0].to, gaps[0].missed), (at(2), Some(2)));
    let few_topics = HubOptions { history_topics: 1, ..options(10, 20) };
    assert_eq!(continued(&few_topics, &before).stats().topics, 1);
    let few_bytes = HubOptions { history_bytes: 1, ..options(10, 20) };
    assert_eq!(continued(&few_bytes, &before).stats().retained_events, 0);
}

#[test]
fn evicted_events_are_a_gap_as_before() {
    let before = Hub::new(&options(2, 4));
    publish_all(&before, &["a", "b", "a", "a", "a", "c"]);
    let after = continued(&options(2, 4), &before);
    for filters in [&["a"][..], &["**"], &["a", "b"], &["c"], &["new"]] {
        for start in [
            Start::Earliest,
            Start::Newest(3),
            Start::After(at(0)),
            Start::After(at(2)),
            Start::After(at(6)),
            Start::UnknownId,
        ] {
            assert_eq!(read(&after, filters, start), read(&before, filters, start), "{filters:?} {start:?}");
        }
    }
}

#[test]
fn file_that_contradicts_itself_is_invalid() {
    let with_reserved = |head: u64, evicted: u64, reserved: u64| {
        let reserved = format!("{{\"firehose_evicted\":{reserved},\"last\":0}}");
        format!(
            "{{\"fanline_history\":1,\"epoch\":7,\"head\":{head},\"firehose_evicted\":{evicted},\"reserved\":{reserved},\"forgotten\":0,\"key\":[1,2]}}\n"
        )
    };
    let header = |head: u64, evicted: u64| with_reserved(head, evicted, evicted);
    let topic = |evicted: u64| format!("{{\"topic\":{{\"topic\":\"a\",\"evicted\":{evicted}}}}}\n");
    let event = |sequence: u64| {
        format!(
            "{{\"event\":{{\"sequence\":{sequence},\"topic\":\"a\",\"name\":\"n\",\"is_json\":true,\"payload\":\"1\"}}}}\n"
        )
    };
    let load = |lines: &[String]| Hub::continued(&HubOptions::default(), &with_checksum(lines.concat().as_bytes())[..]);
    assert_eq!(load(&[header(4, 2), topic(0), event(1), event(3), event(4)]).unwrap().position().to_string(), "7-4");
    let ledger = |first: u64, topics: &str| format!("{{\"ledger\":{{\"first\":{first},\"topics\":[{topics}]}}}}\n");
    assert!(load(&[header(3, 2), ledger(1, "7"), ledger(2, "8"), event(3)]).is_ok());
    let json = event(1).replace("\"1\"", "\"{\"");
    let line = |line, reason: &str| format!("line {line}: {reason}");
    for (lines, error) in [
        (vec![header(1, 2)], line(1, "its sequences contradict each other")),
        (vec![with_reserved(2, 1, 3)], line(1, "its sequences contradict each other")),
        (vec![with_reserved(4, 1, 3), event(2), event(3)], line(4, "event 4 is missing")),
        (vec![with_reserved(4, 1, 3), event(3), event(2)], line(3, "event 2 cannot follow event 3")),
        (vec![header(u64::MAX, 2)], line(1, "its sequences contradict each other")),
        (vec![header(1, 0)], line(2, "event 1 is missing")),
        (vec![header(2, 0), event(1)], line(3, "event 2 is missing")),
        (vec![header(2, 0), event(1), event(1)], line(3, "event 1 cannot follow event 1")),
        (vec![header(2, 0), event(2), event(1)], line(2, "event 2 cannot follow event 0")),
        (vec![header(2, 0), event(1), event(2), event(3)], line(4, "event 3 cannot follow event 2")),
        (vec![header(3, 2), event(1), event(3)], line(2, "event 1 cannot follow event 0")),
        (vec![header(3, 2), topic(1), event(1), event(3)], line(3, "event 1 cannot follow event 0")),
        (vec![header(3, 2), topic(0), event(3), event(1)], line(4, "event 1 cannot follow event 3")),
        (vec![header(3, 2), topic(4)], line(2, "4 is after the newest event")),
        (vec![header(3, 2), ledger(0, "7"), event(3)], line(2, "the ledger cannot continue with event 0")),
        (vec![header(3, 2), ledger(1, "7"), event(3)], line(3, "the ledger ends with event 1")),
        (vec![header(3, 2), ledger(1, ""), event(3)], line(3, "the ledger ends with event 0")),
        (vec![header(2, 2), ledger(1, "7")], line(3, "the ledger ends with event 1")),
        (vec![header(3, 2), ledger(1, "7"), ledger(3, "8")], line(3, "the ledger cannot continue with event 3")),
        (vec![header(3, 2), ledger(2, "7,8")], line(2, "event 3 of the ledger belongs to the firehose")),
        (vec![header(3, 2), event(3), ledger(2, "7")], line(3, "event 2 of the ledger belongs to the firehose")),
        (vec![header(1, 0), json], line(2, "the payload is not one JSON value")),
        (vec![header(1, 0), event(1).replace("\"a\"", "\"a b\"")], line(2, "the topic \"a b\"")),
        (vec![header(1, 0), event(1).replace("\"n\"", "\"gap\"")], line(2, "the event name \"gap\" is reserved")),
        (vec![header(1, 0), "{\"page\":{}}\n".to_owned()], line(2, "unknown variant `page`")),
    ] {
        let found = load(&lines).unwrap_err().to_string();
        assert!(found.starts_with(&error), "{found:?} instead of {error:?} of {lines:?}");
    }
}

const TOPICS: [&str; 6] = ["a", "b", "c:1", "c:2", "user:a", "user:b"];

/// What happens to a hub: the events of these topics, or its restart.
#[derive(Clone, Debug)]
enum Action {
    Publish(Vec<usize>),
    /// Drops all topics.
    Expire,
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => vec(0..TOPICS.len(), 1..12).prop_map(Action::Publish),
        1 => Just(Action::Expire),
        2 => Just(Action::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn restarts_change_nothing_that_a_subscription_gets(
        actions in vec(action(), 1..10),
        history in 1..6usize,
        firehose_history in 1..12usize,
    ) {
        let options = HubOptions { topic_ttl: std::time::Duration::ZERO, ..options(history, firehose_history) };
        let (whole, mut restarted) = (Hub::new(&options), Hub::new(&options));
        for action in actions {
            match action {
                Action::Publish(topics) => {
                    for hub in [&whole, &restarted] {
                        publish_all(hub, &topics.iter().map(|&topic| TOPICS[topic]).collect::<Vec<_>>());
                    }
                }
                Action::Expire => {
                    for hub in [&whole, &restarted] {
                        hub.0.history.tick();
                        let evicted = std::pin::pin!(hub.evict_expired()).poll(&mut Context::from_waker(Waker::noop()));
                        prop_assert!(evicted.is_ready());
                    }
                }
                Action::Restart => restarted = continued(&options, &restarted),
            }
        }
        let head = whole.position().sequence;
        prop_assert_eq!(restarted.position(), whole.position());
        for filters in [
            &["**"][..],
            &["a"],
            &["c:*"],
            &["a", "b"],
            &["b", "c:*"],
            &["never"],
            &["user:a"],
            &["user:*"],
            &["user:*", "user:a", "b"],
            &["**", "user:a"],
            &["*", "user:*"],
        ] {
            let starts = (0..=head + 1).map(|sequence| Start::After(at(sequence)));
            for start in starts.chain([Start::Earliest, Start::Newest(3), Start::Live]) {
                let (got, expected) = (read(&restarted, filters, start), read(&whole, filters, start));
                prop_assert_eq!(got, expected, "{:?} {:?}", filters, start);
            }
        }
    }
}

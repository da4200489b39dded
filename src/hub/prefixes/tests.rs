//! Readers that are polled only when their waker was called, against the naive matching of every event.
//!
//! * A reader that has an event to read was woken.
//! * Each event that a reader wants is received, or in a gap.
//! * A reader that reads whenever it is woken has a gap only where the publication that woke it has evicted its own events.

use std::collections::BTreeSet;
use std::sync::Arc as Shared;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use futures_core::Stream;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use crate::event::{Event, Payload};
use crate::hub::{Delivery, Hub, HubOptions, Start, Subscription, SubscriptionFilter};
use crate::position::{Sequence, StreamPosition};
use crate::topic::{Topic, TopicFilter};

const TOPICS: [&str; 9] = ["a", "c:1", "c:2", "c:1.x", "d.1", "d.1.2", "user:a", "user:a:b", "user:b"];
/// Patterns with nested prefixes, with the same prefix, without one, and that match nothing; and named topics.
const FILTERS: [&str; 11] =
    ["c:*", "c:**", "c:1.*", "d.1.*", "*.1", "zz:*", "user:*", "user:a:*", "a", "c:1", "user:b"];

#[derive(Default)]
struct Calls(AtomicUsize);

impl Wake for Calls {
    fn wake(self: Shared<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

struct Reader {
    subscription: Subscription,
    filter: SubscriptionFilter,
    /// How often it was woken since it was polled.
    calls: Shared<Calls>,
    waker: Waker,
    /// Wanted events up to here were received, or are in a gap.
    seen: Sequence,
    received: BTreeSet<Sequence>,
    /// Whether it is polled whenever it was woken.
    is_prompt: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Publish { topics: Vec<usize>, bytes: usize },
    Open { filters: Vec<&'static str>, after: Option<Index>, is_prompt: bool },
    Drop(Index),
    Read(Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let publish = |topics, bytes| Step::Publish { topics, bytes };
    let step = prop_oneof![
        8 => (vec(0..TOPICS.len(), 1..4), 0usize..300).prop_map(move |(topics, bytes)| publish(topics, bytes)),
        2 => (0..TOPICS.len(), 1usize..60).prop_map(move |(topic, count)| publish(vec![topic; count], 10)),
        3 => (subsequence(&FILTERS[..], 1..4), any::<Option<Index>>(), any::<bool>())
            .prop_map(|(filters, after, is_prompt)| Step::Open { filters, after, is_prompt }),
        1 => any::<Index>().prop_map(Step::Drop),
        3 => any::<Index>().prop_map(Step::Read),
    ];
    vec(step, 1..120)
}

struct World {
    hub: Hub,
    events: Vec<Topic>,
    readers: Vec<Reader>,
}

impl World {
    fn play(&mut self, step: Step) {
        match step {
            Step::Publish { topics, bytes } => {
                let before = self.events.len() as Sequence;
                let topics: Vec<_> = topics.iter().map(|&topic| Topic::new(TOPICS[topic]).unwrap()).collect();
                let payload = Payload::text("x".repeat(bytes));
                let events = topics.iter().map(|topic| Event::new(topic.clone(), payload.clone())).collect();
                super::super::tests::now(self.hub.publish_all(events)).unwrap();
                self.events.extend(topics);
                for reader in &mut self.readers {
                    reader.check_woken(&self.events);
                    if reader.is_prompt && reader.was_woken() {
                        reader.read(&self.hub, &self.events, Some(before));
                    }
                }
            }
            Step::Open { filters, after, is_prompt } => {
                let filter = SubscriptionFilter::of(filters.iter().map(|text| TopicFilter::new(text).unwrap()));
                let head = self.hub.position();
                let start = after.map_or(Start::Live, |after| {
                    let sequence = after.index(self.events.len() + 1) as Sequence;
                    Start::After(StreamPosition::new(head.epoch, sequence))
                });
                let (subscription, opening) = self.hub.subscribe(filter.clone(), start);
                let calls = Shared::new(Calls::default());
                let (waker, seen) = (calls.clone().into(), opening.position.unwrap().sequence);
                let received = BTreeSet::new();
                let mut reader = Reader { subscription, filter, calls, waker, seen, received, is_prompt };
                reader.read(&self.hub, &self.events, None);
                self.readers.push(reader);
            }
            Step::Drop(index) if !self.readers.is_empty() => {
                _ = self.readers.swap_remove(index.index(self.readers.len()))
            }
            Step::Read(index) if !self.readers.is_empty() => {
                let reader = index.index(self.readers.len());
                if self.readers[reader].was_woken() {
                    self.readers[reader].read(&self.hub, &self.events, None);
                }
            }
            Step::Drop(_) | Step::Read(_) => {}
        }
    }
}

impl Reader {
    fn was_woken(&self) -> bool {
        self.calls.0.load(Relaxed) > 0
    }

    /// The events that it wants and has not seen.
    fn wanted(&self, events: &[Topic], to: Sequence) -> Vec<Sequence> {
        let is_wanted = |&sequence: &Sequence| self.filter.matches(&events[sequence as usize - 1]);
        (self.seen + 1..=to).filter(is_wanted).collect()
    }

    fn check_woken(&self, events: &[Topic]) {
        let wanted = self.wanted(events, events.len() as Sequence);
        assert!(wanted.is_empty() || self.was_woken(), "{wanted:?} are there, and it sleeps");
    }

    /// Reads until it waits. `before` is the head before the publication that has woken it, if it had read everything then.
    fn read(&mut self, hub: &Hub, events: &[Topic], before: Option<Sequence>) {
        self.calls.0.store(0, Relaxed);
        let waker = self.waker.clone();
        let mut lost = BTreeSet::new();
        while let Poll::Ready(delivery) =
            std::pin::pin!(&mut self.subscription).poll_next(&mut Context::from_waker(&waker))
        {
            match delivery.expect("the hub is open") {
                Delivery::Event(frame) => {
                    assert!(self.filter.matches(frame.topic()));
                    assert!(self.received.insert(frame.sequence()), "once");
                }
                Delivery::Gap(gap) => {
                    let (from, to) = (gap.from.unwrap().sequence, gap.to.sequence);
                    lost.extend(from + 1..=to);
                    if let Some(before) = before {
                        assert!(to > before, "it had read what was evicted: {gap:?}");
                        let history = &hub.0.history;
                        let has_evicted = history.firehoses().iter().any(|firehose| firehose.oldest_place().1 > before);
                        assert!(has_evicted || !self.filter.topics.is_empty(), "nothing new was evicted: {gap:?}");
                    }
                }
            }
        }
        for wanted in self.wanted(events, events.len() as Sequence) {
            assert!(self.received.contains(&wanted) || lost.contains(&wanted), "{wanted} is missing");
        }
        self.seen = events.len() as Sequence;
    }
}

fn options() -> impl Strategy<Value = HubOptions> {
    let bytes = prop_oneof![Just(64 << 20), 1usize << 10..64 << 10];
    (1usize..40, prop_oneof![1usize..80, 80usize..2000], bytes).prop_map(
        |(history, firehose_history, history_bytes)| HubOptions {
            history,
            firehose_history,
            history_bytes,
            ..HubOptions::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reader_is_woken_by_what_it_wants_and_misses_nothing(options in options(), steps in steps()) {
        let mut world = World { hub: Hub::new(&options), events: Vec::new(), readers: Vec::new() };
        for step in steps {
            world.play(step);
        }
        let World { hub, events, mut readers } = world;
        readers.iter_mut().for_each(|reader| reader.read(&hub, &events, None));
        drop(readers);
        for firehose in hub.0.history.firehoses() {
            let prefixes = hub.0.history.prefixes_of(firehose);
            assert!(super::lock(&prefixes.index).table.is_empty(), "prefixes without readers are dropped");
            assert!(prefixes.all.is_empty() && !prefixes.are_any.load(Relaxed));
        }
    }
}

/// Returns how often each of the readers of `filters` is woken while `count` events of `topic` are published.
fn calls(hub: &Hub, filters: &[String], count: usize, topic: &str) -> Vec<usize> {
    let mut readers = Vec::new();
    for text in filters {
        let (mut subscription, _) = hub.subscribe(text.parse().unwrap(), Start::Live);
        let calls = Shared::new(Calls::default());
        let waker = Waker::from(calls.clone());
        assert!(std::pin::pin!(&mut subscription).poll_next(&mut Context::from_waker(&waker)).is_pending());
        readers.push((subscription, calls));
    }
    publish(hub, count, topic);
    readers.iter().map(|(_, calls)| calls.0.load(Relaxed)).collect()
}

fn publish(hub: &Hub, count: usize, topic: &str) {
    let topic = Topic::new(topic).unwrap();
    for _ in 0..count {
        super::super::tests::now(hub.publish(Event::new(topic.clone(), Payload::text("x")))).unwrap();
    }
}

#[test]
fn few_events_of_a_new_hub_wake_no_others() {
    assert_eq!(calls(&Hub::default(), &["user.17.*".to_owned()], 255, "log"), [0]);
}

#[test]
fn event_wakes_only_readers_of_its_prefixes() {
    let hub = Hub::default();
    publish(&hub, 4096, "log");
    let filters: Vec<_> = (0..100).map(|user| format!("user.{user}.*")).collect();
    let mut expected = [4; 100];
    assert_eq!(calls(&hub, &filters, 1024, "log"), expected, "one of 256 events wakes all");
    expected[17] = 1024 + 4;
    assert_eq!(calls(&hub, &filters, 1024, "user.17.login"), expected);
    // By the prefix, not by the rest of the pattern.
    let filters = ["user.17.**", "user.17.login.*", "user.*.login", "*.17", "user.17.*, user.18.*"].map(str::to_owned);
    assert_eq!(calls(&hub, &filters, 256, "user.17.logout"), [257, 1, 257, 256, 257]);
}

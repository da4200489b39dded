//! Feeds of latest values against a map from topic and key to the newest value: topics are added and removed while values change,
//! readers take parts of what is ready, and resume.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::event::Key;

const TOPICS: [&str; 4] = ["a", "b", "c:1", "user:a"];
const KEYS: [Option<&str>; 3] = [None, Some("x"), Some("y")];
const FILTERS: [&str; 6] = ["a", "b", "c:1", "c:*", "user:*", "**"];

type Table = BTreeMap<(String, Option<String>), Sequence>;

#[derive(Clone, Debug)]
enum Step {
    /// The topic, the key, and whether it is a deletion, of each event.
    Publish(Vec<(usize, usize, bool)>),
    Subscribe(usize),
    Unsubscribe(usize),
    Read(Index),
    Resume,
    Quiet,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let event = (0..TOPICS.len(), 0..KEYS.len(), prop::bool::weighted(0.25));
    let step = prop_oneof![
        5 => vec(event, 1..8).prop_map(Step::Publish),
        3 => (0..FILTERS.len()).prop_map(Step::Subscribe),
        2 => (0..FILTERS.len()).prop_map(Step::Unsubscribe),
        4 => any::<Index>().prop_map(Step::Read),
        1 => Just(Step::Resume),
        1 => Just(Step::Quiet),
    ];
    vec(step, 1..50)
}

struct World {
    hub: Hub,
    /// The newest values.
    values: Table,
    feed: Feed,
    /// What the client of the feed has.
    table: Table,
}

fn open_latest(hub: &Hub, filters: &[TopicFilter], start: Start) -> Feed {
    Feed::open(hub, &WakeGroup::inline(), filters, Mode::Latest, start, usize::MAX).unwrap().0
}

fn is_wanted(filters: &[TopicFilter], topic: &str) -> bool {
    selection(filters).matches(&Topic::new(topic).unwrap())
}

impl World {
    fn new() -> Self {
        let hub = hub(4, 4, &[]);
        let feed = open_latest(&hub, &filters(&["a"]), Start::Earliest);
        Self { hub, values: Table::new(), feed, table: Table::new() }
    }

    fn publish(&mut self, events: &[(usize, usize, bool)]) {
        for &(topic, key, is_deletion) in events {
            let keyed = |event: Event| match KEYS[key] {
                Some(key) => event.keyed(Key::new(key).unwrap()),
                None => event,
            };
            let event = keyed(event(TOPICS[topic]));
            let event = if is_deletion { event.deleting() } else { event };
            let sequence = now(self.hub.publish(event)).unwrap().sequence;
            let name = (TOPICS[topic].to_owned(), KEYS[key].map(ToOwned::to_owned));
            match is_deletion {
                true => _ = self.values.remove(&name),
                false => _ = self.values.insert(name, sequence),
            }
        }
    }

    /// Reads one batch, and takes a part of it. Returns whether there was anything.
    fn read(&mut self, choose: impl FnOnce(usize) -> usize) -> bool {
        let mut batch = Batch::default();
        match self.feed.poll_fill(&mut Context::from_waker(Waker::noop()), &mut batch) {
            Poll::Pending => return false,
            Poll::Ready(Err(Notice::Snapshot(_))) => {}
            Poll::Ready(Err(Notice::Gap(gap))) => panic!("nothing is forgotten: {gap:?}"),
            Poll::Ready(Ok(())) => {
                let count = choose(batch.len());
                for frame in batch.frames().take(count) {
                    assert!(is_wanted(self.feed.filters(), frame.topic().as_str()), "{}", frame.topic());
                    let name = (frame.topic().to_string(), frame.key().map(ToString::to_string));
                    let before = match frame.is_deletion() {
                        true => self.table.remove(&name),
                        false => self.table.insert(name, frame.sequence()),
                    };
                    assert!(before.is_none_or(|before| before <= frame.sequence()), "no value goes backwards");
                }
                self.feed.take(&batch, count);
            }
        }
        true
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Publish(events) => self.publish(&events),
            Step::Subscribe(filter) => match self.feed.subscribe(&filters(&[FILTERS[filter]]), None) {
                Ok(_) | Err(FeedError::TooManyReplays) => {}
                Err(error) => panic!("{error}"),
            },
            Step::Unsubscribe(filter) => {
                if self.feed.unsubscribe(&filters(&[FILTERS[filter]])).is_ok() {
                    let left = self.feed.filters();
                    self.table.retain(|(topic, _), _| is_wanted(left, topic));
                }
            }
            Step::Read(count) => _ = self.read(|len| count.index(len + 1)),
            Step::Resume => {
                let start = Start::After(self.feed.position());
                self.feed = open_latest(&self.hub, self.feed.filters(), start);
            }
            Step::Quiet => {
                while self.read(|len| len) {}
                let filters = self.feed.filters();
                let mut expected = self.values.clone();
                expected.retain(|(topic, _), _| is_wanted(filters, topic));
                assert_eq!(self.table, expected, "{filters:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn table_of_a_feed_is_right_at_each_quiet_point(steps in steps()) {
        let mut world = World::new();
        steps.into_iter().chain([Step::Quiet]).for_each(|step| world.play(step));
    }
}

#[test]
fn added_topic_begins_with_its_values_and_a_mark() {
    let hub = hub(4, 4, &["a", "b", "b"]);
    let mut feed = open_latest(&hub, &filters(&["a"]), Start::Earliest);
    let read = |feed: &mut Feed| {
        let (mut sequences, mut marks, mut batch) = (Vec::new(), 0, Batch::default());
        while let Poll::Ready(outcome) = feed.poll_fill(&mut Context::from_waker(Waker::noop()), &mut batch) {
            match outcome {
                Ok(()) => {
                    sequences.extend(batch.frames().map(|frame| frame.sequence()));
                    feed.take(&batch, batch.len());
                }
                Err(Notice::Snapshot(_)) => marks += 1,
                Err(notice) => panic!("{notice:?}"),
            }
        }
        (sequences, marks)
    };
    assert_eq!(read(&mut feed), (vec![1], 1));
    feed.subscribe(&filters(&["b"]), None).unwrap();
    assert_eq!(read(&mut feed), (vec![3], 1));
    publish(&hub, &["b", "a"]);
    assert_eq!(read(&mut feed), (vec![4, 5], 0));
}

//! Latest values against an oracle: a map from topic and key to the newest value.
//!
//! Random publications with keys, deletions and without either, readers that stall, resume and begin again, and small rings, so
//! that events leave them, topics are dropped, and deletions are forgotten. At each quiet point
//!
//! * the table of each reader is that of the oracle for its filters, except that a reader may have values without keys of
//!   topics that were dropped;
//! * sequences have only risen since the last start, and no value has gone backwards;
//! * what a compressed reader was written decodes to these events, with the right trailer;
//! * a mark has come after each start and each gap, at a moment when the table was complete;
//! * the numbers of keys, their memory and the deletions are right, and the rings' accounting too.

mod shared;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use shared::Wire;

use super::*;
use crate::event::Key;
use crate::position::Sequence;

const TOPICS: [&str; 5] = ["a", "b", "c:1", "c:2", "user:a"];
const KEYS: [Option<&str>; 4] = [None, Some("x"), Some("y"), Some("z")];
const FILTERS: [&[&str]; 7] =
    [&["a"], &["a", "b"], &["**"], &["c:*"], &["a", "c:*"], &["user:*", "**"], &["user:a", "b"]];
const READERS: usize = 3;

type Name = (String, Option<String>);
type Table = BTreeMap<Name, Sequence>;

#[derive(Clone, Debug)]
enum Step {
    /// The topic, the key, and whether it is a deletion, of each event.
    Publish(Vec<(usize, usize, bool)>),
    Begin {
        reader: usize,
        filter: usize,
        takes_gzip: bool,
    },
    /// Takes a part of what is ready.
    Read {
        reader: usize,
        counts: Vec<Index>,
    },
    Resume {
        reader: usize,
    },
    /// All read so many moments later, and write parts of what they share.
    Together(u64, Vec<Index>),
    /// Time passes: topics and deletions expire.
    Tick,
    Quiet,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let event = (0..TOPICS.len(), 0..KEYS.len(), prop::bool::weighted(0.25));
    let step = prop_oneof![
        5 => vec(event, 1..12).prop_map(Step::Publish),
        2 => (0..READERS, 0..FILTERS.len(), any::<bool>())
            .prop_map(|(reader, filter, takes_gzip)| Step::Begin { reader, filter, takes_gzip }),
        3 => (0..READERS, vec(any::<Index>(), 1..4)).prop_map(|(reader, counts)| Step::Read { reader, counts }),
        2 => (0..READERS).prop_map(|reader| Step::Resume { reader }),
        4 => (0..3u64, vec(any::<Index>(), 3 * READERS)).prop_map(|(later, parts)| Step::Together(later, parts)),
        1 => Just(Step::Tick),
        1 => Just(Step::Quiet),
    ];
    vec(step, 1..60)
}

fn options() -> impl Strategy<Value = HubOptions> {
    (1..8usize, 1..8usize, 1..6usize, 0..3u64, 3..40usize, prop::option::of(0..4u64)).prop_map(
        |(history, firehose_history, topics, ttl, max_keys, latest_ttl)| HubOptions {
            epoch: EPOCH,
            history,
            firehose_history,
            history_topics: topics,
            topic_ttl: Duration::from_secs(ttl),
            tombstone_ttl: Duration::from_secs(ttl),
            latest_ttl: latest_ttl.map(Duration::from_secs),
            max_keys,
            ..HubOptions::default()
        },
    )
}

struct Reader {
    subscription: Subscription,
    filter: SubscriptionFilter,
    last_id: StreamPosition,
    table: Table,
    /// The sequence of what it received last since its start.
    newest: Sequence,
    has_mark: bool,
    /// What it is written, if that is compressed.
    wire: Option<Wire>,
    /// When it wrote last.
    moment: u64,
}

impl Reader {
    /// Applies an event, and returns its id.
    fn apply(&mut self, sequence: Sequence, log: &BTreeMap<Sequence, (Name, bool)>) -> StreamPosition {
        assert!(sequence > self.newest, "in order");
        (self.newest, self.last_id) = (sequence, at(sequence));
        match log[&sequence].clone() {
            (name, true) => _ = self.table.remove(&name),
            (name, false) => _ = self.table.insert(name, sequence),
        }
        self.last_id
    }
}

struct World {
    hub: Hub,
    max_keys: usize,
    latest_ttl: Option<u64>,
    now: u64,
    table: Table,
    /// When each value with a key was published.
    times: BTreeMap<Name, u64>,
    /// The name of each event, and whether it is a deletion.
    log: BTreeMap<Sequence, (Name, bool)>,
    readers: [Option<Reader>; READERS],
    shared: Shared,
    moment: u64,
}

fn keyed(event: Event, key: Option<&str>) -> Event {
    match key {
        Some(key) => event.keyed(Key::new(key).unwrap()),
        None => event,
    }
}

impl World {
    fn new(options: HubOptions) -> Self {
        let (max_keys, latest_ttl) = (options.max_keys, options.latest_ttl.map(|ttl| ttl.as_secs()));
        let (hub, table, readers) = (Hub::new(&options), Table::new(), [None, None, None]);
        let (times, log) = (BTreeMap::new(), BTreeMap::new());
        Self { hub, max_keys, latest_ttl, now: 0, table, times, log, readers, shared: Shared::default(), moment: 1 }
    }

    fn keys(&self) -> usize {
        self.table.keys().filter(|(_, key)| key.is_some()).count()
    }

    fn publish(&mut self, events: &[(usize, usize, bool)]) {
        let event = |&(topic, key, is_deletion): &(usize, usize, bool)| {
            let event = keyed(event(TOPICS[topic]), KEYS[key]);
            if is_deletion { event.deleting() } else { event }
        };
        let named =
            |&(topic, key, _): &(usize, usize, bool)| (TOPICS[topic].to_owned(), KEYS[key].map(ToOwned::to_owned));
        let is_new = |event: &&(usize, usize, bool)| {
            !event.2 && KEYS[event.1].is_some() && !self.table.contains_key(&named(event))
        };
        let new: BTreeSet<_> = events.iter().filter(is_new).map(named).collect();
        let published = now(self.hub.publish_all(events.iter().map(event).collect()));
        if !new.is_empty() && self.keys() + new.len() > self.max_keys {
            assert_eq!(published, Err(PublishError::TooManyValues { max_keys: self.max_keys }));
            return;
        }
        let first = published.unwrap().unwrap().first.sequence;
        for (sequence, event) in (first..).zip(events) {
            match event.2 {
                true => _ = self.table.remove(&named(event)),
                false => _ = self.table.insert(named(event), sequence),
            }
            self.times.insert(named(event), self.now);
            self.log.insert(sequence, (named(event), event.2));
        }
        self.check_totals();
    }

    /// Checks the totals, and the list of the topics.
    fn check_totals(&self) {
        let (stats, (topics, count)) = (self.hub.stats(), self.hub.topics(None, usize::MAX, |_| true));
        assert_eq!(stats.latest_keys, self.keys());
        assert!(stats.tombstones + self.keys() <= self.max_keys);
        assert_eq!((stats.topics, count), (topics.len(), topics.len()));
        for listed in &topics {
            let is_key = |(topic, key): &&Name| topic == listed.topic.as_str() && key.is_some();
            assert_eq!(listed.latest_keys, self.table.keys().filter(is_key).count(), "{listed:?}");
        }
        assert_eq!(topics.iter().map(|topic| topic.latest_keys).sum::<usize>(), self.keys());
        assert_eq!(topics.iter().map(|topic| topic.latest_bytes).sum::<u64>(), stats.latest_bytes);
    }

    fn open(&self, filter: SubscriptionFilter, start: Start, takes_gzip: bool) -> Reader {
        let group = WakeGroup::inline();
        let opened = self.hub.subscribe_in(&group, filter.clone(), Mode::Latest, start, usize::MAX);
        let (subscription, opening) = opened.unwrap();
        let (last_id, wire) = (opening.id, takes_gzip.then(|| Wire::new(&subscription)).flatten());
        Reader { subscription, filter, last_id, table: Table::new(), newest: 0, has_mark: false, wire, moment: 0 }
    }

    /// Fills one batch and takes a part of it. Returns whether there was anything.
    fn read(&self, reader: &mut Reader, choose: impl FnOnce(usize) -> usize) -> bool {
        let mut batch = Batch::default();
        match reader.subscription.poll_fill(&mut Context::from_waker(Waker::noop()), &mut batch) {
            Poll::Pending => {
                assert!(reader.has_mark, "the mark comes before it waits");
                return false;
            }
            Poll::Ready(Err(Notice::Gap(gap))) => {
                reader.wire.iter_mut().for_each(|wire| wire.write_own("gap"));
                reader.table.clear();
                (reader.newest, reader.last_id, reader.has_mark) = (0, gap.resume, false);
            }
            Poll::Ready(Err(Notice::Snapshot(snapshot))) => {
                assert!(!reader.has_mark, "one mark for each start");
                (reader.has_mark, reader.last_id) = (true, snapshot.position);
                if snapshot.position == self.hub.position() {
                    self.check(reader);
                }
            }
            Poll::Ready(Ok(())) => {
                let mut count = choose(batch.len());
                if let Some(wire) = reader.wire.as_mut().filter(|_| count > 0) {
                    count = wire.write_batch(&reader.subscription, &batch, count);
                }
                for frame in batch.frames().take(count) {
                    assert!(reader.filter.matches(frame.topic()));
                    assert_eq!(reader.apply(frame.sequence(), &self.log), frame.id());
                }
                reader.subscription.take(&batch, count);
            }
        }
        true
    }

    fn check(&self, reader: &Reader) {
        let is_wanted = |topic: &str| reader.filter.matches(&Topic::new(topic).unwrap());
        for (name, sequence) in self.table.iter().filter(|((topic, _), _)| is_wanted(topic)) {
            // The topic of a value without a key may have been dropped, and its ring may be empty.
            if name.1.is_some() {
                assert_eq!(reader.table.get(name), Some(sequence), "{name:?}");
            }
        }
        for (name, sequence) in &reader.table {
            assert_eq!(self.table.get(name), Some(sequence), "{name:?} is not a value");
        }
    }

    fn with(&mut self, reader: usize, act: impl FnOnce(&Self, &mut Reader)) {
        if let Some(mut open) = self.readers[reader].take() {
            act(self, &mut open);
            self.readers[reader] = Some(open);
        }
    }

    /// A second passes. Keys that were not updated for their time to live are deleted.
    fn tick(&mut self) {
        let before = self.hub.stats();
        self.shared.tick();
        now(self.hub.evict_expired());
        self.now += 1;
        let is_old =
            |name: &Name| name.1.is_some() && self.latest_ttl.is_some_and(|ttl| self.now > self.times[name] + ttl);
        let old: BTreeMap<_, _> = self
            .table
            .extract_if(.., |name, _| is_old(name))
            .map(|(name, sequence)| (sequence, (name, true)))
            .collect();
        let after = self.hub.stats();
        let deleted = old.len() as u64;
        assert_eq!((after.expired_keys - before.expired_keys, after.published - before.published), (deleted, deleted));
        self.log.extend((before.published + 1..).zip(old.into_values()));
        self.check_totals();
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Publish(events) => self.publish(&events),
            Step::Begin { reader, filter, takes_gzip } => {
                self.readers[reader].take().and_then(|old| old.wire).into_iter().for_each(Wire::end);
                self.readers[reader] = Some(self.open(super::filter(FILTERS[filter]), Start::Earliest, takes_gzip));
            }
            Step::Read { reader, counts } => self.with(reader, |world, reader| {
                for count in counts {
                    world.read(reader, |len| count.index(len + 1));
                }
            }),
            Step::Resume { reader } => {
                if let Some(old) = self.readers[reader].take() {
                    drop(old.subscription);
                    let new = self.open(old.filter, Start::After(old.last_id), old.wire.is_some());
                    old.wire.into_iter().for_each(Wire::end);
                    self.readers[reader] = Some(Reader { table: old.table, newest: 0, ..new });
                }
            }
            Step::Together(later, parts) => {
                self.moment += later;
                let mut shared = std::mem::take(&mut self.shared);
                for (reader, part) in (0..READERS).cycle().zip(parts) {
                    self.with(reader, |world, reader| _ = world.read_shared(reader, &mut shared, part));
                }
                self.shared = shared;
            }
            Step::Tick => self.tick(),
            Step::Quiet => {
                for reader in 0..READERS {
                    self.with(reader, |world, reader| {
                        while world.read(reader, |len| len) {}
                        world.check(reader);
                    });
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_table_is_right_at_each_quiet_point(options in options(), steps in steps()) {
        let mut world = World::new(options);
        steps.into_iter().chain([Step::Quiet]).for_each(|step| world.play(step));
    }
}

fn put(hub: &Hub, topic: &str, key: &str) -> u64 {
    now(hub.publish(keyed(event(topic), Some(key)))).unwrap().sequence
}

//! Feeds against an oracle: a plain list of all events that were ever published.
//!
//! Random sequences of publishing, changes and partial reads run against small hubs, with and without an archive. In all of
//! them
//!
//! * a feed has only events of its filters, and those of one topic in order and once, for as long as the topic stays;
//! * each event after the position at which its topic was added comes, or a gap that covers it by range and filters;
//! * a topic that is added without a start begins with the next event, or where a change that waits begins;
//! * events are in order except that each replay steps back once;
//! * gaps name filters of the feed, and there are none where nothing was evicted;
//! * a batch that is all there is leaves nothing ready.

use std::collections::{BTreeSet, HashMap};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::*;

const TOPICS: [&str; 5] = ["a", "b", "c:1", "c:2", "d"];
const FILTERS: [&str; 7] = ["a", "b", "c:1", "d", "c:*", "*", "**"];

#[derive(Clone, Debug)]
enum Step {
    Publish(Vec<usize>),
    Subscribe {
        filters: Vec<&'static str>,
        start: Option<Beginning>,
    },
    Unsubscribe(Vec<&'static str>),
    /// Reads like a connection: batches that are written in part. Has the frames written of each batch, and what is
    /// published between the batch and its write.
    Write(Vec<(Index, Vec<usize>)>),
}

#[derive(Clone, Debug)]
enum Beginning {
    After(Index),
    Earliest,
    Newest(u64),
    Unknown,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let beginning = prop_oneof![
        6 => any::<Index>().prop_map(Beginning::After),
        1 => Just(Beginning::Earliest),
        1 => (0u64..20).prop_map(Beginning::Newest),
        1 => Just(Beginning::Unknown),
    ];
    let step = prop_oneof![
        4 => vec(0..TOPICS.len(), 1..12).prop_map(Step::Publish),
        1 => (0..TOPICS.len(), 1usize..50).prop_map(|(topic, count)| Step::Publish(vec![topic; count])),
        4 => (subsequence(&FILTERS[..], 1..3), proptest::option::of(beginning))
            .prop_map(|(filters, start)| Step::Subscribe { filters, start }),
        3 => subsequence(&FILTERS[..], 1..3).prop_map(Step::Unsubscribe),
        4 => vec((any::<Index>(), vec(0..TOPICS.len(), 0..8)), 1..4).prop_map(Step::Write),
    ];
    vec(step, 1..60)
}

#[derive(Clone, Debug)]
struct Rings {
    history: usize,
    firehose_history: usize,
    has_archive: bool,
}

fn rings() -> impl Strategy<Value = Rings> {
    let sizes = prop_oneof![Just((10_000, 10_000)), (1usize..40, 1usize..80)];
    (sizes, any::<bool>()).prop_map(|((history, firehose_history), has_archive)| Rings {
        history,
        firehose_history,
        has_archive,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_lose_and_repeat_nothing(rings in rings(), steps in steps()) {
        let mut world = World::new(rings);
        for step in steps {
            world.play(step);
        }
        while world.write(|len| len, &[]) {}
        world.check_all();
    }
}

struct World {
    rings: Rings,
    hub: Hub,
    log: Option<Arc<Log>>,
    /// The topic of each event: that of sequence n is at n - 1.
    events: Vec<&'static str>,
    feed: Feed,
    filters: BTreeSet<&'static str>,
    /// For each topic of the feed, the sequence after which its events are to come.
    seen: HashMap<&'static str, u64>,
    /// The last event of each topic that came since the topic was added. One that is added again without a start, while replays
    /// wait, may begin before what came until it was removed: its position says so.
    newest: HashMap<&'static str, u64>,
    /// The ranges of gaps, each after its first and up to its second position, and their filters.
    gaps: Vec<(u64, u64, Vec<TopicFilter>)>,
    last: u64,
    /// How often the order may step back.
    replays: usize,
    has_unknown: bool,
    has_newest: bool,
}

impl World {
    fn new(rings: Rings) -> Self {
        let (hub, log) = if rings.has_archive {
            let (hub, log) = relayed(rings.history, rings.firehose_history);
            (hub, Some(log))
        } else {
            (hub(rings.history, rings.firehose_history, &[]), None)
        };
        let feed = open(&hub, &[], Start::Live);
        Self {
            rings,
            hub,
            log,
            events: Vec::new(),
            feed,
            filters: BTreeSet::new(),
            seen: HashMap::new(),
            newest: HashMap::new(),
            gaps: Vec::new(),
            last: 0,
            replays: 0,
            has_unknown: false,
            has_newest: false,
        }
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Publish(topics) => self.publish(&topics),
            Step::Subscribe { filters, start } => self.subscribe(&filters, start),
            Step::Unsubscribe(removed) => {
                if let Err(error) = self.feed.unsubscribe(&filters(&removed)) {
                    return assert_eq!(error, FeedError::TooManyReplays);
                }
                self.filters.retain(|filter| !removed.contains(filter));
                let matched = self.matched();
                self.seen.retain(|topic, _| matched.contains(topic));
                self.newest.retain(|topic, _| matched.contains(topic));
            }
            Step::Write(counts) => {
                for (count, topics) in counts {
                    self.write(|len| count.index(len + 1), &topics);
                }
            }
        }
        let filters: BTreeSet<_> = self.feed.filters().iter().map(TopicFilter::as_str).collect();
        assert_eq!(filters, self.filters);
    }

    fn publish(&mut self, topics: &[usize]) {
        let topics: Vec<_> = topics.iter().map(|&topic| TOPICS[topic]).collect();
        match &self.log {
            Some(log) => log.append(&topics),
            None => publish(&self.hub, &topics),
        }
        self.events.extend(topics);
    }

    /// The topics that a filter of the feed matches.
    fn matched(&self) -> BTreeSet<&'static str> {
        let filters: Vec<_> = self.filters.iter().map(|filter| TopicFilter::new(filter).unwrap()).collect();
        let is_matched = |topic: &&str| filters.iter().any(|filter| filter.matches(&Topic::new(topic).unwrap()));
        TOPICS.into_iter().filter(is_matched).collect()
    }

    fn subscribe(&mut self, added: &[&'static str], start: Option<Beginning>) {
        let start = start.map(|start| match start {
            Beginning::After(index) => Start::After(at(index.index(self.events.len() + 1) as u64)),
            // An archive's oldest event is looked up before.
            Beginning::Earliest if self.rings.has_archive => Start::After(at(0)),
            Beginning::Earliest => Start::Earliest,
            Beginning::Newest(count) => Start::Newest(count),
            Beginning::Unknown => Start::UnknownId,
        });
        let is_at_last = self.feed.waiting.is_empty();
        let opening = match self.feed.subscribe(&filters(added), start) {
            Ok(opening) => opening,
            Err(error) => return assert_eq!((error, is_at_last), (FeedError::TooManyReplays, false)),
        };
        let before = self.matched();
        self.filters.extend(added);
        self.replays += usize::from(start.is_some());
        self.has_unknown |= start == Some(Start::UnknownId);
        self.has_newest |= matches!(start, Some(Start::Newest(_)));
        let begins = opening.position.map_or(0, |position| position.sequence);
        if start.is_none() && is_at_last && self.matched() != before {
            assert_eq!(begins, self.events.len() as u64, "it begins with the next event");
        }
        for topic in self.matched().difference(&before) {
            if start.is_none() {
                assert!(self.newest.get(topic).is_none_or(|&newest| newest <= begins));
            }
            self.seen.insert(topic, begins);
        }
    }

    /// Fills one batch, publishes, and writes as many of the batch's frames as `choose` says. Returns whether there was
    /// anything.
    fn write(&mut self, choose: impl FnOnce(usize) -> usize, topics: &[usize]) -> bool {
        let mut batch = Batch::default();
        match self.feed.poll_fill(&mut Context::from_waker(Waker::noop()), &mut batch) {
            Poll::Pending => return false,
            Poll::Ready(Err(Notice::Gap(gap))) => self.receive_gap(gap),
            Poll::Ready(Err(notice)) => panic!("{notice:?}"),
            Poll::Ready(Ok(())) => {
                assert!(!batch.is_empty());
                self.publish(topics);
                let count = choose(batch.len());
                batch.frames().take(count).for_each(|frame| self.receive(frame.id().sequence));
                self.feed.take(&batch, count);
                if batch.is_all() && count == batch.len() && topics.is_empty() {
                    let next = self.feed.poll_fill(&mut Context::from_waker(Waker::noop()), &mut batch);
                    assert!(next.is_pending(), "the task would not have been woken");
                }
            }
        }
        true
    }

    fn receive(&mut self, sequence: u64) {
        let topic = self.events[sequence as usize - 1];
        let seen = *self.seen.get(topic).unwrap_or_else(|| panic!("{topic} was not asked for"));
        assert!(sequence > seen, "{sequence} of {topic} comes after {seen}");
        self.check(topic, seen, sequence - 1);
        self.seen.insert(topic, sequence);
        self.newest.insert(topic, sequence);
        if sequence < self.last {
            self.replays = self.replays.checked_sub(1).expect("only a replay steps back");
        }
        self.last = sequence;
    }

    /// Asserts that what is missing of `topic` after `from` and up to `to` is in gaps.
    fn check(&self, topic: &str, from: u64, to: u64) {
        let of = Topic::new(topic).unwrap();
        for missing in (from + 1..=to).filter(|&sequence| self.events[sequence as usize - 1] == topic) {
            let is_in_gap = self.gaps.iter().any(|(from, to, filters)| {
                (from + 1..=*to).contains(&missing) && filters.iter().any(|filter| filter.matches(&of))
            });
            assert!(is_in_gap, "{missing} of {topic} neither came nor is it in a gap");
        }
    }

    fn check_all(&self) {
        self.seen.iter().for_each(|(topic, &seen)| self.check(topic, seen, self.events.len() as u64));
    }

    fn receive_gap(&mut self, gap: Gap) {
        let from = gap.from.map_or(0, |from| from.sequence);
        let own = filters(&self.filters.iter().copied().collect::<Vec<_>>());
        let topics = gap.topics.clone().unwrap_or_else(|| own.clone());
        assert!(!topics.is_empty() && topics.iter().all(|filter| own.contains(filter)), "{gap:?}");
        assert!(from <= gap.resume.sequence && gap.resume.sequence <= gap.to.sequence, "{gap:?}");
        assert!(gap.to.sequence <= self.events.len() as u64, "{gap:?}");
        match gap.reason {
            GapReason::UnknownId => assert!(self.has_unknown),
            // The newest events, and those after an unknown position, are read from the rings.
            GapReason::Evicted => {
                let reads_rings = self.log.is_none() || self.has_newest || self.has_unknown;
                assert!(self.rings.history < 1000 && reads_rings, "{gap:?}");
            }
            GapReason::Lagged => assert!(self.rings.history < 1000, "{gap:?}"),
            GapReason::Epoch => panic!("there is one epoch: {gap:?}"),
        }
        self.gaps.push((from, gap.to.sequence, topics));
    }
}

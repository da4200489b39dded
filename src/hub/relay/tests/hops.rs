//! Two hubs behind one backbone, each more or less behind it, and clients that hop between them.

use std::future::pending;

use super::*;

/// What happens on the backbone, for every hub in the same order.
#[derive(Clone, Debug)]
enum Change {
    Events(Vec<&'static str>),
    Epoch,
}

#[derive(Clone, Debug)]
enum Step {
    Change(Change),
    /// A hub applies up to this many of the changes that it lacks.
    Relay(usize, usize),
    Read(usize),
    Hop(usize),
}

const FILTERS: [&[&str]; 4] = [&[], &["a"], &["x:*"], &["b"]];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let topics = proptest::collection::vec(prop::sample::select(vec!["a", "b", "x:1", "x:2"]), 1..8);
    let step = prop_oneof![
        6 => topics.prop_map(|topics| Step::Change(Change::Events(topics))),
        1 => Just(Step::Change(Change::Epoch)),
        4 => (0usize..2, 1usize..4).prop_map(|(hub, count)| Step::Relay(hub, count)),
        5 => (0..FILTERS.len()).prop_map(Step::Read),
        5 => (0..FILTERS.len()).prop_map(Step::Hop),
    ];
    proptest::collection::vec(step, 1..80)
}

struct World {
    changes: Vec<Change>,
    nodes: [Nodes; 2],
    /// The number of changes that each hub has applied.
    applied: [usize; 2],
    newest: StreamPosition,
    /// The topic of each event of the backbone.
    topics: BTreeMap<(u64, u64), &'static str>,
}

struct Client {
    hub: usize,
    filters: &'static [&'static str],
    subscription: Subscription,
    seen: StreamPosition,
}

impl World {
    fn new() -> Self {
        let nodes = [Nodes::new(4, 8), Nodes::new(4, 8)];
        Self { changes: Vec::new(), nodes, applied: [0; 2], newest: at(7, 0), topics: BTreeMap::new() }
    }

    fn change(&mut self, change: Change) {
        match &change {
            Change::Events(topics) => {
                for topic in topics {
                    self.newest.sequence += 1;
                    self.topics.insert((self.newest.epoch.0, self.newest.sequence), topic);
                }
            }
            Change::Epoch => self.newest = at(self.newest.epoch.0 + 1, 0),
        }
        self.changes.push(change);
    }

    fn relay(&mut self, hub: usize, count: usize) {
        let end = self.changes.len().min(self.applied[hub].saturating_add(count));
        for change in &self.changes[self.applied[hub]..end] {
            match change {
                Change::Events(topics) => self.nodes[hub].publish(topics),
                Change::Epoch => self.nodes[hub].begin_epoch(),
            }
            self.nodes[hub].relay();
        }
        self.applied[hub] = end;
    }

    /// Resumes after `seen`. The hub gets what it lacks after it has asked the archive.
    async fn resume(&mut self, hub: usize, filters: &[&str], seen: StreamPosition) -> Subscription {
        let resolving = self.nodes[hub].hub.clone();
        let start = tokio::select! {
            biased;
            start = resolving.resolve(Start::After(seen), Duration::from_secs(1)) => start,
            () = async {
                let before_oldest = at(self.newest.epoch.0, 0);
                answer_extent(&mut self.nodes[hub].requests, before_oldest, self.newest).await;
                self.relay(hub, usize::MAX);
                pending().await
            } => unreachable!("it never returns"),
        };
        assert_eq!(start, Ok(Start::After(seen)), "the backbone has issued it");
        self.nodes[hub].subscribe(filters, Start::After(seen))
    }

    fn read(&mut self, client: &mut Client) -> Result<(), TestCaseError> {
        let mut has_begun_epoch = false;
        for delivered in self.nodes[client.hub].drain(&mut client.subscription) {
            match delivered {
                Delivered::Event(id) => {
                    prop_assert_eq!(id.epoch, client.seen.epoch, "a new epoch begins with a gap");
                    let next = self.wanted(client).next();
                    prop_assert_eq!(next, Some(id), "after {}", client.seen);
                    client.seen = id;
                }
                Delivered::Gap(gap) => {
                    let from = gap.from.expect("its position is known");
                    let next = self.wanted(client).next();
                    prop_assert_eq!((from.epoch, gap.to), (client.seen.epoch, gap.resume));
                    prop_assert!(next.is_none_or(|next| next.sequence > from.sequence), "{:?} lacks {:?}", gap, next);
                    // The rings are small, and the client may not have read for a while.
                    let has_cause = match gap.reason {
                        GapReason::Epoch => gap.resume.epoch > client.seen.epoch,
                        GapReason::Evicted => has_begun_epoch,
                        reason => reason == GapReason::Lagged,
                    };
                    prop_assert!(has_cause, "{:?}", gap);
                    has_begun_epoch = gap.reason == GapReason::Epoch;
                    client.seen = gap.resume;
                }
            }
        }
        Ok(())
    }

    /// The events of the client's filters after what it has seen of that epoch.
    fn wanted(&self, client: &Client) -> impl Iterator<Item = StreamPosition> {
        let filters: Vec<TopicFilter> = client.filters.iter().map(|filter| TopicFilter::new(filter).unwrap()).collect();
        let takes = move |topic: &str| {
            filters.is_empty() || filters.iter().any(|filter| filter.matches(&Topic::new(topic).unwrap()))
        };
        let (epoch, seen) = (client.seen.epoch.0, client.seen.sequence);
        let after = self.topics.range((epoch, seen + 1)..=(epoch, u64::MAX));
        after.filter(move |(_, topic)| takes(topic)).map(|(&(epoch, sequence), _)| at(epoch, sequence))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]

    /// A hub may lack events and epochs that a client has seen on the other one. A hop causes no gap, unless an epoch has
    /// ended.
    #[test]
    fn clients_that_hop_between_two_hubs_get_every_event_once(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut world = World::new();
        let mut clients: Vec<Client> = Vec::new();
        for filters in FILTERS {
            let subscription = world.nodes[0].subscribe(filters, Start::After(at(7, 0)));
            clients.push(Client { hub: 0, filters, subscription, seen: at(7, 0) });
        }
        let end = [Step::Relay(0, usize::MAX), Step::Relay(1, usize::MAX)].into_iter().chain((0..4).map(Step::Read));
        for step in steps.into_iter().chain(end) {
            match step {
                Step::Change(change) => world.change(change),
                Step::Relay(hub, count) => world.relay(hub, count),
                Step::Read(number) => world.read(&mut clients[number])?,
                Step::Hop(number) => {
                    let client = &mut clients[number];
                    client.hub = 1 - client.hub;
                    client.subscription = runtime.block_on(world.resume(client.hub, client.filters, client.seen));
                }
            }
        }
        for client in &clients {
            prop_assert_eq!(client.seen.epoch, world.newest.epoch);
            prop_assert_eq!(world.wanted(client).next(), None, "after {}", client.seen);
        }
    }
}

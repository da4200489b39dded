//! Subscriptions against an oracle: a plain list of all events that were ever published.
//!
//! Random sequences of publishing, subscribing, partial reading, reconnecting and expiring run against a small hub, so that
//! rings wrap, bytes run out and topics are dropped. In all of them a client that keeps its last event id
//!
//! * gets only events of its topics, in strictly increasing order, none twice, over all its connections;
//! * gets each event of its topics, or before any later event a gap that covers it by range and filters;
//! * misses nothing of the filters that a gap does not name;
//! * gets the number of missed events in each gap, unless the gap names a pattern, or is about everything while events of
//!   reserved topics may be in its range;
//! * gets no gap where nothing is missing: an event of a named topic is missing, or the firehose has evicted an event that
//!   the pattern's cursor has not passed, whether or not it matches. Once the client has read all that there was, it gets a gap
//!   only if an event has come since whose topic begins like the pattern;
//! * is as far behind as it reports, even after a part of what was ready;
//! * gets the right opening.

mod steps;

use std::collections::BTreeSet;

use proptest::prelude::*;
use steps::{Beginning, CLIENTS, Step, options, steps};

use super::*;
use crate::hub::channel::Channel;
use crate::position::Sequence;
use crate::ring::Read;
use crate::wire::Format;

const TOPICS: [&str; 8] = ["a", "b", "c:1", "c:2", "c:1:x", "d", "user:a", "user:b"];
/// Named topics with and without others, patterns that overlap them, everything, and the same of reserved topics.
const FILTERS: [&str; 11] = ["a", "b", "c:1", "d", "c:*", "c:1:*", "zz:*", "*", "**", "user:a", "user:*"];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_event_is_delivered_once_in_order_or_covered_by_a_gap(options in options(), steps in steps()) {
        let mut world = World::new(options);
        for step in steps {
            world.play(step);
            world.check_bounds();
        }
        for client in 0..CLIENTS {
            world.read_to_the_end(client);
        }
    }
}

struct World {
    hub: Hub,
    options: HubOptions,
    /// The topic of each event: that of sequence n is at n - 1.
    events: Vec<&'static str>,
    clients: [Option<Client>; CLIENTS],
    /// What clients that read the same share.
    batch: Batch,
}

struct Client {
    subscription: Subscription,
    filters: Vec<&'static str>,
    filter: SubscriptionFilter,
    /// What it sends as `Last-Event-ID` when it reconnects: the id of the last event or gap, or of the opening.
    last_id: Option<StreamPosition>,
    /// Every event up to here was received, is in one of `gaps`, or came before the client.
    seen: Sequence,
    /// The ranges of its gaps, each after its first and up to its second position, and their filters.
    gaps: Vec<(Sequence, Sequence, Option<Vec<TopicFilter>>)>,
    /// What was published, and what of it was retained, when this connection was opened: its first gap is about that.
    opened: (Sequence, BTreeSet<Sequence>),
    /// The events that the gaps of this connection counted.
    counted: BTreeSet<Sequence>,
    /// The last event when this connection had nothing left to read.
    level: Option<Sequence>,
    /// Whether `next` may have read ahead, of which batches know nothing.
    is_ahead: bool,
}

fn retained_in(channel: &Channel) -> Vec<Sequence> {
    let mut sequences = Vec::new();
    let mut index = channel.ring.retained().start;
    while let Read::Run(run) = channel.ring.read(index) {
        sequences.extend(run.indices().map(|index| run.get(index).sequence()));
        index = run.indices().end;
    }
    sequences
}

impl World {
    fn new(options: HubOptions) -> Self {
        let hub = Hub::new(&options);
        Self { hub, options, events: Vec::new(), clients: [None, None, None], batch: Batch::default() }
    }

    fn head(&self) -> Sequence {
        self.events.len() as Sequence
    }

    fn play(&mut self, step: Step) {
        if !matches!(step, Step::Write { .. } | Step::Publish { .. }) {
            // Rings may be dropped.
            self.batch.clear();
        }
        match step {
            Step::Publish { topics, bytes, together } => self.publish(&topics, bytes, together),
            Step::Subscribe { client, filters, start } => {
                let start = match start {
                    Beginning::Live => Start::Live,
                    Beginning::Earliest => Start::Earliest,
                    Beginning::Newest(count) => Start::Newest(count),
                    Beginning::After(index) => Start::After(at(index.index(self.events.len() + 1) as Sequence)),
                    Beginning::OtherEpoch => Start::After(StreamPosition::new(Epoch(999), 5)),
                    Beginning::Future => Start::After(at(1_000_000)),
                    Beginning::Unknown => Start::UnknownId,
                };
                self.clients[client] = Some(self.open(filters, start));
            }
            Step::Write { client, counts } => self.with(client, |world, client| {
                for (count, topics) in counts {
                    world.write(client, |len| count.index(len + 1), topics);
                }
            }),
            Step::Next { client, count } => self.with(client, |world, client| {
                let _ = (0..count).all(|_| world.next(client));
            }),
            Step::Reconnect { client } => {
                if let Some(old) = self.clients[client].take() {
                    drop(old.subscription);
                    let start = old.last_id.map_or(Start::UnknownId, Start::After);
                    let new = self.open(old.filters, start);
                    let (seen, gaps) = if self.is_known(start) { (old.seen, old.gaps) } else { (0, Vec::new()) };
                    self.clients[client] = Some(Client { seen, gaps, ..new });
                }
            }
            Step::Sweep => now(self.hub.evict_expired()),
        }
    }

    fn publish(&mut self, topics: &[usize], bytes: usize, together: bool) {
        let event = |&topic: &usize| Event::new(Topic::new(TOPICS[topic]).unwrap(), Payload::text("x".repeat(bytes)));
        let publications: Vec<Vec<Event>> = match together {
            true => vec![topics.iter().map(event).collect()],
            false => topics.iter().map(|topic| vec![event(topic)]).collect(),
        };
        for events in publications {
            let (first, count) = (self.head() + 1, events.len() as u64);
            let published = now(self.hub.publish_all(events)).unwrap().unwrap();
            assert_eq!(published, Published { first: at(first), last: at(first + count - 1) });
            self.events.extend(std::iter::repeat_n("", count as usize));
        }
        let first = self.events.len() - topics.len();
        for (place, topic) in self.events[first..].iter_mut().zip(topics) {
            *place = TOPICS[*topic];
        }
        assert_eq!(self.hub.position(), at(self.head()));
    }

    fn with(&mut self, client: usize, act: impl FnOnce(&mut Self, &mut Client)) {
        if let Some(mut open) = self.clients[client].take() {
            act(self, &mut open);
            self.clients[client] = Some(open);
        }
    }

    fn is_known(&self, start: Start) -> bool {
        matches!(start, Start::After(position) if position.epoch == EPOCH && position.sequence <= self.head())
    }

    fn interest_of(filters: &[&str]) -> SubscriptionFilter {
        filter(filters)
    }

    fn is_pattern(filter: &SubscriptionFilter) -> bool {
        filter.selects()
    }

    /// The events after `after` that match `filter`.
    fn wanted(&self, filter: &SubscriptionFilter, after: Sequence) -> BTreeSet<Sequence> {
        let is_wanted = |sequence: &Sequence| filter.matches(&Topic::new(self.events[*sequence as usize - 1]).unwrap());
        (after + 1..=self.head()).filter(is_wanted).collect()
    }

    /// The number of events after `after` in the firehoses that `filter` reads.
    fn of_firehoses(&self, filter: &SubscriptionFilter, after: Sequence) -> u64 {
        let topics = self.events[after as usize..].iter().map(|topic| Topic::new(topic).unwrap());
        topics.filter(|topic| filter.reads(topic.is_reserved())).count() as u64
    }

    /// The number of retained events after `after` that a cursor in the firehose must not pass. Where topics are named too, these
    /// are all.
    fn left_in(&self, firehose: &Channel, filter: &SubscriptionFilter, after: Sequence) -> u64 {
        let is_mixed = filter.topics.iter().any(|topic| topic.is_reserved() == firehose.is_reserved);
        let is_left = |&sequence: &Sequence| {
            let topic = Topic::new(self.events[sequence as usize - 1]).unwrap();
            sequence > after && (is_mixed || filter.matches(&topic))
        };
        retained_in(firehose).iter().filter(|sequence| is_left(sequence)).count() as u64
    }

    /// Those of them that stand in the rings that they are read from.
    fn retained(&self, filter: &SubscriptionFilter, after: Sequence) -> BTreeSet<Sequence> {
        let mut sequences = Vec::new();
        for topic in &filter.topics {
            if let Some(channel) = self.hub.0.history.topics.get(topic) {
                sequences.extend(retained_in(&channel));
            }
        }
        for firehose in self.hub.0.history.firehoses() {
            sequences.extend(retained_in(firehose).into_iter().filter(|&sequence| {
                filter.matches_in_firehose(&Topic::new(self.events[sequence as usize - 1]).unwrap())
            }));
        }
        sequences.into_iter().filter(|&sequence| sequence > after).collect()
    }

    fn open(&self, filters: Vec<&'static str>, start: Start) -> Client {
        let filter = Self::interest_of(&filters);
        let retained = self.retained(&filter, 0);
        let before_first = retained.first().map_or(self.head(), |first| first - 1);
        let (subscription, opening) = self.hub.subscribe(filter.clone(), start);
        let position = match start {
            Start::Live => Some(self.head()),
            Start::Earliest => Some(before_first),
            Start::Newest(0) => Some(self.head()),
            Start::Newest(count) => {
                let first = retained.iter().rev().nth(count as usize - 1);
                Some(first.map_or(before_first, |first| first - 1))
            }
            Start::After(position) if self.is_known(start) => Some(position.sequence),
            Start::After(_) | Start::UnknownId => None,
        };
        if Self::is_pattern(&filter) && matches!(start, Start::Earliest | Start::Newest(_)) {
            // The first frame of the firehose need not match the pattern.
            assert!(opening.position.unwrap().sequence <= position.unwrap(), "{start:?}");
        } else {
            assert_eq!(opening.position, position.map(at), "{start:?}");
        }
        let asked = match start {
            Start::After(position) if position.epoch != EPOCH => position,
            _ => StreamPosition::UNKNOWN,
        };
        assert_eq!(opening.id, opening.position.unwrap_or(asked), "{start:?}");
        let position = opening.position.map(|position| position.sequence);
        let after = position.unwrap_or(0);
        assert_eq!(opening.replayed.unwrap(), self.retained(&filter, after).len() as u64, "{start:?}");
        Client {
            subscription,
            filters,
            filter,
            last_id: Some(opening.id),
            seen: after,
            gaps: Vec::new(),
            opened: (self.head(), retained),
            counted: BTreeSet::new(),
            level: (start == Start::Live).then(|| self.head()),
            is_ahead: false,
        }
    }

    /// Reads one delivery, if there is any.
    fn next(&self, client: &mut Client) -> bool {
        match poll_next(&mut client.subscription, Waker::noop()) {
            Poll::Ready(Some(Delivery::Event(frame))) => self.receive(client, &frame),
            Poll::Ready(Some(Delivery::Gap(gap))) => self.receive_gap(client, gap),
            Poll::Ready(None) => panic!("the hub is open"),
            Poll::Pending => {
                self.check_seen(client, self.head());
                client.level = Some(self.head());
                client.is_ahead = false;
                return false;
            }
        }
        client.is_ahead = true;
        true
    }

    /// Fills one batch, publishes, and writes as many of the batch's frames as `choose` says.
    fn write(&mut self, client: &mut Client, choose: impl FnOnce(usize) -> usize, topics: Vec<usize>) -> bool {
        if client.is_ahead {
            return self.next(client);
        }
        let mut batch = std::mem::take(&mut self.batch);
        let has_more = self.write_with(&mut batch, client, choose, topics);
        self.batch = batch;
        has_more
    }

    fn write_with(
        &mut self,
        batch: &mut Batch,
        client: &mut Client,
        choose: impl FnOnce(usize) -> usize,
        topics: Vec<usize>,
    ) -> bool {
        if let Err(gap) = client.subscription.fill(batch) {
            self.receive_gap(client, gap);
            return true;
        }
        if batch.is_empty() {
            self.check_seen(client, self.head());
            client.level = Some(self.head());
            return false;
        }
        if !topics.is_empty() {
            self.publish(&topics, 0, true);
        }
        let count = choose(batch.len());
        for frame in batch.frames().take(count) {
            self.receive(client, frame);
        }
        client.subscription.take(batch, count);
        if Self::is_pattern(&client.filter) && (1..batch.len()).contains(&count) {
            let in_firehose = self.of_firehoses(&client.filter, client.seen);
            let named = self.wanted(&client.filter, client.seen).len() as u64;
            let firehoses = self.hub.0.history.firehoses().into_iter();
            let mut read = firehoses.filter(|firehose| client.filter.reads(firehose.is_reserved));
            let left = read.clone().map(|firehose| self.left_in(firehose, &client.filter, client.seen)).sum();
            let behind = client.subscription.behind();
            assert!(behind >= left, "no cursor has passed events that are wanted");
            let may_lag = read.any(|firehose| firehose.oldest_place().1 > client.seen);
            assert!(behind <= in_firehose + named || may_lag, "no cursor stays behind");
        }
        true
    }

    fn read_to_the_end(&mut self, client: usize) {
        self.with(client, |world, client| while world.write(client, |len| len, Vec::new()) {});
    }

    fn receive(&self, client: &mut Client, frame: &Frame) {
        let sequence = frame.sequence();
        assert!(
            client.last_id.is_none_or(|last| last.epoch != EPOCH || sequence > last.sequence),
            "in order, and once"
        );
        assert_eq!(frame.topic().as_str(), self.events[sequence as usize - 1]);
        assert!(client.filter.matches(frame.topic()), "{} was not asked for", frame.topic());
        let id = format!("id: {}\n", at(sequence));
        assert!(frame.sse().starts_with(id.as_bytes()));
        if sequence.is_multiple_of(2) {
            // A reader of the other format.
            let (topic, text) = (frame.topic(), frame.payload());
            let (r#type, at) = (r#""type":"event""#, at(sequence));
            let json = format!(r#"{{{type},"id":"{at}","topic":"{topic}","event":"message","text":"{text}"}}"#);
            let envelope = frame.chunk(Format::Envelope).body();
            assert_eq!(envelope, format!("{id}data: {json}\n\n").as_bytes());
        }
        self.check_seen(client, sequence - 1);
        client.seen = sequence;
        client.last_id = Some(at(sequence));
    }

    /// Whether a gap that names these filters covers this event.
    fn is_about(&self, topics: Option<&[TopicFilter]>, filter: &SubscriptionFilter, sequence: Sequence) -> bool {
        let topic = Topic::new(self.events[sequence as usize - 1]).unwrap();
        topics.is_none_or(|filters| match filter.topics.contains(&topic) {
            true => filters.contains(&TopicFilter::Exact(topic)),
            false => filters.iter().any(|filter| filter.matches(&topic)),
        })
    }

    /// Asserts that everything up to `sequence` was received or is in a gap.
    fn check_seen(&self, client: &mut Client, sequence: Sequence) {
        for missing in self.wanted(&client.filter, client.seen).range(..=sequence) {
            let is_in_gap = client.gaps.iter().any(|(from, to, topics)| {
                (from + 1..=*to).contains(missing) && self.is_about(topics.as_deref(), &client.filter, *missing)
            });
            assert!(is_in_gap, "{missing} was neither received nor in a gap");
        }
    }

    fn receive_gap(&self, client: &mut Client, gap: Gap) {
        let resumed_from = client.last_id;
        let from = match gap.reason {
            GapReason::Evicted | GapReason::Lagged => {
                assert_eq!(gap.from, resumed_from, "a gap begins with the last that was seen");
                resumed_from.unwrap().sequence
            }
            GapReason::Epoch => {
                assert_eq!(gap.from, resumed_from);
                0
            }
            GapReason::UnknownId => {
                assert_eq!((gap.from, gap.missed), (None, None));
                0
            }
        };
        assert_eq!((gap.to.epoch, gap.resume.epoch), (EPOCH, EPOCH));
        let (to, resume) = (gap.to.sequence, gap.resume.sequence);
        assert!(from <= resume && resume <= to && to <= self.head(), "{gap:?}");

        let (head, retained) = match gap.reason {
            GapReason::Lagged => (self.head(), self.retained(&client.filter, from)),
            _ => client.opened.clone(),
        };
        let mut wanted = self.wanted(&client.filter, from);
        wanted.retain(|&wanted| wanted <= head);
        wanted.retain(|wanted| !client.counted.contains(wanted));
        let is_restart = matches!(gap.reason, GapReason::Epoch | GapReason::UnknownId);
        // Losses of other filters, or behind its end, are the next gap.
        let is_named_in_gap =
            |lost: &&Sequence| **lost <= to && self.is_about(gap.topics.as_deref(), &client.filter, **lost);
        let lost: BTreeSet<_> = wanted.difference(&retained).filter(is_named_in_gap).copied().collect();
        if let Some(topics) = &gap.topics {
            let firehoses = [false, true].map(|of_reserved| usize::from(client.filter.reads(of_reserved)));
            let count = client.filter.topics.len() + firehoses.iter().sum::<usize>();
            assert!(!topics.is_empty() && count > 1, "{gap:?}");
            assert!(topics.iter().all(|filter| client.filters.contains(&filter.as_str())), "{gap:?}");
        }
        let is_named =
            |topic: &Topic| gap.topics.as_ref().is_none_or(|t| t.contains(&TopicFilter::Exact(topic.clone())));
        let has_pattern = Self::is_pattern(&client.filter)
            && gap.topics.as_ref().is_none_or(|t| t.iter().any(|filter| matches!(filter, TopicFilter::Pattern(_))));
        if matches!(gap.reason, GapReason::Evicted | GapReason::Lagged) {
            assert!(from < to, "nothing is missing: {gap:?}");
            match gap.missed {
                Some(missed) => assert_eq!(missed, lost.len() as u64, "{gap:?}"),
                None => {
                    let may_be_reserved = client.filter.is_everything()
                        && self.events[from as usize..].iter().any(|topic| Topic::new(topic).unwrap().is_reserved());
                    assert!(has_pattern || may_be_reserved, "the number of what is missing is known: {gap:?}");
                }
            }
            if !has_pattern {
                assert_eq!(lost.last(), Some(&to), "nothing is missing: {gap:?}");
            }
            for topic in client.filter.topics.iter().filter(|topic| is_named(topic)) {
                let is_lost = lost.iter().any(|&lost| self.events[lost as usize - 1] == topic.as_str());
                assert!(is_lost, "nothing is missing of {topic}: {gap:?}");
            }
            if has_pattern {
                let firehoses = self.hub.0.history.firehoses().into_iter();
                let mut read = firehoses.filter(|firehose| client.filter.reads(firehose.is_reserved));
                assert!(read.any(|firehose| firehose.oldest_place().1 > from), "nothing was evicted: {gap:?}");
                let has_come = client.level.is_none_or(|level| self.has_come_for_pattern(client, &gap, level));
                assert!(gap.reason == GapReason::Evicted || has_come, "nothing for the pattern: {gap:?}");
            }
        }
        assert!(
            retained.range(from + 1..).next().is_none_or(|&first| resume < first),
            "what still comes, comes after the place to resume from"
        );
        if is_restart {
            assert!(gap.topics.is_none(), "it is about all filters: {gap:?}");
            client.opened = (self.head(), self.retained(&client.filter, to));
        }
        client.counted.extend(lost);
        client.gaps.push((from, to, gap.topics));
        client.last_id = Some(gap.resume);
    }

    /// Whether events after `from` may match a pattern that the gap is about.
    fn has_come_for_pattern(&self, client: &Client, gap: &Gap, from: Sequence) -> bool {
        let named = gap.topics.clone().unwrap_or_else(|| super::filters(&client.filters));
        let mut patterns = named.iter().filter_map(|filter| match filter {
            TopicFilter::Pattern(pattern) => Some(pattern),
            TopicFilter::Exact(_) => None,
        });
        let topics = || self.events[from as usize..].iter().map(|topic| Topic::new(topic).unwrap());
        let may_match = |topic: Topic, prefix: &str| prefix.is_empty() || topic.prefixes().any(|own| own == prefix);
        patterns.any(|pattern| topics().any(|topic| may_match(topic, pattern.prefix())))
    }

    fn check_bounds(&self) {
        let history = &self.hub.0.history;
        let topics: Vec<_> = history.topics.slices().flatten().collect();
        for channel in &topics {
            assert!(retained_in(channel).len() <= self.options.history);
        }
        for firehose in history.firehoses() {
            assert!(retained_in(firehose).len() <= self.options.firehose_history);
        }
        let bytes = topics.iter().chain(history.firehoses()).map(|channel| channel.weight() as u64).sum::<u64>();
        assert_eq!(
            bytes + history.derived_bytes.get(),
            history.retained_bytes(),
            "what the channels hold is what is accounted for"
        );
        let events = topics.iter().map(|channel| retained_in(channel).len() as u64).sum::<u64>();
        assert_eq!(events, history.retained_events());
        assert!(bytes <= self.options.history_bytes as u64);
    }
}

//! Feeds by example; `reference` compares them with a plain list of events.

mod latest;
mod reference;

use std::future::Future;
use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;
use crate::event::{Event, Payload};
use crate::hub::archive::{Archive, ArchiveFuture, Page};
use crate::hub::relay::Relay;
use crate::hub::{Gap, GapReason, HubOptions};
use crate::position::Epoch;
use crate::sync::{Mutex, lock};
use crate::topic::Topic;

const EPOCH: Epoch = Epoch(1000);

fn at(sequence: u64) -> StreamPosition {
    StreamPosition::new(EPOCH, sequence)
}

fn filters(filters: &[&str]) -> Vec<TopicFilter> {
    filters.iter().map(|filter| TopicFilter::new(filter).unwrap()).collect()
}

fn event(topic: &str) -> Event {
    Event::new(Topic::new(topic).unwrap(), Payload::text("x"))
}

/// The output of a future that is ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the future is not ready"),
    }
}

/// A hub that retains `history` events of each topic and `firehose_history` in all, with the events `topics`.
fn hub(history: usize, firehose_history: usize, topics: &[&str]) -> Hub {
    let hub = Hub::new(&HubOptions { epoch: EPOCH, history, firehose_history, ..HubOptions::default() });
    publish(&hub, topics);
    hub
}

fn publish(hub: &Hub, topics: &[&str]) {
    for topic in topics {
        now(hub.publish(event(topic))).unwrap();
    }
}

fn open(hub: &Hub, texts: &[&str], start: Start) -> Feed {
    Feed::open(hub, &WakeGroup::inline(), &filters(texts), Mode::Events, start, usize::MAX).unwrap().0
}

/// Reads all that is ready: the events' sequences, and the gaps.
fn read(feed: &mut Feed) -> (Vec<u64>, Vec<Gap>) {
    let (mut sequences, mut gaps, mut batch) = (Vec::new(), Vec::new(), Batch::default());
    while let Poll::Ready(outcome) = feed.poll_fill(&mut Context::from_waker(Waker::noop()), &mut batch) {
        match outcome {
            Ok(()) => {
                sequences.extend(batch.frames().map(|frame| frame.id().sequence));
                feed.take(&batch, batch.len());
            }
            Err(Notice::Gap(gap)) => gaps.push(gap),
            Err(notice) => panic!("{notice:?}"),
        }
    }
    (sequences, gaps)
}

fn opening_at(sequence: u64) -> Opening {
    Opening { id: at(sequence), position: Some(at(sequence)), replayed: None }
}

#[test]
fn added_topic_begins_with_the_next_event() {
    let hub = hub(64, 64, &["a", "b", "a", "b"]);
    let mut feed = open(&hub, &["a"], Start::After(at(0)));
    assert_eq!(read(&mut feed).0, [1, 3]);
    assert_eq!(feed.subscribe(&filters(&["b"]), None), Ok(opening_at(4)));
    publish(&hub, &["b", "a"]);
    assert_eq!(read(&mut feed).0, [5, 6]);
}

#[test]
fn added_topic_does_not_begin_with_older_events_than_those_that_are_unread() {
    let hub = hub(64, 64, &["a", "b", "b", "a", "b"]);
    let mut feed = open(&hub, &["a"], Start::After(at(1)));
    assert_eq!(feed.subscribe(&filters(&["b"]), None), Ok(opening_at(5)));
    publish(&hub, &["b"]);
    assert_eq!(read(&mut feed).0, [4, 6]);
}

#[test]
fn feed_without_topics_has_no_events_and_no_gaps() {
    let hub = hub(1, 1, &["a", "b"]);
    let mut feed = open(&hub, &[], Start::UnknownId);
    publish(&hub, &["a"]);
    assert_eq!(read(&mut feed), (vec![], vec![]));
    assert_eq!(feed.subscribe(&filters(&["a"]), None), Ok(opening_at(3)));
    publish(&hub, &["a", "b"]);
    assert_eq!(read(&mut feed), (vec![4], vec![]));
    feed.unsubscribe(&filters(&["a"])).unwrap();
    publish(&hub, &["a", "b"]);
    assert_eq!((read(&mut feed), feed.filters()), ((vec![], vec![]), &[][..]));
}

#[test]
fn replay_of_added_topic_precedes_what_the_others_have_had_since() {
    let hub = hub(64, 64, &["a", "b", "a", "b", "a"]);
    let mut feed = open(&hub, &["a"], Start::After(at(0)));
    assert_eq!(read(&mut feed).0, [1, 3, 5]);
    assert_eq!(feed.subscribe(&filters(&["b"]), Some(Start::After(at(2)))).unwrap().id, at(2));
    publish(&hub, &["a", "b"]);
    assert_eq!(feed.position(), at(2), "a client that resumes now must not miss the replay");
    assert_eq!(read(&mut feed).0, [4, 6, 7]);
    assert_eq!(feed.position(), at(7));
}

#[test]
fn what_another_filter_has_delivered_is_not_replayed() {
    let hub = hub(64, 64, &["c:1", "c:2", "d", "c:1"]);
    let mut feed = open(&hub, &["c:1"], Start::After(at(0)));
    assert_eq!(read(&mut feed).0, [1, 4]);
    feed.subscribe(&filters(&["c:*"]), Some(Start::After(at(0)))).unwrap();
    publish(&hub, &["c:1"]);
    assert_eq!(read(&mut feed).0, [2, 5]);
    feed.subscribe(&filters(&["**"]), Some(Start::Earliest)).unwrap();
    assert_eq!(read(&mut feed).0, [3]);
    feed.subscribe(&filters(&["c:2"]), Some(Start::Earliest)).unwrap();
    assert_eq!(read(&mut feed).0, [] as [u64; 0]);
}

#[test]
fn topic_that_begins_at_a_later_event_waits_for_it() {
    let hub = hub(64, 64, &["a", "b", "a", "b", "a", "b"]);
    let mut feed = open(&hub, &["a"], Start::After(at(0)));
    assert_eq!(feed.subscribe(&filters(&["b"]), Some(Start::After(at(4)))).unwrap().id, at(4));
    assert_eq!(read(&mut feed).0, [1, 3, 5, 6]);
}

#[test]
fn position_of_no_event_is_a_gap_of_the_added_topic() {
    let hub = hub(64, 64, &["a", "b"]);
    let mut feed = open(&hub, &["a"], Start::After(at(0)));
    read(&mut feed);
    for (start, reason) in [
        (Start::After(at(99)), GapReason::UnknownId),
        (Start::UnknownId, GapReason::UnknownId),
        (Start::After(StreamPosition::new(Epoch(999), 5)), GapReason::Epoch),
    ] {
        let opening = feed.subscribe(&filters(&["b"]), Some(start)).unwrap();
        assert_eq!(opening.position, None);
        let (sequences, gaps) = read(&mut feed);
        assert_eq!((sequences, gaps.len()), (vec![2], 1), "{start:?}");
        assert_eq!((gaps[0].reason, &gaps[0].topics), (reason, &Some(filters(&["b"]))), "{start:?}");
        feed.unsubscribe(&filters(&["b"])).unwrap();
    }
}

#[test]
fn gap_before_a_change_names_the_filters_that_it_is_about() {
    let hub = hub(2, 64, &["a", "a", "a", "a", "b"]);
    let mut feed = open(&hub, &["a"], Start::After(at(1)));
    feed.subscribe(&filters(&["b"]), None).unwrap();
    let (sequences, gaps) = read(&mut feed);
    assert_eq!(sequences, [3, 4]);
    let gap = |topics| Gap {
        reason: GapReason::Evicted,
        from: Some(at(1)),
        to: at(2),
        missed: Some(1),
        topics,
        resume: at(2),
    };
    assert_eq!(gaps, [gap(Some(filters(&["a"])))]);

    let mut feed = open(&hub, &["a", "b"], Start::After(at(1)));
    assert!(feed.has_gap());
    feed.unsubscribe(&filters(&["a"])).unwrap();
    assert_eq!(read(&mut feed), (vec![5], vec![]), "a gap of topics that were removed is none");
}

#[test]
fn lag_before_a_change_is_still_lag() {
    let hub = hub(2, 64, &[]);
    let mut feed = open(&hub, &["a"], Start::Live);
    publish(&hub, &["a", "a", "a"]);
    assert!(feed.has_lagged());
    feed.subscribe(&filters(&["b"]), None).unwrap();
    let (sequences, gaps) = read(&mut feed);
    assert_eq!((sequences, gaps.len()), (vec![2, 3], 1));
    assert_eq!((gaps[0].reason, gaps[0].missed), (GapReason::Lagged, Some(1)));
}

#[test]
fn gap_of_a_replay_ends_with_it() {
    let hub = hub(2, 64, &["b", "b", "b", "b", "a"]);
    let mut feed = open(&hub, &["a"], Start::After(at(0)));
    read(&mut feed);
    feed.subscribe(&filters(&["b"]), Some(Start::After(at(1)))).unwrap();
    // What it would replay is evicted before it is read.
    publish(&hub, &["b", "b", "b"]);
    let (sequences, gaps) = read(&mut feed);
    assert_eq!(sequences, [7, 8]);
    let ranges: Vec<_> = gaps.iter().map(|gap| (gap.reason, gap.from.unwrap().sequence, gap.to.sequence)).collect();
    assert_eq!(
        ranges,
        [(GapReason::Evicted, 1, 2), (GapReason::Lagged, 2, 5), (GapReason::Evicted, 5, 6)],
        "each event is in one gap"
    );
}

#[test]
fn number_of_waiting_replays_is_limited() {
    let hub = hub(64, 64, &["a"]);
    let mut feed = open(&hub, &["a"], Start::Live);
    let topics: Vec<String> = (0..MAX_STRETCHES).map(|number| format!("t{number}")).collect();
    let subscribe = |feed: &mut Feed, topic: &str| feed.subscribe(&filters(&[topic]), Some(Start::After(at(0))));
    for topic in &topics[1..] {
        subscribe(&mut feed, topic).unwrap();
    }
    assert_eq!(subscribe(&mut feed, &topics[0]), Err(FeedError::TooManyReplays));
    read(&mut feed);
    subscribe(&mut feed, &topics[0]).unwrap();
    assert_eq!(feed.filters().len(), MAX_STRETCHES + 1);
}

#[test]
fn refused_change_changes_nothing() {
    let hub = hub(64, 64, &["a"]);
    let (mut feed, _) = Feed::open(&hub, &WakeGroup::inline(), &filters(&["a"]), Mode::Events, Start::Live, 1).unwrap();
    let refused = Err(FeedError::TooManySilentTopics);
    assert_eq!(feed.subscribe(&filters(&["b", "c"]), None), refused);
    assert_eq!(feed.subscribe(&filters(&["b", "c"]), Some(Start::Earliest)), refused);
    publish(&hub, &["a", "b"]);
    assert_eq!((read(&mut feed).0, feed.filters()), (vec![2], &filters(&["a"])[..]));
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn changed_feed_wakes_its_task() {
    let hub = hub(64, 64, &["a"]);
    let mut feed = open(&hub, &["a"], Start::Live);
    let count = std::sync::Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(count.clone());
    let wakes = |topic| {
        publish(&hub, &[topic]);
        count.0.swap(0, Ordering::Relaxed) > 0
    };
    let idle = |feed: &mut Feed| {
        read(feed);
        feed.wake(&waker);
    };
    idle(&mut feed);
    assert_eq!((wakes("a"), wakes("b")), (true, false));
    idle(&mut feed);
    feed.subscribe(&filters(&["b"]), None).unwrap();
    assert_eq!((wakes("a"), wakes("b")), (true, true));
    idle(&mut feed);
    feed.subscribe(&filters(&["c"]), Some(Start::After(at(0)))).unwrap();
    assert!(wakes("c"), "the replay comes first");
    idle(&mut feed);
    feed.unsubscribe(&filters(&["a"])).unwrap();
    assert_eq!((wakes("a"), wakes("b"), wakes("c")), (false, true, true));
}

/// A log that answers at once.
#[derive(Default)]
struct Log {
    events: Mutex<Vec<Event>>,
    relay: OnceLock<Relay>,
}

impl Archive for Log {
    fn page_after(&self, after: StreamPosition) -> ArchiveFuture<Page> {
        let events = lock(&self.events);
        let begin = after.sequence as usize;
        let end = events.len().min(begin + 3);
        let page =
            self.relay.get().unwrap().page(StreamPosition::new(after.epoch, after.sequence + 1), &events[begin..end]);
        Box::pin(std::future::ready(page))
    }

    fn before_oldest(&self) -> ArchiveFuture<StreamPosition> {
        unreachable!("feeds are opened at resolved positions")
    }

    fn has_issued(&self, _: StreamPosition) -> ArchiveFuture<bool> {
        unreachable!("feeds are opened at resolved positions")
    }
}

/// A hub with an archive that retains everything.
fn relayed(history: usize, firehose_history: usize) -> (Hub, Arc<Log>) {
    let options = HubOptions { history, firehose_history, ..HubOptions::default() };
    let log = Arc::new(Log::default());
    let (hub, relay, _) = Hub::relayed(&options, std::time::Duration::ZERO, Some(log.clone()));
    relay.begin_after(at(0), GapReason::Epoch);
    assert!(log.relay.set(relay).is_ok());
    (hub, log)
}

impl Log {
    fn append(&self, topics: &[&str]) {
        let events: Vec<Event> = topics.iter().map(|topic| event(topic)).collect();
        lock(&self.events).extend_from_slice(&events);
        self.relay.get().unwrap().append(&events);
    }
}

#[test]
fn change_while_pages_of_an_archive_are_read_loses_nothing() {
    let (hub, log) = relayed(2, 2);
    log.append(&["a", "b", "a", "b", "a", "b", "a", "b"]);
    let mut feed = open(&hub, &["a"], Start::After(at(0)));
    let mut batch = Batch::default();
    assert!(feed.poll_fill(&mut Context::from_waker(Waker::noop()), &mut batch).is_ready());
    feed.take(&batch, 1);
    assert_eq!(feed.subscribe(&filters(&["b"]), Some(Start::After(at(1)))).unwrap().id, at(1));
    assert_eq!(read(&mut feed), (vec![2, 3, 4, 5, 6, 7, 8], vec![]));
    feed.subscribe(&filters(&["c"]), Some(Start::After(at(1)))).unwrap();
    log.append(&["c", "a", "a", "a", "c"]);
    assert_eq!(read(&mut feed), (vec![9, 10, 11, 12, 13], vec![]), "what was overtaken is read from the archive");
}

#[test]
fn break_during_a_replay_is_a_gap_of_each_stretch() {
    let (hub, log) = relayed(64, 64);
    log.append(&["b", "a", "b"]);
    let mut feed = open(&hub, &["a"], Start::After(at(0)));
    read(&mut feed);
    feed.subscribe(&filters(&["b"]), Some(Start::After(at(1)))).unwrap();
    let next = StreamPosition::new(Epoch(2000), 0);
    log.relay.get().unwrap().begin_after(next, GapReason::Epoch);
    log.append(&["a", "b"]);
    let (sequences, gaps) = read(&mut feed);
    assert_eq!(sequences, [1, 2]);
    assert_eq!(gaps.len(), 2);
    assert_eq!((gaps[0].from, gaps[0].to, &gaps[0].topics), (Some(at(1)), at(3), &Some(filters(&["b"]))));
    assert_eq!((gaps[1].from, gaps[1].to, &gaps[1].topics), (Some(at(3)), next, &None));
    assert!(gaps.iter().all(|gap| gap.reason == GapReason::Epoch));
}

/// A thread publishes while the feed changes: the topic that stays is complete, and the other is complete from the position
/// that each change returned.
#[test]
fn concurrent_publishing_loses_and_repeats_nothing() {
    const EVENTS: u64 = 5000;
    let hub = hub(EVENTS as usize, EVENTS as usize, &[]);
    let mut feed = open(&hub, &["odd"], Start::Live);
    std::thread::scope(|scope| {
        scope.spawn(|| (1..=EVENTS).for_each(|number| publish(&hub, &[["even", "odd"][number as usize % 2]])));
        let (mut odd, mut even) = (0, None);
        while odd < EVENTS - 1 {
            let (sequences, gaps) = read(&mut feed);
            assert_eq!(gaps, []);
            for sequence in sequences {
                let last =
                    if sequence % 2 == 1 { &mut odd } else { even.as_mut().expect("an event that was not asked for") };
                assert!((1..=2).contains(&(sequence - *last)), "{sequence} after {last}");
                *last = sequence;
            }
            if even.take().is_some() {
                feed.unsubscribe(&filters(&["even"])).unwrap();
            } else {
                even = Some(feed.subscribe(&filters(&["even"]), None).unwrap().id.sequence);
            }
        }
    });
}

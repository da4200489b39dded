//! The hub under loom: publishers, the sequencer, subscriptions and their wake-ups, in every interleaving with up to as
//! many preemptions as each model says, and with every value that the memory model lets a load return.
//!
//! ```text
//! RUSTC_WORKSPACE_WRAPPER=$PWD/scripts/rustc-loom cargo test --profile ci --lib model
//! ```
//!
//! tokio's `oneshot` and `Notify` are the real ones, and loom does not see into them: what they do is one step of a
//! model, and orders nothing in it. A publisher that is never answered blocks its model, which loom reports as a
//! deadlock.
//!
//! **Forbidden:**
//! 1. a publication that is never drained, positions that are not dense, two events of one publisher out of order;
//! 2. a task that waits although there is something for it to read, or nothing will follow, and is never woken;
//! 3. a subscription that delivers out of order or twice, or an event that is neither delivered nor in a gap;
//! 4. a gap with a position that the stream has not issued yet: a client that resumed from it would be rejected;
//! 5. a count of missed events that is not exact, also in [`ledger_model`](super::ledger_model);
//! 6. two gaps over the same events for a reader of one channel: it continues where its gap ends;
//! 7. a gap in which nothing is missing: one that ends where it begins, or whose events were all delivered before;
//! 8. a gap that names a filter of which nothing is missing, or that leaves out one of which something is.
//!
//! **What each has caught** when the code was broken on purpose:
//! * the fence in `Sequencer::combine` taken out: 1, as a deadlock;
//! * a subscription that does not look once more after it set its waker: 2;
//! * an event that is evicted before the head has passed it: 4;
//! * a reader of one channel that resumes where its next frame was, although that one is gone too: 6;
//! * a cursor of a pattern that stays behind when a part of a batch is taken: 7;
//! * a gap that names no filters: 8.

use std::sync::Arc as Shared;
use std::task::Wake;

use loom::sync::Notify;
use loom::thread;

use super::*;
use crate::position::Sequence;
use crate::sync::{AtomicBool, Ordering};

/// Explores with up to `preemptions` switches away from a thread that could have continued.
pub(super) fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

struct Unpark(Notify);

impl Wake for Unpark {
    fn wake(self: Shared<Self>) {
        self.0.notify();
    }
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let unpark = Shared::new(Unpark(Notify::new()));
    let waker = Waker::from(unpark.clone());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        unpark.0.wait();
    }
}

pub(super) fn events(topics: &[&str]) -> Vec<Event> {
    topics.iter().map(|topic| event(topic)).collect()
}

/// Publishes each of `batches` together, one after the other.
pub(super) fn publish(hub: &Hub, batches: &'static [&[&str]]) -> thread::JoinHandle<Vec<Sequence>> {
    let hub = hub.clone();
    thread::spawn(move || {
        let publish = |batch: &&[&str]| block_on(hub.publish_all(events(batch))).unwrap().unwrap().last.sequence;
        batches.iter().map(publish).collect()
    })
}

/// A task that reads a subscription whenever it is woken, like a task of a runtime.
pub(super) struct Task {
    subscription: Subscription,
    flag: Shared<Flag>,
    waker: Waker,
    /// Everything up to here was delivered or in a gap.
    pub(super) seen: Sequence,
    pub(super) received: Vec<Sequence>,
    pub(super) gaps: usize,
    missed: u64,
}

pub(super) struct Flag(pub(super) AtomicBool);

impl Wake for Flag {
    fn wake(self: Shared<Self>) {
        // Not a store: loom lets one slip in between what a concurrent swap reads and what it writes, and be lost.
        self.0.swap(true, Ordering::AcqRel);
    }
}

impl Task {
    pub(super) fn new((subscription, opening): (Subscription, Opening)) -> Self {
        let flag = Shared::new(Flag(AtomicBool::new(true)));
        let seen = opening.position.unwrap().sequence;
        Self { subscription, waker: flag.clone().into(), flag, seen, received: Vec::new(), gaps: 0, missed: 0 }
    }

    /// Runs until it waits. Does nothing if it was not woken.
    pub(super) fn run(&mut self, hub: &Hub) {
        while self.flag.0.swap(false, Ordering::AcqRel) {
            let mut batch = Batch::default();
            while let Poll::Ready(read) = self.subscription.poll_fill(&mut Context::from_waker(&self.waker), &mut batch)
            {
                match read {
                    Ok(()) => {
                        for frame in batch.frames() {
                            assert!(frame.sequence() > self.seen, "forbidden 3");
                            self.seen = frame.sequence();
                            self.received.push(self.seen);
                        }
                        self.subscription.take(&batch, batch.len());
                    }
                    Err(Notice::Snapshot(_)) => panic!("only latest values have a snapshot"),
                    Err(Notice::Gap(gap)) => {
                        assert!(gap.resume.sequence <= hub.position().sequence, "forbidden 4");
                        assert!(gap.to.sequence <= hub.position().sequence, "forbidden 4");
                        assert_eq!(gap.resume, gap.to, "forbidden 6");
                        self.seen = gap.resume.sequence;
                        self.gaps += 1;
                        self.missed += gap.missed.unwrap_or(0);
                    }
                }
            }
        }
    }
}

#[test]
fn every_publisher_gets_its_positions_in_order() {
    check(2, || {
        let hub = hub(8, 8);
        let other = publish(&hub, &[&["b"]]);
        let mut positions = Vec::new();
        for _ in 0..2 {
            positions.push(block_on(hub.publish(event("a"))).unwrap().sequence);
        }
        assert!(positions.is_sorted(), "forbidden 1");
        positions.extend(other.join().unwrap());
        positions.sort_unstable();
        assert_eq!(positions, [1, 2, 3], "forbidden 1");
        assert_eq!(hub.stats().published, 3, "forbidden 1");
    });
}

#[test]
fn publisher_blocked_by_full_queue_completes() {
    check(2, || {
        let hub = hub(8, 8);
        // They use the queue, also where its holder could publish at once.
        let others = [1, 2].map(|_| {
            let hub = hub.clone();
            thread::spawn(move || hub.try_publish(event("a")).unwrap())
        });
        let position = block_on(hub.publish(event("a"))).unwrap().sequence;
        assert!((1..=3).contains(&position), "forbidden 1");
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(hub.stats().published, 3, "forbidden 1");
    });
}

/// A publication that is queued comes before one that its publisher makes afterwards, although that needs no queue.
#[test]
fn publication_at_once_does_not_overtake_a_queued_one() {
    check(3, || {
        let hub = hub(8, 8);
        let other = publish(&hub, &[&["b"]]);
        hub.try_publish(event("a")).unwrap();
        block_on(hub.publish(event("c"))).unwrap();
        other.join().unwrap();
        let (mut subscription, _) = hub.subscribe(filter(&["a", "c"]), Start::Earliest);
        for topic in ["a", "c"] {
            let Some(Delivery::Event(frame)) = block_on(subscription.next()) else { panic!("forbidden 3") };
            assert_eq!(frame.topic().as_str(), topic, "forbidden 1");
        }
    });
}

#[test]
fn publish_during_close_completes() {
    check(3, || {
        let hub = hub(8, 8);
        let publisher = {
            let hub = hub.clone();
            thread::spawn(move || block_on(hub.publish(event("a"))))
        };
        hub.close();
        let answer = publisher.join().unwrap();
        assert_eq!(hub.stats().published, u64::from(answer.is_ok()), "forbidden 1");
    });
}

#[test]
fn accepted_events_are_published_before_close_returns() {
    check(2, || {
        let hub = hub(8, 8);
        let publishers = [1, 2].map(|_| {
            let hub = hub.clone();
            thread::spawn(move || hub.try_publish(event("a")).is_ok())
        });
        hub.close();
        let published = hub.stats().published;
        let accepted = publishers.map(|publisher| u64::from(publisher.join().unwrap()));
        assert_eq!(published, accepted.iter().sum::<u64>(), "forbidden 1");
    });
}

/// One does not wait, the other does: neither is left in the queue.
#[test]
fn publishers_that_do_not_wait_are_drained() {
    check(3, || {
        let hub = hub(8, 8);
        let other = publish(&hub, &[&["a"]]);
        hub.try_publish(event("b")).unwrap();
        other.join().unwrap();
        assert_eq!(hub.stats().published, 2, "forbidden 1");
    });
}

#[test]
fn closing_ends_waiting_task() {
    check(3, || {
        let hub = hub(8, 8);
        let (mut subscription, _) = hub.subscribe(filter(&["a"]), Start::After(StreamPosition::new(EPOCH, 0)));
        let publisher = {
            let hub = hub.clone();
            thread::spawn(move || {
                hub.try_publish(event("a")).unwrap();
                hub.close();
            })
        };
        let first = block_on(subscription.next());
        assert!(matches!(first, Some(Delivery::Event(_))), "forbidden 3");
        assert!(block_on(subscription.next()).is_none(), "forbidden 2");
        publisher.join().unwrap();
    });
}

#[test]
fn publish_wakes_waiting_task() {
    check(3, || {
        let hub = hub(8, 8);
        let publisher = publish(&hub, &[&["a"], &["a"]]);
        let mut task = Task::new(hub.subscribe(filter(&["a"]), Start::After(StreamPosition::new(EPOCH, 0))));
        task.run(&hub);
        publisher.join().unwrap();
        task.run(&hub);
        assert_eq!(task.received, [1, 2], "forbidden 2");
    });
}

#[test]
fn shard_wakes_waiting_task() {
    check(3, || {
        let hub = hub(8, 8);
        let group = WakeGroup::dispatched();
        let start = Start::After(StreamPosition::new(EPOCH, 0));
        let mut task = Task::new(hub.subscribe_in(&group, filter(&["a"]), Mode::Events, start, usize::MAX).unwrap());
        let publisher = publish(&hub, &[&["a"], &["a"]]);
        task.run(&hub);
        for _ in 0..2 {
            dispatch(&group);
            task.run(&hub);
        }
        publisher.join().unwrap();
        dispatch(&group);
        task.run(&hub);
        assert_eq!(task.received, [1, 2], "forbidden 2");
    });
}

/// Runs the rounds of a shard that polls no streams.
fn dispatch(group: &WakeGroup) {
    assert!(pin!(group.round(&mut Vec::new())).poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[test]
fn reader_of_two_topics_sees_one_order() {
    check(3, || {
        let hub = hub(8, 8);
        let mut task = Task::new(hub.subscribe(filter(&["a", "b"]), Start::Live));
        let publisher = publish(&hub, &[&["a", "b"]]);
        // Tasks may also run without being woken.
        let mut batch = Batch::default();
        task.subscription.fill(&mut batch).unwrap();
        let first: Vec<_> = batch.frames().map(Frame::sequence).collect();
        assert!(first.is_empty() || first == [1, 2], "forbidden 3");
        task.subscription.take(&batch, batch.len());
        task.received = first;
        publisher.join().unwrap();
        task.run(&hub);
        assert_eq!(task.received, [1, 2], "forbidden 3");
    });
}

#[test]
fn subscribing_to_overrun_ring_delivers_or_counts_every_event() {
    check(2, || {
        let hub = hub(1, 8);
        let publisher = publish(&hub, &[&["a", "a", "a"]]);
        let mut task = Task::new(hub.subscribe(filter(&["a"]), Start::Live));
        let first = task.seen;
        task.run(&hub);
        publisher.join().unwrap();
        task.run(&hub);
        assert_eq!(first + task.received.len() as u64 + task.missed, 3, "forbidden 3");
    });
}

/// The only subscriber of a topic without events leaves while its first event is published and another one subscribes.
#[test]
fn topic_that_loses_its_last_subscriber_keeps_its_first_event() {
    check(2, || {
        let hub = hub(8, 8);
        let (leaving, _) = hub.subscribe(filter(&["a"]), Start::Live);
        let publisher = publish(&hub, &[&["a"]]);
        let leaver = thread::spawn(move || drop(leaving));
        let start = Start::After(StreamPosition::new(EPOCH, 0));
        let mut task = Task::new(hub.subscribe(filter(&["a"]), start));
        task.run(&hub);
        leaver.join().unwrap();
        publisher.join().unwrap();
        task.run(&hub);
        assert_eq!(task.received, [1], "forbidden 3");
    });
}

/// Another topic makes a topic leave, with its event, while a client resumes before that event.
#[test]
fn event_of_a_topic_that_is_dropped_is_delivered_or_in_a_gap() {
    check(3, || {
        let hub = Hub::new(&HubOptions { epoch: EPOCH, history_topics: 1, ..HubOptions::default() });
        block_on(hub.publish(event("a"))).unwrap();
        let publisher = publish(&hub, &[&["b"]]);
        let start = Start::After(StreamPosition::new(EPOCH, 0));
        let mut task = Task::new(hub.subscribe(filter(&["a"]), start));
        task.run(&hub);
        publisher.join().unwrap();
        task.run(&hub);
        assert_eq!(task.received.len() as u64 + task.missed, 1, "forbidden 3");
    });
}

/// Reads a topic and a pattern like a socket that takes one frame of each batch.
struct SlowSocket {
    subscription: Subscription,
    /// The last event that it has, or where the last gap continues.
    taken: Sequence,
    received: Vec<Sequence>,
    /// The ranges of the pattern's gaps.
    gaps: Vec<(Sequence, Sequence)>,
}

impl SlowSocket {
    fn new(hub: &Hub) -> Self {
        let (subscription, _) = hub.subscribe(filter(&["a", "zz:*"]), Start::Live);
        Self { subscription, taken: 0, received: Vec::new(), gaps: Vec::new() }
    }

    /// Fills a batch, and takes one of its frames. Returns false when there was nothing.
    fn write(&mut self, hub: &Hub) -> bool {
        let mut batch = Batch::default();
        match self.subscription.fill(&mut batch) {
            Ok(()) if batch.is_empty() => return false,
            Ok(()) => {
                self.taken = batch.frames().next().unwrap().sequence();
                assert!(self.received.last().is_none_or(|last| *last < self.taken), "forbidden 3");
                self.received.push(self.taken);
                self.subscription.take(&batch, 1);
            }
            Err(gap) => {
                let (from, to) = (gap.from.unwrap().sequence, gap.to.sequence);
                assert!(from == self.taken && to <= hub.position().sequence, "forbidden 4");
                assert!(from < to, "forbidden 7");
                assert_eq!(gap.topics, Some(vec![TopicFilter::new("zz:*").unwrap()]), "forbidden 8");
                self.gaps.push((from, to));
                self.taken = gap.resume.sequence;
            }
        }
        true
    }

    /// Whether the event was delivered, or is in a gap.
    fn knows(&self, sequence: Sequence) -> bool {
        self.received.contains(&sequence) || self.gaps.iter().any(|(from, to)| (from + 1..=*to).contains(&sequence))
    }
}

/// While a part of a batch is taken, the firehose loses an event that the topic's ring has. It is behind by one event.
#[test]
fn partial_writes_cause_no_gap_of_a_pattern() {
    check(3, || {
        let hub = hub(8, 3);
        let mut socket = SlowSocket::new(&hub);
        block_on(hub.publish_all(events(&["a", "a"]))).unwrap();
        socket.write(&hub);
        let publisher = publish(&hub, &[&["a", "a"]]);
        socket.write(&hub);
        publisher.join().unwrap();
        while socket.write(&hub) {}
        assert_eq!(socket.received, [1, 2, 3, 4], "forbidden 3");
        assert_eq!(socket.gaps, [], "forbidden 7");
    });
}

/// The event of the pattern is in the batch, and leaves the firehose before it is taken.
#[test]
fn event_evicted_during_partial_write_is_delivered_or_in_a_gap() {
    check(2, || {
        let hub = hub(8, 2);
        let mut socket = SlowSocket::new(&hub);
        block_on(hub.publish_all(events(&["a", "zz:1"]))).unwrap();
        let publisher = publish(&hub, &[&["b", "a"]]);
        socket.write(&hub);
        publisher.join().unwrap();
        while socket.write(&hub) {}
        let topic: Vec<_> = socket.received.iter().copied().filter(|sequence| *sequence != 2).collect();
        assert_eq!(topic, [1, 4], "forbidden 3");
        assert!(socket.knows(2), "forbidden 3");
    });
}

/// A relay breaks the order and continues, while a subscription reads.
#[test]
fn gap_of_a_break_precedes_events_after_it() {
    check(3, || {
        let options = HubOptions { epoch: EPOCH, history: 8, firehose_history: 8, ..HubOptions::default() };
        let (hub, relay, _requests) = Hub::relayed(&options, std::time::Duration::ZERO, None);
        relay.append(&events(&["a"]));
        let start = Start::After(StreamPosition::new(EPOCH, 0));
        let (mut subscription, _) = hub.subscribe(filter(&["a"]), start);
        let backbone = thread::spawn(move || {
            relay.begin_after(StreamPosition::new(Epoch(2000), 0), GapReason::Epoch);
            relay.append(&events(&["a"]));
        });
        let mut batch = Batch::default();
        let (mut is_told, mut after) = (false, Vec::new());
        let mut read = |subscription: &mut Subscription| {
            match subscription.fill(&mut batch) {
                Ok(()) => {
                    // The sequence that is left out: what is beyond it belongs to the new epoch.
                    let new = batch.frames().map(Frame::sequence).filter(|&sequence| sequence > 2);
                    after.extend(new);
                    assert!(is_told || after.is_empty(), "forbidden 3");
                    subscription.take(&batch, batch.len());
                }
                Err(gap) => {
                    assert!(!is_told, "forbidden 6");
                    assert_eq!((gap.reason, gap.resume.epoch), (GapReason::Epoch, Epoch(2000)), "forbidden 3");
                    is_told = true;
                }
            }
            after.clone()
        };
        read(&mut subscription);
        read(&mut subscription);
        backbone.join().unwrap();
        read(&mut subscription);
        assert_eq!(read(&mut subscription), [3], "forbidden 3");
    });
}

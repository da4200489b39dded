//! Readers of patterns that are woken only by their prefixes, under loom, as in [`model`](super::model).
//!
//! Readers run only when they were woken. Forbidden: as there, and a gap although nothing for the prefix was evicted.
//!
//! **Mutations that were tried, each of which fails a model:** the publisher looks for prefixes before it passes the lock of the
//! firehose's listeners; the reader does not pass that lock; a prefix begins with the index 0; a reader skips up to the end of the
//! firehose instead of what was noted; closing and breaks do not wake the readers of prefixes. Without the wake-up of all
//! readers, tests of `prefixes` and `rounds` fail.

use loom::thread::{self, JoinHandle};

use super::model::{Task, block_on, check, events, publish};
use super::*;

const BEGINNING: Start = Start::After(StreamPosition::new(EPOCH, 0));

/// Runs the task once in a thread of its own.
fn run(hub: &Hub, mut task: Task) -> JoinHandle<Task> {
    let hub = hub.clone();
    thread::spawn(move || {
        task.run(&hub);
        task
    })
}

/// Runs the task while `publisher` publishes, and once afterwards.
fn run_beside<T>(hub: &Hub, publisher: JoinHandle<T>, mut task: Task) -> Task {
    task.run(hub);
    publisher.join().unwrap();
    task.run(hub);
    task
}

/// The first announcement may not find the prefix, and the second has nothing for it.
#[test]
fn prefix_is_entered_while_its_event_is_published() {
    check(2, || {
        let hub = hub(8, 8);
        let publisher = publish(&hub, &[&["p:1"], &["b"]]);
        let task = Task::new(hub.subscribe(filter(&["p:*"]), BEGINNING));
        let task = run_beside(&hub, publisher, task);
        assert_eq!((task.received, task.gaps), (vec![1], 0));
    });
}

#[test]
fn live_reader_is_woken_by_each_event_after_its_opening() {
    check(3, || {
        let hub = hub(8, 8);
        let publisher = publish(&hub, &[&["p:1"], &["p:2"]]);
        let mut task = Task::new(hub.subscribe(filter(&["p:*"]), Start::Live));
        let opened = task.seen;
        publisher.join().unwrap();
        task.run(&hub);
        assert_eq!(task.received, (opened + 1..=2).collect::<Vec<_>>());
    });
}

#[test]
fn sleeping_reader_is_woken_by_its_prefix() {
    check(3, || {
        let hub = hub(8, 8);
        let mut task = Task::new(hub.subscribe(filter(&["p:*", "q:*"]), Start::Live));
        task.run(&hub);
        let publisher = publish(&hub, &[&["b"], &["b"], &["q:1"]]);
        let task = run_beside(&hub, publisher, task);
        assert_eq!((task.received, task.gaps), (vec![3], 0));
    });
}

/// The prefix may be dropped and entered again.
#[test]
fn another_reader_of_the_prefix_leaves() {
    check(2, || {
        let hub = hub(8, 8);
        let (leaving, _) = hub.subscribe(filter(&["p:*"]), Start::Live);
        let publisher = publish(&hub, &[&["p:1"]]);
        drop(leaving);
        let task = Task::new(hub.subscribe(filter(&["p:*"]), BEGINNING));
        let task = run_beside(&hub, publisher, task);
        assert_eq!((task.received, task.gaps), (vec![1], 0));
    });
}

/// The events that the reader slept through are evicted while it wakes up.
#[test]
fn sleeping_reader_has_no_gap_of_what_it_does_not_want() {
    check(3, || {
        let hub = hub(8, 8);
        let mut task = Task::new(hub.subscribe(filter(&["p:*"]), Start::Live));
        task.run(&hub);
        block_on(hub.publish_all(events(&["b", "b"]))).unwrap();
        let reader = run(&hub, task);
        let Inner { history, sequencer, .. } = &*hub.0;
        sequencer.exclusively(history, || (0..2).for_each(|_| _ = history.firehose.evict_oldest(1)));
        block_on(hub.publish(event("p:1"))).unwrap();
        let mut task = reader.join().unwrap();
        task.run(&hub);
        assert_eq!((task.received, task.gaps), (vec![3], 0));
    });
}

#[test]
fn evicted_event_of_the_prefix_is_delivered_or_in_a_gap() {
    check(2, || {
        let hub = hub(8, 8);
        let mut task = Task::new(hub.subscribe(filter(&["p:*"]), Start::Live));
        task.run(&hub);
        block_on(hub.publish(event("b"))).unwrap();
        block_on(hub.publish(event("p:1"))).unwrap();
        let reader = run(&hub, task);
        let Inner { history, sequencer, .. } = &*hub.0;
        sequencer.exclusively(history, || _ = history.firehose.evict_oldest(usize::MAX));
        let mut task = reader.join().unwrap();
        block_on(hub.publish(event("p:2"))).unwrap();
        task.run(&hub);
        let Task { received, gaps, .. } = task;
        assert!([(vec![2, 3], 0), (vec![3], 1)].contains(&(received, gaps)));
    });
}

/// A ring of two events, which publications overrun.
#[test]
fn reader_of_an_overrun_firehose_gets_what_is_retained() {
    check(2, || {
        let hub = hub(8, 2);
        let mut task = Task::new(hub.subscribe(filter(&["p:*"]), Start::Live));
        task.run(&hub);
        let publisher = publish(&hub, &[&["b"], &["b"], &["b", "p:1"]]);
        let task = run_beside(&hub, publisher, task);
        assert_eq!(task.received, [4]);
    });
}

#[test]
fn closing_ends_reader_of_a_prefix() {
    check(3, || {
        let hub = hub(8, 8);
        let publisher = {
            let hub = hub.clone();
            thread::spawn(move || {
                hub.try_publish(event("p:1")).unwrap();
                hub.close();
            })
        };
        let (mut subscription, _) = hub.subscribe(filter(&["p:*"]), BEGINNING);
        assert!(matches!(block_on(subscription.next()), Some(Delivery::Event(_))));
        assert!(block_on(subscription.next()).is_none());
        publisher.join().unwrap();
    });
}

#[test]
fn reader_of_a_prefix_is_woken_by_a_break() {
    check(2, || {
        let options = HubOptions { epoch: EPOCH, history: 8, firehose_history: 8, ..HubOptions::default() };
        let (hub, relay, _requests) = Hub::relayed(&options, std::time::Duration::ZERO, None);
        relay.append(&events(&["p:1"]));
        let task = Task::new(hub.subscribe(filter(&["p:*"]), BEGINNING));
        let backbone = thread::spawn(move || {
            relay.begin_after(StreamPosition::new(Epoch(2000), 0), GapReason::Epoch);
            relay.append(&events(&["p:1"]));
        });
        let task = run_beside(&hub, backbone, task);
        // The first may be evicted before it is read. A sequence is left out.
        assert!([vec![1, 3], vec![3]].contains(&task.received), "{:?}", task.received);
        assert_eq!(task.gaps, 1);
    });
}

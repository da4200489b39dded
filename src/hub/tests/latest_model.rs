//! Latest values under loom: the sequencer changes the lists while a reader takes values, as in [`model`](super::model).
//!
//! **Forbidden:**
//! 1. a value that goes backwards, or sequences out of order;
//! 2. a mark without a value that there was when the reader began, unless that was deleted or superseded twice since;
//! 3. a reader that waits without the newest values, or with a deleted one that no gap has discarded;
//! 4. a reader that waits for something that was published, and is not woken.
//!
//! **What each has caught** when the code was broken on purpose:
//! * a value that is superseded before the head has passed its successor: 2;
//! * a deletion that is forgotten without a trace: 3.

use std::collections::BTreeMap;
use std::sync::Arc as Shared;

use loom::thread;

use super::model::{Flag, check};
use super::*;
use crate::event::Key;
use crate::position::Sequence;
use crate::sync::Ordering;

/// What happens to a key.
#[derive(Clone, Copy)]
enum Act {
    Put(&'static str),
    Delete(&'static str),
}

use Act::{Delete, Put};

impl Act {
    fn key(self) -> &'static str {
        match self {
            Put(key) | Delete(key) => key,
        }
    }

    fn event(self) -> Event {
        let key = Key::new(self.key()).unwrap();
        match self {
            Put(_) => event("t").keyed(key),
            Delete(_) => Event::deletion(Topic::new("t").unwrap(), Some(key)),
        }
    }
}

/// The sequence of each key's value after the first `count` changes.
fn values(changes: &[Act], count: Sequence) -> BTreeMap<String, Sequence> {
    let mut values = BTreeMap::new();
    for (sequence, change) in (1..=count).zip(changes) {
        match *change {
            Put(key) => _ = values.insert(key.to_owned(), sequence),
            Delete(key) => _ = values.remove(key),
        }
    }
    values
}

/// Publishes as the sequencer, without its queue: [`model`](super::model) has that.
fn append(hub: &Hub, changes: &[Act]) {
    for &change in changes {
        hub.0.sequencer.append_numbered(&hub.0.history, &[change.event()]);
    }
}

struct Reader {
    subscription: Subscription,
    flag: Shared<Flag>,
    /// The newest sequence when it began.
    began: Sequence,
    table: BTreeMap<String, Sequence>,
    newest: Sequence,
}

impl Reader {
    fn new(hub: &Hub, start: Start) -> Self {
        let group = WakeGroup::inline();
        let opened = hub.subscribe_in(&group, filter(&["t"]), Mode::Latest, start, usize::MAX).unwrap();
        let (flag, began) = (Shared::new(Flag(true.into())), hub.position().sequence);
        Self { subscription: opened.0, flag, began, table: BTreeMap::new(), newest: 0 }
    }

    /// Runs until it waits. Does nothing if it was not woken.
    fn run(&mut self, changes: &[Act]) {
        let waker = Waker::from(self.flag.clone());
        while self.flag.0.swap(false, Ordering::AcqRel) {
            let mut batch = Batch::default();
            while let Poll::Ready(read) = self.subscription.poll_fill(&mut Context::from_waker(&waker), &mut batch) {
                match read {
                    Ok(()) => {
                        batch.frames().for_each(|frame| self.apply(frame));
                        self.subscription.take(&batch, batch.len());
                    }
                    Err(Notice::Gap(_)) => (self.newest, self.table) = (0, BTreeMap::new()),
                    Err(Notice::Snapshot(_)) => self.check_mark(changes),
                }
            }
        }
    }

    fn check_mark(&self, changes: &[Act]) {
        for (key, sequence) in values(changes, self.began) {
            let later = changes[self.began as usize..].iter().filter(|change| change.key() == key);
            let may_miss = later.clone().count() > 1 || later.clone().any(|change| matches!(change, Delete(_)));
            assert!(self.table.get(&key) >= Some(&sequence) || may_miss, "forbidden 2");
        }
    }

    fn apply(&mut self, frame: &Frame) {
        assert!(frame.sequence() > self.newest, "forbidden 1");
        self.newest = frame.sequence();
        let key = frame.key().unwrap().to_string();
        let before = match frame.is_deletion() {
            true => self.table.remove(&key),
            false => self.table.insert(key, self.newest),
        };
        assert!(before < Some(self.newest), "forbidden 1");
    }
}

/// A reader that begins after the first `known` of `changes`, and has read them if `has_read`, reads while the others are published.
fn check_reader(known: usize, has_read: bool, changes: &'static [Act], max_keys: usize) {
    check(2, move || {
        let hub = Hub::new(&HubOptions { epoch: EPOCH, max_keys, ..HubOptions::default() });
        append(&hub, &changes[..known]);
        let mut reader = Reader::new(&hub, Start::Earliest);
        if has_read {
            reader.run(changes);
        }
        let publisher = {
            let hub = hub.clone();
            thread::spawn(move || append(&hub, &changes[known..]))
        };
        reader.run(changes);
        publisher.join().unwrap();
        reader.run(changes);
        assert_eq!(reader.table, values(changes, changes.len() as Sequence), "forbidden 3 or 4");
    });
}

#[test]
fn values_that_change_while_they_are_read_end_right() {
    check_reader(2, false, &[Put("x"), Put("y"), Put("x")], 10);
}

#[test]
fn reader_of_a_block_that_is_replaced_misses_nothing() {
    // A block has four cells. With the last change, one is left of the first block.
    check_reader(4, true, &[Put("a"), Put("x"), Put("x"), Put("x"), Put("x"), Put("x")], 10);
}

#[test]
fn deletion_that_is_forgotten_while_it_is_read_is_seen_or_in_a_gap() {
    // With as many keys as allowed, no deletion is remembered.
    check_reader(2, true, &[Put("x"), Put("y"), Delete("x"), Put("z")], 2);
}

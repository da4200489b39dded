//! The ring under loom: every interleaving of one writer and two readers, with segments of two values, and every value
//! that the memory model lets a load return.
//!
//! ```text
//! RUSTC_WORKSPACE_WRAPPER=$PWD/scripts/rustc-loom cargo test --profile ci --lib model
//! ```
//!
//! **Forbidden:**
//! 1. a run that begins elsewhere than asked for, or a value that is not that of its index;
//! 2. a run with a cell that is not set (the run panics);
//! 3. `Lagged` for an index when the `oldest` that is loaded afterwards is not beyond it, so that the reader would
//!    neither receive that value nor count it as missed, and would ask for it again forever;
//! 4. `Empty` for an index below a head that the same reader has seen;
//! 5. a value that is in the end neither received nor counted as missed;
//! 6. a retained range that ends before it begins, or that holds more than the capacity of values.
//!
//! **Mutations that were tried, each of which fails a model:** `head` stored relaxed, or loaded relaxed; `head` stored
//! before the cell is set, or before the segment is in its slot; `oldest` stored relaxed, or after the slots changed;
//! the segment's indices, or the cell, not checked by the reader; the slots loaded before the head; the open segment kept
//! when all of it is evicted; `retained` loading the head first, or relaxed what it loads first.
//!
//! **Not caught:** a `read` that does not look at `oldest`. It returns values that were evicted and whose segment is still in its
//! slot, which no reader asks for unless it lags.

use loom::thread;

use super::*;

/// Explores with up to `preemptions` switches away from a thread that could have continued.
fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.check(model);
}

#[derive(Default)]
struct Reader {
    next: u64,
    received: u64,
    missed: u64,
    seen_head: u64,
}

impl Reader {
    /// Reads once. Returns whether there was anything.
    fn read(&mut self, ring: &Ring<u64>) -> bool {
        match ring.read(self.next) {
            Read::Empty => {
                assert!(self.next >= self.seen_head, "forbidden 4");
                return false;
            }
            Read::Lagged => {
                let Range { start: oldest, end } = ring.retained();
                assert!(oldest > self.next, "forbidden 3");
                self.missed += oldest - self.next;
                self.next = oldest;
                self.seen_head = self.seen_head.max(end);
            }
            Read::Run(run) => {
                assert_eq!(run.indices().start, self.next, "forbidden 1");
                for index in run.indices() {
                    assert_eq!(*run.get(index), index, "forbidden 1");
                    self.received += 1;
                }
                self.next = run.indices().end;
                self.seen_head = self.seen_head.max(self.next);
            }
        }
        true
    }
}

/// `readers` readers, each of two reads, beside a writer that does `write` to a ring with room for `capacity` that
/// `before` values went through. Values are their own indices.
fn beside_a_writer(readers: usize, capacity: usize, before: u64, write: fn(&Ring<u64>, &mut Writer<u64>)) {
    let (ring, mut writer) = Ring::new(capacity);
    for _ in 0..before {
        push(&ring, &mut writer);
    }
    let first = writer.oldest();
    let ring = Arc::new(ring);
    let spawn = |_| {
        let ring = ring.clone();
        thread::spawn(move || {
            let mut reader = Reader { next: first, ..Reader::default() };
            reader.read(&ring);
            reader.read(&ring);
            reader
        })
    };
    let readers: Vec<_> = (0..readers).map(spawn).collect();
    write(&ring, &mut writer);
    for reader in readers {
        let mut reader = reader.join().unwrap();
        while reader.read(&ring) {}
        assert_eq!(first + reader.received + reader.missed, writer.head(), "forbidden 5");
    }
}

fn push(ring: &Ring<u64>, writer: &mut Writer<u64>) {
    if writer.is_full() {
        let oldest = writer.oldest();
        ring.evict(writer, oldest + 1, |_| {});
    }
    let index = writer.head();
    ring.push(writer, index);
}

// Readers store nothing, so what two of them see is what each would see alone: one model has both, the others have one
// and more of the writer.

#[test]
fn two_readers_read_or_miss_each_value() {
    check(2, || {
        beside_a_writer(2, 1, 0, |ring, writer| {
            for _ in 0..2 {
                push(ring, writer);
            }
        });
    });
}

#[test]
fn each_value_is_read_or_missed_while_a_segment_gets_more_cells() {
    check(3, || beside_a_writer(1, 4, 1, push));
    check(3, || {
        beside_a_writer(1, 4, 0, |ring, writer| {
            for _ in 0..3 {
                push(ring, writer);
            }
        });
    });
}

#[test]
fn each_value_is_read_or_missed_while_the_ring_wraps() {
    check(3, || {
        beside_a_writer(1, 2, 3, |ring, writer| {
            for _ in 0..3 {
                push(ring, writer);
            }
        });
    });
}

#[test]
fn each_value_is_read_or_missed_while_a_whole_segment_is_evicted() {
    check(3, || {
        beside_a_writer(1, 4, 3, |ring, writer| {
            ring.evict(writer, 2, |_| {});
            push(ring, writer);
        });
    });
}

#[test]
fn each_value_is_read_or_missed_while_the_open_segment_is_evicted() {
    check(3, || {
        beside_a_writer(1, 4, 3, |ring, writer| {
            ring.evict(writer, 3, |_| {});
            push(ring, writer);
        });
    });
}

#[test]
fn each_value_is_read_or_missed_while_the_slots_are_replaced_by_fewer_and_by_more() {
    check(3, || {
        beside_a_writer(1, 4, 4, |ring, writer| {
            ring.evict(writer, 4, |_| {});
            for _ in 0..3 {
                push(ring, writer);
            }
        });
    });
}

#[test]
fn retained_range_is_never_inverted() {
    check(3, || {
        let (ring, mut writer) = Ring::new(2);
        let ring = Arc::new(ring);
        let reader = {
            let ring = ring.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    let Range { start, end } = ring.retained();
                    assert!(start <= end, "forbidden 6");
                }
            })
        };
        for _ in 0..3 {
            push(&ring, &mut writer);
        }
        ring.evict(&mut writer, 3, |_| {});
        reader.join().unwrap();
    });
}

#[test]
fn partition_point_is_a_valid_start_for_readers() {
    check(3, || {
        let (ring, mut writer) = Ring::new(2);
        for _ in 0..2 {
            push(&ring, &mut writer);
        }
        let ring = Arc::new(ring);
        let reader = {
            let ring = ring.clone();
            thread::spawn(move || {
                let index = ring.partition_point(|&value| value < 1);
                let mut reader = Reader { next: index, ..Reader::default() };
                assert!(
                    (1..=2).contains(&index),
                    "none that satisfies is after it, and none that does not is left out"
                );
                reader.read(&ring);
            })
        };
        push(&ring, &mut writer);
        push(&ring, &mut writer);
        reader.join().unwrap();
    });
}

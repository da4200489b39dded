use super::*;

fn filled(capacity: usize, values: std::ops::Range<u64>) -> (Ring<u64>, Writer<u64>) {
    let (ring, mut writer) = Ring::new(capacity);
    for value in values {
        push(&ring, &mut writer, value);
    }
    (ring, writer)
}

fn push(ring: &Ring<u64>, writer: &mut Writer<u64>, value: u64) {
    if writer.is_full() {
        let oldest = writer.oldest();
        ring.evict(writer, oldest + 1, |_| {});
    }
    ring.push(writer, value);
}

fn read_all(ring: &Ring<u64>, mut index: u64) -> Vec<u64> {
    let mut values = Vec::new();
    while let Read::Run(run) = ring.read(index) {
        values.extend(run.indices().map(|i| *run.get(i)));
        index = run.indices().end;
    }
    values
}

#[test]
fn values_are_read_in_order() {
    let (ring, _) = filled(100, 0..50);
    assert_eq!(read_all(&ring, 0), (0..50).collect::<Vec<_>>());
    assert_eq!(read_all(&ring, 49), [49]);
    assert!(matches!(ring.read(50), Read::Empty));
    assert!(matches!(ring.read(1000), Read::Empty));
}

#[test]
fn newest_values_are_retained_and_older_ones_lagged() {
    for capacity in [1, 2, 15, 16, 17, 33, 100] {
        let (ring, _) = filled(capacity, 0..1000);
        let oldest = 1000 - capacity as u64;
        assert_eq!(ring.retained(), oldest..1000, "capacity {capacity}");
        assert!(matches!(ring.read(oldest - 1), Read::Lagged));
        assert_eq!(read_all(&ring, oldest), (oldest..1000).collect::<Vec<_>>());
    }
}

#[test]
fn run_stays_readable_after_eviction() {
    let (ring, mut writer) = filled(20, 0..20);
    let Read::Run(run) = ring.read(3) else { panic!("retained") };
    for value in 20..200 {
        push(&ring, &mut writer, value);
    }
    assert!(matches!(ring.read(3), Read::Lagged));
    assert_eq!(run.indices().map(|i| *run.get(i)).collect::<Vec<_>>(), (3..16).collect::<Vec<_>>());
}

#[test]
fn emptied_ring_continues_its_indices() {
    for end in [1, 7, 15, 16, 17, 32, 40] {
        let (ring, mut writer) = filled(64, 0..end);
        ring.evict(&mut writer, end, |_| {});
        assert_eq!(ring.retained(), end..end);
        assert!(matches!(ring.read(end - 1), Read::Lagged), "end {end}");
        assert!(matches!(ring.read(end), Read::Empty));
        for value in end..end + 40 {
            push(&ring, &mut writer, value);
        }
        assert_eq!(read_all(&ring, end), (end..end + 40).collect::<Vec<_>>());
    }
}

#[test]
fn eviction_frees_whole_segments() {
    let (ring, mut writer) = Ring::new(64);
    let value = Arc::new(());
    for _ in 0..40 {
        ring.push(&mut writer, value.clone());
    }
    ring.evict(&mut writer, 15, |_| {});
    assert_eq!(Arc::strong_count(&value), 41);
    ring.evict(&mut writer, 33, |_| {});
    assert_eq!(Arc::strong_count(&value), 1 + 8);
    ring.evict(&mut writer, 40, |_| {});
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn memory_follows_what_is_retained() {
    let (ring, mut writer) = Ring::new(10_000);
    let slots = |ring: &Ring<u64>| ring.slots.load().map_or(0, |slots| slots.count());
    assert_eq!(slots(&ring), 0, "a ring without values has none");
    for (values, cells) in [(1, 1), (2, 4), (4, 4), (5, 16), (16, 16), (17, 1), (18, 16)] {
        while writer.head() < values {
            let next = writer.head();
            push(&ring, &mut writer, next);
        }
        let open = writer.open.as_ref().unwrap();
        assert_eq!(open.end() - open.first, cells, "a ring of {values}");
    }
    assert_eq!(slots(&ring), 2);
    ring.evict(&mut writer, 18, |_| {});
    assert!(writer.open.is_none(), "an emptied ring has no segment");
    for (value, end) in [(18, 19), (19, 22), (20, 22), (21, 22), (22, 32)] {
        push(&ring, &mut writer, value);
        assert_eq!(writer.open.as_ref().unwrap().end(), end, "and begins with a small one again");
    }
}

#[test]
fn values_that_leave_the_memory_are_reported_once() {
    for capacity in [1, 2, 3, 5, 15, 16, 17, 40] {
        let (ring, mut writer) = Ring::new(capacity);
        let mut freed = Vec::new();
        for value in 0..200 {
            if writer.is_full() {
                let oldest = writer.oldest();
                ring.evict(&mut writer, oldest + 1, |value| freed.push(*value));
            }
            ring.push(&mut writer, value);
            let held = writer.head() - freed.len() as u64;
            assert!(held < (capacity + SEGMENT) as u64, "capacity {capacity}: {held} in memory");
        }
        ring.evict(&mut writer, 200, |value| freed.push(*value));
        assert!(freed.into_iter().eq(0..200), "capacity {capacity}");
    }
}

#[test]
fn slots_follow_what_is_retained() {
    let (ring, mut writer) = filled(10_000, 0..1);
    let slots = || ring.slots.load().unwrap().count();
    assert_eq!(slots(), 1, "a ring of one value is small, whatever its capacity");
    for value in 1..30_000 {
        push(&ring, &mut writer, value);
    }
    assert_eq!(slots(), 1024, "for 626 segments");
    assert_eq!(read_all(&ring, 20_000), (20_000..30_000).collect::<Vec<_>>());
    for (oldest, expected) in [(26_000, 1024), (28_000, 256), (29_600, 64), (29_900, 16), (30_000, 4)] {
        for oldest in writer.oldest() + 1..=oldest {
            ring.evict(&mut writer, oldest, |_| {});
            assert!(matches!(ring.read(oldest - 1), Read::Lagged));
        }
        assert_eq!(slots(), expected, "from {oldest} on");
        assert_eq!(read_all(&ring, oldest), (oldest..30_000).collect::<Vec<_>>());
    }
    push(&ring, &mut writer, 30_000);
    assert_eq!(read_all(&ring, 30_000), [30_000]);
}

#[test]
fn partition_point_by_example() {
    let (ring, _) = filled(37, 0..100);
    for bound in 0..110 {
        assert_eq!(ring.partition_point(|&value| value < bound), bound.clamp(63, 100));
    }
}

#[test]
fn concurrent_readers_read_or_miss_each_value() {
    let (ring, mut writer) = Ring::new(50);
    let total = 200_000;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let (mut index, mut received, mut missed) = (0, 0, 0);
                while index < total {
                    match ring.read(index) {
                        Read::Empty => std::thread::yield_now(),
                        Read::Lagged => {
                            let oldest = ring.retained().start;
                            assert!(oldest > index, "lagged at {index}, but {oldest} is the oldest");
                            missed += oldest - index;
                            index = oldest;
                        }
                        Read::Run(run) => {
                            assert_eq!(run.indices().start, index);
                            for i in run.indices() {
                                assert_eq!(*run.get(i), i);
                                received += 1;
                            }
                            index = run.indices().end;
                        }
                    }
                }
                assert_eq!(received + missed, total);
            });
        }
        for value in 0..total {
            push(&ring, &mut writer, value);
        }
    });
}

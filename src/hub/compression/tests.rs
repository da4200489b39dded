//! Members against the bytes that an uncompressed reader gets, decoded by another implementation of deflate.
//!
//! Random steps run against a small hub, so that groups begin and end, rings evict, and more groups than there are compressors
//! are made in turns. After each write a reader can decode exactly what it was written, and a member ends with the right trailer.
//!
//! Each rule of the [module](super) is also broken on purpose: the same steps must then fail.

pub(in crate::hub) mod decoder;
mod world;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use world::{Rule, Step, World};

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let reader = 0..world::READERS;
    let step = prop_oneof![
        6 => (0..world::TOPICS.len(), 1..40_usize).prop_map(|(topic, count)| Step::Publish { topic, count }),
        2 => (reader.clone(), any::<prop::sample::Index>(), 0..200_u64)
            .prop_map(|(reader, ring, history)| Step::Join { reader, ring: ring.index(world::RINGS), history }),
        20 => (reader.clone(), prop_oneof![1..40_usize, Just(1 << 20)])
            .prop_map(|(reader, room)| Step::Write { reader, room }),
        1 => (reader.clone(), reader.clone(), 0..world::TOPICS.len(), 1..40_usize)
            .prop_map(|(reader, other, topic, count)| Step::Overtake { reader, other, topic, count }),
        1 => (reader.clone(), 0..300_usize).prop_map(|(reader, length)| Step::Private { reader, length }),
        1 => (reader.clone(), 1..4_usize).prop_map(|(reader, count)| Step::Skip { reader, count }),
        1 => reader.clone().prop_map(|reader| Step::End { reader }),
        1 => Just(Step::Tick),
    ];
    vec(step, 1..300)
}

fn play(steps: &[Step], broken: Option<Rule>) -> Result<(), String> {
    let mut world = World::new(broken);
    steps.iter().try_for_each(|step| world.play(step))?;
    world.end()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn members_decode_to_what_uncompressed_readers_get(steps in steps()) {
        play(&steps, None).map_err(TestCaseError::fail)?;
    }
}

/// Has readers join, each of which gets bytes of its own.
fn join(world: &mut World, readers: &[usize]) {
    for &reader in readers {
        world.play(&Step::Join { reader, ring: 0, history: 0 }).unwrap();
        world.write_all(reader).unwrap();
    }
}

fn publish(world: &mut World, events: usize, readers: &[usize]) {
    world.play(&Step::Publish { topic: 0, count: events }).unwrap();
    readers.iter().for_each(|&reader| world.write_all(reader).unwrap());
}

#[test]
fn readers_of_a_topic_share_blocks_as_soon_as_they_all_got_a_heartbeat() {
    let mut world = World::new(None);
    join(&mut world, &[0, 1]);
    publish(&mut world, 5, &[0, 1]);
    for reader in [0, 1] {
        world.play(&Step::Private { reader, length: 20 }).unwrap();
    }
    publish(&mut world, 3, &[0, 1]);
    assert_eq!([0, 1].map(|reader| world.stored(reader)), [0, 0]);
    world.end().unwrap();
}

#[test]
fn reader_that_joins_others_shares_their_next_group() {
    let mut world = World::new(None);
    join(&mut world, &[0]);
    publish(&mut world, 5, &[0]);
    join(&mut world, &[1]);
    for _ in 0..8 {
        publish(&mut world, 10, &[0, 1]);
    }
    // Until the other one, which is written to first, has taken its group of 64.
    assert_eq!([0, 1].map(|reader| world.stored(reader)), [0, 50]);
    world.end().unwrap();
}

#[test]
fn each_broken_rule_is_found() {
    for rule in Rule::ALL {
        let config =
            ProptestConfig { cases: 300, failure_persistence: None, max_shrink_iters: 0, ..ProptestConfig::default() };
        let found =
            TestRunner::new(config).run(&steps(), |steps| play(&steps, Some(rule)).map_err(TestCaseError::fail));
        assert!(found.is_err(), "{rule:?} can be broken, and no test fails");
    }
}

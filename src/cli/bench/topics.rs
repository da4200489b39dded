//! The subscriptions to topics, and the topic of each event. With `--keys`, the keys of one topic take the place of topics.

use std::collections::HashMap;

use fastrand::Rng;

use super::args::{BenchArgs, Distribution, Mode};
use super::journal::Journal;
use super::marker::Mark;

/// The same events have the same topics in each run.
const SEED: u64 = 1;

/// The subscribers with the same topics.
pub struct Group {
    /// Sorted.
    pub topics: Box<[u32]>,
    /// Subscribers whose stream has not ended.
    pub members: u32,
    /// Only where there is another subscriber to compare with.
    pub journal: Option<Journal>,
}

impl Group {
    /// The lane of a mark in the ledgers of this group, unless the mark belongs elsewhere.
    pub fn lane(&self, mark: Mark, lanes: usize) -> Option<u32> {
        let place = self.topics.binary_search(&mark.topic).ok()?;
        ((mark.publisher as usize) < lanes).then(|| (place * lanes) as u32 + mark.publisher)
    }
}

/// The groups, and the group of each subscriber. Subscribers take the topics in turn.
pub fn subscribe(args: &BenchArgs) -> (Vec<Group>, Vec<u32>) {
    let (count, all) = (args.places_per_client(), args.places());
    let mut known: HashMap<Box<[u32]>, u32> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    let group_of_client = (0..args.clients)
        .map(|client| {
            let mut topics: Box<[u32]> = (client * count..).take(count).map(|topic| (topic % all) as u32).collect();
            topics.sort_unstable();
            let group = *known.entry(topics).or_insert_with_key(|topics| {
                groups.push(Group { topics: topics.clone(), members: 0, journal: None });
                groups.len() as u32 - 1
            });
            groups[group as usize].members += 1;
            group
        })
        .collect();
    let shared = groups.iter().filter(|group| group.members > 1).count();
    // Subscribers of the latest values skip different events.
    let is_same = args.mode == Mode::Events;
    for group in groups.iter_mut().filter(|group| group.members > 1 && is_same) {
        group.journal = Some(Journal::new(shared));
    }
    (groups, group_of_client)
}

/// Chooses the topic of each event.
pub struct Draw {
    random: Rng,
    /// The sum of the weights up to each topic, unless all weigh the same.
    sums: Vec<f64>,
    topics: u32,
}

impl Draw {
    pub fn new(args: &BenchArgs) -> Self {
        let topics = if args.distribution == Distribution::One { 1 } else { args.places() as u32 };
        let sums = (1..=topics).scan(0.0, |sum, rank| {
            *sum += 1.0 / f64::from(rank);
            Some(*sum)
        });
        let sums = if args.distribution == Distribution::Zipf { sums.collect() } else { Vec::new() };
        Self { random: Rng::with_seed(SEED), sums, topics }
    }

    pub fn next(&mut self) -> u32 {
        let Some(whole) = self.sums.last() else { return self.random.u32(..self.topics) };
        let point = self.random.f64() * whole;
        (self.sums.partition_point(|sum| *sum <= point) as u32).min(self.topics - 1)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn args(line: &str) -> BenchArgs {
        Line::parse_from(["bench"].into_iter().chain(line.split_ascii_whitespace())).args
    }

    #[test]
    fn subscribers_take_topics_in_turn() {
        let (groups, of_client) = subscribe(&args("--clients 5 --topics 4 --topics-per-client 2"));
        let topics: Vec<_> = groups.iter().map(|group| (&group.topics[..], group.members)).collect();
        assert_eq!(topics, [(&[0, 1][..], 3), (&[2, 3], 2)]);
        assert_eq!(of_client, [0, 1, 0, 1, 0]);
        let (groups, _) = subscribe(&args("--clients 3 --topics 3 --topics-per-client 2"));
        let topics: Vec<_> = groups.iter().map(|group| &group.topics[..]).collect();
        assert_eq!(topics, [&[0, 1][..], &[0, 2], &[1, 2]]);
    }

    /// How many of `events` each of `topics` gets.
    fn drawn(distribution: &str, topics: usize, events: usize) -> Vec<usize> {
        let mut draw = Draw::new(&args(&format!("--topics {topics} --distribution {distribution}")));
        let mut counts = vec![0; topics];
        (0..events).for_each(|_| counts[draw.next() as usize] += 1);
        counts
    }

    #[test]
    fn zipf_prefers_the_first_topics() {
        let counts = drawn("zipf", 50, 20_000);
        // The harmonic number of 50 is 4.5.
        assert!((4000..4900).contains(&counts[0]) && counts[49] > 20 && counts[49] < 180, "{counts:?}");
    }

    #[test]
    fn events_go_to_all_topics_alike_or_to_one() {
        let counts = drawn("uniform", 10, 10_000);
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        assert_eq!(drawn("one", 10, 100)[0], 100);
    }
}

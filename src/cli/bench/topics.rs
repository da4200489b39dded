//! The topics, the subscriptions to them, and the topic of each event.

use std::collections::{BTreeSet, HashMap};

use fastrand::Rng;

use super::args::{BenchArgs, Distribution, Subscriptions};
use super::journal::Journal;
use super::marker::Mark;

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
    /// The line of a mark in the ledgers of this group, unless the mark belongs elsewhere.
    pub fn line(&self, mark: Mark, publishers: usize) -> Option<u32> {
        let place = self.topics.binary_search(&mark.topic).ok()?;
        ((mark.publisher as usize) < publishers).then(|| (place * publishers) as u32 + mark.publisher)
    }
}

/// The names of the topics.
pub fn names(args: &BenchArgs) -> Vec<String> {
    match args.topics {
        1 => vec![args.topic.clone()],
        topics => (0..topics).map(|number| format!("{}-{number}", args.topic)).collect(),
    }
}

/// The groups, and the group of each subscriber.
pub fn subscribe(args: &BenchArgs) -> (Vec<Group>, Vec<u32>) {
    let mut random = Rng::with_seed(args.seed);
    let weights = Weights::zipf(args.topics, args.zipf_exponent);
    let mut known: HashMap<Box<[u32]>, u32> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    let group_of_client = (0..args.clients)
        .map(|client| {
            let topics = match args.subscriptions {
                Subscriptions::InTurn => in_turn(client, args.topics_per_client, args.topics),
                Subscriptions::Zipf => weights.draw_several(args.topics_per_client, &mut random),
            };
            let group = *known.entry(topics).or_insert_with_key(|topics| {
                groups.push(Group { topics: topics.clone(), members: 0, journal: None });
                groups.len() as u32 - 1
            });
            groups[group as usize].members += 1;
            group
        })
        .collect();
    let shared = groups.iter().filter(|group| group.members > 1).count();
    for group in groups.iter_mut().filter(|group| group.members > 1) {
        group.journal = Some(Journal::new(shared));
    }
    (groups, group_of_client)
}

fn in_turn(client: usize, count: usize, topics: usize) -> Box<[u32]> {
    let mut chosen: Box<[u32]> = (0..count).map(|offset| ((client * count + offset) % topics) as u32).collect();
    chosen.sort_unstable();
    chosen
}

/// Chooses the topic of each event.
pub struct Draw {
    random: Rng,
    weights: Option<Weights>,
    topics: u32,
}

impl Draw {
    pub fn new(args: &BenchArgs) -> Self {
        let (weights, topics) = match args.distribution {
            Distribution::Uniform => (None, args.topics),
            Distribution::One => (None, 1),
            Distribution::Zipf => (Some(Weights::zipf(args.topics, args.zipf_exponent)), args.topics),
        };
        Self { random: Rng::with_seed(args.seed ^ 0x65_76_65_6e_74), weights, topics: topics as u32 }
    }

    pub fn next(&mut self) -> u32 {
        match &self.weights {
            _ if self.topics == 1 => 0,
            None => self.random.u32(..self.topics),
            Some(weights) => weights.draw(&mut self.random),
        }
    }
}

/// The sum of the weights up to each topic.
struct Weights(Vec<f64>);

impl Weights {
    fn zipf(topics: usize, exponent: f64) -> Self {
        let sums = (1..=topics).scan(0.0, |sum, rank| {
            *sum += (rank as f64).powf(-exponent);
            Some(*sum)
        });
        Self(sums.collect())
    }

    fn draw(&self, random: &mut Rng) -> u32 {
        let point = random.f64() * self.0.last().copied().unwrap_or(0.0);
        self.0.partition_point(|sum| *sum <= point).min(self.0.len() - 1) as u32
    }

    /// Draws `count` different topics, sorted.
    fn draw_several(&self, count: usize, random: &mut Rng) -> Box<[u32]> {
        /// Bounds the draws from a steep distribution of few topics.
        const ATTEMPTS_PER_TOPIC: usize = 32;
        let mut chosen = BTreeSet::new();
        for _ in 0..count * ATTEMPTS_PER_TOPIC {
            if chosen.len() < count {
                chosen.insert(self.draw(random));
            }
        }
        for topic in 0..self.0.len() as u32 {
            if chosen.len() < count {
                chosen.insert(topic);
            }
        }
        chosen.into_iter().collect()
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

    #[test]
    fn zipf_prefers_first_topics_without_duplicates() {
        let args = args("--clients 1000 --topics 50 --topics-per-client 3 --subscriptions zipf --distribution zipf");
        let (groups, of_client) = subscribe(&args);
        assert_eq!(of_client.len(), 1000);
        let subscribers = |topic| -> u32 {
            groups.iter().filter(|group| group.topics.contains(&topic)).map(|group| group.members).sum()
        };
        assert!(groups.iter().all(|group| group.topics.len() == 3 && group.topics.is_sorted_by(|a, b| a < b)));
        assert!(subscribers(0) > subscribers(5) && subscribers(5) > subscribers(40));

        let mut draw = Draw::new(&args);
        let mut counts = [0; 50];
        (0..20_000).for_each(|_| counts[draw.next() as usize] += 1);
        // The harmonic number of 50 is 4.5.
        assert!((4000..4900).contains(&counts[0]) && counts[49] > 20 && counts[49] < 180, "{counts:?}");
    }

    #[test]
    fn steep_distribution_can_fill_all_topics() {
        let (groups, _) =
            subscribe(&args("--clients 2 --topics 40 --topics-per-client 40 --subscriptions zipf --zipf-exponent 10"));
        assert_eq!((groups.len(), groups[0].topics.len()), (1, 40));
    }

    #[test]
    fn events_go_to_all_topics_alike_or_to_one() {
        let mut draw = Draw::new(&args("--topics 10"));
        let mut counts = [0; 10];
        (0..10_000).for_each(|_| counts[draw.next() as usize] += 1);
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        let mut one = Draw::new(&args("--topics 10 --distribution one"));
        assert!((0..100).all(|_| one.next() == 0));
    }
}

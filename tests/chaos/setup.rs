//! The configuration of a phase: servers, backbone, clients, publishers, and what they permit.

use std::time::Duration;

use crate::plan::Plan;
use crate::publisher::Workload;
use crate::random::Random;
use crate::recording::Expectations;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backbone {
    None,
    /// Redis that writes to disk before it acknowledges.
    Durable,
    /// Redis without persistence, unless a phase sends SAVE.
    Volatile,
    /// As `Volatile`, with a replica.
    Replicated,
    /// As `Replicated`, with this many Sentinels.
    Sentinels(u32),
}

#[derive(Clone, Debug)]
pub struct Setup {
    pub servers: usize,
    pub backbone: Backbone,
    pub has_pinned_clock: bool,
    /// The servers save their history when they stop, and continue with it.
    pub saves_history: bool,
    /// Server arguments, besides those for the backbone.
    pub args: Vec<String>,
    pub plan: Plan,
    pub workload: Workload,
    pub rate: u64,
    pub expectations: Expectations,
}

impl Setup {
    /// Servers whose rings hold more than a phase publishes.
    pub fn new(servers: usize, backbone: Backbone) -> Self {
        let topics = ["a", "log", "b:1", "b:2", "zz:1"];
        let plan = Plan::new(&topics);
        let workload = Workload {
            topics: plan.topics.clone(),
            are_repeated: false,
            bytes: 300,
            batch: 20,
            timeout: Duration::from_secs(4),
        };
        let args = Vec::new();
        let mut setup = Self {
            servers,
            backbone,
            has_pinned_clock: false,
            saves_history: false,
            args,
            plan,
            workload,
            rate: 600,
            expectations: Expectations::default(),
        };
        setup.rings(100_000, 200_000);
        setup.expectations.reasons.clear();
        setup
    }

    /// Sets the sizes of the servers' rings: events per topic, and of all topics.
    pub fn rings(&mut self, history: u64, firehose: u64) {
        self.args = [("--history", history), ("--firehose-history", firehose)]
            .into_iter()
            .flat_map(|(name, events)| [name.to_owned(), events.to_string()])
            .collect();
        self.set("--history-bytes", "1GiB");
        // A ring may evict slightly before it is full.
        self.expectations.smallest_ring = history.min(firehose) * 3 / 4;
        self.allow(&["evicted", "lagged"]);
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.args.extend([name.to_owned(), value.to_owned()]);
    }

    /// Allows gaps for these reasons.
    pub fn allow(&mut self, reasons: &[&'static str]) {
        for reason in reasons {
            if !self.expectations.reasons.contains(reason) {
                self.expectations.reasons.push(reason);
            }
        }
    }

    /// Picks large rings, or rings so small that readers lag.
    pub fn any_rings(&mut self, random: &mut Random) {
        match random.of(0..3) {
            0 => {}
            1 => self.rings(random.of(50..400), random.of(64..600)),
            _ => self.rings(random.of(200..2000), random.of(100..1000)),
        }
        if random.one_in(2) {
            self.set("--send-buffer", "4KiB");
        }
        if random.one_in(4) {
            self.set("--history-topics", "3");
        }
    }
}

//! What a phase's world is made of.

use std::time::Duration;

use crate::log::Terms;
use crate::plan::Plan;
use crate::publisher::Texts;
use crate::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backbone {
    None,
    /// Redis that has on the disk what it acknowledges.
    Durable,
    /// Redis without a file, unless a phase has it save one.
    Volatile,
    /// The same with a replica.
    Replicated,
    /// The same, and so many Sentinels.
    Sentinels(u32),
}

#[derive(Clone, Debug)]
pub struct Setup {
    pub servers: usize,
    pub backbone: Backbone,
    pub has_pinned_clock: bool,
    /// Settings of the servers, besides those of the backbone.
    pub args: Vec<String>,
    pub plan: Plan,
    pub texts: Texts,
    pub rate: u64,
    pub terms: Terms,
}

impl Setup {
    /// One server or several, with rings that hold more than a phase publishes.
    pub fn new(servers: usize, backbone: Backbone) -> Self {
        let topics = ["a", "log", "b:1", "b:2", "zz:1"];
        let plan = Plan::new(&topics);
        let texts = Texts {
            topics: plan.topics.clone(),
            are_repeated: false,
            bytes: 300,
            batch: 20,
            patience: Duration::from_secs(4),
        };
        let args = Vec::new();
        let mut setup =
            Self { servers, backbone, has_pinned_clock: false, args, plan, texts, rate: 600, terms: Terms::default() };
        setup.rings(100_000, 200_000);
        setup.terms.reasons.clear();
        setup
    }

    /// Sets how many events the servers keep, of each topic and of all.
    pub fn rings(&mut self, history: u64, firehose: u64) {
        self.args = [("--history", history), ("--firehose-history", firehose)]
            .into_iter()
            .flat_map(|(name, events)| [name.to_owned(), events.to_string()])
            .collect();
        self.set("--history-bytes", "1GiB");
        // A ring may give some events more than it has to.
        self.terms.smallest_ring = history.min(firehose) * 3 / 4;
        self.allow(&["evicted", "lagged"]);
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.args.extend([name.to_owned(), value.to_owned()]);
    }

    /// Gaps for these reasons may come.
    pub fn allow(&mut self, reasons: &[&'static str]) {
        for reason in reasons {
            if !self.terms.reasons.contains(reason) {
                self.terms.reasons.push(reason);
            }
        }
    }

    /// Rings that hold everything, or so few events that readers are overrun.
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

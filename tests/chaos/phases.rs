//! The phases: each a world, and what happens to it.

use crate::faults;
use crate::random::Random;
use crate::setup::{Backbone, Setup};
use crate::world::World;

pub struct Phase {
    pub name: &'static str,
    pub about: &'static str,
    pub setup: fn(&mut Random) -> Setup,
    pub act: fn(&mut World) -> Result<(), String>,
}

pub static PHASES: &[Phase] = &[
    Phase {
        name: "alone",
        about: "one server without Redis: SIGTERM, kill -9, SIGSTOP",
        setup: alone,
        act: faults::restart_servers,
    },
    Phase { name: "lag", about: "one server with small rings and slow readers", setup: lag, act: faults::leave },
    Phase {
        name: "clock",
        about: "one server whose clock starts at the same instant each time",
        setup: |random| Setup { has_pinned_clock: true, ..alone(random) },
        act: faults::restart_servers,
    },
    Phase {
        name: "hops",
        about: "healthy servers, readers that move between them, short SIGSTOPs",
        setup: hops,
        act: faults::freeze_servers,
    },
    Phase {
        name: "walk",
        about: "two healthy servers, readers that move between them without a pause",
        setup: walk,
        act: faults::leave,
    },
    Phase {
        name: "durable",
        about: "Redis that loses nothing is killed, cut off, slow; servers restart",
        setup: durable,
        act: faults::trouble_redis,
    },
    Phase {
        name: "tail",
        about: "Redis is killed and started without its last writes",
        setup: tail,
        act: faults::lose_tails,
    },
    Phase {
        name: "repeat",
        about: "identical events after Redis lost its last writes, while one server was away",
        setup: repeat,
        act: faults::repeat_after_loss,
    },
    Phase { name: "flush", about: "the stream is deleted", setup: flush, act: faults::flush },
    Phase { name: "trim", about: "the stream is trimmed, and rings are small", setup: trim, act: faults::trim },
    Phase {
        name: "partition",
        about: "proxies hold back commands or replies, cut, lead to a replica",
        setup: partition,
        act: faults::partition,
    },
    Phase { name: "switch", about: "planned Sentinel failovers", setup: sentinels, act: faults::switch },
    Phase {
        name: "failover",
        about: "the master is killed, and a replica without the newest events takes over",
        setup: sentinels,
        act: faults::failover,
    },
];

fn alone(random: &mut Random) -> Setup {
    let mut setup = Setup::new(1, Backbone::None);
    setup.any_rings(random);
    setup.allow(&["epoch", "evicted", "lagged"]);
    setup
}

fn lag(random: &mut Random) -> Setup {
    let mut setup = Setup::new(1, Backbone::None);
    setup.rings(2000, 1000);
    setup.set("--send-buffer", "4KiB");
    setup.plan.slow = 80;
    setup.plan.lasts = 1000..8000;
    setup.texts.bytes = 600;
    setup.rate = random.of(800..2000);
    setup
}

fn hops(random: &mut Random) -> Setup {
    let mut setup = Setup::new(random.of(2..4) as usize, Backbone::Volatile);
    (setup.plan.slow, setup.plan.pause, setup.plan.lasts) = (0, 0..4, 5..200);
    setup.plan.one_life_in = 40;
    setup.terms.is_lossless = true;
    setup
}

fn walk(random: &mut Random) -> Setup {
    let mut setup = Setup { servers: 2, ..hops(random) };
    (setup.plan.lasts, setup.plan.always_hops) = (5..60, true);
    setup
}

fn durable(random: &mut Random) -> Setup {
    let mut setup = Setup::new(random.of(2..4) as usize, Backbone::Durable);
    setup.rate = 300;
    setup.terms.is_lossless = true;
    setup
}

fn tail(random: &mut Random) -> Setup {
    let mut setup = Setup::new(random.of(1..4) as usize, Backbone::Volatile);
    setup.allow(&["epoch"]);
    if random.one_in(3) {
        setup.texts.are_repeated = true;
        setup.texts.topics.truncate(random.of(1..3) as usize);
    }
    setup
}

fn repeat(_: &mut Random) -> Setup {
    let mut setup = Setup::new(2, Backbone::Volatile);
    setup.allow(&["epoch"]);
    setup.texts.are_repeated = true;
    setup.texts.topics.truncate(1);
    setup
}

fn flush(random: &mut Random) -> Setup {
    let mut setup = Setup::new(random.of(1..4) as usize, Backbone::Volatile);
    setup.allow(&["epoch"]);
    setup
}

fn trim(random: &mut Random) -> Setup {
    let mut setup = Setup::new(random.of(1..4) as usize, Backbone::Volatile);
    setup.rings(random.of(50..500), random.of(64..600));
    setup.set("--redis-history", "1000");
    setup.allow(&["evicted", "lagged"]);
    setup
}

fn partition(random: &mut Random) -> Setup {
    let mut setup = Setup::new(random.of(1..4) as usize, Backbone::Replicated);
    setup.terms.is_lossless = true;
    if random.one_in(4) {
        setup.set("--redis-wait", "1");
    }
    setup
}

fn sentinels(random: &mut Random) -> Setup {
    let count = if random.one_in(4) { 3 } else { 1 };
    let mut setup = Setup::new(random.of(2..4) as usize, Backbone::Sentinels(count));
    setup.allow(&["epoch"]);
    setup.rate = 400;
    setup
}

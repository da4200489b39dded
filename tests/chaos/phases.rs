//! The phases: a setup each, and the faults that are injected.

use crate::faults;
use crate::random::Random;
use crate::server::has_setting;
use crate::setup::{Backbone, Setup};
use crate::world::World;

pub struct Phase {
    pub name: &'static str,
    pub description: &'static str,
    pub setup: fn(&mut Random) -> Setup,
    pub inject: fn(&mut World) -> Result<(), String>,
}

pub static PHASES: &[Phase] = &[
    Phase {
        name: "alone",
        description: "one server without Redis: SIGTERM, SIGKILL, SIGSTOP",
        setup: alone,
        inject: faults::restart_servers,
    },
    Phase {
        name: "saved",
        description: "one server that keeps its history over restarts: SIGTERM",
        setup: saved,
        inject: faults::restart_gracefully,
    },
    Phase {
        name: "lag",
        description: "one server with small rings and slow readers",
        setup: lag,
        inject: faults::none,
    },
    Phase {
        name: "clock",
        description: "one server whose clock restarts at the same instant each time",
        setup: |random| Setup { has_pinned_clock: true, ..alone(random) },
        inject: faults::restart_servers,
    },
    Phase {
        name: "hops",
        description: "healthy servers, readers that move between them, short SIGSTOPs",
        setup: hops,
        inject: faults::freeze_servers,
    },
    Phase {
        name: "walk",
        description: "two healthy servers, readers that move between them without a pause",
        setup: walk,
        inject: faults::none,
    },
    Phase {
        name: "durable",
        description: "Redis with fsync on every write is killed, disconnected and delayed; servers restart",
        setup: durable,
        inject: faults::disrupt_redis,
    },
    Phase {
        name: "tail",
        description: "Redis is killed and restarted without its last writes",
        setup: tail,
        inject: faults::lose_last_writes,
    },
    Phase {
        name: "repeat",
        description: "identical events after Redis lost its last writes while one server was down",
        setup: repeat,
        inject: faults::repeat_after_loss,
    },
    Phase { name: "flush", description: "the stream is deleted", setup: flush, inject: faults::flush },
    Phase {
        name: "trim",
        description: "the stream is trimmed, and rings are small",
        setup: trim,
        inject: faults::trim,
    },
    Phase {
        name: "partition",
        description: "proxies hold back commands or replies, disconnect, redirect to a replica",
        setup: partition,
        inject: faults::partition,
    },
    Phase { name: "switch", description: "planned Sentinel failovers", setup: sentinels, inject: faults::switch },
    Phase {
        name: "failover",
        description: "the master is killed, and a replica without the newest events takes over",
        setup: sentinels,
        inject: faults::failover,
    },
];

fn alone(random: &mut Random) -> Setup {
    let mut setup = Setup::new(1, Backbone::None);
    setup.any_rings(random);
    setup.allow(&["epoch", "evicted", "lagged"]);
    // After a SIGKILL there is no file of the last history, and must be none of an earlier one.
    setup.saves_history = has_setting("--history-file") && random.one_in(2);
    setup
}

/// Every event is delivered although the server restarts.
fn saved(_: &mut Random) -> Setup {
    let mut setup = Setup::new(1, Backbone::None);
    setup.saves_history = true;
    setup.expectations.is_lossless = true;
    setup
}

fn lag(random: &mut Random) -> Setup {
    let mut setup = Setup::new(1, Backbone::None);
    setup.rings(2000, 1000);
    setup.set("--send-buffer", "4KiB");
    setup.plan.slow = 80;
    setup.plan.lasts = 1000..8000;
    setup.workload.bytes = 600;
    setup.rate = random.of(800..2000);
    setup
}

fn hops(random: &mut Random) -> Setup {
    let mut setup = Setup::new(random.of(2..4) as usize, Backbone::Volatile);
    (setup.plan.slow, setup.plan.pause, setup.plan.lasts) = (0, 0..4, 5..200);
    setup.plan.one_restart_in = 40;
    setup.expectations.is_lossless = true;
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
    setup.expectations.is_lossless = true;
    setup
}

fn tail(random: &mut Random) -> Setup {
    let mut setup = Setup::new(random.of(1..4) as usize, Backbone::Volatile);
    setup.allow(&["epoch"]);
    if random.one_in(3) {
        setup.workload.are_repeated = true;
        setup.workload.topics.truncate(random.of(1..3) as usize);
    }
    setup
}

fn repeat(_: &mut Random) -> Setup {
    let mut setup = Setup::new(2, Backbone::Volatile);
    setup.allow(&["epoch"]);
    setup.workload.are_repeated = true;
    setup.workload.topics.truncate(1);
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
    setup.expectations.is_lossless = true;
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

//! The chaos test: an independent client and checker against real processes and real faults.
//!
//! A run is a sequence of [`phases`]. Each phase starts a [`world`] of servers, Redis, Sentinels and proxies, [`readers`] that
//! disconnect and reconnect to any server, and [`publisher`]s. While these run, [`faults`] are injected. After the last fault
//! every reader must reach the last events. Then the [`checker`] checks what each client received, and
//! [`acknowledgements`] checks the responses to publishers. [`mutations`] tests the checker itself.
//!
//! See `scripts/chaos --help` for how to run it.

mod acknowledgements;
mod checker;
mod client;
mod decoder;
mod exchange;
mod faults;
mod filter;
mod http;
mod http2;
mod id;
mod message;
mod mutations;
mod order;
mod parser;
mod phases;
mod plan;
mod process;
mod proxy;
mod publisher;
mod random;
mod readers;
mod recording;
mod redis;
mod run;
mod server;
mod setup;
mod shared;
mod violation;
mod websocket;
mod world;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use phases::{PHASES, Phase};
use random::Random;
use run::Totals;

/// Parses a number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")))
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn no_fault_violates_the_delivery_guarantee() {
    let time = Duration::from_secs(number("FANLINE_CHAOS_SECONDS").unwrap_or(60));
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    let seed = number("FANLINE_CHAOS_SEED").unwrap_or_else(|| Random::new(clock()).next() >> 32);
    let only = std::env::var("FANLINE_CHAOS_PHASE").ok();
    let ignored = std::env::var("FANLINE_CHAOS_IGNORE").unwrap_or_default();
    let mut phases: Vec<&Phase> = PHASES
        .iter()
        .filter(|phase| only.as_ref().is_none_or(|only| only.split(',').any(|name| name == phase.name)))
        .collect();
    let names: Vec<_> = PHASES.iter().map(|phase| phase.name).collect();
    assert!(!phases.is_empty(), "unknown phase; the phases are {}", names.join(", "));
    eprintln!("chaos: {} for {time:?}, seed {seed}", server::program().display());

    let (began, mut random, mut totals, mut runs) = (Instant::now(), Random::new(seed), Totals::default(), 0);
    // With a single phase, the first run uses the seed itself, so that a report can be reproduced.
    let mut seeds = (phases.len() == 1).then_some(seed);
    while began.elapsed() < time {
        random.shuffle(&mut phases);
        for phase in &phases {
            if began.elapsed() >= time {
                break;
            }
            let seed = seeds.take().unwrap_or_else(|| random.next() >> 32);
            let length = Duration::from_millis(Random::new(!seed).of(2500..6500));
            run_phase(phase, seed, length, &ignored, &mut totals);
            runs += 1;
        }
    }
    let Totals { events, deliveries, connections, http2, websocket, unix, gzip, latest, gaps, epochs, hops } = totals;
    eprintln!(
        "no violation: {runs} phases, {events} events in {epochs} epochs, {deliveries} deliveries, {connections} connections ({http2} over HTTP/2, {websocket} WebSockets, {unix} through Unix sockets, {gzip} that accept gzip), {latest} subscriptions to latest values, {} hops, {gaps} gaps",
        hops.len()
    );
}

/// Runs a phase and adds its statistics to `totals`.
///
/// # Panics
/// If the guarantee is violated, after printing the report. Rules that `ignored` lists do not count.
fn run_phase(phase: &Phase, seed: u64, length: Duration, ignored: &str, totals: &mut Totals) {
    let started = Instant::now();
    let outcome = run::run(phase, seed, length);
    let took = started.elapsed().as_secs_f64();
    let (recording, order, mut violations) =
        outcome.unwrap_or_else(|error| panic!("phase {} with seed {seed}: {error}", phase.name));
    violations.retain(|violation| !ignored.split(',').any(|rule| rule == violation.rule));
    totals.add(&recording, &order);
    let mut of_phase = Totals::default();
    of_phase.add(&recording, &order);
    let hops = of_phase.hops.len();
    let (median, slow) = (run::percentile(&mut of_phase.hops, 500), run::percentile(&mut of_phase.hops, 990));
    eprintln!(
        "  {:<10} seed {seed:<10} {took:>5.1} s, {:>7} deliveries, {hops:>5} hops (median {median} ms, p99 {slow} ms)",
        phase.name, of_phase.deliveries
    );
    if !violations.is_empty() {
        eprintln!("\n{} ({}) violated the guarantee:\n", phase.name, phase.description);
        eprintln!("{}", run::report(&recording, &order, &violations));
        eprintln!("reproduce: scripts/chaos --phase {} --seed {seed}", phase.name);
        panic!("{} violations after {took:.1} s", violations.len());
    }
}

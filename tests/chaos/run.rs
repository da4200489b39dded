//! Runs a phase and checks its recording.

use std::collections::BTreeMap;
use std::mem::take;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::order::Order;
use crate::phases::Phase;
use crate::process::{TIMEOUT, until};
use crate::random::Random;
use crate::recording::{Line, Millis, Recording};
use crate::server::has_setting;
use crate::violation::{Place, Violation};
use crate::world::{self, World};
use crate::{acknowledgements, checker, publisher, readers};

/// Time limit for readers to reach the last events after the last fault.
const LIVENESS: Duration = Duration::from_secs(40);

/// Time after which the last events are published again, because a failover may have lost them.
const AGAIN: Duration = Duration::from_secs(6);

/// Statistics of phases.
#[derive(Default)]
pub struct Totals {
    pub events: usize,
    pub deliveries: usize,
    pub connections: usize,
    /// Those over HTTP/2, WebSockets, those through Unix sockets, and those that accept gzip.
    pub http2: usize,
    pub websocket: usize,
    pub unix: usize,
    pub gzip: usize,
    /// Subscriptions to latest values.
    pub latest: usize,
    pub gaps: usize,
    pub epochs: usize,
    /// Time of each resume on another server, from connecting to the hello, in milliseconds.
    pub hops: Vec<u32>,
}

/// Runs a phase for about `length`, and returns its recording and violations.
///
/// # Errors
/// When the processes of the test itself fail.
pub fn run(phase: &Phase, seed: u64, length: Duration) -> Result<(Recording, Order, Vec<Violation>), String> {
    let mut random = Random::new(seed);
    let mut setup = (phase.setup)(&mut random);
    setup.plan.has_http2 &= has_setting("--max-streams-per-connection");
    setup.plan.has_latest &= has_setting("--max-keys");
    setup.plan.has_websocket &= has_setting("--pong-timeout");
    let directory = world::directory(&format!("{}-{seed}", phase.name))?;
    let mut world = World::start(&setup, &directory, random.fork())?;
    let shared = world.shared.clone();
    shared.rate.store(setup.rate, Ordering::Relaxed);
    let readers = readers::start(shared.clone(), setup.plan.clone(), random.fork());
    let publishers = publisher::start(&shared, &setup.workload, &mut random, 3);
    shared.is_publishing.store(true, Ordering::Relaxed);
    world.end = Instant::now() + length;
    let injected = (phase.inject)(&mut world);
    let settled = injected.and_then(|()| settle(&mut world, setup.workload.topics.as_slice()));
    shared.has_ended.store(true, Ordering::Relaxed);
    let clients = readers.join().map_err(|_| "the readers panicked")?;
    for publisher in publishers {
        publisher.join().map_err(|_| "a publisher panicked")?;
    }
    let mut violations = settled?;
    for violation in &mut violations {
        if let Place::Client(client, line) = &mut violation.place {
            *line = clients[*client].len().saturating_sub(1);
        }
    }
    let (contents, answers) = (take(&mut *shared.contents.lock().unwrap()), take(&mut *shared.answers.lock().unwrap()));
    let recording =
        Recording { expectations: setup.expectations, contents, clients, answers, faults: take(&mut world.faults) };
    let order = check(&recording, &mut violations);
    drop(world);
    if violations.is_empty() {
        let _ = std::fs::remove_dir_all(directory);
    } else {
        eprintln!("  the logs of all processes are in {}", directory.display());
    }
    Ok((recording, order, violations))
}

/// Checks a recording, and returns its order of events.
pub fn check(recording: &Recording, violations: &mut Vec<Violation>) -> Order {
    let order = Order::of(recording, violations);
    checker::check(recording, &order, violations);
    acknowledgements::check(recording, &order, violations);
    order
}

/// Ends all faults, publishes a last event on each topic, and waits until every reader has received it.
fn settle(world: &mut World, topics: &[String]) -> Result<Vec<Violation>, String> {
    let shared = world.shared.clone();
    shared.is_publishing.store(false, Ordering::SeqCst);
    shared.is_settling.store(true, Ordering::Relaxed);
    let mut violations = Vec::new();
    if let Err(error) = world.heal() {
        violations.push(Violation::of_world("not-ready", error));
        return Ok(violations);
    }
    // Otherwise other events could follow the last ones.
    let is_quiet = || (shared.requests.load(Ordering::SeqCst) == 0).then_some(());
    until("all publishers have a response", TIMEOUT, is_quiet)?;
    let deadline = Instant::now() + LIVENESS;
    let mut round = 0;
    while Instant::now() < deadline {
        round += 1;
        let mut goals = Vec::new();
        for topic in topics {
            let server = world.pick_server();
            let text = format!("the last of {topic}, {round}");
            if let Some(id) = publisher::publish_one(&shared, server, topic, &text) {
                goals.push((topic.clone(), id));
            }
        }
        if goals.len() < topics.len() {
            world.wait(50, 100);
            continue;
        }
        *shared.behind.lock().unwrap() = vec![usize::MAX];
        *shared.goals.lock().unwrap() = Some(goals);
        let again = Instant::now() + AGAIN;
        while Instant::now() < again.min(deadline) {
            if shared.behind.lock().unwrap().is_empty() {
                return Ok(violations);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        world.fault("the last events are published again");
    }
    for reader in shared.behind.lock().unwrap().iter() {
        let text = format!("this reader has not received the last events {LIVENESS:?} after the last fault");
        violations.push(Violation::of_client("liveness", *reader, usize::MAX, None, text));
    }
    Ok(violations)
}

impl Totals {
    pub fn add(&mut self, recording: &Recording, order: &Order) {
        self.events += order.len();
        self.epochs += order.epochs();
        for (_, line) in recording.clients.iter().flatten() {
            match line {
                Line::Event { .. } => self.deliveries += 1,
                Line::Connect { transport, .. } => {
                    self.connections += 1;
                    self.http2 += usize::from(transport.is_http2);
                    self.websocket += usize::from(transport.is_websocket);
                    self.unix += usize::from(transport.is_unix);
                    self.gzip += usize::from(transport.accepts_gzip);
                }
                Line::Begin { is_latest, .. } => self.latest += usize::from(*is_latest),
                Line::Gap(_) => self.gaps += 1,
                _ => {}
            }
        }
        self.hops.extend(recording.clients.iter().flat_map(|lines| hops(lines)));
    }
}

/// Returns the time of each resume on another server, from connecting to the hello.
fn hops(lines: &[(Millis, Line)]) -> Vec<u32> {
    let (mut server, mut began, mut hops) = (None, None, Vec::new());
    for (at, line) in lines {
        match line {
            Line::Begin { .. } => server = None,
            Line::Connect { server: to, sent, .. } => {
                began = server.filter(|from| from != to && sent.is_some()).map(|_| at);
                server = Some(*to);
            }
            Line::Hello { .. } => hops.extend(began.take().map(|began| at - began)),
            _ => {}
        }
    }
    hops
}

/// Returns the value at `permille` of the sorted times.
pub fn percentile(times: &mut [u32], permille: usize) -> u32 {
    times.sort_unstable();
    times.get((times.len() * permille / 1000).min(times.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// Counts the violations of each rule, followed by the trace of each rule's first violation.
pub fn report(recording: &Recording, order: &Order, violations: &[Violation]) -> String {
    let mut rules: BTreeMap<&str, Vec<&Violation>> = BTreeMap::new();
    for violation in violations {
        rules.entry(violation.rule).or_default().push(violation);
    }
    let mut text = String::new();
    for (rule, of_rule) in &rules {
        let first = of_rule.iter().min_by_key(|violation| violation.at(recording)).expect("a rule has a violation");
        let at = first.at(recording).map_or(String::new(), |at| format!(", first after {at} ms"));
        text.push_str(&format!("{rule}: {} times{at}\n", of_rule.len()));
    }
    for of_rule in rules.values() {
        let first = of_rule.iter().min_by_key(|violation| violation.at(recording)).expect("a rule has a violation");
        text.push('\n');
        text.push_str(&first.trace(recording, order));
    }
    text
}

//! The crowd: one measurement of a hub with very many subscriptions or topics, in a process of its own. `scripts/perf crowd` runs
//! all of them.
//!
//! A subscriber is a task that reads its subscription and writes each event to a null socket, [`std::io::Sink`]: everything that a
//! stream does in the hub, without a kernel and a network. Each measurement prints one line of comma-separated values.

#![expect(clippy::print_stdout, reason = "the output of the program")]

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{fs, thread};

use clap::{Parser, Subcommand, ValueEnum};
use fanline::event::{Event, Payload};
use fanline::hub::{Delivery, HubOptions, Start, Subscription, SubscriptionFilter};
use fanline::topic::Topic;
use fanline::{Hub, Server};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The topics that are published to while others expire.
const BUSY_TOPICS: usize = 1000;

/// Measures a hub with very many subscriptions or topics.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Subcommand)]
enum Measurement {
    /// SHAPE,SUBSCRIBERS,bytes for each,readers of an event,µs until it is published,µs until the last reader has it.
    Subscribers { shape: Shape, count: usize },
    /// topics,COUNT,bytes for each with one event besides the event.
    Topics { count: usize },
    /// DURING,TOPICS,p50 µs of a publish,p99,longest.
    Publish { during: During, topics: usize },
    /// sockets,COUNT,bytes of kernel memory for each.
    Sockets { count: usize },
}

/// What the subscribers subscribe to.
#[derive(Clone, Copy, ValueEnum)]
enum Shape {
    /// All to the same topic.
    OneTopic,
    /// Each to one of a thousand topics.
    ThousandTopics,
    /// Each to a topic of its own.
    OwnTopic,
    /// Each to a pattern that a thousandth of the events match.
    Pattern,
}

/// What else happens while events are published.
#[derive(Clone, Copy, ValueEnum)]
enum During {
    Nothing,
    /// Nothing, but all topics have had two events before: what is measured are their third to fifth events.
    Later,
    /// Pages of the list of topics are read without a pause.
    Listing,
    /// All topics expire but the thousand that are published to.
    Eviction,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match Options::parse().measurement {
        Measurement::Subscribers { shape, count } => runtime.block_on(subscribers(shape, count)),
        Measurement::Topics { count } => runtime.block_on(topics(count)),
        Measurement::Publish { during, topics } => publish(&runtime, during, topics),
        Measurement::Sockets { count } => sockets(count),
    }
}

/// A hub whose limits nothing reaches, with a short firehose.
fn hub(topic_ttl: Duration) -> Hub {
    let unlimited = usize::MAX >> 1;
    Hub::new(&HubOptions {
        history_bytes: unlimited,
        history_topics: unlimited,
        firehose_history: 1000,
        topic_ttl,
        ..HubOptions::default()
    })
}

const NEVER: Duration = Duration::from_secs(1 << 20);

fn topic(number: usize) -> Topic {
    Topic::new(&format!("room:{}:{number}", number % 1000)).expect("a valid topic")
}

fn event(number: usize) -> Event {
    Event::new(topic(number), Payload::text("x".repeat(100)))
}

/// The resident memory of this process in bytes.
fn resident() -> f64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: f64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * rustix::param::page_size() as f64
}

static RECEIVED: AtomicU64 = AtomicU64::new(0);

async fn read(mut subscription: Subscription) {
    let mut socket = std::io::sink();
    while let Some(delivery) = subscription.next().await {
        match delivery {
            Delivery::Event(frame) => socket.write_all(frame.sse()).expect("a sink"),
            Delivery::Gap(gap) => panic!("nothing is missing, not {gap:?}"),
        }
        RECEIVED.fetch_add(1, Relaxed);
    }
}

async fn subscribers(shape: Shape, count: usize) {
    let hub = hub(NEVER);
    let name = |number| match shape {
        Shape::OneTopic => topic(0).to_string(),
        Shape::ThousandTopics => topic(number % 1000).to_string(),
        Shape::OwnTopic => topic(number).to_string(),
        Shape::Pattern => format!("room:{}:*", number % 1000),
    };
    let before = resident();
    for number in 0..count {
        let filter = SubscriptionFilter::of([name(number).parse().expect("a valid filter")]);
        tokio::spawn(read(hub.subscribe(filter, Start::Live).0));
    }
    // Each waits once, and is woken from then on.
    tokio::task::yield_now().await;
    let bytes = (resident() - before) / count as f64;
    let wanted = (0..count).filter(|&number| name(number) == name(0)).count() as u64;
    let (mut published, mut delivered) = (Vec::new(), Vec::new());
    for _ in 0..21 {
        let goal = RECEIVED.load(Relaxed) + wanted;
        let event = event(0);
        let begin = Instant::now();
        hub.publish(event).await.expect("the hub is open");
        published.push(begin.elapsed());
        while RECEIVED.load(Relaxed) < goal {
            tokio::task::yield_now().await;
        }
        delivered.push(begin.elapsed());
    }
    let shape = shape.to_possible_value().expect("a name");
    let (published, delivered) = (quantile(&mut published, 0.5), quantile(&mut delivered, 0.5));
    println!("{},{count},{bytes:.0},{wanted},{published:.1},{delivered:.1}", shape.get_name());
}

/// In microseconds.
fn quantile(times: &mut [Duration], part: f64) -> f64 {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6
}

async fn fill(hub: &Hub, topics: usize) {
    for number in 0..topics {
        hub.publish(event(number)).await.expect("the hub is open");
    }
}

async fn topics(count: usize) {
    let hub = hub(NEVER);
    // What does not grow with the topics.
    fill(&hub, 2000).await;
    let (before, events_before) = (resident(), hub.stats().retained_bytes);
    fill(&hub, count + 2000).await;
    let events = (hub.stats().retained_bytes - events_before) as f64;
    println!("topics,{count},{:.0}", (resident() - before - events) / count as f64);
}

fn publish(runtime: &Runtime, during: During, topics: usize) {
    let hub = hub(if matches!(during, During::Eviction) { Duration::from_secs(1) } else { NEVER });
    runtime.block_on(fill(&hub, topics));
    if matches!(during, During::Later) {
        runtime.block_on(fill(&hub, topics));
    }
    let is_over = AtomicBool::new(false);
    let mut times = Vec::new();
    thread::scope(|scope| {
        match during {
            During::Nothing | During::Later => {}
            During::Listing => _ = scope.spawn(|| list(&hub, &is_over)),
            During::Eviction => _ = scope.spawn(|| serve(&hub, &is_over)),
        }
        let mut number = 0_usize;
        let is_evicting = || matches!(during, During::Eviction) && hub.stats().topics > 2 * BUSY_TOPICS;
        while times.len() < 300_000 || is_evicting() {
            // Spread over all topics, without a pattern that a cache could use.
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let busy = if matches!(during, During::Eviction) { BUSY_TOPICS } else { topics };
            let event = event((number >> 33) % busy);
            let begin = Instant::now();
            runtime.block_on(hub.publish(event)).expect("the hub is open");
            times.push(begin.elapsed());
        }
        is_over.store(true, Relaxed);
    });
    let during = during.to_possible_value().expect("a name");
    let [p50, p99, longest] = [0.5, 0.99, 1.0].map(|part| quantile(&mut times, part));
    println!("{},{topics},{p50:.2},{p99:.2},{longest:.0}", during.get_name());
}

/// Reads one page after the other.
fn list(hub: &Hub, is_over: &AtomicBool) {
    let mut after = None;
    while !is_over.load(Relaxed) {
        let (page, _) = hub.topics(after.as_deref(), 100, |_| true);
        after = page.last().map(|last| last.topic.to_string());
    }
}

/// Runs a server, which evicts what has expired.
fn serve(hub: &Hub, is_over: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let server = Server::builder(hub.clone()).listen(([127, 0, 0, 1], 0)).bind().expect("a free port");
        let stop = async {
            while !is_over.load(Relaxed) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        server.run(stop).await.expect("the server stops");
    });
}

/// Memory of the kernel for objects such as sockets, in bytes.
fn slab() -> f64 {
    let info = fs::read_to_string("/proc/meminfo").expect("Linux");
    let line = info.lines().find_map(|line| line.strip_prefix("Slab:")).expect("a line `Slab`");
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1024.0
}

fn sockets(count: usize) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let before = slab();
    let pairs: Vec<_> = (0..count / 2)
        .map(|_| (TcpStream::connect(address).expect("a listener"), listener.accept().expect("a connection")))
        .collect();
    println!("sockets,{count},{:.0}", (slab() - before) / (2 * pairs.len()) as f64);
}

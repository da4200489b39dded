//! The results of a run: the JSON report, from which text and page are made.

use serde::Serialize;
use serde_json::{Value, json};

use super::args::Rate;
use super::engine::{Engine, Memory};
use super::latency::{Latency, Percentile};
use super::plan::Plan;
use super::problems::Problem;
use super::stream::Tally;
use super::timeline::{Point, Timeline};

/// All results. Names end in their unit; unknown values are null.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Every stream was complete, and every publish was accepted.
    pub ok: bool,
    pub interrupted: bool,
    pub clients: usize,
    pub connected: usize,
    pub refused: usize,
    pub unconnected: usize,
    pub closed: usize,
    pub connect_seconds: f64,
    pub replay_seconds: Option<f64>,
    pub replay_deliveries: Option<u64>,
    pub listen_overflows: Option<u64>,
    pub listen_drops: Option<u64>,
    pub events_sent: u64,
    pub events_published: u64,
    pub events_unsent: u64,
    pub publish_failures: u64,
    pub lost: u64,
    #[serde(flatten)]
    pub tally: Tally,
    pub bytes_received: u64,
    #[serde(flatten)]
    pub window: Window,
    #[serde(flatten)]
    pub latency: Latencies,
    pub last_client_p50_us: Option<u64>,
    pub last_client_p99_us: Option<u64>,
    pub last_client_max_us: Option<u64>,
    pub late_send_p99_us: Option<u64>,
    pub late_send_max_us: Option<u64>,
    #[serde(flatten)]
    pub memory: Memory,
    pub rss_bytes_per_client: Option<f64>,
    pub slab_bytes_per_client: Option<f64>,
    pub problems: Vec<Problem>,
    pub options: Value,
    pub percentiles: Vec<Percentile>,
    pub timeline: Vec<Point>,
}

/// The measured window.
#[derive(Clone, Debug, Serialize)]
pub struct Window {
    pub window_seconds: f64,
    pub window_events: u64,
    pub window_deliveries: u64,
    pub events_per_second: f64,
    pub deliveries_per_second: f64,
    pub server_cpu_us_per_delivery: Option<f64>,
    pub deliveries_per_cpu_second: Option<f64>,
    /// Percent of one processor, as all of these.
    pub server_cpu_percent: Option<f64>,
    pub load_cpu_percent: Option<f64>,
    /// What neither the server nor the load generator used. It makes the other results worse.
    pub other_cpu_percent: Option<f64>,
}

/// From when events were due until they arrived.
#[derive(Clone, Debug, Serialize)]
pub struct Latencies {
    pub latency_mean_us: Option<f64>,
    pub latency_p50_us: Option<u64>,
    pub latency_p90_us: Option<u64>,
    pub latency_p99_us: Option<u64>,
    pub latency_p999_us: Option<u64>,
    pub latency_max_us: Option<u64>,
}

impl Report {
    pub fn new(run: &Engine<'_>) -> Self {
        let (plan, crowd, press, memory) = (run.shared.plan, &run.crowd, &run.press, run.memory);
        let growth = |before: Option<u64>, after: Option<u64>| {
            let (before, after) = before.zip(after)?;
            ratio((after as f64 - before as f64) * 1024.0, crowd.opened as f64)
        };
        let accept_losses = run.accept_losses();
        // Each of several groups has a last client of its own.
        let last_client = |quantile| (crowd.groups.len() == 1).then(|| crowd.checker.last_client.quantile(quantile))?;
        let mut report = Self {
            ok: false,
            interrupted: run.was_interrupted,
            clients: plan.args.clients,
            connected: crowd.opened,
            refused: crowd.refused,
            unconnected: plan.args.clients - crowd.opened - crowd.refused,
            closed: crowd.closed,
            connect_seconds: run.connect_time.as_secs_f64(),
            replay_seconds: run.replay.map(|(time, _)| time.as_secs_f64()),
            replay_deliveries: run.replay.map(|(_, deliveries)| deliveries),
            listen_overflows: accept_losses.map(|losses| losses.overflows),
            listen_drops: accept_losses.map(|losses| losses.drops),
            events_sent: press.sent,
            events_published: press.published,
            events_unsent: run.unsent(),
            publish_failures: press.sent - press.published,
            lost: run.lost(),
            tally: crowd.checker.tally,
            bytes_received: crowd.bytes,
            window: Window::new(&run.timeline),
            latency: Latencies::new(&crowd.checker.latency),
            last_client_p50_us: last_client(0.5),
            last_client_p99_us: last_client(0.99),
            last_client_max_us: last_client(1.0),
            late_send_p99_us: press.late.quantile(0.99),
            late_send_max_us: press.late.max(),
            memory,
            rss_bytes_per_client: growth(memory.rss_before_kb, memory.rss_connected_kb),
            slab_bytes_per_client: growth(memory.slab_before_kb, memory.slab_connected_kb),
            problems: run.shared.problems.list().to_vec(),
            options: options(plan),
            percentiles: crowd.checker.latency.percentiles(),
            timeline: run.timeline.points.clone(),
        };
        report.ok = report.faults().iter().all(|(_, count)| *count == 0);
        report
    }

    /// Everything that makes a run fail, by name.
    pub fn faults(&self) -> [(&'static str, u64); 12] {
        [
            ("lost", self.lost),
            ("duplicated", self.tally.duplicated),
            ("out of order", self.tally.out_of_order),
            ("ids out of order", self.tally.ids_out_of_order),
            ("gaps", self.tally.gaps),
            ("corrupted", self.tally.corrupted),
            ("malformed", self.tally.malformed),
            ("streams closed", self.closed as u64),
            ("subscribers refused", self.refused as u64),
            ("subscribers not connected", self.unconnected as u64),
            ("publishes failed", self.publish_failures),
            ("events never sent", self.events_unsent),
        ]
    }
}

impl Window {
    fn new(Timeline { first, last, .. }: &Timeline) -> Self {
        let seconds = (last.at - first.at) as f64 / 1e9;
        let events = last.published - first.published;
        let deliveries = last.deliveries - first.deliveries;
        let used = |last: Option<u64>, first: Option<u64>| Some(last?.saturating_sub(first?) as f64);
        let server = used(last.server_cpu, first.server_cpu);
        let load = used(Some(last.own_cpu), Some(first.own_cpu));
        let others = used(last.all_cpu, first.all_cpu).zip(load).zip(server);
        let percent = |cpu: f64| ratio(cpu / 1e7, seconds);
        Self {
            window_seconds: seconds,
            window_events: events,
            window_deliveries: deliveries,
            events_per_second: ratio(events as f64, seconds).unwrap_or(0.0),
            deliveries_per_second: ratio(deliveries as f64, seconds).unwrap_or(0.0),
            server_cpu_us_per_delivery: server.and_then(|cpu| ratio(cpu / 1e3, deliveries as f64)),
            deliveries_per_cpu_second: server.and_then(|cpu| ratio(deliveries as f64, cpu / 1e9)),
            server_cpu_percent: server.and_then(percent),
            load_cpu_percent: load.and_then(percent),
            other_cpu_percent: others.and_then(|((all, load), server)| percent((all - load - server).max(0.0))),
        }
    }
}

impl Latencies {
    fn new(latency: &Latency) -> Self {
        Self {
            latency_mean_us: latency.mean(),
            latency_p50_us: latency.quantile(0.5),
            latency_p90_us: latency.quantile(0.9),
            latency_p99_us: latency.quantile(0.99),
            latency_p999_us: latency.quantile(0.999),
            latency_max_us: latency.max(),
        }
    }
}

fn options(plan: &Plan) -> Value {
    let args = &plan.args;
    let url = args.server.url.to_string();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "date": humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        "sse_url": args.sse_url.replace("{url}", &url),
        "publish_url": args.publish_url.replace("{url}", &url),
        "body": args.body,
        "clients": args.clients,
        "topics": args.topics,
        "topics_per_client": args.topics_per_client,
        "subscriptions": name(args.subscriptions),
        "distribution": name(args.distribution),
        "zipf_exponent": args.zipf_exponent,
        "publishers": args.publishers,
        "rate": match args.rate {
            Rate::Max => "max".into(),
            Rate::PerSecond(rate) => Value::from(rate),
        },
        "payload_bytes": args.payload,
        "prefill": args.prefill,
        "warmup_seconds": args.warmup.as_secs_f64(),
        "duration_seconds": args.duration.as_secs_f64(),
        "seed": args.seed,
    })
}

/// The name of an option's value on the command line.
fn name(value: impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

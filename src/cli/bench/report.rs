//! The results of a run: the JSON report, from which text and page are made.

use serde::Serialize;
use serde_json::{Value, json};

use super::args::Rate;
use super::engine::{Engine, Memory};
use super::latency::Percentile;
use super::plan::Plan;
use super::problems::Problem;
use super::stream::Tally;
use super::timeline::{Point, Window, ratio};
use super::warnings::warnings;

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
    /// From when events were due until they arrived.
    pub latency_mean_us: Option<f64>,
    pub latency_p50_us: Option<u64>,
    pub latency_p90_us: Option<u64>,
    pub latency_p99_us: Option<u64>,
    pub latency_p999_us: Option<u64>,
    pub latency_max_us: Option<u64>,
    pub last_client_p50_us: Option<u64>,
    pub last_client_p99_us: Option<u64>,
    pub last_client_max_us: Option<u64>,
    pub late_send_p99_us: Option<u64>,
    pub late_send_max_us: Option<u64>,
    #[serde(flatten)]
    pub memory: Memory,
    pub rss_bytes_per_client: Option<f64>,
    pub slab_bytes_per_client: Option<f64>,
    /// Why the results describe the load generator or the machine rather than the server.
    pub warnings: Vec<String>,
    pub problems: Vec<Problem>,
    pub options: Value,
    pub percentiles: Vec<Percentile>,
    pub timeline: Vec<Point>,
}

impl Report {
    pub fn new(run: &Engine<'_>) -> Self {
        let (plan, crowd, press, memory) = (run.shared.plan, &run.crowd, &run.press, run.memory);
        let growth = |before: Option<u64>, after: Option<u64>| {
            let (before, after) = before.zip(after)?;
            ratio((after as f64 - before as f64) * 1024.0, crowd.opened as f64)
        };
        let accept_losses = run.accept_losses();
        let latency = &crowd.checker.latency;
        // Each of several groups has a last client of its own.
        let last_client = |quantile| (crowd.groups.len() == 1).then(|| crowd.checker.last_client.quantile(quantile))?;
        let window = run.timeline.window();
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
            events_unsent: press.schedule.left(),
            publish_failures: press.sent - press.published,
            lost: crowd.lost(press),
            tally: crowd.checker.tally,
            bytes_received: crowd.bytes,
            latency_mean_us: latency.mean(),
            latency_p50_us: latency.quantile(0.5),
            latency_p90_us: latency.quantile(0.9),
            latency_p99_us: latency.quantile(0.99),
            latency_p999_us: latency.quantile(0.999),
            latency_max_us: latency.quantile(1.0),
            last_client_p50_us: last_client(0.5),
            last_client_p99_us: last_client(0.99),
            last_client_max_us: last_client(1.0),
            late_send_p99_us: press.late.quantile(0.99),
            late_send_max_us: press.late.quantile(1.0),
            memory,
            rss_bytes_per_client: growth(memory.rss_before_kb, memory.rss_connected_kb),
            slab_bytes_per_client: growth(memory.slab_before_kb, memory.slab_connected_kb),
            warnings: warnings(&plan.args, &window, &press.late),
            window,
            problems: run.shared.problems.list().to_vec(),
            options: options(plan),
            percentiles: latency.percentiles(),
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

fn options(plan: &Plan) -> Value {
    let args = &plan.args;
    let url = args.server.url.to_string();
    let distribution = clap::ValueEnum::to_possible_value(&args.distribution);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "date": humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        "sse_url": args.sse_url.replace("{url}", &url),
        "publish_url": args.publish_url.replace("{url}", &url),
        "body": args.body,
        "clients": args.clients,
        "topics": args.topics,
        "topics_per_client": args.topics_per_client,
        "distribution": distribution.map(|value| value.get_name().to_owned()),
        "publishers": args.publishers,
        "rate": match args.rate {
            Rate::Max => "max".into(),
            Rate::PerSecond(rate) => Value::from(rate),
        },
        "payload_bytes": args.payload,
        "prefill": args.prefill,
        "warmup_seconds": args.warmup.as_secs_f64(),
        "duration_seconds": args.duration.as_secs_f64(),
    })
}

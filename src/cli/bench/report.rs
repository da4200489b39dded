//! The results of a run: the JSON report, from which text and page are made.

use serde::Serialize;
use serde_json::{Value, json};

use super::args::Rate;
use super::engine::Engine;
use super::latency::{Percentile, Quantiles};
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
    /// Open streams that are not read.
    pub stalled: usize,
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
    /// Streams with gzip, and what their bytes decoded to.
    pub compressed: usize,
    pub bytes_decoded: u64,
    #[serde(flatten)]
    pub window: Window,
    /// From when events were due until a subscriber, or the last subscriber, had them, or until they were sent.
    pub latency_mean_us: Option<f64>,
    #[serde(flatten)]
    pub latency: Quantiles,
    #[serde(flatten)]
    pub last_client: Quantiles,
    #[serde(flatten)]
    pub late_send: Quantiles,
    #[serde(flatten)]
    pub memory: Memory,
    /// Why the results do not describe the server alone.
    pub warnings: Vec<String>,
    pub problems: Vec<Problem>,
    pub options: Value,
    pub percentiles: Vec<Percentile>,
    pub timeline: Vec<Point>,
}

/// Resident memory of the server and slab memory of the machine.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    pub rss_before_kb: Option<u64>,
    pub rss_connected_kb: Option<u64>,
    pub rss_end_kb: Option<u64>,
    pub slab_before_kb: Option<u64>,
    pub slab_connected_kb: Option<u64>,
    pub rss_bytes_per_client: Option<f64>,
    pub slab_bytes_per_client: Option<f64>,
}

impl Report {
    pub fn new(run: &Engine<'_>) -> Self {
        let (plan, subscribers, publishers) = (run.shared.plan, &run.subscribers, &run.publishers);
        let grown = |before: Option<u64>, end: Option<u64>| Some(end? - before?);
        let latency = &subscribers.checker.latency;
        // Each of several groups has a last client of its own.
        let last_client = (subscribers.groups.len() == 1).then_some(&subscribers.checker.last_client);
        let window = run.timeline.window();
        let mut report = Self {
            ok: false,
            interrupted: run.was_interrupted,
            clients: plan.args.clients,
            connected: subscribers.opened,
            refused: subscribers.refused,
            unconnected: plan.args.clients - subscribers.opened - subscribers.refused,
            closed: subscribers.closed,
            stalled: subscribers.stalled,
            connect_seconds: run.connect_time.as_secs_f64(),
            replay_seconds: run.replay.map(|(time, _)| time.as_secs_f64()),
            replay_deliveries: run.replay.map(|(_, deliveries)| deliveries),
            listen_overflows: grown(run.before.listen_overflows, run.end.listen_overflows),
            listen_drops: grown(run.before.listen_drops, run.end.listen_drops),
            events_sent: publishers.sent,
            events_published: publishers.published,
            events_unsent: publishers.schedule.left(),
            publish_failures: publishers.sent - publishers.published,
            lost: subscribers.lost(publishers),
            tally: subscribers.checker.tally,
            bytes_received: subscribers.bytes,
            compressed: subscribers.compressed(),
            bytes_decoded: subscribers.checker.decoded_bytes,
            latency_mean_us: latency.mean(),
            latency: Quantiles::new(
                "latency",
                Some(latency),
                &[("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)],
            ),
            last_client: Quantiles::new("last_client", last_client, &[("p50", 0.5), ("p99", 0.99), ("max", 1.0)]),
            late_send: Quantiles::new("late_send", Some(&publishers.late), &[("p99", 0.99), ("max", 1.0)]),
            memory: Memory::new(run),
            warnings: warnings(&plan.args, &window, &publishers.late),
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

impl Memory {
    fn new(run: &Engine<'_>) -> Self {
        let (before, connected) = (&run.before, &run.connected);
        let per_client = |before: Option<u64>, after: Option<u64>| {
            ratio((after? as f64 - before? as f64) * 1024.0, run.subscribers.opened as f64)
        };
        Self {
            rss_before_kb: before.rss_kb,
            rss_connected_kb: connected.rss_kb,
            rss_end_kb: run.end.rss_kb,
            slab_before_kb: before.slab_kb,
            slab_connected_kb: connected.slab_kb,
            rss_bytes_per_client: per_client(before.rss_kb, connected.rss_kb),
            slab_bytes_per_client: per_client(before.slab_kb, connected.slab_kb),
        }
    }
}

fn options(plan: &Plan) -> Value {
    let args = &plan.args;
    let url = args.server.url.to_string();
    let transport = clap::ValueEnum::to_possible_value(&args.transport);
    let mode = clap::ValueEnum::to_possible_value(&args.mode);
    let distribution = clap::ValueEnum::to_possible_value(&args.distribution);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "date": humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        "sse_url": args.sse_url.replace("{url}", &url),
        "publish_url": args.publish_url.replace("{url}", &url),
        "body": args.body,
        "clients": args.clients,
        "transport": transport.map(|value| value.get_name().to_owned()),
        "http2_streams": args.http2,
        "compressed": args.compressed,
        "stalled": args.stalled,
        "mode": mode.map(|value| value.get_name().to_owned()),
        "interval_seconds": args.interval.map(|interval| interval.as_secs_f64()),
        "keys": args.keys,
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

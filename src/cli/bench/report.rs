//! What a run showed, as numbers: the JSON report, and what the others are made of.

use serde::Serialize;
use serde_json::{Value, json};

use super::engine::Engine;
use super::latency::Percentile;
use super::plan::Plan;
use super::problems::Problem;
use super::timeline::Point;

/// Every number of a run. Names end in their unit; what is not known is null.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Every stream was whole, and every publish was answered with yes.
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
    pub deliveries: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub out_of_order: u64,
    pub ids_out_of_order: u64,
    pub gaps: u64,
    pub corrupted: u64,
    pub malformed: u64,
    pub heartbeats: u64,
    pub comments: u64,
    pub foreign: u64,
    pub bytes_received: u64,
    pub window_seconds: f64,
    pub window_events: u64,
    pub window_deliveries: u64,
    pub events_per_second: f64,
    pub deliveries_per_second: f64,
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
    pub server_cpu_us_per_delivery: Option<f64>,
    pub deliveries_per_cpu_second: Option<f64>,
    pub server_cpu_percent: Option<f64>,
    pub load_cpu_percent: Option<f64>,
    /// Of one processor: what neither the server nor the load generator used. It makes the other numbers worse.
    pub other_cpu_percent: Option<f64>,
    pub rss_before_kb: Option<u64>,
    pub rss_connected_kb: Option<u64>,
    pub rss_end_kb: Option<u64>,
    pub rss_bytes_per_client: Option<f64>,
    pub slab_before_kb: Option<u64>,
    pub slab_connected_kb: Option<u64>,
    pub slab_bytes_per_client: Option<f64>,
    pub problems: Vec<Problem>,
    pub options: Value,
    pub percentiles: Vec<Percentile>,
    pub timeline: Vec<Point>,
}

impl Report {
    pub fn new(run: &Engine<'_>) -> Self {
        let (crowd, press) = (&run.crowd, &run.press);
        let checker = &crowd.checker;
        let (tally, latency) = (&checker.tally, &checker.latency);
        let (first, last) = (&run.timeline.first, &run.timeline.last);
        let seconds = (last.at - first.at) as f64 / 1e9;
        let deliveries = last.deliveries - first.deliveries;
        let events = last.published - first.published;
        let used = |of: fn(&super::timeline::Snapshot) -> Option<u64>| {
            let (last, first) = of(last).zip(of(first))?;
            Some(last.saturating_sub(first) as f64)
        };
        let server = used(|snapshot| snapshot.server_cpu);
        let own = used(|snapshot| Some(snapshot.own_cpu));
        let others = used(|snapshot| snapshot.all_cpu).zip(own).zip(server);
        let percent = |cpu: f64| ratio(cpu / 1e7, seconds);
        let growth = |before: Option<u64>, after: Option<u64>| {
            let (before, after) = before.zip(after)?;
            ratio((after as f64 - before as f64) * 1024.0, crowd.opened as f64)
        };
        let turned_away = run.turned_away();
        let memory = &run.memory;
        let args = &run.plan.args;
        // Of several groups each has a last client of its own.
        let last_client = |quantile| (run.plan.groups.len() == 1).then(|| checker.last_client.quantile(quantile))?;
        let mut report = Self {
            ok: false,
            interrupted: run.was_interrupted,
            clients: args.clients,
            connected: crowd.opened,
            refused: crowd.refused,
            unconnected: args.clients - crowd.opened - crowd.refused,
            closed: crowd.closed,
            connect_seconds: run.connect_time.as_secs_f64(),
            replay_seconds: run.replay.map(|(time, _)| time.as_secs_f64()),
            replay_deliveries: run.replay.map(|(_, deliveries)| deliveries),
            listen_overflows: turned_away.map(|turned_away| turned_away.overflows),
            listen_drops: turned_away.map(|turned_away| turned_away.drops),
            events_sent: press.sent,
            events_published: press.published,
            events_unsent: run.unsent(),
            publish_failures: press.sent - press.published,
            deliveries: tally.deliveries,
            lost: run.lost(),
            duplicated: tally.duplicated,
            out_of_order: tally.out_of_order,
            ids_out_of_order: tally.ids_out_of_order,
            gaps: tally.gaps,
            corrupted: tally.corrupted,
            malformed: tally.malformed,
            heartbeats: tally.heartbeats,
            comments: tally.comments,
            foreign: tally.foreign,
            bytes_received: crowd.bytes,
            window_seconds: seconds,
            window_events: events,
            window_deliveries: deliveries,
            events_per_second: ratio(events as f64, seconds).unwrap_or(0.0),
            deliveries_per_second: ratio(deliveries as f64, seconds).unwrap_or(0.0),
            latency_mean_us: latency.mean(),
            latency_p50_us: latency.quantile(0.5),
            latency_p90_us: latency.quantile(0.9),
            latency_p99_us: latency.quantile(0.99),
            latency_p999_us: latency.quantile(0.999),
            latency_max_us: latency.highest(),
            last_client_p50_us: last_client(0.5),
            last_client_p99_us: last_client(0.99),
            last_client_max_us: last_client(1.0),
            late_send_p99_us: press.late.quantile(0.99),
            late_send_max_us: press.late.highest(),
            server_cpu_us_per_delivery: server.and_then(|cpu| ratio(cpu / 1e3, deliveries as f64)),
            deliveries_per_cpu_second: server.and_then(|cpu| ratio(deliveries as f64, cpu / 1e9)),
            server_cpu_percent: server.and_then(percent),
            load_cpu_percent: own.and_then(percent),
            other_cpu_percent: others.and_then(|((all, own), server)| percent((all - own - server).max(0.0))),
            rss_before_kb: memory.rss_before,
            rss_connected_kb: memory.rss_connected,
            rss_end_kb: memory.rss_end,
            rss_bytes_per_client: growth(memory.rss_before, memory.rss_connected),
            slab_before_kb: memory.slab_before,
            slab_connected_kb: memory.slab_connected,
            slab_bytes_per_client: growth(memory.slab_before, memory.slab_connected),
            problems: run.problems.list().to_vec(),
            options: options(run.plan),
            percentiles: latency.percentiles(),
            timeline: run.timeline.points.clone(),
        };
        report.ok = report.faults().iter().all(|(_, count)| *count == 0);
        report
    }

    /// Everything that makes a run not whole, by name.
    pub fn faults(&self) -> [(&'static str, u64); 12] {
        [
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("out of order", self.out_of_order),
            ("ids out of order", self.ids_out_of_order),
            ("gaps", self.gaps),
            ("corrupted", self.corrupted),
            ("malformed", self.malformed),
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
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "date": humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        "sse_url": args.sse_url.replace("{url}", &args.server.url.to_string()),
        "publish_url": args.publish_url.replace("{url}", &args.server.url.to_string()),
        "body": args.body,
        "clients": args.clients,
        "topics": args.topics,
        "topics_per_client": args.topics_per_client,
        "subscriptions": word(args.subscriptions),
        "distribution": word(args.distribution),
        "zipf_exponent": args.zipf_exponent,
        "publishers": args.publishers,
        "rate": match args.rate {
            super::args::Rate::Max => "max".into(),
            super::args::Rate::PerSecond(rate) => Value::from(rate),
        },
        "payload_bytes": args.payload,
        "prefill": args.prefill,
        "warmup_seconds": args.warmup.as_secs_f64(),
        "duration_seconds": args.duration.as_secs_f64(),
        "seed": args.seed,
    })
}

fn word(value: impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

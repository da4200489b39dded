//! `GET /metrics`: what the server counts, as Prometheus text, as OpenMetrics, or as JSON.
//!
//! Everything is put together when it is asked for: nothing is counted for this alone.

mod backbone;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::{fmt, fs};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use serde_json::{Value, json};

use super::{Routes, clients, json_response};
use crate::backbone::Status;
use crate::hub::{GapReason, HubStats};
use crate::metrics::{Ending, LatencyDistribution, ServerStats, Stats};

/// How many of the clients that are behind most the JSON names.
const WORST: usize = 10;

/// Events behind: the upper bounds of the histogram's buckets.
const LAG_BUCKETS: [f64; 9] = [0.0, 1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0, 1e6, 1e7];

/// A format in which the metrics are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Text format 0.0.4.
    Prometheus,
    OpenMetrics,
    Json,
}

impl Format {
    /// What a client that sends these headers understands.
    pub(super) fn asked_for(headers: &HeaderMap) -> Self {
        let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("");
        // The first that is named: Prometheus puts what it likes best first.
        let ranges = accept.split(',').map(|range| range.split(';').next().unwrap_or("").trim());
        let known = |range| match range {
            "application/json" => Some(Self::Json),
            "application/openmetrics-text" => Some(Self::OpenMetrics),
            "text/plain" => Some(Self::Prometheus),
            _ => None,
        };
        ranges.filter_map(known).next().unwrap_or(Self::Prometheus)
    }
}

/// All that is known at one moment.
struct Snapshot {
    server: ServerStats,
    hub: HubStats,
    ended: Vec<(&'static str, u64)>,
    gaps: Vec<(&'static str, u64)>,
    /// By status and reason.
    refusals: Vec<(u16, &'static str, u64)>,
    max_connections: Option<usize>,
    rejections: Vec<(&'static str, u64)>,
    publish_errors: Vec<(&'static str, u64)>,
    publish_latency: LatencyDistribution,
    socket_latency: LatencyDistribution,
    /// For each client its id and how many events it is behind, the worst first.
    lags: Vec<(String, u64)>,
    /// How the lag is spread over all clients.
    lag: Histogram,
    process: Process,
    backbone: Option<Arc<Status>>,
}

/// What the process uses.
struct Process {
    cpu_seconds: f64,
    resident_bytes: u64,
    open_files: u64,
    max_open_files: Option<u64>,
}

impl Process {
    fn look() -> Self {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let pages = || fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse::<u64>().ok();
        Self {
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            resident_bytes: pages().unwrap_or(0) * rustix::param::page_size() as u64,
            // The listing has a file open itself.
            open_files: fs::read_dir("/proc/self/fd").map_or(0, |files| files.count().saturating_sub(1)) as u64,
            max_open_files: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
        }
    }
}

pub(super) async fn metrics(routes: &Routes, format: Format) -> Response<Full<Bytes>> {
    let snapshot = Snapshot::take(routes).await;
    let (content_type, body) = match format {
        Format::Json => return json_response(&snapshot.to_json()),
        Format::OpenMetrics => {
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", snapshot.to_openmetrics())
        }
        Format::Prometheus => ("text/plain; version=0.0.4; charset=utf-8", prometheus(&snapshot.to_openmetrics())),
    };
    let mut response = Response::new(Full::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Snapshot {
    async fn take(routes: &Routes) -> Self {
        let (shard, counts) = (&routes.shard, &routes.shard.metrics);
        // Counting tens of thousands of open files takes milliseconds, which the shard's clients would wait.
        let process = tokio::task::spawn_blocking(Process::look);
        let lag = Histogram::new(LAG_BUCKETS);
        let mut lags = Vec::new();
        clients::each_client(routes, |client| {
            let behind = clients::lag(&client, &shard.hub);
            lag.observe(behind as f64);
            if behind > 0 {
                lags.push((client.identity.id.to_string(), behind));
            }
            true
        })
        .await;
        lags.sort_unstable_by_key(|&(_, behind)| std::cmp::Reverse(behind));
        lags.truncate(WORST);
        let process = process.await.expect("looking at files does not panic");
        Self {
            server: Stats(counts.clone()).read(),
            hub: shard.hub.stats(),
            ended: Ending::ALL.iter().map(|&ending| (ending.as_str(), counts.ended(ending))).collect(),
            gaps: GapReason::ALL.iter().map(|&reason| (reason.as_str(), counts.gaps(reason as usize))).collect(),
            refusals: counts.refusals(),
            max_connections: routes.limiter.connections.max(),
            rejections: counts.rejections(),
            publish_errors: counts.publish_errors(),
            publish_latency: counts.publish_latency(),
            socket_latency: counts.socket_latency(),
            lags,
            lag,
            process,
            backbone: routes.backbone.as_ref().map(|backbone| backbone.status().clone()),
        }
    }

    fn to_json(&self) -> Value {
        let Self { server, hub, process, .. } = self;
        let table = |counts: &[(&'static str, u64)]| counts.iter().copied().map(own).collect::<serde_json::Map<_, _>>();
        fn own((name, count): (&str, u64)) -> (String, Value) {
            (name.to_owned(), count.into())
        }
        let worst = self.lags.iter().map(|(id, behind)| json!({"client_id": id, "queue_size": behind}));
        json!({
            "connections": {
                "current": server.connections,
                "max": self.max_connections,
                "streams": server.streams,
                "accepted": server.accepted,
                "ended": table(&self.ended),
                "rejected": table(&self.rejections),
                "accept_pauses": server.accept_pauses,
            },
            "events": {
                "published": hub.published,
                "delivered": server.delivered,
                "delivered_bytes": server.delivered_bytes,
                "gaps": table(&self.gaps),
                "publish_errors": table(&self.publish_errors),
            },
            "latency": {"publish": quantiles(&self.publish_latency), "socket": quantiles(&self.socket_latency)},
            "refusals": sums(self.refusals.iter().map(|(status, _, count)| (status.to_string(), *count))),
            "refusals_by_reason": sums(self.refusals.iter().map(|(_, reason, count)| ((*reason).to_owned(), *count))),
            "lag": {"worst": worst.collect::<Vec<_>>()},
            "history": {"topics": hub.topics, "events": hub.retained_events, "bytes": hub.retained_bytes},
            "process": {
                "cpu_seconds": process.cpu_seconds,
                "resident_bytes": process.resident_bytes,
                "open_files": process.open_files,
                "max_open_files": process.max_open_files,
            },
            "backbone": self.backbone.as_deref().map(backbone::to_json),
        })
    }

    fn to_openmetrics(&self) -> String {
        let Self { server, hub, process, .. } = self;
        let mut registry = Registry::default();
        let fanline = registry.sub_registry_with_prefix("fanline");
        gauge(fanline, "connections", "Open connections", server.connections);
        if let Some(max) = self.max_connections {
            gauge(fanline, "max_connections", "The limit on open connections", max as u64);
        }
        gauge(fanline, "streams", "Connections that are streams", server.streams);
        counter(fanline, "connections_accepted", "Connections accepted", server.accepted);
        counters(fanline, "streams_ended", "Streams that ended, by reason", "reason", &self.ended);
        let help = "Connections given up before a handler answered, by reason";
        counters(fanline, "connections_rejected", help, "reason", &self.rejections);
        counter(
            fanline,
            "accept_pauses",
            "Times that no file descriptor was left for a connection",
            server.accept_pauses,
        );
        counter(fanline, "events_published", "Events published", hub.published);
        let help = "Requests to publish that were refused or broke off, by reason";
        counters(fanline, "publish_errors", help, "reason", &self.publish_errors);
        let help = "Time that a request's events took to get their positions";
        latencies(fanline, "publish_latency", help, &self.publish_latency);
        let help = "Time from the publication of an event to each socket that took it, for one event a second";
        latencies(fanline, "socket_latency", help, &self.socket_latency);
        counter(fanline, "events_delivered", "Events written to streams", server.delivered);
        counter(fanline, "delivered_bytes", "Bytes written to streams", server.delivered_bytes);
        counters(fanline, "gaps", "Gaps that streams were told of, by reason", "reason", &self.gaps);
        let refusals = Family::<Vec<(&str, String)>, Counter>::default();
        for &(status, reason, count) in &self.refusals {
            let labels = vec![("status", status.to_string()), ("reason", reason.to_owned())];
            refusals.get_or_create(&labels).inc_by(count);
        }
        fanline.register("refusals", "Requests answered with an error, by status and reason", refusals);
        fanline.register("stream_lag_events", "Events that each stream is behind the newest", self.lag.clone());
        gauge(fanline, "topics", "Topics that have a history or a subscriber", hub.topics as u64);
        gauge(fanline, "history_events", "Events that can be replayed", hub.retained_events);
        gauge(fanline, "history_bytes", "Memory that they take", hub.retained_bytes);
        if let Some(status) = &self.backbone {
            backbone::register(fanline, status);
        }
        let process_metrics = registry.sub_registry_with_prefix("process");
        let cpu = Counter::<f64, std::sync::atomic::AtomicU64>::default();
        cpu.inc_by(process.cpu_seconds);
        process_metrics.register_with_unit("cpu", "Processor time used", Unit::Seconds, cpu);
        gauge(process_metrics, "resident_memory_bytes", "Memory in use", process.resident_bytes);
        gauge(process_metrics, "open_fds", "Open files", process.open_files);
        if let Some(limit) = process.max_open_files {
            gauge(process_metrics, "max_fds", "The limit on open files", limit);
        }
        let mut out = String::new();
        text::encode(&mut out, &registry).expect("a string takes all");
        out
    }
}

/// The counts of one name, added up.
fn sums(counts: impl Iterator<Item = (String, u64)>) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (name, count) in counts {
        *sums.entry(name).or_default() += count;
    }
    sums
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter = Counter::<u64>::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

fn counters(registry: &mut Registry, name: &str, help: &str, label: &str, values: &[(impl AsRef<str>, u64)]) {
    let family = Family::<Vec<(String, String)>, Counter>::default();
    for (value, count) in values {
        family.get_or_create(&vec![(label.to_owned(), value.as_ref().to_owned())]).inc_by(*count);
    }
    registry.register(name, help, family);
}

fn latencies(registry: &mut Registry, name: &str, help: &str, latencies: &LatencyDistribution) {
    registry.register_with_unit(name, help, Unit::Seconds, latencies.clone());
}

/// The buckets are counted elsewhere, for each shard: the library's own histogram is one behind a lock.
impl EncodeMetric for LatencyDistribution {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_histogram::<NoLabelSet>(self.seconds, self.count, &self.buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// The count, and in seconds bounds that so many were not above.
fn quantiles(latencies: &LatencyDistribution) -> Value {
    let [p50, p99] = [0.5, 0.99].map(|share| latencies.quantile(share));
    json!({"count": latencies.count, "p50": p50, "p99": p99})
}

/// The same in Prometheus' text format 0.0.4. It differs in what it calls a counter (there the name bears the suffix
/// everywhere), and has neither units nor an end.
fn prometheus(openmetrics: &str) -> String {
    let mut counters = Vec::new();
    for line in openmetrics.lines() {
        if let Some(name) = line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" counter")) {
            counters.push(name);
        }
    }
    let mut out = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), ..) => continue,
            (Some("#"), Some(kind), Some(name), Some(rest)) if counters.contains(&name) => {
                out.push_str(&format!("# {kind} {name}_total {rest}\n"));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_the_format_that_it_names_first() {
        for (accept, expected) in [
            (None, Format::Prometheus),
            (Some("*/*"), Format::Prometheus),
            (Some("application/json"), Format::Json),
            (Some("text/plain;version=0.0.4;q=0.5,*/*;q=0.1"), Format::Prometheus),
            (Some("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3"), Format::OpenMetrics),
        ] {
            let headers = accept.map(|accept| (ACCEPT, accept.parse().unwrap())).into_iter().collect();
            assert_eq!(Format::asked_for(&headers), expected, "{accept:?}");
        }
    }

    #[test]
    fn a_counter_bears_its_suffix_everywhere_in_the_old_format() {
        let openmetrics = "# HELP a_b Things that happened.\n# TYPE a_b counter\na_b_total{x=\"1\"} 3\n\
                           # HELP c_seconds A # b.\n# TYPE c_seconds gauge\n# UNIT c_seconds seconds\nc_seconds 1.5\n# EOF\n";
        let expected = "# HELP a_b_total Things that happened.\n# TYPE a_b_total counter\na_b_total{x=\"1\"} 3\n\
                        # HELP c_seconds A # b.\n# TYPE c_seconds gauge\nc_seconds 1.5\n";
        assert_eq!(prometheus(openmetrics), expected);
    }
}

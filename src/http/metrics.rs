//! `GET /metrics`: what the server counts, as Prometheus text, as OpenMetrics, or as JSON.
//!
//! Each request takes a snapshot of counts that exist anyway.

mod backbone;
mod text;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS};
use prometheus_client::metrics::histogram::Histogram;
use serde_json::{Value, json};

use super::producers::ProducerState;
use super::{Routes, accept, clients, json_response};
use crate::backbone::Status;
use crate::conn::EndReason;
use crate::hub::{GapReason, HubStats};
use crate::metrics::{LatencyDistribution, Metrics, STATUS_CLASSES};
use crate::presence::{Members, each_client};

/// The number of clients in the JSON: those that are furthest behind.
const WORST: usize = 10;

/// Events behind: the upper bounds of the histogram's buckets.
const LAG_BUCKETS: [f64; 9] = [0.0, 1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0, 1e6, 1e7];

/// A format of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Text format 0.0.4.
    Prometheus,
    OpenMetrics,
    Json,
}

impl Format {
    /// Returns the format that the client prefers.
    pub(super) fn preferred(headers: &HeaderMap) -> Self {
        match accept::preferred(headers, &["text/plain", "application/openmetrics-text", "application/json"]) {
            Some("application/json") => Self::Json,
            Some("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }
}

/// The counts at one moment.
struct Snapshot {
    counts: Arc<Metrics>,
    hub: HubStats,
    ended: Vec<(&'static str, u64)>,
    gaps: Vec<(&'static str, u64)>,
    /// Responses of the application's service, by class of status.
    fallback: Vec<(&'static str, u64)>,
    max_connections: Option<usize>,
    /// The clients that are furthest behind, with how many events.
    worst_lags: Vec<(String, u64)>,
    /// The lags of all clients.
    lag: Histogram,
    process: Process,
    backbone: Option<Arc<Status>>,
    members: Option<Arc<Members>>,
    producers: Vec<(String, ProducerState)>,
}

/// The resources that the process uses.
struct Process {
    cpu_seconds: f64,
    resident_bytes: u64,
    open_files: u64,
    max_open_files: Option<u64>,
}

impl Process {
    fn read() -> Self {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let pages = || fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse::<u64>().ok();
        Self {
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            resident_bytes: pages().unwrap_or(0) * rustix::param::page_size() as u64,
            // The directory is open itself while it is listed.
            open_files: fs::read_dir("/proc/self/fd").map_or(0, |files| files.count().saturating_sub(1)) as u64,
            max_open_files: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
        }
    }
}

pub(super) async fn metrics(routes: &Routes, format: Format) -> Response<Full<Bytes>> {
    let snapshot = Snapshot::take(routes).await;
    let mut response = match format {
        Format::Json => json_response(&snapshot.to_json()),
        Format::OpenMetrics => {
            text_response("application/openmetrics-text; version=1.0.0; charset=utf-8", snapshot.to_text(true))
        }
        Format::Prometheus => text_response("text/plain; version=0.0.4; charset=utf-8", snapshot.to_text(false)),
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    response
}

fn text_response(content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

impl Snapshot {
    async fn take(routes: &Routes) -> Self {
        let (shard, counts) = (&routes.shard, routes.shard.metrics.clone());
        // Counting tens of thousands of open files takes milliseconds, and would delay the shard's clients.
        let process = tokio::task::spawn_blocking(Process::read);
        let lag = Histogram::new(LAG_BUCKETS);
        let mut lags = Vec::new();
        each_client(&routes.clients, |client| {
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
        let process = process.await.expect("reading files does not panic");
        Self {
            hub: shard.hub.stats(),
            ended: EndReason::ALL
                .map(|reason| (reason.as_str(), counts.sum(|shard| &shard.ended[reason as usize])))
                .to_vec(),
            gaps: GapReason::ALL
                .map(|reason| (reason.as_str(), counts.sum(|shard| &shard.gaps[reason as usize])))
                .to_vec(),
            fallback: STATUS_CLASSES
                .iter()
                .enumerate()
                .map(|(class, name)| (*name, counts.sum(|shard| &shard.fallback[class])))
                .collect(),
            max_connections: routes.limiter.connections.max(),
            worst_lags: lags,
            lag,
            process,
            backbone: routes.backbone.as_ref().map(|backbone| backbone.status().clone()),
            members: routes.members.clone(),
            producers: routes.producers.states(),
            counts,
        }
    }

    fn to_json(&self) -> Value {
        let Self { counts, hub, process, .. } = self;
        let refusals = counts.refusals.read();
        let publish_latency = counts.latencies(|shard| &shard.publish_latency);
        let socket_latency = counts.latencies(|shard| &shard.socket_latency);
        let worst = self.worst_lags.iter().map(|(id, behind)| json!({"client_id": id, "queue_size": behind}));
        json!({
            "connections": {
                "current": counts.connections(),
                "max": self.max_connections,
                "streams": counts.streams(),
                "http2": {
                    "connections": counts.sum(|shard| &shard.http2_connections),
                    "streams": counts.sum(|shard| &shard.http2_streams),
                    "errors": sums(counts.http2_errors.read()),
                },
                "accepted": counts.accepted.get(),
                "ended": sums(self.ended.iter().copied()),
                "rejected": sums(counts.rejections.read()),
                "accept_pauses": counts.accept_pauses.get(),
            },
            "websocket": {
                "streams": counts.sum(|shard| &shard.websocket.streams),
                "delivered": counts.sum(|shard| &shard.websocket.delivered),
                "delivered_bytes": counts.sum(|shard| &shard.websocket.delivered_bytes),
                "received": counts.sum(|shard| &shard.websocket.received),
            },
            "compression": {
                "streams": counts.sum(|shard| &shard.gzip.streams),
                "shared": counts.sum(|shard| &shard.gzip.shared),
                "stored": counts.sum(|shard| &shard.gzip.stored),
                "plain_bytes": counts.sum(|shard| &shard.gzip.plain_bytes),
                "bytes": counts.sum(|shard| &shard.gzip.bytes),
            },
            "fallback": {"responses": sums(self.fallback.iter().copied())},
            "events": {
                "published": hub.published,
                "unacknowledged": hub.unacknowledged,
                "delivered": counts.sum(|shard| &shard.delivered),
                "delivered_bytes": counts.sum(|shard| &shard.delivered_bytes),
                "gaps": sums(self.gaps.iter().copied()),
                "publish_errors": sums(counts.publish_errors.read()),
                "publishes_repeated": counts.publishes_repeated.get(),
                "idempotency_keys": hub.idempotency_keys,
            },
            "latency": {"publish": quantiles(&publish_latency), "socket": quantiles(&socket_latency)},
            "refusals": sums(refusals.iter().map(|&((status, _), count)| (status, count))),
            "refusals_by_reason": sums(refusals.iter().map(|&((_, reason), count)| (reason, count))),
            "lag": {"worst": worst.collect::<Vec<_>>()},
            "history": {"topics": hub.topics, "events": hub.retained_events, "restored": hub.restored, "bytes": hub.retained_bytes},
            "latest": {
                "keys": hub.latest_keys,
                "bytes": hub.latest_bytes,
                "expired": hub.expired_keys,
                "tombstones": hub.tombstones,
            },
            "process": {
                "cpu_seconds": process.cpu_seconds,
                "resident_bytes": process.resident_bytes,
                "open_files": process.open_files,
                "max_open_files": process.max_open_files,
            },
            "backbone": self.backbone.as_deref().map(backbone::to_json),
            "presence": self.members.as_deref().map(presence),
            "producers": self.producers.iter().map(|(name, state)| (&**name, state.as_str())).collect::<BTreeMap<_, _>>(),
        })
    }
}

fn presence(members: &Members) -> Value {
    json!({"members": members.len(), "refused": members.refused.get()})
}

/// The sum of the counts of each name.
fn sums<N: ToString>(counts: impl IntoIterator<Item = (N, u64)>) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (name, count) in counts {
        *sums.entry(name.to_string()).or_default() += count;
    }
    sums
}

/// The count, and upper bounds of two quantiles in seconds.
fn quantiles(latencies: &LatencyDistribution) -> Value {
    let [p50, p99] = [0.5, 0.99].map(|share| latencies.quantile(share));
    json!({"count": latencies.count, "p50": p50, "p99": p99})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_header_chooses_the_format() {
        for (accept, expected) in [
            (None, Format::Prometheus),
            (Some("*/*"), Format::Prometheus),
            (Some("application/json"), Format::Json),
            (Some("text/plain;version=0.0.4;q=0.5,*/*;q=0.1"), Format::Prometheus),
            (Some("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3"), Format::OpenMetrics),
            (Some("application/openmetrics-text;q=0.3,text/plain;q=0.5"), Format::Prometheus),
        ] {
            let headers = accept.map(|accept| (hyper::header::ACCEPT, accept.parse().unwrap()));
            assert_eq!(Format::preferred(&headers.into_iter().collect()), expected, "{accept:?}");
        }
    }
}

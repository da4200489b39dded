//! The two text formats, by the client library of Prometheus.

use std::fmt::{self, Debug};

use prometheus_client::encoding::{
    EncodeCounterValue, EncodeGaugeValue, EncodeMetric, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Metric, Registry, Unit};

use super::{Snapshot, backbone};
use crate::http::producers::ProducerState;
use crate::metrics::{Count, GzipCounts, LatencyDistribution};

/// A page in one of the formats. They differ in the name of a counter, which ends with `_total` everywhere in Prometheus'
/// text format 0.0.4, and in OpenMetrics only where its value is; and in units and the end, which only OpenMetrics has.
pub(super) struct Page {
    registry: Registry,
    is_openmetrics: bool,
}

impl Page {
    fn new(is_openmetrics: bool) -> Self {
        Self { registry: Registry::default(), is_openmetrics }
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.registry.register(name, help, ConstGauge::new(value));
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.samples(name, help, vec![(Vec::new(), value)]);
    }

    /// A counter for each value of `label`.
    fn counters(&mut self, name: &str, help: &str, label: &'static str, values: &[(&'static str, u64)]) {
        let samples = values.iter().map(|&(value, count)| (vec![(label, value.to_owned())], count));
        self.samples(name, help, samples.collect());
    }

    fn samples(&mut self, name: &str, help: &str, samples: Vec<(Labels, u64)>) {
        let suffix = if self.is_openmetrics { "" } else { "_total" };
        let counter = Counter { samples, is_openmetrics: self.is_openmetrics };
        self.registry.register(format!("{name}{suffix}"), help, counter);
    }

    /// A metric in seconds; `name` is without the unit.
    fn seconds(&mut self, name: &str, help: &str, suffix: &str, metric: impl Metric) {
        if self.is_openmetrics {
            self.registry.register_with_unit(name, help, Unit::Seconds, metric);
        } else {
            self.registry.register(format!("{name}_seconds{suffix}"), help, metric);
        }
    }

    fn finish(self) -> String {
        let mut out = String::new();
        let encode = if self.is_openmetrics { text::encode } else { text::encode_registry };
        encode(&mut out, &self.registry).expect("writing to a string does not fail");
        out
    }
}

type Labels = Vec<(&'static str, String)>;

/// A counter with its value for each set of labels. The library's own does not know the name in the older format.
#[derive(Debug)]
struct Counter<N> {
    samples: Vec<(Labels, N)>,
    is_openmetrics: bool,
}

impl<N> Counter<N>
where
    N: EncodeCounterValue + EncodeGaugeValue,
{
    fn encode_value(&self, value: &N, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        if self.is_openmetrics {
            encoder.encode_counter::<NoLabelSet, N, u64>(value, None)
        } else {
            // With the name as it is.
            encoder.encode_gauge(value)
        }
    }
}

impl<N> EncodeMetric for Counter<N>
where
    N: EncodeCounterValue + EncodeGaugeValue + Debug,
{
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match &self.samples[..] {
            [(labels, value)] if labels.is_empty() => self.encode_value(value, encoder),
            samples => {
                samples.iter().try_for_each(|(labels, value)| self.encode_value(value, encoder.encode_family(labels)?))
            }
        }
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
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

impl Snapshot {
    pub(super) fn to_text(&self, is_openmetrics: bool) -> String {
        let mut page = Page::new(is_openmetrics);
        self.add_connections(&mut page);
        self.add_events(&mut page);
        self.add_websocket(&mut page);
        self.add_compression(&mut page);
        if let Some(status) = &self.backbone {
            backbone::add(&mut page, status);
        }
        if let Some(members) = &self.members {
            let help = "Users, and clients without a user, that subscribe to topics of presence";
            page.gauge("fanline_presence_members", help, members.len() as u64);
            let help = "Members that were not announced because of the limit";
            page.counter("fanline_presence_refused", help, members.refused.get());
        }
        self.add_producers(&mut page);
        self.add_process(&mut page);
        page.finish()
    }

    fn add_connections(&self, page: &mut Page) {
        let counts = &self.counts;
        page.gauge("fanline_connections", "Open connections", counts.connections());
        if let Some(max) = self.max_connections {
            page.gauge("fanline_max_connections", "The limit on open connections", max as u64);
        }
        page.gauge("fanline_streams", "Open streams of events", counts.streams());
        let help = "Open connections that speak HTTP/2";
        page.gauge("fanline_http2_connections", help, counts.sum(|shard| &shard.http2_connections));
        let help = "Open streams of events over HTTP/2";
        page.gauge("fanline_http2_streams", help, counts.sum(|shard| &shard.http2_streams));
        let help = "HTTP/2 connections that the server closed because of an error of the client, by error code";
        page.counters("fanline_http2_errors", help, "code", &counts.http2_errors.read());
        let help = "Messages of WebSocket clients that were refused, by code";
        page.counters("fanline_websocket_errors", help, "code", &counts.websocket_errors.read());
        page.counter("fanline_connections_accepted", "Connections accepted", counts.accepted.get());
        page.counters("fanline_streams_ended", "Streams that ended, by reason", "reason", &self.ended);
        let help = "Connections that ended before a handler answered, by reason";
        page.counters("fanline_connections_rejected", help, "reason", &counts.rejections.read());
        let help = "Times that accepting paused because no file descriptor was left";
        page.counter("fanline_accept_pauses", help, counts.accept_pauses.get());
        let refusals = counts.refusals.read().into_iter().map(|((status, reason), count)| {
            (vec![("status", status.to_string()), ("reason", reason.to_owned())], count)
        });
        let help = "Requests answered with an error, by status and reason";
        page.samples("fanline_refusals", help, refusals.collect());
        let help = "Responses of the application's own service, by class of status";
        page.counters("fanline_fallback_responses", help, "status", &self.fallback);
    }

    fn add_events(&self, page: &mut Page) {
        let (counts, hub) = (&self.counts, &self.hub);
        page.counter("fanline_events_published", "Events published", hub.published);
        let help = "Events of the application, published without waiting, that were refused or not acknowledged";
        page.counter("fanline_events_unacknowledged", help, hub.unacknowledged);
        let help = "Publish requests that were refused or broke off, by reason";
        page.counters("fanline_publish_errors", help, "reason", &counts.publish_errors.read());
        let help = "Publications that repeated one with the same Idempotency-Key";
        page.counter("fanline_publishes_repeated", help, counts.publishes_repeated.get());
        let help = "Idempotency keys that this server remembers; with a backbone, these are there";
        page.gauge("fanline_idempotency_keys", help, hub.idempotency_keys as u64);
        let help = "Time from reading a request's events to their positions";
        page.seconds("fanline_publish_latency", help, "", counts.latencies(|shard| &shard.publish_latency));
        let help = "Time from the publication of an event to each socket that took it, for one event a second";
        page.seconds("fanline_socket_latency", help, "", counts.latencies(|shard| &shard.socket_latency));
        page.counter("fanline_events_delivered", "Events written to streams", counts.sum(|shard| &shard.delivered));
        page.counter("fanline_delivered_bytes", "Bytes written to streams", counts.sum(|shard| &shard.delivered_bytes));
        page.counters("fanline_gaps", "Gaps reported to streams, by reason", "reason", &self.gaps);
        let help = "Events that each stream is behind the newest";
        page.registry.register("fanline_stream_lag_events", help, self.lag.clone());
        page.gauge("fanline_topics", "Topics that have a history, a subscriber or latest values", hub.topics as u64);
        page.gauge("fanline_history_events", "Events that can be replayed", hub.retained_events);
        page.gauge("fanline_history_restored_events", "Events from the history file of the last stop", hub.restored);
        page.gauge("fanline_history_bytes", "Memory that these events take", hub.retained_bytes);
        page.gauge("fanline_latest_keys", "Keys that have a latest value", hub.latest_keys as u64);
        page.gauge("fanline_latest_bytes", "Memory of their values", hub.latest_bytes);
        let help = "Keys that this server has deleted because they were no longer updated";
        page.counter("fanline_latest_expired", help, hub.expired_keys);
        let help = "Deletions of latest values that are remembered";
        page.gauge("fanline_latest_tombstones", help, hub.tombstones as u64);
    }

    fn add_websocket(&self, page: &mut Page) {
        let counts = &self.counts;
        let help = "Open streams of events over WebSocket";
        page.gauge("fanline_websocket_streams", help, counts.sum(|shard| &shard.websocket.streams));
        let help = "Events written to WebSockets";
        page.counter("fanline_websocket_events_delivered", help, counts.sum(|shard| &shard.websocket.delivered));
        let help = "Bytes written to WebSockets";
        page.counter("fanline_websocket_delivered_bytes", help, counts.sum(|shard| &shard.websocket.delivered_bytes));
        let help = "Messages that clients sent over WebSocket";
        page.counter("fanline_websocket_messages_received", help, counts.sum(|shard| &shard.websocket.received));
    }

    fn add_compression(&self, page: &mut Page) {
        let sum = |count: fn(&GzipCounts) -> &Count| self.counts.sum(|shard| count(&shard.gzip));
        page.gauge("fanline_compressed_streams", "Open streams of events with gzip", sum(|gzip| &gzip.streams));
        let help = "Events written to streams with gzip, as blocks that all share or without compression";
        let blocks = [("shared", sum(|gzip| &gzip.shared)), ("stored", sum(|gzip| &gzip.stored))];
        page.counters("fanline_compressed_deliveries", help, "blocks", &blocks);
        let help = "Bytes written to streams with gzip, as they are after decoding";
        page.counter("fanline_compressed_plain_bytes", help, sum(|gzip| &gzip.plain_bytes));
        page.counter("fanline_compressed_bytes", "Bytes written to streams with gzip", sum(|gzip| &gzip.bytes));
    }

    fn add_producers(&self, page: &mut Page) {
        if self.producers.is_empty() {
            return;
        }
        let failed = Family::<Labels, Gauge>::default();
        for (name, state) in &self.producers {
            let is_failed = matches!(state, ProducerState::Failed(_));
            failed.get_or_create(&vec![("producer", name.clone())]).set(is_failed.into());
        }
        let help = "Whether the producer has failed: 1 if it has, else 0";
        page.registry.register("fanline_producer_failed", help, failed);
    }

    fn add_process(&self, page: &mut Page) {
        let process = &self.process;
        let samples = vec![(Vec::new(), process.cpu_seconds)];
        let cpu = Counter { samples, is_openmetrics: page.is_openmetrics };
        page.seconds("process_cpu", "Processor time used", "_total", cpu);
        page.gauge("process_resident_memory_bytes", "Memory in use", process.resident_bytes);
        page.gauge("process_open_fds", "Open files", process.open_files);
        if let Some(limit) = process.max_open_files {
            page.gauge("process_max_fds", "The limit on open files", limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counter_name_ends_with_total_where_each_format_wants_it() {
        for (is_openmetrics, expected) in [
            (
                true,
                "# HELP a_b Things that happened.\n# TYPE a_b counter\na_b_total{x=\"1\"} 3\n\
                 # HELP c_seconds Time.\n# TYPE c_seconds counter\n# UNIT c_seconds seconds\nc_seconds_total 1.5\n# EOF\n",
            ),
            (
                false,
                "# HELP a_b_total Things that happened.\n# TYPE a_b_total counter\na_b_total{x=\"1\"} 3\n\
                 # HELP c_seconds_total Time.\n# TYPE c_seconds_total counter\nc_seconds_total 1.5\n",
            ),
        ] {
            let mut page = Page::new(is_openmetrics);
            page.samples("a_b", "Things that happened", vec![(vec![("x", "1".to_owned())], 3)]);
            let seconds = Counter { samples: vec![(Vec::new(), 1.5)], is_openmetrics };
            page.seconds("c", "Time", "_total", seconds);
            assert_eq!(page.finish(), expected);
        }
    }
}

//! Metrics: counts and latencies in every format.

mod compression;
mod prometheus;

use std::time::Duration;

use fanline::server::HttpOptions;
use serde_json::json;

use crate::support::{Client, Server, assert_problem, request, run, until};

#[test]
fn metrics_agree_in_every_format() {
    run(async {
        let server = Server::start();
        let mut streams = [server.follow("/stream").await, server.follow("/stream?topics=a").await];
        server.publish("a", 1..=3).await;
        for stream in &mut streams {
            for sequence in 1..=3 {
                stream.data_at(sequence).await;
            }
        }
        server.get("/nothing").await;
        let mut back = server.subscribe_with("/stream", &[("last-event-id", "6-7")]).await;
        back.hello().await;
        back.gap().await;

        let text = server.get("/metrics").await;
        assert_eq!(text.head.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        assert_prometheus(std::str::from_utf8(&text.body).unwrap());

        let accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
        let open = server.ask(request("GET", "/metrics", &[("accept", accept)], b"")).await;
        let open = String::from_utf8(open.body.to_vec()).unwrap();
        assert!(open.contains("# TYPE fanline_events_published counter\n") && open.ends_with("# EOF\n"));
        assert_eq!(server.get("/metrics/prometheus").await.head.status, 200);

        let json = server.ask(request("GET", "/metrics", &[("accept", "application/json")], b"")).await.ok();
        assert_eq!(json["events"]["published"], 3);
        assert_eq!(json["events"]["gaps"], json!({"evicted": 0, "lagged": 0, "epoch": 1, "unknown_id": 0}));
        assert_eq!(json["connections"]["streams"], 3);
        assert_eq!(json["refusals"], json!({"404": 1}));
        assert_eq!(json["refusals_by_reason"], json!({"not_found": 1}));
        assert_eq!(json["history"]["topics"], 1);
        assert!(json["process"]["max_open_files"].as_u64().unwrap() > 100);
    });
}

/// Checks the metrics of three events, three streams, a gap and a refusal.
fn assert_prometheus(text: &str) {
    for line in [
        "# TYPE fanline_events_published_total counter",
        "fanline_events_published_total 3",
        "fanline_streams 3",
        "fanline_refusals_total{status=\"404\",reason=\"not_found\"} 1",
        "fanline_gaps_total{reason=\"epoch\"} 1",
        "fanline_streams_ended_total{reason=\"lagged\"} 0",
        "fanline_history_events 3",
        "fanline_stream_lag_events_count 3",
        "# TYPE process_cpu_seconds_total counter",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(value(text, "fanline_events_delivered_total") >= 6.0);
    assert!(value(text, "process_resident_memory_bytes") > 1e6);
    assert!(value(text, "process_open_fds") >= 4.0);
    assert!(value(text, "process_cpu_seconds_total") > 0.0);
    assert!(!text.contains("EOF") && !text.contains("# UNIT"));
}

/// The value of `name`, with its labels, in the Prometheus format.
fn value(text: &str, name: &str) -> f64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

async fn prometheus(server: &Server) -> String {
    String::from_utf8(server.get("/metrics").await.body.to_vec()).unwrap()
}

#[test]
fn delivery_to_every_socket_is_timed() {
    run(async {
        let server = Server::start();
        let mut streams = Vec::new();
        for target in ["/stream", "/stream?topics=a", "/stream?topics=a,b", "/stream?topics=*"] {
            streams.push(server.follow(target).await);
        }
        let _elsewhere = server.follow("/stream?topics=elsewhere").await;
        for _ in 0..3 {
            server.post("/publish/a", "application/json", "1").await.ok();
        }
        for stream in &mut streams {
            for sequence in 1..=3 {
                stream.data_at(sequence).await;
            }
        }
        until(|| server.stats().delivered == 12).await;
        let text = prometheus(&server).await;
        let sampled = value(&text, "fanline_socket_latency_seconds_count");
        // The first event, and one more for each second that has passed.
        assert!((4.0..=12.0).contains(&sampled) && sampled % 4.0 == 0.0, "{sampled}");
        assert_eq!(value(&text, "fanline_socket_latency_seconds_bucket{le=\"+Inf\"}"), sampled);
        assert!((0.0..120.0).contains(&value(&text, "fanline_socket_latency_seconds_sum")));
        assert_eq!(value(&text, "fanline_publish_latency_seconds_count"), 3.0);
        // A replayed event has no delivery latency.
        server.follow("/stream?last_event_id=earliest").await.data_at(1).await;
        let json = server.get("/metrics/json").await.ok();
        let again = json["latency"]["socket"]["count"].as_f64().unwrap();
        assert_eq!((again, json["latency"]["publish"]["count"].as_u64()), (sampled, Some(3)));
        assert!(json["latency"]["publish"]["p99"].as_f64().is_some_and(|p99| p99 < 10.0), "{json}");
    });
}

#[test]
fn slow_delivery_shows_in_the_latency() {
    run(async {
        let server = Server::with(Server::hub_options(), |builder| builder.send_buffer(4096).shards(1));
        let mut stuck = Client::connect_narrow(server.address).await;
        stuck.send(request("GET", "/stream?on_lag=skip", &[], b"")).await;
        until(|| server.stats().streams == 1).await;
        let filler = format!("{:060000}", 0);
        // Until so many are queued that the sampled event of this second is among them.
        let waiting =
            |text: &str| value(text, "fanline_events_published_total") - value(text, "fanline_events_delivered_total");
        let mut text = prometheus(&server).await;
        while waiting(&text) < 20.0 {
            server.post("/publish/t", "text/plain", &filler).await.ok();
            text = prometheus(&server).await;
        }
        let sampled = |text: &str| value(text, "fanline_socket_latency_seconds_count");
        let before = sampled(&text);
        while sampled(&text) == before {
            server.post("/publish/t", "text/plain", "last").await.ok();
            assert!(stuck.read().await);
            stuck.take();
            text = prometheus(&server).await;
        }
    });
}

#[test]
fn failed_publishes_are_counted_by_reason() {
    run(async {
        let server = Server::with(Server::hub_options(), |builder| {
            builder.http(HttpOptions { max_event_bytes: 10, ..HttpOptions::default() })
        });
        assert_problem(&server.post("/publish", "application/json", "{}").await, 400, &[]);
        assert_problem(&server.post("/publish/t", "text/csv", "1").await, 415, &[]);
        assert_problem(&server.post("/publish/t", "text/plain", "12345678901").await, 413, &[]);
        let lines = "{\"topic\":\"t\",\"data\":1}\nnonsense\n";
        assert_problem(&server.post("/publish", "application/x-ndjson", lines).await, 400, &["line 2"]);
        assert_problem(&server.get("/publish").await, 405, &[]);
        server.hub.close();
        assert_problem(&server.post("/publish/t", "text/plain", "1").await, 503, &["shutting down"]);
        let json = server.get("/metrics/json").await.ok();
        assert_eq!(
            json["events"]["publish_errors"],
            json!({"invalid": 2, "media_type": 1, "method": 1, "too_large": 1, "unavailable": 1})
        );
        let text = prometheus(&server).await;
        assert_eq!(value(&text, "fanline_publish_errors_total{reason=\"invalid\"}"), 2.0);
        // The line before the invalid one was published, and counts.
        assert_eq!(value(&text, "fanline_publish_latency_seconds_count"), 1.0);
    });
}

#[test]
fn rejected_connections_are_counted_by_reason() {
    run(async {
        let server = Server::with(Server::hub_options(), |builder| {
            builder.http(HttpOptions { head_timeout: Duration::from_millis(200), ..HttpOptions::default() })
        });
        let mut late = server.connect().await;
        late.send("GET / HTTP/1.1\r\nhost").await;
        let mut garbled = server.connect().await;
        garbled.send("\x01\x02\r\n\r\n").await;
        let mut long = server.connect().await;
        long.send(request("GET", "/", &[("cookie", &"x".repeat(70_000))], b"")).await;
        for client in [late, garbled, long] {
            client.rest().await;
        }
        // An idle connection is not rejected.
        let mut idle = server.connect().await;
        idle.get("/health").await.ok();
        idle.rest().await;
        let json = server.get("/metrics/json").await.ok();
        let rejected = &json["connections"]["rejected"];
        let counts = ["head_timeout", "head_too_large", "malformed", "connections"].map(|reason| &rejected[reason]);
        assert_eq!(counts, [1, 1, 1, 0]);
        assert_eq!(value(&prometheus(&server).await, "fanline_connections_rejected_total{reason=\"malformed\"}"), 1.0);
    });
}

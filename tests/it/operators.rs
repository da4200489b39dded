//! Operator endpoints: clients, topics and metrics.

use std::time::Duration;

use fanline::hub::HubOptions;
use fanline::server::HttpOptions;
use serde_json::{Value, json};

use crate::support::{Client, EPOCH, Server, assert_problem, request, run, until};

fn at(sequence: u64) -> String {
    format!("{EPOCH}-{sequence}")
}

/// The names of the page's clients.
fn names(page: &Value) -> Vec<&str> {
    page["clients"].as_array().unwrap().iter().map(|client| client["client_name"].as_str().unwrap()).collect()
}

#[test]
fn client_list_shows_labels_and_counts() {
    run(async {
        let server = Server::start();
        let mut stream = server.subscribe("/stream?topics=a,b:*&client_name=screen%201&tags=red,blue").await;
        let hello = stream.hello().await;
        server.publish("a", 1..=3).await;
        server.publish("c", 4..=4).await;
        server.publish("b:x", 5..=5).await;
        for sequence in [1, 2, 3, 5] {
            stream.data_at(sequence).await;
        }
        // Counted after the write that the client has received.
        until(|| server.stats().delivered == 4).await;
        let page = server.get("/clients").await.ok();
        assert_eq!((page["count"].as_u64(), &page["next"]), (Some(1), &Value::Null));
        let mut client = page["clients"][0].clone();
        let mut take = |field: &str| client[field].take();
        let (connected_at, bytes, remote) = (take("connected_at"), take("bytes_sent"), take("remote_addr"));
        assert!(humantime::parse_rfc3339(connected_at.as_str().unwrap()).is_ok());
        assert!(bytes.as_u64().unwrap() > 4 * 50);
        assert!(remote.as_str().unwrap().starts_with("127.0.0.1:"));
        assert_eq!(
            client,
            json!({
                "client_id": hello["client_id"],
                "client_name": "screen 1",
                "tags": ["red", "blue"],
                "topics": ["a", "b:*"],
                "connected_at": null,
                "events_received": 4,
                "queue_size": 0,
                "bytes_sent": null,
                "remote_addr": null,
                "transport": "sse",
                "user": null,
            })
        );
    });
}

#[test]
fn client_list_shows_the_queue_of_a_blocked_client() {
    run(async {
        let hub = HubOptions { history: 100_000, firehose_history: 100_000, ..Server::hub_options() };
        let server = Server::with(hub, |builder| builder.send_buffer(4096));
        let mut stuck = server.connect().await;
        stuck.send(request("GET", "/stream?topics=t&client_name=stuck", &[], b"")).await;
        let _quick = server.follow("/stream?topics=other").await;
        let lines: String = (0..50_000).map(|n| format!("{{\"topic\":\"t\",\"data\":\"{n:0100}\"}}\n")).collect();
        server.post("/publish", "application/x-ndjson", lines).await.ok();
        let page = server.get("/clients?name=stuck").await.ok();
        let (behind, received) = (&page["clients"][0]["queue_size"], &page["clients"][0]["events_received"]);
        let (behind, received) = (behind.as_u64().unwrap(), received.as_u64().unwrap());
        assert!(behind > 0, "{received} events were received");
        assert_eq!(behind + received, 50_000, "including a partly written event");
        let metrics = server.get("/metrics/json").await.ok();
        assert_eq!(
            metrics["lag"]["worst"],
            json!([{"client_id": page["clients"][0]["client_id"], "queue_size": behind}])
        );
    });
}

#[test]
fn clients_are_paged_in_order_of_connection_and_filtered() {
    run(async {
        let server = Server::start();
        let mut streams = Vec::new();
        for number in 0..7 {
            let (color, topic) = (["red", "blue"][number % 2], ["x", "y", "z"][number % 3]);
            let target = format!("/stream?client_name=c{number}&tags={color},all&topics={topic}");
            let mut stream = server.subscribe(&target).await;
            stream.hello().await;
            streams.push(stream);
        }
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = server.get(&format!("/clients?limit=3{after}")).await.ok();
            assert_eq!(page["count"], 7);
            seen.extend(names(&page).into_iter().map(str::to_owned));
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(seen, ["c0", "c1", "c2", "c3", "c4", "c5", "c6"]);
        for (query, expected) in [
            ("tag=red", vec!["c0", "c2", "c4", "c6"]),
            ("tag=red&topic=x", vec!["c0", "c6"]),
            ("tag=red&tag=blue", vec![]),
            ("tag=red&tag=all&topic=y", vec!["c4"]),
            ("name=c3", vec!["c3"]),
            ("name=absent", vec![]),
        ] {
            let page = server.get(&format!("/clients?{query}")).await.ok();
            assert_eq!(
                (names(&page), page["count"].as_u64()),
                (expected.clone(), Some(expected.len() as u64)),
                "{query}"
            );
        }
        for (query, what) in [
            ("limit=0", "parameter limit: expected 1 to 1000"),
            ("limit=1001", "parameter limit"),
            ("after=7", "parameter after: \"7\": a client id has 16 hexadecimal digits"),
            ("tags=red", "unknown parameter \"tags\"; expected limit, after, scope, tag, topic, name"),
        ] {
            assert_problem(&server.get(&format!("/clients?{query}")).await, 400, &[what]);
        }
    });
}

#[test]
fn delete_notifies_the_client_and_ends_its_stream() {
    run(async {
        let server = Server::start();
        let mut stream = server.subscribe("/stream").await;
        let id = stream.hello().await["client_id"].as_str().unwrap().to_owned();
        let mut other = server.follow("/stream").await;
        let delete = |id: &str| request("DELETE", &format!("/clients/{id}"), &[], b"");
        let answer = server.ask(delete(&id)).await.ok();
        assert_eq!(answer, json!({"client_id": id, "status": "disconnected"}));
        let farewell = stream.event().await;
        assert_eq!((&*farewell.event, farewell.json()), ("system", json!({"message": "disconnected"})));
        stream.end().await;
        until(|| server.stats().streams == 1).await;
        assert_eq!(server.stats().closed_by_server, 1);
        assert_problem(&server.ask(delete(&id)).await, 404, &[&id]);
        assert_problem(&server.ask(delete("abc")).await, 400, &["16 hexadecimal digits"]);
        let get = server.get(&format!("/clients/{id}")).await;
        assert_eq!((get.head.status, get.head.header("allow")), (405, Some("DELETE")));
        server.publish("t", 1..=1).await;
        other.data_at(1).await;
        let metrics = server.get("/metrics/json").await.ok();
        assert_eq!(metrics["connections"]["ended"]["disconnected"], 1);
    });
}

#[test]
fn delete_ends_a_blocked_stream() {
    run(async {
        let server = Server::with(Server::hub_options(), |builder| builder.send_buffer(4096));
        let mut stuck = server.connect().await;
        stuck.send(request("GET", "/stream?client_name=stuck&on_lag=skip", &[], b"")).await;
        let lines: String = (0..50_000).map(|n| format!("{{\"topic\":\"t\",\"data\":\"{n:0100}\"}}\n")).collect();
        server.post("/publish", "application/x-ndjson", lines).await.ok();
        let page = server.get("/clients").await.ok();
        let id = page["clients"][0]["client_id"].as_str().unwrap();
        server.ask(request("DELETE", &format!("/clients/{id}"), &[], b"")).await.ok();
        until(|| server.stats().streams == 0).await;
    });
}

#[test]
fn topic_list_shows_subscribers_and_history() {
    run(async {
        let hub = HubOptions { history: 2, ..Server::hub_options() };
        let server = Server::with(hub, |builder| builder);
        let _streams = [
            server.follow("/stream?topics=a,quiet&on_lag=skip").await,
            server.follow("/stream?topics=a&on_lag=skip").await,
            server.follow("/stream?topics=*").await,
        ];
        server.publish("a", 1..=3).await;
        server.publish("b", 4..=4).await;
        let page = server.get("/topics").await.ok();
        let mut topics = page["topics"].clone();
        for (topic, holds) in topics.as_array_mut().unwrap().iter_mut().zip([true, true, false]) {
            assert_eq!(topic["retained_bytes"].take().as_u64().unwrap() > 0, holds);
        }
        let topic = |name: &str, subscribers: u64, retained: u64, last: Option<String>| {
            json!({
                "topic": name,
                "subscribers": subscribers,
                "retained_events": retained,
                "retained_bytes": null,
                "last_position": last,
            })
        };
        let expected =
            json!([topic("a", 2, 2, Some(at(3))), topic("b", 0, 1, Some(at(4))), topic("quiet", 1, 0, None)]);
        assert_eq!((topics, &page["count"], &page["next"]), (expected, &json!(3), &Value::Null));

        let first = server.get("/topics?limit=2").await.ok();
        assert_eq!(
            (&first["count"], &first["next"], &first["topics"][1]["topic"]),
            (&json!(3), &json!("b"), &json!("b"))
        );
        let second = server.get("/topics?limit=2&after=b").await.ok();
        assert_eq!((&second["next"], &second["topics"][0]["topic"]), (&Value::Null, &json!("quiet")));
        assert_eq!(server.get("/topics?topic=q*").await.head.status, 400);
        assert_eq!(server.get("/topics?topic=quiet&topic=b").await.ok()["count"], 2);
    });
}

#[test]
fn operator_endpoints_require_direct_loopback_requests() {
    run(async {
        let server = Server::start();
        for path in ["/clients", "/topics", "/clients/0000000000000000"] {
            let method = if path.len() > 10 { "DELETE" } else { "GET" };
            for header in ["Forwarded", "X-Forwarded-For"] {
                let answer = server.ask(request(method, path, &[(header, "10.0.0.1")], b"")).await;
                assert_problem(&answer, 403, &["admin endpoints", &header.to_lowercase()]);
            }
        }
    });
}

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
        let text = String::from_utf8(text.body.to_vec()).unwrap();
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
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        assert!(value("fanline_events_delivered_total ").unwrap() >= 6.0);
        assert!(value("process_resident_memory_bytes ").unwrap() > 1e6);
        assert!(value("process_open_fds ").unwrap() >= 4.0);
        assert!(value("process_cpu_seconds_total ").unwrap() > 0.0);
        assert!(!text.contains("EOF") && !text.contains("# UNIT"));

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

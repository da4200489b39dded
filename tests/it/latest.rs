//! `mode=latest` on every transport: the current values, then their changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fanline::http::{StreamResponseOptions, stream_response};
use fanline::hub::{Hub, HubOptions};
use fanline::server::StreamOptions;
use hyper::Request;
use serde_json::{Value, json};

use crate::support::{
    Client, Event, Http2, JSON, Server, Stream, assert_problem, request, run, run_paused, run_within,
};

/// What a page shows: the value of each member `k` of the payloads.
#[derive(Debug, Default, PartialEq)]
struct Table(BTreeMap<String, Value>);

impl Table {
    /// Applies an event as a page does. Returns whether the snapshot is complete.
    fn apply(&mut self, event: &Event) -> bool {
        let data = event.json();
        match &*event.event {
            "snapshot" => return true,
            "gap" => self.0.clear(),
            "delete" => drop(self.0.remove(data["key"].as_str().unwrap())),
            _ => drop(self.0.insert(data["k"].as_str().unwrap().to_owned(), data["v"].clone())),
        }
        false
    }

    /// Reads up to the end of the snapshot. Returns the number of events before it, and its data and id.
    async fn complete(&mut self, stream: &mut Stream) -> (u64, Value, Option<String>) {
        let mut count = 0;
        loop {
            let event = stream.event().await;
            if self.apply(&event) {
                return (count, event.json(), event.id);
            }
            count += 1;
        }
    }
}

fn table(values: &[(&str, u64)]) -> Table {
    Table(values.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect())
}

async fn set(server: &Server, topic: &str, key: &str, value: u64) {
    let event = json!({"topic": topic, "key": key, "data": {"k": key, "v": value}});
    server.post("/publish", JSON, event.to_string()).await.ok();
}

async fn delete(server: &Server, topic: &str, key: &str) {
    let event = json!({"topic": topic, "key": key, "delete": true});
    server.post("/publish", JSON, event.to_string()).await.ok();
}

#[test]
fn snapshot_precedes_changes() {
    run(async {
        let server = Server::start();
        for value in 1..=3 {
            set(&server, "t", "a", value).await;
            set(&server, "t", "b", 10 * value).await;
            set(&server, "other", "c", value).await;
        }
        delete(&server, "t", "b").await;
        for (target, expected) in [
            ("/stream?topics=t&mode=latest", table(&[("a", 3)])),
            ("/stream?topics=other,t&mode=latest", table(&[("a", 3), ("c", 3)])),
            ("/stream?topics=*&mode=latest", table(&[("a", 3), ("c", 3)])),
            ("/stream?mode=latest", table(&[("a", 3), ("c", 3)])),
            ("/stream?mode=latest&last_event_id=earliest", table(&[("a", 3), ("c", 3)])),
        ] {
            let mut stream = server.subscribe(target).await;
            assert_eq!(stream.hello().await["replayed"], Value::Null, "{target}");
            let mut shown = Table::default();
            let (_, snapshot, id) = shown.complete(&mut stream).await;
            assert_eq!((&shown, id.as_deref()), (&expected, Some("7-10")), "{target}");
            assert_eq!(snapshot["entries"], expected.0.len(), "{target}");
        }
        let mut stream = server.subscribe("/stream?topics=t&mode=latest").await;
        stream.hello().await;
        Table::default().complete(&mut stream).await;
        set(&server, "t", "d", 7).await;
        assert_eq!(stream.event().await.json(), json!({"k": "d", "v": 7}));
        delete(&server, "t", "a").await;
        let deletion = stream.event().await;
        assert_eq!((deletion.event.as_str(), deletion.json()), ("delete", json!({"topic": "t", "key": "a"})));
    });
}

#[test]
fn resuming_reader_gets_what_has_changed_with_deletions() {
    run(async {
        let server = Server::start();
        for key in ["a", "b", "c"] {
            set(&server, "t", key, 1).await;
        }
        for value in 2..=9 {
            set(&server, "t", "b", value).await;
        }
        delete(&server, "t", "c").await;
        let mut stream = server.subscribe("/stream?topics=t&mode=latest&last_event_id=7-3").await;
        stream.hello().await;
        let mut shown = table(&[("a", 1), ("b", 1), ("c", 1)]);
        let (count, ..) = shown.complete(&mut stream).await;
        assert_eq!((shown, count), (table(&[("a", 1), ("b", 9)]), 2));
        let mut stream = server.subscribe("/stream?topics=t&mode=latest&last_event_id=6-3").await;
        stream.hello().await;
        let mut shown = table(&[("gone", 1)]);
        shown.complete(&mut stream).await;
        assert_eq!(shown, table(&[("a", 1), ("b", 9)]), "a gap discards what the page had");
    });
}

#[test]
fn reader_that_stops_gets_one_event_for_each_key() {
    run(async {
        let hub = HubOptions { history: 8, firehose_history: 64, ..Server::hub_options() };
        let server = Server::with(hub, |builder| builder);
        let request = Request::get("/?topics=t&mode=latest").body(()).unwrap();
        let response = stream_response(&server.hub, &request, StreamResponseOptions::default()).await;
        let mut stream = Stream::of_body(response.into_body());
        stream.hello().await;
        let mut shown = Table::default();
        shown.complete(&mut stream).await;
        for value in 1..=200 {
            for key in ["a", "b", "c"] {
                set(&server, "t", key, value).await;
            }
        }
        delete(&server, "t", "b").await;
        for _ in 0..3 {
            shown.apply(&stream.event().await);
        }
        assert_eq!(shown, table(&[("a", 200), ("c", 200)]));
        set(&server, "t", "a", 201).await;
        assert_eq!(stream.event().await.json()["v"], 201, "nothing else was left");
    });
}

/// A client stops for this long, and then reads everything. The write timeout is how long a client may accept nothing.
async fn check_pause(time: Duration, write_timeout: Duration) {
    const KEYS: u64 = 20;
    let streams = StreamOptions { write_timeout, ..StreamOptions::default() };
    let server = Server::with(Server::hub_options(), |builder| builder.send_buffer(4096).streams(streams));
    let pad = "x".repeat(500);
    let mut value = 0;
    let mut update = async || {
        value += 1;
        for key in 0..KEYS {
            let event = crate::support::event("t", &format!(r#"{{"k":"{key}","v":{value},"pad":"{pad}"}}"#));
            server.hub.publish(event.keyed(key.to_string().parse().unwrap())).await.unwrap();
        }
        value
    };
    update().await;
    let mut client = Client::connect_narrow(server.address).await;
    client.send(request("GET", "/stream?topics=t&mode=latest&interval=10ms", &[], b"")).await;
    let mut stream = client.into_stream().await;
    stream.hello().await;
    let mut shown = Table::default();
    shown.complete(&mut stream).await;
    let mut updates = tokio::time::interval(time / 200);
    for _ in 0..200 {
        updates.tick().await;
        update().await;
    }
    let last = update().await;
    // The first ones are in the buffers of the kernel.
    let written = server.stats().delivered - KEYS;
    let (mut count, mut seen) = (0, BTreeSet::new());
    while shown.0.len() < KEYS as usize || shown.0.values().any(|value| *value != last) {
        let event = stream.event().await;
        shown.apply(&event);
        count += 1;
        assert!(
            count <= written || seen.insert(event.json()["k"].to_string()),
            "{written} were written before: {event:.99?}"
        );
    }
    assert!(count <= written + KEYS, "{count} events of {last} updates of each key");
    assert_eq!((server.stats().streams, server.stats().cut_off_stalled), (1, 0));
}

#[test]
fn reader_that_stops_over_http_is_sent_one_event_for_each_key() {
    run(check_pause(Duration::from_secs(2), Duration::from_secs(4)));
}

/// A client whose socket accepts nothing for the write timeout is stalled. The default is 30 s, so the timeout is longer here.
#[test]
#[ignore = "takes 31 s; run scripts/test"]
fn reader_that_stops_for_30_seconds_is_sent_one_event_for_each_key() {
    run_within(Duration::from_secs(90), check_pause(Duration::from_secs(30), Duration::from_secs(60)));
}

/// Readers with one interval write the same bytes, plain or compressed. Half of each kind connect when all values exist.
#[test]
fn readers_that_share_what_they_write_end_with_the_same_table() {
    const KEYS: u64 = 50;
    run(async {
        let mut server = Server::with(Server::hub_options(), |builder| builder.shards(1));
        let mut http2 = Http2::connect(server.address).await;
        let mut streams = Vec::new();
        for number in 0..48 {
            let target = format!(
                "/stream?topics={}&mode=latest&interval=10ms&format={}",
                ["t", "t,u", "**"][number % 3],
                ["plain", "envelope"][number / 3 % 2],
            );
            let coding = ["identity", "gzip"][number / 6 % 2];
            if number == 24 {
                publish_round(&server, KEYS, 0).await;
            }
            let mut stream = if number / 12 % 2 == 0 {
                server.subscribe_with(&target, &[("accept-encoding", coding)]).await
            } else {
                http2.subscribe_with(&target, &[("accept-encoding", coding)]).await
            };
            assert_eq!(stream.head.header("content-encoding").is_some(), coding == "gzip", "{target}");
            stream.hello().await;
            streams.push((stream, Table::default()));
        }
        for round in 1..=200 {
            publish_round(&server, if round == 200 { KEYS } else { KEYS * 2 / 3 }, round).await;
            tokio::task::yield_now().await;
        }
        for (stream, shown) in &mut streams {
            while shown.0.len() < KEYS as usize || shown.0.values().any(|value| *value != 200) {
                let event = stream.event().await;
                let data = event.json();
                if event.event == "snapshot" || data["type"] == "snapshot" {
                    continue;
                }
                let data = if data["type"] == "event" { &data["data"] } else { &data };
                let (key, value) = (data["k"].as_str().unwrap().to_owned(), data["v"].clone());
                let before = shown.0.insert(key, value.clone());
                assert!(before.is_none_or(|before| before.as_u64() < value.as_u64()), "no value goes backwards");
            }
        }
        let metrics = String::from_utf8_lossy(&server.get("/metrics").await.body).into_owned();
        assert!(!metrics.contains(r#"fanline_compressed_deliveries_total{blocks="shared"} 0"#), "{metrics}");
        server.stop();
        for (mut stream, _) in streams {
            while !format!("{:?}", stream.event().await).contains("server restarting") {}
            stream.end().await;
        }
    });
}

/// Publishes these values of the first `keys`.
async fn publish_round(server: &Server, keys: u64, value: u64) {
    let events = (0..keys).map(|key| {
        let event = crate::support::event("t", &format!(r#"{{"k":"{key}","v":{value}}}"#));
        event.keyed(key.to_string().parse().unwrap())
    });
    server.hub.publish_all(events.collect()).await.unwrap();
}

#[test]
fn interval_sends_the_newest_value_once() {
    run_paused(async {
        let hub = Hub::new(&Server::hub_options());
        let request = Request::get("/?topics=t&mode=latest&interval=1s").body(()).unwrap();
        let response = stream_response(&hub, &request, StreamResponseOptions::default()).await;
        let mut stream = Stream::of_body(response.into_body());
        stream.hello().await;
        Table::default().complete(&mut stream).await;
        let publish = async |value: u64| {
            let event = crate::support::event("t", &format!("{{\"k\":\"a\",\"v\":{value}}}"));
            hub.publish(event.keyed("a".parse().unwrap())).await.unwrap();
        };
        publish(1).await;
        assert_eq!(stream.event().await.json()["v"], 1);
        for value in 2..=50 {
            publish(value).await;
        }
        assert_eq!(stream.event().await.json()["v"], 50);
    });
}

#[test]
fn websocket_has_one_mode_for_all_topics() {
    run(async {
        let server = Server::start();
        set(&server, "t", "a", 1).await;
        set(&server, "t", "a", 2).await;
        let mut socket = server.websocket("/ws").await;
        let subscribe = |mode: &str| json!({"type": "subscribe", "topics": ["t"], "mode": mode, "ref": 1});
        socket.send_json(&subscribe("latest")).await;
        assert_eq!(socket.of_type("subscribed").await["ref"], 1);
        assert_eq!(socket.of_type("event").await["data"], json!({"k": "a", "v": 2}));
        let snapshot = socket.of_type("snapshot").await;
        assert_eq!((&snapshot["data"], &snapshot["id"]), (&json!({"entries": 1}), &json!("7-2")));
        assert_eq!(server.get("/clients").await.ok()["clients"][0]["mode"], "latest");
        socket.send_json(&subscribe("events")).await;
        let error = socket.of_type("error").await;
        assert_eq!(error["code"], "malformed");
        assert!(error["message"].as_str().unwrap().contains("the mode latest"), "{error}");
    });
}

#[test]
fn key_beyond_the_limit_is_refused_and_others_continue() {
    run(async {
        let server = Server::with(HubOptions { max_keys: 2, ..Server::hub_options() }, |builder| builder);
        set(&server, "t", "a", 1).await;
        set(&server, "t", "b", 1).await;
        let refused = server.post("/publish", JSON, r#"{"topic":"t","key":"c","data":1}"#).await;
        assert_problem(&refused, 507, &["max_keys"]);
        set(&server, "t", "a", 2).await;
        let mut stream = server.follow("/stream?topics=t&mode=latest").await;
        let mut shown = Table::default();
        shown.complete(&mut stream).await;
        assert_eq!(shown, table(&[("a", 2), ("b", 1)]));
    });
}

#[test]
fn history_is_no_part_of_the_latest_values() {
    run(async {
        let server = Server::start();
        let response = server.ask(&request("GET", "/stream?mode=latest&history=5", &[], b"")).await;
        assert_problem(&response, 400, &["parameter history: mode=latest begins with the current values"]);
        let response = server.ask(&request("GET", "/stream?mode=newest", &[], b"")).await;
        assert_problem(&response, 400, &["parameter mode: expected events (the default) or latest"]);
    });
}

//! Operator endpoints: clients and topics.

use fanline::hub::HubOptions;
use serde_json::{Value, json};

use crate::support::{EPOCH, Server, assert_problem, request, run, until};

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
        let mut stream =
            server.subscribe("/stream?topics=a,b:*&client_name=screen%201&tags=red,blue&interval=20ms").await;
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
                "mode": "events",
                "interval_ms": 20,
                "remote_addr": null,
                "transport": "sse",
                "protocol": "HTTP/1.1",
                "encoding": null,
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
        let mut page = server.get("/clients?name=stuck").await.ok();
        // Its first write comes after the response to the publisher.
        while let next = server.get("/clients?name=stuck").await.ok()
            && (next != page || next["clients"][0]["events_received"] == 0)
        {
            page = next;
        }
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
        let notice = stream.event().await;
        assert_eq!((&*notice.event, notice.json()), ("system", json!({"message": "disconnected"})));
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
        let topic = |name: &str, subscribers: u64, published: u64, retained: u64, last: Option<String>| {
            json!({
                "topic": name,
                "subscribers": subscribers,
                "published_events": published,
                "retained_events": retained,
                "retained_bytes": null,
                "latest_keys": 0,
                "latest_bytes": 0,
                "last_position": last,
            })
        };
        let expected =
            json!([topic("a", 2, 3, 2, Some(at(3))), topic("b", 0, 1, 1, Some(at(4))), topic("quiet", 1, 0, 0, None)]);
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

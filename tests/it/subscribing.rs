//! Streams: the head, the hello, the events, heartbeats, and rejected subscriptions.

use std::collections::BTreeSet;

use fanline::server::HttpOptions;

use crate::support::{Block, Server, assert_problem, request, run};

#[test]
fn head_of_a_stream_has_the_documented_fields() {
    run(async {
        let server = Server::start();
        for target in ["/stream", "/events"] {
            let stream = server.subscribe(target).await;
            assert_eq!((stream.head.version.as_str(), stream.head.reason.as_str()), ("HTTP/1.1", "OK"));
            let mut headers = stream.head.headers.clone();
            headers.retain(|(name, _)| name != "date");
            let expected = [
                ("content-type", "text/event-stream"),
                ("cache-control", "no-store, no-transform"),
                ("x-accel-buffering", "no"),
                ("vary", "accept-encoding"),
                ("connection", "close"),
                ("transfer-encoding", "chunked"),
            ];
            assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
            let date = httpdate::parse_http_date(stream.head.header("date").expect("a response has a date")).unwrap();
            assert!(date.elapsed().unwrap_or_default().as_secs() < 60);
        }
    });
}

#[test]
fn hello_arrives_in_the_packet_of_the_head() {
    run(async {
        let server = Server::start();
        let mut client = server.connect().await;
        client.send(request("GET", "/stream", &[], b"")).await;
        assert!(client.read().await);
        let packet = String::from_utf8(client.received().to_vec()).unwrap();
        let (_, body) = packet.split_once("\r\n\r\n").expect("the head is whole");
        assert!(body.contains("\"message\":\"connected\"") && body.ends_with("\n\n\r\n"), "{packet}");
    });
}

#[test]
fn hello_contains_the_start_position() {
    run(async {
        let server = Server::start();
        let mut stream = server.subscribe("/stream").await;
        let hello = stream.event().await;
        assert_eq!((hello.event.as_str(), hello.id.as_deref()), ("system", Some("7-0")));
        let data = hello.json();
        let keys: BTreeSet<_> = data.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, BTreeSet::from(["message", "client_id", "position", "replayed", "retry"]));
        assert_eq!((&data["position"], &data["replayed"]), (&"7-0".into(), &0.into()));
        server.publish("t", 1..=5).await;
        let mut other = server.subscribe("/stream").await;
        let other = other.hello().await;
        assert_eq!((&other["position"], &other["replayed"]), (&"7-5".into(), &0.into()));
        assert_ne!(other["client_id"], data["client_id"]);
        assert!(data["client_id"].as_str().is_some_and(|id| !id.is_empty()));
    });
}

#[test]
fn retry_varies_by_a_fifth_between_clients() {
    run(async {
        let server = Server::start();
        let mut times = BTreeSet::new();
        for _ in 0..100 {
            times.insert(server.subscribe("/stream").await.hello().await["retry"].as_u64().unwrap());
        }
        assert!(times.len() > 90, "{times:?}");
        assert!(times.iter().all(|time| (4000..=6000).contains(time)), "{times:?}");
        for begin in (4000..6000).step_by(200) {
            assert!(times.range(begin..begin + 200).count() >= 5, "spread evenly: {times:?}");
        }
    });
}

#[test]
fn stream_contains_only_events_of_its_topics() {
    run(async {
        let server = Server::start();
        let all = ["comment", "comment:17", "comment:17:reply", "comment.17", "metrics.cpu", "metrics.cpu/0", "log"];
        for (query, wanted) in [
            ("", &all[..]),
            ("?topics=", &all),
            ("?topics=**", &all),
            ("?topics=log,**", &all),
            ("?utm_source=x", &all),
            ("?topics=log", &["log"]),
            ("?topic=log", &["log"]),
            ("?topics=log,log&topic=log", &["log"]),
            ("?topics=log,metrics.cpu", &["metrics.cpu", "log"]),
            ("?topic=log&topic=comment", &["comment", "log"]),
            ("?topic=log&topics=comment:17,metrics.cpu", &["comment:17", "metrics.cpu", "log"]),
            ("?topics=%20log%20,comment%3A17", &["comment:17", "log"]),
            ("?topics=comment:*", &["comment:17"]),
            ("?topics=comment:**", &["comment:17", "comment:17:reply"]),
            ("?topics=comment%3A%2A%2A", &["comment:17", "comment:17:reply"]),
            ("?topics=*:17", &["comment:17"]),
            ("?topics=*.*", &["comment.17", "metrics.cpu"]),
            ("?topics=metrics.**", &["metrics.cpu", "metrics.cpu/0"]),
            ("?topics=*", &["comment", "log"]),
            ("?topics=metrics.*,log,comment:17", &["comment:17", "metrics.cpu", "log"]),
            ("?topics=comment:*,comment:17", &["comment:17"]),
            ("?topics=nothing", &[]),
        ] {
            let mut stream = server.follow(&format!("/stream{query}{}client_name=x", join(query))).await;
            let before = server.hub.position().sequence;
            for (n, topic) in (before + 1..).zip(all) {
                server.publish(topic, [n]).await;
            }
            for topic in wanted {
                let n = before + 1 + all.iter().position(|other| other == topic).unwrap() as u64;
                assert_eq!(stream.data_at(n).await, format!("{{\"n\":{n}}}"), "{query}");
            }
            if let Some(topic) = wanted.first() {
                server.publish_marker(topic).await;
                stream.marker().await;
            }
        }
    });
}

fn join(query: &str) -> char {
    if query.is_empty() { '?' } else { '&' }
}

#[test]
fn firehose_and_heartbeat_topic_get_heartbeat_events_without_ids() {
    run(async {
        let server = Server::start();
        let targets = ["", "&topics=**", "&topics=heartbeat", "&topics=t,heartbeat", "&topics=*"];
        let mut streams = Vec::new();
        for query in targets {
            streams.push(server.follow(&format!("/stream?heartbeat=1{query}")).await);
        }
        let clients = targets.len() as u64;
        for stream in &mut streams {
            for _ in 0..2 {
                let heartbeat = stream.event().await;
                assert_eq!((heartbeat.event.as_str(), &heartbeat.id), ("heartbeat", &None));
                let data = heartbeat.json();
                assert_eq!(data.as_object().unwrap().len(), 2, "{data}");
                assert_eq!(data["clients"], clients);
                humantime::parse_rfc3339(data["timestamp"].as_str().unwrap()).unwrap();
            }
        }
    });
}

#[test]
fn quiet_streams_of_other_topics_get_comments() {
    run(async {
        let server = Server::start();
        let mut chunked = server.follow("/stream?heartbeat=1&topics=t,heartbeat:x").await;
        let mut plain = server.connect().await;
        plain.send("GET /stream?heartbeat=1&topics=t HTTP/1.0\r\n\r\n").await;
        let mut plain = plain.into_stream().await;
        plain.hello().await;
        for stream in [&mut chunked, &mut plain] {
            for _ in 0..2 {
                assert_eq!(stream.block().await, Block::Comment);
            }
        }
        server.publish("t", [1]).await;
        assert_eq!(chunked.data_at(1).await, "{\"n\":1}");
    });
}

#[test]
fn heartbeat_interval_defaults_to_the_servers() {
    run(async {
        let server = Server::with(Server::hub_options(), |builder| {
            let heartbeat = std::time::Duration::from_secs(1);
            builder.streams(fanline::server::StreamOptions { heartbeat, ..Default::default() })
        });
        let mut stream = server.follow("/stream").await;
        assert_eq!(stream.event().await.event, "heartbeat");
    });
}

#[test]
fn stream_is_counted_while_it_is_open() {
    run(async {
        let server = Server::start();
        assert_eq!((server.stats().streams, server.stats().connections), (0, 0));
        let first = server.follow("/stream").await;
        let second = server.follow("/stream").await;
        assert_eq!((server.stats().streams, server.stats().connections), (2, 2));
        assert_problem(&server.get("/stream?heartbeat=0").await, 400, &["heartbeat"]);
        assert_eq!(server.stats().streams, 2);
        drop(first);
        crate::support::until(|| server.stats().streams == 1).await;
        drop(second);
        crate::support::until(|| server.stats().streams == 0 && server.stats().connections == 0).await;
        assert_eq!(server.stats().closed_by_peer, 2);
    });
}

#[test]
fn invalid_subscription_is_rejected_with_the_parameters_name() {
    run(async {
        let server = Server::start();
        let long = format!("/stream?topic={}", "x".repeat(256));
        let many = format!("/stream?topics={}", vec!["t"; 101].join(","));
        let tags = format!("/stream?tags={}", vec!["t"; 33].join(","));
        for (target, what) in [
            ("/stream?topics=a%20b", ["parameter topics", "\"a b\""]),
            ("/stream?topics=ok,a%09b", ["parameter topics", "'\\t'"]),
            ("/stream?topic=a%00b", ["parameter topic", "'\\0'"]),
            ("/stream?topic=a%0Ab", ["parameter topic", "'\\n'"]),
            (&long, ["parameter topic", "255"]),
            ("/stream?topics=a*b", ["parameter topics", "'*' must be a whole segment"]),
            ("/stream?topics=a:***", ["parameter topics", "'*' must be a whole segment"]),
            ("/events?topics=**.a", ["parameter topics", "\"**.a\""]),
            (&many, ["parameter topics", "the limit is 100 topics, and the request has 101 (setting max_topics)"]),
            ("/stream?history=x", ["parameter history", "a number of events"]),
            ("/stream?history=-1", ["parameter history", "a number of events"]),
            ("/stream?on_lag=x", ["parameter on_lag", "close (the default) or skip"]),
            ("/stream?heartbeat=0", ["parameter heartbeat", "1 to 3600 seconds"]),
            ("/stream?heartbeat=3601", ["parameter heartbeat", "1 to 3600 seconds"]),
            ("/stream?heartbeat=soon", ["parameter heartbeat", "1 to 3600 seconds"]),
            ("/stream?client_name=a%0Ab", ["parameter client_name", "'\\n'"]),
            (&tags, ["parameter tags", "the limit is 32"]),
        ] {
            assert_problem(&server.get(target).await, 400, &what);
        }
        assert_eq!(server.stats().streams, 0);
    });
}

#[test]
fn topic_limit_follows_the_setting() {
    run(async {
        let server = Server::with(Server::hub_options(), |builder| {
            builder.http(HttpOptions { max_topics: 2, ..HttpOptions::default() })
        });
        assert_problem(&server.get("/stream?topic=a&topics=b,c").await, 400, &["the limit is 2 topics", "has 3"]);
        server.follow("/stream?topic=a&topics=b").await;
    });
}

#[test]
fn accept_header_without_event_streams_gets_406() {
    run(async {
        let server = Server::start();
        for accept in
            ["application/json", "text/event-stream;q=0", "*/*, text/event-stream; q=0.0", "text/html, image/*"]
        {
            let response = server.ask(request("GET", "/stream", &[("accept", accept)], b"")).await;
            assert_problem(&response, 406, &["text/event-stream", "Accept"]);
        }
        for accept in ["text/event-stream", "*/*", "text/*;q=0.1", "application/json, */*;q=0.5"] {
            server.subscribe_with("/stream", &[("accept", accept)]).await.hello().await;
        }
    });
}

#[test]
fn subscription_with_a_body_is_rejected() {
    run(async {
        let server = Server::start();
        for (header, body) in [("content-length: 2", "{}"), ("transfer-encoding: chunked", "2\r\n{}\r\n0\r\n\r\n")] {
            let request = format!("GET /stream HTTP/1.1\r\nhost: test\r\n{header}\r\n\r\n{body}");
            assert_problem(&server.ask(request).await, 400, &["cannot have a body", "query"]);
        }
        let empty = "GET /stream HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n";
        let mut client = server.connect().await;
        client.send(empty).await;
        client.into_stream().await.hello().await;
    });
}

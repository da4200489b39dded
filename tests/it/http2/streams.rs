//! Event streams over HTTP/2 are those of HTTP/1.1, and independent of each other on one connection.

use std::time::Duration;

use fanline::hub::HubOptions;
use fanline::server::StreamOptions;
use serde_json::json;

use super::with_streams;
use crate::support::{Block, Http2, JSON, Server, Stream, run, until};

#[test]
fn stream_has_the_head_of_http1() {
    run(async {
        let server = Server::start();
        let mut http2 = Http2::connect(server.address).await;
        for target in ["/stream?topics=t", "/events", "/stream?format=envelope"] {
            let (new, old) = (http2.subscribe(target).await, server.subscribe(target).await);
            let mut expected = old.head.headers.clone();
            expected.retain(|(name, _)| !["connection", "transfer-encoding", "date"].contains(&name.as_str()));
            let mut found = new.head.headers.clone();
            found.retain(|(name, _)| name != "date");
            expected.sort();
            found.sort();
            assert_eq!(found, expected, "{target}");
            assert!(new.head.header("date").is_some());
        }
    });
}

#[test]
fn stream_has_the_events_of_http1() {
    run(async {
        let server = Server::start();
        let mut http2 = Http2::connect(server.address).await;
        for target in ["/stream?topics=t,u", "/stream", "/stream?topics=*&format=envelope"] {
            let (mut new, mut old) = (http2.follow(target).await, server.follow(target).await);
            for body in [
                json!({"topic": "t", "data": {"a": [1, null, "\n"]}}),
                json!({"topic": "u", "event": "named", "data": "x".repeat(60_000)}),
                json!({"topic": "t", "text": "two\nlines"}),
            ] {
                server.post("/publish", JSON, body.to_string()).await.ok();
                assert_eq!(new.event().await, old.event().await, "{target}");
            }
        }
    });
}

#[test]
fn stream_resumes_where_it_was_cut() {
    run(async {
        let server = Server::start();
        server.publish("t", 1..=5).await;
        let mut http2 = Http2::connect(server.address).await;
        let mut by_header = http2.subscribe_with("/stream?topics=t", &[("last-event-id", "7-2")]).await;
        let mut by_query = http2.subscribe("/stream?topics=t&last_event_id=7-2").await;
        for stream in [&mut by_header, &mut by_query] {
            stream.hello().await;
            for sequence in 3..=5 {
                stream.data_at(sequence).await;
            }
        }
    });
}

#[test]
fn stream_that_resumes_behind_the_history_gets_an_exact_gap() {
    run(async {
        let hub = HubOptions { history: 3, ..Server::hub_options() };
        let server = Server::with(hub, |builder| builder);
        server.publish("t", 1..=10).await;
        let mut http2 = Http2::connect(server.address).await;
        let mut stream = http2.follow("/stream?topics=t&last_event_id=7-2").await;
        let (_, gap) = stream.gap().await;
        assert_eq!((&gap["reason"], &gap["missed"]), (&json!("evicted"), &json!(5)));
        for sequence in 8..=10 {
            stream.data_at(sequence).await;
        }
    });
}

#[test]
fn streams_of_one_connection_are_independent() {
    run(async {
        let server = Server::start();
        let mut http2 = Http2::connect(server.address).await;
        let mut streams = Vec::new();
        for number in 0..99 {
            streams.push(http2.follow(&format!("/stream?topics=t{number},all")).await);
        }
        assert_eq!((server.stats().streams, server.stats().connections), (99, 1));
        for number in 0..99 {
            server.publish(&format!("t{number}"), [number, number + 1]).await;
        }
        server.publish_marker("all").await;
        for (number, stream) in (0..).zip(&mut streams) {
            assert_eq!(stream.data_at(2 * number + 1).await, format!("{{\"n\":{number}}}"));
            stream.data_at(2 * number + 2).await;
            stream.marker().await;
        }
    });
}

#[test]
fn publishing_and_reading_share_a_connection() {
    run(async {
        let server = Server::start();
        let mut http2 = Http2::connect(server.address).await;
        let mut stream = http2.follow("/stream?topics=t").await;
        for number in 1..=50 {
            let response = http2.post("/publish/t", "text/plain", number.to_string()).await;
            assert_eq!(response.ok()["id"], format!("7-{number}"));
            assert_eq!(stream.data_at(number).await, number.to_string());
        }
    });
}

#[test]
fn reset_ends_one_stream() {
    run(async {
        let server = Server::start();
        let mut http2 = Http2::connect(server.address).await;
        let mut kept = http2.follow("/stream?topics=t").await;
        let left = http2.follow("/stream?topics=t").await;
        drop(left);
        until(|| server.stats().streams == 1).await;
        assert_eq!((server.stats().closed_by_peer, server.stats().connections), (1, 1));
        server.publish("t", [1]).await;
        kept.data_at(1).await;
    });
}

#[test]
fn closed_connection_ends_all_its_streams() {
    run(async {
        let server = Server::start();
        let mut http2 = Http2::connect(server.address).await;
        let mut streams = Vec::new();
        for _ in 0..20 {
            streams.push(http2.follow("/stream?topics=t").await);
        }
        http2.abort();
        until(|| server.stats().streams == 0 && server.stats().connections == 0).await;
        assert_eq!(server.stats().closed_by_peer, 20);
    });
}

#[test]
fn operator_disconnects_one_stream() {
    run(async {
        let server = Server::start();
        let mut http2 = Http2::connect(server.address).await;
        let mut kept = http2.follow("/stream?topics=t").await;
        let mut stream = http2.subscribe("/stream?topics=t").await;
        let id = stream.hello().await["client_id"].as_str().unwrap().to_owned();
        http2.ask("DELETE", &format!("/clients/{id}"), &[], b"").await.ok();
        assert_eq!(stream.event().await.json()["message"], "disconnected");
        stream.end().await;
        server.publish("t", [1]).await;
        kept.data_at(1).await;
    });
}

#[test]
fn client_list_has_each_stream_of_a_connection() {
    run(async {
        let server = Server::start();
        let mut http2 = Http2::connect(server.address).await;
        let _streams = [
            http2.follow("/stream?topics=t&client_name=a").await,
            http2.follow("/stream?topics=t&client_name=b").await,
        ];
        let page = http2.get("/clients").await.ok();
        let clients = page["clients"].as_array().unwrap();
        let names: Vec<_> = clients.iter().map(|client| client["client_name"].as_str().unwrap()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_ne!(clients[0]["client_id"], clients[1]["client_id"]);
        assert_eq!(clients[0]["remote_addr"], clients[1]["remote_addr"]);
    });
}

#[test]
fn quiet_streams_get_their_heartbeats() {
    run(async {
        let server = with_streams(StreamOptions { heartbeat: Duration::from_secs(1), ..StreamOptions::default() });
        let mut http2 = Http2::connect(server.address).await;
        let mut events = http2.follow("/stream?topics=t,heartbeat").await;
        let mut comments = http2.follow("/stream?topics=t").await;
        for _ in 0..2 {
            assert!(matches!(events.block().await, Block::Event(event) if event.event == "heartbeat"));
            assert!(matches!(comments.block().await, Block::Comment));
        }
    });
}

/// Reads until the stream ends, and returns the number of events. They must be the first ones, in order.
async fn read_to_end(stream: &mut Stream) -> u64 {
    let mut read = 0;
    while let Some(Block::Event(event)) = stream.try_block().await {
        read += 1;
        assert_eq!(event.id, Some(format!("7-{read}")));
    }
    read
}

#[test]
fn lagging_stream_is_cut_off_and_the_others_are_not() {
    // More bytes than the window of the stream.
    const EVENTS: u64 = 2000;
    run(async {
        let hub = HubOptions { history: 32, firehose_history: 32, ..Server::hub_options() };
        let server = Server::with(hub, |builder| builder);
        let mut http2 = Http2::with_window(server.address, 16 << 10).await;
        let mut lagging = http2.subscribe("/stream?topics=t").await;
        lagging.hello().await;
        let mut kept = http2.follow("/stream?topics=other").await;
        for number in 1..=EVENTS {
            server.publish("t", [number]).await;
        }
        until(|| server.stats().cut_off_lagged == 1).await;
        let read = read_to_end(&mut lagging).await;
        assert!(read < EVENTS - 32, "{read}");
        let mut again = http2.follow(&format!("/stream?topics=t&last_event_id=7-{read}")).await;
        let (_, gap) = again.gap().await;
        assert_eq!(gap["missed"], EVENTS - 32 - read);
        server.publish("other", [1]).await;
        kept.data_at(EVENTS + 1).await;
    });
}

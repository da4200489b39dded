//! Limits on streams, heads and connections over HTTP/2.

use std::collections::BTreeMap;

use fanline::server::{HttpOptions, Limits};

use super::Bystander;
use super::raw::{
    END_HEADERS, END_STREAM, HEADERS, MAX_CONCURRENT_STREAMS, REFUSED_STREAM, RST_STREAM, Raw, block, fields, frame,
    get,
};
use crate::support::{Http2, Server, assert_problem, complete, run, until};

#[test]
fn hundred_of_a_thousand_requested_streams_are_served() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let mut raw = Raw::connect(server.address, &[]).await;
        assert_eq!(raw.settings.setting(MAX_CONCURRENT_STREAMS), Some(100));
        let requests: Vec<u8> = (0..1000).flat_map(|number| get(2 * number + 1, "/stream?topics=t")).collect();
        raw.send(requests).await;
        let (mut served, mut refused) = (0, 0);
        while served + refused < 1000 {
            let frame = raw.try_frame().await.expect("the connection stays open");
            match frame.kind {
                HEADERS => {
                    assert!(frame.is_success() && frame.stream < 200, "{frame:?}");
                    served += 1;
                }
                RST_STREAM => {
                    assert_eq!((frame.code(), frame.stream >= 200), (REFUSED_STREAM, true));
                    refused += 1;
                }
                _ => {}
            }
        }
        assert_eq!((served, refused), (100, 900));
        until(|| server.stats().streams == 101).await;
        raw.assert_alive().await;
        bystander.assert_undisturbed(&server).await;
    });
}

#[test]
fn stream_that_ends_makes_room_for_another() {
    run(async {
        let http = HttpOptions { max_streams_per_connection: 3, ..HttpOptions::default() };
        let server = Server::with(Server::hub_options(), |builder| builder.http(http));
        let mut http2 = Http2::connect(server.address).await;
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(http2.follow("/stream?topics=t").await);
        }
        for _ in 0..20 {
            streams.remove(0);
            // The client knows the limit, and waits for room itself.
            streams.push(http2.follow("/stream?topics=t").await);
        }
        until(|| server.stats().streams == 3).await;
        assert_eq!(server.stats().closed_by_peer, 20);
    });
}

#[test]
fn streams_of_one_connection_count_as_connections() {
    run(async {
        let limits = Limits { max_connections_per_address: Some(5), ..Limits::default() };
        let server = Server::with(Server::hub_options(), |builder| builder.limits(limits));
        let mut http2 = Http2::connect(server.address).await;
        let mut outcomes: BTreeMap<u16, usize> = BTreeMap::new();
        let mut streams = Vec::new();
        for _ in 0..10 {
            let (head, body) = http2.start("GET", "/stream?topics=t", &[], b"").await.await.unwrap().into_parts();
            *outcomes.entry(head.status.as_u16()).or_default() += 1;
            streams.push(body);
        }
        until(|| server.stats().streams <= 5).await;
        assert!(outcomes[&200] <= 10 && server.stats().streams >= 4, "{outcomes:?}");
        drop(streams);
        until(|| server.stats().streams == 0).await;
        http2.follow("/stream?topics=t").await;
    });
}

#[test]
fn connection_over_the_limit_gets_the_error_and_is_closed() {
    run(async {
        let limits = Limits { max_connections: Some(1), ..Limits::default() };
        let server = Server::with(Server::hub_options(), |builder| builder.limits(limits));
        let _only = server.follow("/stream?topics=t").await;
        let mut http2 = Http2::connect(server.address).await;
        assert_problem(&http2.get("/topics").await, 503, &["max_connections"]);
        http2.closed().await;
        until(|| server.stats().connections == 1).await;
    });
}

#[test]
fn firehose_limit_counts_streams_of_one_connection() {
    run(async {
        let limits = Limits { max_firehose: Some(2), ..Limits::default() };
        let server = Server::with(Server::hub_options(), |builder| builder.limits(limits));
        let mut http2 = Http2::connect(server.address).await;
        let accept = [("accept", "*/*")];
        let mut streams = vec![http2.follow("/stream").await, http2.follow("/stream").await];
        assert_problem(&http2.ask("GET", "/stream", &accept, b"").await, 503, &["max_firehose"]);
        streams.clear();
        until(|| server.stats().streams == 0).await;
        http2.follow("/stream").await;
    });
}

#[test]
fn publish_rate_counts_requests_of_one_connection() {
    run(async {
        let limits = Limits { publish_rate: Some("2".parse().unwrap()), ..Limits::default() };
        let server = Server::with(Server::hub_options(), |builder| builder.limits(limits));
        let mut http2 = Http2::connect(server.address).await;
        let mut statuses = Vec::new();
        for _ in 0..10 {
            statuses.push(http2.post("/publish/t", "text/plain", "x").await.head.status);
        }
        assert!(statuses[0] == 200 && statuses.contains(&429), "{statuses:?}");
    });
}

#[test]
fn head_over_a_limit_is_refused_and_the_connection_stays() {
    run(async {
        let server = Server::start();
        let mut http2 = Http2::connect(server.address).await;
        let mut stream = http2.follow("/stream?topics=t").await;
        let long = "x".repeat(100_000);
        let response = http2.start("GET", "/health/live", &[("x-long", &long)], b"").await;
        let status = response.await.map(|response| response.status().as_u16());
        assert!(matches!(status, Ok(431)) || status.is_err(), "{status:?}");
        let names: Vec<_> = (0..150).map(|number| format!("x-{number}")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
        let response = http2.start("GET", "/health/live", &many, b"").await;
        assert_eq!(complete(response).await.unwrap().head.status, 431);
        server.publish("t", [1]).await;
        stream.data_at(1).await;
    });
}

/// A compressed header block must not expand beyond the limit.
#[test]
fn header_block_that_expands_is_refused() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let mut raw = Raw::connect(server.address, &[]).await;
        // The field enters the dynamic table, and each byte after it repeats it.
        let value = "x".repeat(3000);
        let mut bomb = block(&fields("GET", "/health/live", &[]));
        let field = block(&[("a", &value)]);
        bomb.push(0x40);
        bomb.extend_from_slice(&field[1..]);
        bomb.extend([0xbe; 12_000]);
        raw.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)).await;
        loop {
            match raw.try_frame().await {
                Some(frame) if frame.kind == HEADERS => assert!(!frame.is_success()),
                Some(frame) if frame.kind == RST_STREAM => break,
                Some(_) if server.stats().connections == 2 => break,
                Some(_) => {}
                None => break,
            }
        }
        bystander.assert_undisturbed(&server).await;
    });
}

//! Limits on open connections, in total and per address, and on their rate.

use std::net::{Ipv6Addr, TcpListener};
use std::time::{Duration, Instant};

use fanline::server::Limits;
use serde_json::json;

use super::{Outcome, admitted, ask_on, limited, rush, with};
use crate::support::{Client, Server, assert_problem, event, run, until};

fn at_most(connections: usize) -> Limits {
    Limits { max_connections: Some(connections), ..Limits::default() }
}

#[test]
fn exactly_the_limit_is_admitted_across_shards() {
    run(async {
        let server = limited(at_most(100));
        let mut streams = rush(&server, "/stream?topics=t", 300).await;
        assert_eq!(streams.len(), 100);
        assert_eq!(server.stats().streams, 100);
        // Closed connections make room for as many new ones, and no more.
        for leaving in [40, 1, 100] {
            streams.truncate(100 - leaving);
            until(|| server.stats().connections == 100 - leaving as u64).await;
            streams.extend(rush(&server, "/stream?topics=t", 150).await);
            assert_eq!(streams.len(), 100, "after {leaving} disconnected");
        }
        server.hub.publish(event("t", "1")).await.unwrap();
        for mut stream in streams {
            stream.hello().await;
            assert_eq!(stream.event().await.data, "1");
        }
    });
}

#[test]
fn full_server_names_its_limit_and_answers_health_checks() {
    run(async {
        let server = limited(at_most(2));
        let ready = server.get("/health/ready").await;
        assert_eq!(ready.ok(), json!({"status": "ready"}));
        until(|| server.stats().connections == 0).await;
        let first = admitted(&server, "/stream").await;
        let _second = admitted(&server, "/stream").await;

        let mut client = server.connect().await;
        let refused = client.get("/stream").await;
        assert_problem(&refused, 503, &["2 connections", "max_connections"]);
        assert_eq!(refused.head.header("retry-after"), Some("5"));
        assert_eq!(refused.head.header("connection"), Some("close"));
        assert_eq!(client.rest().await, "", "the connection is closed");
        assert_problem(&server.post("/publish/t", "text/plain", "1").await, 503, &["max_connections"]);
        assert_problem(&server.get("/healthy").await, 503, &["max_connections"]);

        let ready = server.get("/health/ready").await;
        assert_problem(&ready, 503, &["all 2 connections are taken", "max_connections"]);
        assert!(ready.head.header("retry-after").is_some());
        assert_eq!(server.get("/health/live").await.ok(), json!({"status": "live"}));
        assert_eq!(server.get("/health").await.ok()["connected_clients"], 2);
        let metrics = server.get("/metrics/json").await.ok();
        assert_eq!(metrics["connections"]["max"], 2);
        assert_eq!(metrics["refusals_by_reason"], json!({"connections": 3, "unavailable": 1}));
        assert_eq!(metrics["events"]["publish_errors"], json!({"connections": 1}));
        let text = String::from_utf8(server.get("/metrics/prometheus").await.body.to_vec()).unwrap();
        for line in ["fanline_refusals_total{status=\"503\",reason=\"connections\"} 3", "fanline_max_connections 2"] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }

        drop(first);
        while server.get("/health/ready").await.head.status != 200 {}
        let _third = admitted(&server, "/stream").await;
    });
}

#[test]
fn rejections_with_a_response_are_limited_in_total_and_per_address() {
    run(async {
        let server = limited(at_most(1));
        let mut stream = admitted(&server, "/stream").await;
        stream.hello().await;
        let began = Instant::now();
        let mut silent = Vec::new();
        let from = |last| Client::connect_from([127, 0, 0, last], server.address);
        for last in 2..6 {
            for taken in 1..=16 {
                silent.push(from(last).await);
                until(|| server.stats().connections == 1 + 16 * (u64::from(last) - 2) + taken).await;
            }
            // This address has used up its rejections, and the others have theirs.
            assert_eq!(from(last).await.rest().await, "");
        }
        assert_eq!(server.connect().await.rest().await, "");
        assert_eq!(server.stats().connections, 65);
        // A rejected connection is closed soon.
        for client in silent {
            assert_eq!(client.rest().await, "");
        }
        assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
        // Each is counted, even without a request.
        while server.get("/metrics/json").await.ok()["connections"]["rejected"]["connections"] != 64 + 5 {}
        server.publish("t", [1]).await;
        stream.data_at(1).await;
    });
}

#[test]
fn connections_are_limited_per_address() {
    run(async {
        let server = limited(Limits { max_connections_per_address: Some(2), ..Limits::default() });
        let from =
            async |last: u8| ask_on(Client::connect_from([127, 0, 0, last], server.address).await, "/stream").await;
        let mut streams = Vec::new();
        for last in [2, 2, 3, 3, 4] {
            let Outcome::Stream(stream) = from(last).await else { panic!("127.0.0.{last} has room") };
            streams.push(stream);
        }
        let mut client = Client::connect_from([127, 0, 0, 2], server.address).await;
        let refused = client.get("/stream").await;
        assert_problem(
            &refused,
            429,
            &["127.0.0.2 has reached the limit of 2 connections", "max_connections_per_address"],
        );
        assert_eq!(refused.head.header("retry-after"), Some("5"));
        assert_eq!(refused.head.header("connection"), Some("close"));
        let mut client = Client::connect_from([127, 0, 0, 2], server.address).await;
        client.get("/health/ready").await.ok();
        drop(streams.remove(0));
        until(|| server.stats().streams == 4).await;
        while !matches!(from(2).await, Outcome::Stream(_)) {}
    });
}

#[test]
fn ipv6_network_counts_as_one_address() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("this machine has no ::1");
        return;
    }
    run(async {
        let limits = Limits { max_connections_per_address: Some(1), ..Limits::default() };
        let server = with(limits, |builder| builder.listen((Ipv6Addr::LOCALHOST, 0)));
        let address = server.addresses[1];
        let mut first = Client::connect_v6(address).await;
        first.get("/health").await.ok();
        let refused = Client::connect_v6(address).await.get("/").await;
        assert_problem(&refused, 429, &["::/64 has reached the limit of 1 connections"]);
        server.get("/").await;
    });
}

#[test]
fn connection_rate_is_limited_per_address() {
    run(async {
        let server = limited(Limits { connect_rate: Some("1:10".parse().unwrap()), ..Limits::default() });
        let began = Instant::now();
        let mut inside = 0;
        for _ in 0..30 {
            let mut client = Client::connect_from([127, 0, 0, 2], server.address).await;
            let answer = client.get("/").await;
            if answer.head.status == 200 {
                inside += 1;
                continue;
            }
            assert_problem(&answer, 429, &["127.0.0.2 opens connections too fast", "connect_rate"]);
            assert_eq!(answer.head.header("retry-after"), Some("1"));
        }
        // One more for each second that has passed.
        assert!((10..=11 + began.elapsed().as_secs()).contains(&inside), "{inside} in {:?}", began.elapsed());
        let mut other = Client::connect_from([127, 0, 0, 3], server.address).await;
        assert_eq!(other.get("/").await.head.status, 200);
        let refused = other.get("/metrics/json").await.ok()["refusals_by_reason"]["connect_rate"].clone();
        assert_eq!(refused, 30 - inside);
    });
}

#[test]
fn connection_limit_above_open_files_fails_startup() {
    let limits = at_most(usize::MAX - 1);
    let bound = fanline::Server::builder(fanline::Hub::default()).listen(([127, 0, 0, 1], 0)).limits(limits).bind();
    let error = bound.expect_err("the limit on open files is lower").to_string();
    assert!(error.contains("max_connections") && error.contains("ulimit -n"), "{error}");
}

#[test]
fn connection_limit_defaults_to_open_files() {
    run(async {
        let metrics = Server::start().get("/metrics/json").await.ok();
        assert!(metrics["connections"]["max"].as_u64().unwrap() > 100, "{metrics}");
    });
}

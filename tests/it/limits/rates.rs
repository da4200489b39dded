//! Limits on publish rates.

use std::time::{Duration, Instant};

use fanline::auth::{Access, ApiKey, ApiKeys, KeyDigest};
use fanline::server::Limits;
use serde_json::json;

use super::permits::StubAuthenticator;
use super::{limited, with};
use crate::support::{Client, JSON, NDJSON, Response, Server, assert_problem, request, run};

fn rate(text: &str) -> Option<fanline::server::Rate> {
    Some(text.parse().unwrap())
}

fn batch(events: usize) -> String {
    serde_json::to_string(&vec![json!({"topic": "t", "data": 1}); events]).unwrap()
}

fn lines(events: usize) -> String {
    "{\"topic\":\"t\",\"data\":1}\n".repeat(events)
}

#[test]
fn publishing_beyond_the_burst_of_an_address_gets_429_with_retry_after() {
    run(async {
        let server = limited(Limits { publish_rate: rate("1:10"), ..Limits::default() });
        let began = Instant::now();
        assert_eq!(server.post("/publish", JSON, batch(10)).await.ok()["published"], 10);
        let refused = server.post("/publish", JSON, batch(9)).await;
        assert_problem(&refused, 429, &["127.0.0.1", "1 events a second", "bursts of 10", "publish_rate", "nothing"]);
        let wait: u64 = refused.head.header("retry-after").unwrap().parse().unwrap();
        assert!((9 - began.elapsed().as_secs().min(9)..=9).contains(&wait), "{wait} s");
        assert_eq!(server.hub.stats().published, 10, "a batch is all or nothing");
        let never = server.post("/publish", JSON, batch(11)).await;
        assert_problem(&never, 413, &["at most 10 events", "this one has 11", "publish_rate", "x-ndjson"]);
        assert_eq!(never.head.header("retry-after"), None);

        let mut other = Client::connect_from([127, 0, 0, 2], server.address).await;
        other.send(request("POST", "/publish", &[("content-type", JSON)], batch(10).as_bytes())).await;
        other.response().await.ok();

        let metrics = server.get("/metrics/json").await.ok();
        assert_eq!(metrics["refusals_by_reason"], json!({"publish_rate": 2}));
        assert_eq!(metrics["events"]["publish_errors"], json!({"publish_rate": 2}));
    });
}

#[test]
fn each_event_costs_one_and_invalid_events_nothing() {
    run(async {
        let server = limited(Limits { publish_rate: rate("1:5"), ..Limits::default() });
        let began = Instant::now();
        let mut client = server.connect().await;
        let mut post = async |body: &[u8]| {
            client.send(request("POST", "/publish/t", &[("content-type", JSON)], body)).await;
            client.response().await.head.status
        };
        for _ in 0..20 {
            assert_eq!(post(b"nonsense").await, 400);
        }
        let mut published = 0;
        while post(b"1").await == 200 {
            published += 1;
        }
        assert!((5..=6 + began.elapsed().as_secs()).contains(&published), "{published} in {:?}", began.elapsed());
    });
}

#[test]
fn publish_rate_follows_the_api_key() {
    run(async {
        let key = |name: &str| ApiKey {
            name: name.into(),
            digest: KeyDigest::of(name),
            publish: "**".parse().unwrap(),
            subscribe: "".parse().unwrap(),
            admin: false,
        };
        let access =
            Access::new().accept(ApiKeys::new([key("one"), key("other")])).anonymous_publish("t".parse().unwrap());
        let limits = Limits { publish_rate_per_key: rate("1:10"), ..Limits::default() };
        let server = with(limits, |builder| builder.access(access));
        let post = async |source: u8, key: Option<&str>, events: usize| -> Response {
            let mut client = Client::connect_from([127, 0, 0, source], server.address).await;
            let mut headers = vec![("content-type", JSON)];
            headers.extend(key.map(|key| ("x-api-key", key)));
            client.send(request("POST", "/publish", &headers, batch(events).as_bytes())).await;
            client.response().await
        };
        post(2, Some("one"), 10).await.ok();
        let refused = post(3, Some("one"), 5).await;
        let problem = assert_problem(&refused, 429, &["this key or token", "publish_rate_per_key"]);
        assert!(!problem.to_string().contains("one\""), "the problem names a key: {problem}");
        assert!(refused.head.header("retry-after").is_some());
        post(2, Some("other"), 10).await.ok();
        // Requests without a key have no such limit.
        post(2, None, 500).await.ok();
        assert_eq!(server.hub.stats().published, 520);
    });
}

#[test]
fn line_upload_is_slowed_to_the_rate_without_loss() {
    run(async {
        let server = limited(Limits { publish_rate: rate("50:20"), ..Limits::default() });
        let mut stream = server.follow("/stream?topics=t").await;
        let began = Instant::now();
        let answer = server.post("/publish", NDJSON, lines(60)).await;
        let took = began.elapsed();
        assert_eq!(answer.ok()["published"], 60);
        assert!(took >= Duration::from_millis(700), "40 of 60 events had to wait at 50 a second, and it took {took:?}");
        for sequence in 1..=60 {
            stream.data_at(sequence).await;
        }
        // It is slowed down and not rejected, while other requests of that address are.
        assert_eq!(server.get("/metrics/json").await.ok()["refusals"], json!({}));
    });
}

#[test]
fn slowed_upload_ends_with_its_token_and_reports_progress() {
    run(async {
        let authenticator =
            StubAuthenticator { expires_in: Some(Duration::from_secs(2)), ..StubAuthenticator::default() };
        let access = Access::new().accept(authenticator);
        let limits = Limits { publish_rate_per_key: rate("2:2"), ..Limits::default() };
        let server = with(limits, |builder| builder.access(access));
        let answer = server.post("/publish", NDJSON, lines(1000)).await;
        let problem = assert_problem(&answer, 401, &["the token has expired"]);
        let published = problem["published"].as_u64().unwrap();
        assert!((2..100).contains(&published), "{published}");
        assert_eq!(server.hub.stats().published, published);
    });
}

#[test]
fn publishing_is_unlimited_without_configured_rates() {
    run(async {
        let server = Server::start();
        assert_eq!(server.post("/publish", NDJSON, lines(5000)).await.ok()["published"], 5000);
        assert_eq!(server.post("/publish", JSON, batch(5000)).await.ok()["published"], 5000);
    });
}

//! Refusals of streams that an `EventSource` survives, because it gives up after any status but 200.

use std::collections::HashSet;
use std::time::Duration;

use fanline::auth::Access;
#[cfg(feature = "auth")]
use fanline::auth::{Service, ServiceOptions};
use fanline::server::{HttpOptions, Limits, Origins, StreamOptions, StreamRefusals};
use serde_json::json;

use super::{admitted, limited, with};
use crate::support::{Client, Http2, Response, Server, assert_problem, request, run};

/// The header that an `EventSource` sends.
const EVENT_STREAM: (&str, &str) = ("accept", "text/event-stream");

/// Requests `target` as an `EventSource` does.
async fn event_source(server: &Server, target: &str) -> Response {
    server.ask(request("GET", target, &[EVENT_STREAM], b"")).await
}

/// Checks that the response is a refusal in band, for `reason`. Returns its detail and its `retry`, in milliseconds.
#[track_caller]
fn assert_in_band(response: &Response, reason: &str) -> (String, u64) {
    assert_in_band_with(response, reason, None)
}

/// The same for a refusal with this id.
#[track_caller]
fn assert_in_band_with(response: &Response, reason: &str, id: Option<&str>) -> (String, u64) {
    assert_eq!(response.head.status, 200, "{response:?}");
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store, no-transform"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(response.head.header(name), Some(value), "{response:?}");
    }
    let body = std::str::from_utf8(&response.body).unwrap();
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let block = body.strip_prefix(&id).and_then(|rest| rest.strip_suffix("\n\n"));
    let block = block.unwrap_or_else(|| panic!("not one complete event with {id:?}: {body:?}"));
    let lines: Vec<_> = block.split('\n').map(|line| line.split_once(": ").unwrap()).collect();
    let [("retry", retry), ("event", "system"), ("data", data)] = lines[..] else { panic!("{body:?}") };
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    let (detail, retry) = (data["detail"].as_str().unwrap().to_owned(), retry.parse().unwrap());
    let expected = json!({"message": "unavailable", "reason": reason, "detail": detail, "retry": retry});
    assert_eq!(data, expected);
    (detail, retry)
}

fn refusing(limits: Limits, stream_refusals: StreamRefusals) -> Server {
    with(limits, |builder| builder.http(HttpOptions { stream_refusals, ..HttpOptions::default() }))
}

#[test]
fn full_server_refuses_event_sources_in_band_and_others_with_a_status() {
    run(async {
        let server = limited(Limits { max_connections: Some(1), ..Limits::default() });
        let _stream = admitted(&server, "/stream").await;
        for (target, id) in [("/stream", None), ("/events?topics=t&last_event_id=7-3", Some("7-3"))] {
            let refused = event_source(&server, target).await;
            let (detail, retry) = assert_in_band_with(&refused, "connections", id);
            assert!(detail.contains("limit of 1 connections") && detail.contains("max_connections"), "{detail}");
            assert!((5000..=7000).contains(&retry), "{retry}");
        }
        for accept in ["*/*", "text/*", "application/json"] {
            let refused = server.ask(request("GET", "/stream", &[("accept", accept)], b"")).await;
            assert_problem(&refused, 503, &["max_connections"]);
        }
        assert_problem(&server.get("/stream").await, 503, &["max_connections"]);
        // Nothing but a request for a stream has an `EventSource` behind it.
        for (method, target) in [("GET", "/"), ("GET", "/streams"), ("POST", "/stream"), ("POST", "/publish/t")] {
            let refused = server.ask(request(method, target, &[EVENT_STREAM], b"")).await;
            assert_problem(&refused, 503, &["max_connections"]);
        }
        // They are counted by their cause.
        let refusals = server.get("/metrics/json").await.ok()["refusals_by_reason"]["connections"].clone();
        assert_eq!(refusals, 2 + 4 + 4);
        let text = server.get("/metrics/prometheus").await.body;
        let line = "\nfanline_refusals_total{status=\"503\",reason=\"connections\"} 10\n";
        assert!(std::str::from_utf8(&text).unwrap().contains(line), "{text:?}");
    });
}

/// An event without an id clears the last id of a client that follows WHATWG HTML, section 9.2.6: the parser of each response
/// starts with an empty one. The client would come back without its position, and would not learn what it has missed.
#[test]
fn refused_client_keeps_the_id_that_it_sent() {
    run(async {
        let server = limited(Limits { max_firehose: Some(0), ..Limits::default() });
        let refused_after = async |target, id: &str| {
            let request = request("GET", target, &[EVENT_STREAM, ("last-event-id", id)], b"");
            server.ask(request).await
        };
        for id in ["7-3", "garbage", "earliest"] {
            assert_in_band_with(&refused_after("/stream", id).await, "firehose", Some(id));
            assert_in_band_with(&refused_after("/stream?last_event_id=7-2", id).await, "firehose", Some(id));
        }
        assert_in_band_with(&refused_after("/stream?last_event_id=7-2", "").await, "firehose", Some("7-2"));
        assert_in_band(&refused_after("/stream?last_event_id=7-2%0Adata:+x", "").await, "firehose");
        assert_in_band(&refused_after("/stream?last_event_id=", "").await, "firehose");
        assert_in_band(&refused_after("/stream?last_event_id=earliest", "").await, "firehose");
    });
}

#[test]
fn status_setting_sends_the_status_to_event_sources() {
    run(async {
        let limits = Limits { max_firehose: Some(0), ..Limits::default() };
        let server = refusing(limits.clone(), StreamRefusals::Status);
        let refused = event_source(&server, "/stream").await;
        assert_problem(&refused, 503, &["max_firehose"]);
        assert_eq!(refused.head.header("retry-after"), Some("5"));
        assert_in_band(&event_source(&refusing(limits, StreamRefusals::Retry), "/stream").await, "firehose");
    });
}

#[test]
fn every_limit_on_streams_refuses_in_band() {
    run(async {
        let unlimited = Limits::default;
        let per_address = limited(Limits { max_connections_per_address: Some(0), ..unlimited() });
        assert_in_band(&event_source(&per_address, "/stream").await, "connections_per_address");
        let silent_topics = limited(Limits { max_silent_topics: Some(0), ..unlimited() });
        assert_in_band(&event_source(&silent_topics, "/stream?topics=t").await, "silent_topics");

        let rate = limited(Limits { connect_rate: Some("1:1".parse().unwrap()), ..unlimited() });
        let from = async || Client::connect_from([127, 0, 0, 2], rate.address).await;
        from().await.get("/health").await.ok();
        let mut second = from().await;
        second.send(request("GET", "/stream", &[EVENT_STREAM], b"")).await;
        assert_in_band(&second.response().await, "connect_rate");
    });
}

#[test]
#[cfg(feature = "auth")]
fn unavailable_authorization_service_refuses_in_band() {
    run(async {
        let service = Service::new("http://127.0.0.1:1/may".parse().unwrap(), ServiceOptions::default());
        let access = Access::new().ask_for_each_subscription(service);
        let server = Server::with(Server::hub_options(), |builder| builder.access(access));
        let (detail, _) = assert_in_band(&event_source(&server, "/stream").await, "unavailable");
        assert!(detail.contains("authorization service"), "{detail}");
    });
}

#[test]
fn permanent_refusals_stay_errors() {
    run(async {
        let access = Access::new().anonymous_subscribe("open".parse().unwrap());
        let server = Server::with(Server::hub_options(), |builder| builder.access(access));
        for (target, status) in [
            ("/stream?topics=open&heartbeat=0", 400),
            ("/stream?topics=closed", 403),
            (&format!("/stream?topics=open&x={}", "x".repeat(20_000)), 414),
        ] {
            assert_problem(&event_source(&server, target).await, status, &[]);
        }
    });
}

#[test]
fn clients_are_given_different_times_to_reconnect_and_none_before_the_retry_setting() {
    run(async {
        let limits = Limits { max_firehose: Some(0), ..Limits::default() };
        let retry = Duration::from_secs(20);
        let server = with(limits, |builder| builder.streams(StreamOptions { retry, ..StreamOptions::default() }));
        let mut retries = HashSet::new();
        for _ in 0..20 {
            let (_, retry) = assert_in_band(&event_source(&server, "/stream").await, "firehose");
            assert!((20_000..=28_000).contains(&retry), "{retry}");
            retries.insert(retry);
        }
        assert_eq!(retries.len(), 20);
    });
}

#[test]
fn stream_over_http2_is_refused_in_band() {
    run(async {
        let server = limited(Limits { max_firehose: Some(0), ..Limits::default() });
        let mut http2 = Http2::connect(server.address).await;
        for _ in 0..2 {
            let refused = http2.ask("GET", "/stream", &[EVENT_STREAM, ("last-event-id", "7-3")], b"").await;
            assert_in_band_with(&refused, "firehose", Some("7-3"));
        }
        assert_problem(&http2.get("/stream").await, 503, &["max_firehose"]);
        http2.follow("/stream?topics=t").await;
    });
}

#[test]
fn connection_serves_further_requests_after_a_refusal_in_band() {
    run(async {
        let server = limited(Limits { max_firehose: Some(0), ..Limits::default() });
        let mut client = server.connect().await;
        for _ in 0..3 {
            client.send(request("GET", "/stream", &[EVENT_STREAM], b"")).await;
            assert_in_band(&client.response().await, "firehose");
        }
        client.send(request("GET", "/stream?topics=t", &[EVENT_STREAM], b"")).await;
        client.into_stream().await.hello().await;
    });
}

#[test]
fn page_of_a_listed_origin_may_read_a_refusal_in_band() {
    run(async {
        let origin = "https://app.example";
        let origins = Origins::Listed { origins: vec![origin.parse().unwrap()], credentials: false };
        let limits = Limits { max_firehose: Some(0), ..Limits::default() };
        let server = with(limits, |builder| builder.http(HttpOptions { origins, ..HttpOptions::default() }));
        let refused = server.ask(request("GET", "/stream", &[EVENT_STREAM, ("origin", origin)], b"")).await;
        assert_in_band(&refused, "firehose");
        assert_eq!(refused.head.header("access-control-allow-origin"), Some(origin));
    });
}

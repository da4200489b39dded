//! NDJSON uploads that Redis interrupts: the response, the stream and the rest of the body agree.

use std::fmt::Write;

use rustix::process::Signal;
use serde_json::json;

use super::{Redis, node, wait_for_readiness, wait_until_ready};
use crate::process::{Server, wait_until};
use crate::support::{Client, NDJSON, Response, assert_problem, request, run};

fn lines(range: std::ops::RangeInclusive<u64>) -> String {
    range.fold(String::new(), |mut lines, n| {
        writeln!(lines, "{{\"topic\":\"a\",\"data\":{n}}}").expect("writing to a string cannot fail");
        lines
    })
}

/// Uploads the lines up to `first`, runs `meanwhile` once they are published, and uploads the lines up to `last`.
async fn upload(server: &Server, first: u64, last: u64, meanwhile: impl FnOnce()) -> Response {
    let mut stream = server.stream("topics=a");
    let second = lines(first + 1..=last);
    let whole = request("POST", "/publish", &[("content-type", NDJSON)], (lines(1..=first) + &second).as_bytes());
    let (begin, end) = whole.split_at(whole.len() - second.len());
    let mut client = Client::connect(server.address()).await;
    client.send(begin).await;
    for n in 1..=first {
        assert_eq!(stream.next().data, n.to_string());
    }
    // An event may reach the stream before Redis has acknowledged it to the publishing server.
    wait_until(|| match server.get("/metrics/json").json()["backbone"]["published"].as_u64() {
        Some(published) if published >= first => Ok(()),
        published => Err(format!("{published:?} of {first}")),
    });
    meanwhile();
    client.send(end).await;
    client.response().await
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn unreplicated_upload_counts_stored_events() {
    run(async {
        let redis = Redis::start();
        let server = node(&redis, &["--redis-wait", "1"]);
        let mut stream = server.stream("topics=a");
        let mut client = Client::connect(server.address()).await;
        client.send(request("POST", "/publish", &[("content-type", NDJSON)], lines(1..=4).as_bytes())).await;
        let response = client.response().await;
        let ids: Vec<_> = (1..=4)
            .map(|n: u64| {
                let event = stream.next();
                assert_eq!(event.data, n.to_string());
                event.id.expect("an event has an id")
            })
            .collect();
        let detail = format!("published up to {}, but only 0 of 1 replicas have it", ids[3]);
        let problem = assert_problem(&response, 503, &[&detail, "publishing again would duplicate it"]);
        assert_eq!(problem["published"], 4);
        assert_eq!((&problem["first_id"], &problem["last_id"]), (&json!(ids[0]), &json!(ids[3])));
        assert_eq!((&problem["line"], problem.get("unknown_lines")), (&json!(5), None));
        assert_eq!(response.head.header("retry-after"), None);
    });
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn interrupted_upload_resumes_at_the_reported_line() {
    run(async {
        let mut redis = Redis::start();
        let server = node(&redis, &[]);
        let mut stream = server.stream("topics=a");
        let response = upload(&server, 1005, 1010, || {
            redis.kill();
            wait_for_readiness(&server, 503);
        })
        .await;
        let detail = "the lines from 1006 on were not published; the 1005 events before them were published";
        let problem = assert_problem(&response, 503, &["the backbone is away", detail]);
        assert_eq!((&problem["published"], &problem["line"]), (&json!(1005), &json!(1006)));
        assert_eq!(response.head.header("retry-after"), None, "the whole body must not be sent again");
        redis.restart();
        wait_until_ready(&server);
        let rest = server.http().post("/publish", NDJSON, lines(1006..=1010).as_bytes());
        assert_eq!(rest.status, 200, "{rest:?}");
        for n in 1..=1010 {
            // Redis may have lost events when it was killed.
            let event = std::iter::repeat_with(|| stream.next()).find(|event| event.name != "gap");
            assert_eq!(event.map(|event| event.data), Some(n.to_string()));
        }
    });
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn unanswered_upload_names_the_lines_that_may_be_published() {
    run(async {
        let redis = Redis::start();
        let server = node(&redis, &[]);
        let mut stream = server.stream("topics=a");
        let response = upload(&server, 5, 8, || redis.signal(Signal::STOP)).await;
        let problem = assert_problem(&response, 503, &["lines 6 to 8 may have been published"]);
        assert_eq!((&problem["published"], &problem["line"]), (&json!(5), &json!(9)));
        assert_eq!(problem["unknown_lines"], json!([6, 8]));
        assert_eq!(response.head.header("retry-after"), None);
        redis.signal(Signal::CONT);
        wait_until_ready(&server);
        server.publish("a", "after");
        let mut received = Vec::new();
        while received.last().is_none_or(|data| data != "after") {
            received.push(stream.next().data);
        }
        let certain: Vec<_> = (1..=5).map(|n| n.to_string()).collect();
        let may_be: Vec<_> = (1..=8).map(|n| n.to_string()).collect();
        assert!(
            received == [certain, vec!["after".into()]].concat() || received == [may_be, vec!["after".into()]].concat()
        );
    });
}

//! Publishes that a backbone does not acknowledge: every error with every form of request. The test implements the
//! backbone.

use std::time::Duration;

use fanline::hub::relay::{PublishRequest, Relay};
use fanline::hub::{GapReason, Hub, PublishError, Published};
use fanline::position::{Epoch, StreamPosition};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{EPOCH, JSON, NDJSON, Response, Server, assert_problem, event, request, run, until};

const EVENT: &str = r#"{"topic":"t","data":1}"#;

/// How the backbone treats a publish.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Published,
    /// Not published.
    Failed(PublishError),
    /// Published, and not replicated.
    NotReplicated,
}

/// Treats publishes in order as `fates` says, and acknowledges all later ones.
async fn run_backbone(relay: Relay, mut requests: mpsc::Receiver<PublishRequest>, fates: Vec<Fate>) {
    let mut fates = fates.into_iter();
    while let Some(publication) = requests.recv().await {
        let before = relay.position().sequence;
        let fate = fates.next().unwrap_or(Fate::Published);
        if let Fate::Failed(error) = fate {
            publication.answer(Err(error));
            continue;
        }
        relay.append(&publication.events);
        let first = StreamPosition::new(Epoch(EPOCH), before + 1);
        let published = Published { first, last: relay.position() };
        publication.answer(match fate {
            Fate::NotReplicated => Err(PublishError::NotReplicated { published, acknowledged: 0, wanted: 1 }),
            _ => Ok(published),
        });
    }
}

fn server(fates: &[Fate]) -> Server {
    let (hub, relay, requests) = Hub::relayed(&Server::hub_options(), Duration::from_secs(60), None);
    relay.begin_after(StreamPosition::new(Epoch(EPOCH), 0), GapReason::Epoch);
    tokio::spawn(run_backbone(relay, requests, fates.to_vec()));
    Server::of(hub, |builder| builder)
}

const NOT_PUBLISHED: [(PublishError, &str); 4] = [
    (PublishError::Closed, "the hub is closed because the server is shutting down"),
    (PublishError::Unavailable, "the backbone is away"),
    (PublishError::OutOfMemory, "the backbone is out of memory"),
    (PublishError::Refused, "the backbone refused"),
];

/// Checks a response, and that the events it counts are those in the stream.
async fn check(fates: &[Fate], post: impl AsyncFnOnce(&Server) -> Response, expected: Value, detail: &[&str]) {
    let server = server(fates);
    let mut stream = server.follow("/stream?topics=t").await;
    let response = post(&server).await;
    let problem = assert_problem(&response, 503, detail);
    for member in ["published", "first_id", "last_id", "line", "unknown_lines"] {
        assert_eq!(problem.get(member), expected.get(member), "{member} at {fates:?}: {problem}");
    }
    let retry_after = response.head.header("retry-after");
    assert_eq!(retry_after, expected["retry_after"].as_str(), "{fates:?}: {problem}");
    let count = problem["published"].as_u64().unwrap_or(0);
    let has_denial = problem["detail"].as_str().unwrap().contains("nothing was published");
    assert_eq!(has_denial, problem["published"] == 0 && retry_after.is_some(), "{fates:?}: {problem}");
    server.publish_marker("t").await;
    for sequence in 1..=count {
        stream.data_at(sequence).await;
    }
    stream.marker().await;
}

async fn single(server: &Server) -> Response {
    server.post("/publish", JSON, EVENT).await
}

async fn raw(server: &Server) -> Response {
    server.post("/publish/t", "text/plain", "text").await
}

async fn array(server: &Server) -> Response {
    server.post("/publish", JSON, format!("[{EVENT},{EVENT},{EVENT}]")).await
}

/// Events on lines 2 and 4.
async fn lines(server: &Server) -> Response {
    server.post("/publish", NDJSON, format!("\n{EVENT}\n\n{EVENT}\n")).await
}

/// Events on lines 1 and 3, and in a second batch on lines 4 and 6.
async fn more_lines(server: &Server) -> Response {
    let (first, second) = (format!("{EVENT}\n\n{EVENT}\n"), format!("{EVENT}\n\n{EVENT}\n"));
    let whole = request("POST", "/publish", &[("content-type", NDJSON)], (first + &second).as_bytes());
    let (begin, end) = whole.split_at(whole.len() - second.len());
    let mut client = server.connect().await;
    client.send(begin).await;
    until(|| server.hub.position().sequence == 2).await;
    client.send(end).await;
    client.response().await
}

#[test]
fn events_of_publishers_that_do_not_wait_are_counted() {
    run(async {
        let server = server(&[Fate::Published, Fate::Failed(PublishError::OutOfMemory), Fate::NotReplicated]);
        for _ in 0..4 {
            server.hub.try_publish(event("t", "1")).unwrap();
        }
        until(|| server.hub.position().sequence == 3).await;
        let metrics = server.get("/metrics").await;
        let text = String::from_utf8_lossy(&metrics.body);
        assert!(text.contains("\nfanline_events_unacknowledged_total 2\n"), "{text}");
    });
}

#[test]
fn request_that_published_nothing_may_be_retried() {
    run(async {
        for (error, cause) in NOT_PUBLISHED {
            let detail = [cause, ": nothing was published"];
            let none = json!({"published": 0, "first_id": null, "last_id": null, "retry_after": "1"});
            check(&[Fate::Failed(error)], single, none.clone(), &detail).await;
            check(&[Fate::Failed(error)], raw, none.clone(), &detail).await;
            check(&[Fate::Failed(error)], array, none.clone(), &detail).await;
            let mut of_lines = none;
            of_lines["line"] = 2.into();
            check(&[Fate::Failed(error)], lines, of_lines, &detail).await;
        }
    });
}

#[test]
fn partial_upload_names_the_first_unpublished_line() {
    run(async {
        for (error, cause) in NOT_PUBLISHED {
            let expected = json!({"published": 2, "first_id": "7-1", "last_id": "7-2", "line": 4});
            let detail =
                format!("{cause}: the lines from 4 on were not published; the 2 events before them were published");
            check(&[Fate::Published, Fate::Failed(error)], more_lines, expected, &[&detail]).await;
        }
    });
}

#[test]
fn publish_of_unknown_outcome_is_neither_counted_nor_retryable() {
    run(async {
        let unknown = [Fate::Failed(PublishError::Unknown)];
        let detail = "the backbone did not answer: the events may have been published, or may be yet";
        let expected = json!({"published": null, "first_id": null, "last_id": null});
        check(&unknown, single, expected.clone(), &[detail]).await;
        check(&unknown, raw, expected.clone(), &[detail]).await;
        check(&unknown, array, expected, &[detail]).await;
        let expected = json!({"published": 0, "first_id": null, "last_id": null, "line": 5, "unknown_lines": [2, 4]});
        let detail = "lines 2 to 4 may have been published, or may be yet; the lines from 5 on were not published";
        check(&unknown, lines, expected, &[detail]).await;
        let midway = [Fate::Published, Fate::Failed(PublishError::Unknown)];
        let expected = json!({"published": 2, "first_id": "7-1", "last_id": "7-2", "line": 7, "unknown_lines": [4, 6]});
        let detail = "lines 4 to 6 may have been published, or may be yet; the 2 events before them were published; the \
                      lines from 7 on were not published";
        check(&midway, more_lines, expected, &[detail]).await;
    });
}

#[test]
fn unreplicated_events_count_as_published_and_are_not_retryable() {
    run(async {
        let published = |count: u64| json!({"published": count, "first_id": "7-1", "last_id": format!("7-{count}")});
        let detail = |last: u64| {
            format!(
                "published up to 7-{last}, but only 0 of 1 replicas have it: a failover may lose it; publishing again would \
                 duplicate it"
            )
        };
        let fates = [Fate::NotReplicated];
        check(&fates, single, published(1), &[&detail(1)]).await;
        check(&fates, raw, published(1), &[&detail(1)]).await;
        check(&fates, array, published(3), &[&detail(3)]).await;
        let mut expected = published(2);
        expected["line"] = 5.into();
        check(&fates, lines, expected, &[&detail(2), "; the lines from 5 on were not published"]).await;
        let mut expected = published(4);
        expected["line"] = 7.into();
        let fates = [Fate::Published, Fate::NotReplicated];
        check(&fates, more_lines, expected, &[&detail(4), "; the lines from 7 on were not published"]).await;
    });
}

//! `Idempotency-Key`: a publication that is repeated is published once, and gets the same answer.

use std::time::Duration;

use fanline::auth::{Access, ApiKeys};
use fanline::hub::HubOptions;
use fanline::server::Limits;

use crate::access::key as api_key;
use crate::support::{Client, JSON, NDJSON, Response, Server, TEXT, assert_problem, request, run, until};

/// A publish request with a key.
fn keyed(target: &str, content_type: &str, key: &str, body: &str) -> Vec<u8> {
    request("POST", target, &[("content-type", content_type), ("idempotency-key", key)], body.as_bytes())
}

async fn publish(server: &Server, target: &str, content_type: &str, key: &str, body: &str) -> Response {
    server.ask(keyed(target, content_type, key, body)).await
}

fn is_repeat(response: &Response) -> bool {
    response.head.header("idempotent-replayed") == Some("true")
}

const EVENT: &str = r#"{"topic":"t","data":1}"#;
const ARRAY: &str = r#"[{"topic":"t","data":1},{"topic":"u","text":"2"}]"#;
const LINES: &str = "{\"topic\":\"t\",\"data\":1}\n\r\n{\"topic\":\"u\",\"text\":\"2\"}\n";

#[test]
fn repeated_publication_gets_the_same_answer_and_is_published_once() {
    run(async {
        let server = Server::start();
        let mut published = 0;
        for (target, content_type, body, events) in [
            ("/publish", JSON, EVENT, 1),
            ("/publish", JSON, ARRAY, 2),
            ("/publish", NDJSON, LINES, 2),
            ("/publish/t?event=e", JSON, "[1]", 1),
            ("/publish/t", TEXT, "text", 1),
        ] {
            let key = format!("key-{published}");
            let first = publish(&server, target, content_type, &key, body).await;
            assert!(!is_repeat(&first), "{first:?}");
            published += events;
            assert_eq!(first.ok()["published"], events);
            for _ in 0..3 {
                let again = publish(&server, target, content_type, &key, body).await;
                assert!(is_repeat(&again), "{again:?}");
                assert_eq!((again.head.status, again.ok()), (200, first.ok()));
            }
            assert_eq!(server.hub.stats().published, published, "{body}");
        }
        let metrics = server.get("/metrics/json").await.ok();
        assert_eq!(
            (&metrics["events"]["publishes_repeated"], &metrics["events"]["idempotency_keys"]),
            (&15.into(), &5.into())
        );
        let text = server.get("/metrics").await.body;
        let text = std::str::from_utf8(&text).unwrap();
        for line in ["fanline_publishes_repeated_total 15", "fanline_idempotency_keys 5"] {
            assert!(text.lines().any(|other| other == line), "{line}");
        }
    });
}

#[test]
fn same_events_in_another_form_are_a_repetition() {
    run(async {
        let server = Server::start();
        publish(&server, "/publish", JSON, "k", EVENT).await.ok();
        let again = publish(&server, "/publish/t", JSON, "\"k\"", " 1 ").await;
        assert!(is_repeat(&again), "quotes are no part of the key, and white space is none of the value");
        assert_eq!(again.ok()["id"], "7-1");
    });
}

#[test]
fn key_with_other_events_gets_422_and_publishes_nothing() {
    run(async {
        let server = Server::start();
        publish(&server, "/publish", JSON, "k", EVENT).await.ok();
        for (target, content_type, body) in [
            ("/publish", JSON, r#"{"topic":"t","data":2}"#),
            ("/publish", JSON, r#"{"topic":"t","text":"1"}"#),
            ("/publish", JSON, r#"{"topic":"t","event":"e","data":1}"#),
            ("/publish", JSON, ARRAY),
            ("/publish", NDJSON, LINES),
            ("/publish/u", JSON, "1"),
        ] {
            let answer = publish(&server, target, content_type, "k", body).await;
            let problem =
                assert_problem(&answer, 422, &["Idempotency-Key was used for other events", "nothing was published"]);
            assert_eq!((&problem["published"], answer.head.header("retry-after")), (&0.into(), None));
        }
        assert!(is_repeat(&publish(&server, "/publish", JSON, "k", EVENT).await));
        assert_eq!(server.hub.stats().published, 1);
        let errors = server.get("/metrics/json").await.ok()["events"]["publish_errors"].take();
        assert_eq!(errors, serde_json::json!({"key_reused": 6}));
    });
}

#[test]
fn concurrent_repetitions_get_one_answer() {
    run(async {
        let server = Server::start();
        let mut clients = Vec::new();
        for _ in 0..40 {
            clients.push(server.connect().await);
        }
        for client in &mut clients {
            client.send(keyed("/publish", JSON, "k", ARRAY)).await;
        }
        let mut first_answers = 0;
        for client in &mut clients {
            let answer = client.response().await;
            first_answers += usize::from(!is_repeat(&answer));
            assert_eq!(answer.ok()["last_id"], "7-2");
        }
        assert_eq!((first_answers, server.hub.stats().published), (1, 2));
    });
}

#[test]
fn publication_of_a_client_that_left_is_not_repeated() {
    run(async {
        let server = Server::start();
        let mut stream = server.follow("/stream").await;
        for n in 1..=50 {
            let (key, body) = (format!("key-{n}"), n.to_string());
            let mut client = server.connect().await;
            client.send(keyed("/publish/t", JSON, &key, &body)).await;
            drop(client);
            publish(&server, "/publish/t", JSON, &key, &body).await.ok();
            assert_eq!(stream.data_at(n).await, body);
        }
        server.publish_marker("t").await;
        assert_eq!(stream.event().await.event, "marker");
    });
}

#[test]
fn rejected_publication_leaves_no_key() {
    run(async {
        let limits = Limits { publish_rate: Some("1:2".parse().unwrap()), ..Limits::default() };
        let server = Server::with(Server::hub_options(), |builder| builder.limits(limits));
        let three = format!("[{EVENT},{EVENT},{EVENT}]");
        assert_problem(&publish(&server, "/publish", JSON, "k", &three).await, 413, &["publish_rate"]);
        assert_problem(&publish(&server, "/publish", JSON, "k", r#"{"topic":"t"}"#).await, 400, &["payload"]);
        let line = publish(&server, "/publish", NDJSON, "k", &format!("{EVENT}\n{{}}\n")).await;
        assert_eq!(assert_problem(&line, 400, &["line 2"])["line"], 2);
        let answer = publish(&server, "/publish", JSON, "k", ARRAY).await;
        assert!(!is_repeat(&answer));
        assert_eq!(answer.ok()["first_id"], "7-1");
    });
}

#[test]
fn server_that_remembers_enough_keys_rejects_new_ones() {
    run(async {
        let server = Server::with(HubOptions { idempotency_keys: 2, ..Server::hub_options() }, |builder| builder);
        for key in ["a", "b"] {
            publish(&server, "/publish", JSON, key, EVENT).await.ok();
        }
        let full = publish(&server, "/publish", JSON, "c", EVENT).await;
        assert_problem(&full, 503, &["nothing was published", "idempotency_keys"]);
        let seconds: u64 = full.head.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=120).contains(&seconds), "{seconds}");
        assert!(is_repeat(&publish(&server, "/publish", JSON, "a", EVENT).await));
        server.post("/publish", JSON, EVENT).await.ok();
        assert_eq!(server.hub.stats().published, 3);
    });
}

#[test]
fn keys_are_forgotten_after_the_window() {
    run(async {
        let window = Duration::from_millis(100);
        let server =
            Server::with(HubOptions { idempotency_window: window, ..Server::hub_options() }, |builder| builder);
        for key in ["a", "b", "c"] {
            publish(&server, "/publish", JSON, key, EVENT).await.ok();
        }
        until(|| server.hub.stats().idempotency_keys == 0).await;
        assert!(!is_repeat(&publish(&server, "/publish", JSON, "a", EVENT).await));
    });
}

#[test]
fn publishers_have_keys_of_their_own() {
    run(async {
        let keys =
            ApiKeys::new(["one", "two"].map(|name| api_key(name, &format!("secret-of-{name}"), "**", "", false)));
        let access = Access::new().accept(keys);
        let server = Server::with(Server::hub_options(), |builder| builder.access(access));
        let mut ids = Vec::new();
        for name in ["one", "two", "one"] {
            let secret = format!("secret-of-{name}");
            let headers = [("content-type", JSON), ("idempotency-key", "k"), ("x-api-key", &secret)];
            ids.push(server.ask(request("POST", "/publish", &headers, EVENT.as_bytes())).await.ok()["id"].clone());
        }
        assert_eq!(ids, ["7-1", "7-2", "7-1"]);
    });
}

#[test]
fn invalid_key_is_rejected() {
    run(async {
        let server = Server::start();
        for key in ["", "a b", "\"", &"x".repeat(256)] {
            for (target, content_type, body) in
                [("/publish", JSON, EVENT), ("/publish", NDJSON, LINES), ("/publish/t", TEXT, "x")]
            {
                let answer = publish(&server, target, content_type, key, body).await;
                assert_problem(&answer, 400, &["Idempotency-Key", "1 to 255"]);
            }
        }
        let mut client: Client = server.connect().await;
        let twice = [("content-type", TEXT), ("idempotency-key", "a"), ("idempotency-key", "a")];
        client.send(request("POST", "/publish/t", &twice, b"x")).await;
        assert_problem(&client.response().await, 400, &["one Idempotency-Key"]);
        assert_eq!(server.hub.stats().published, 0);
    });
}

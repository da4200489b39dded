//! Keys and deletions in each form of publishing, as readers of all events see them.

use serde_json::{Value, json};

use crate::support::{Event, JSON, NDJSON, Server, TEXT, assert_problem, request, run};

fn seen(event: &Event) -> (String, Value) {
    (event.event.clone(), event.json())
}

#[test]
fn keyed_events_and_deletions_are_events_like_any_other() {
    run(async {
        let server = Server::start();
        let mut stream = server.follow("/stream").await;
        server.post("/publish", JSON, r#"{"topic":"t","key":"a","data":1}"#).await.ok();
        server.post("/publish/t?key=b%20c&event=e", JSON, "2").await.ok();
        let lines = "{\"topic\":\"t\",\"key\":\"a\",\"delete\":true}\n{\"topic\":\"u\",\"delete\":true,\"data\":[3]}\n";
        assert_eq!(server.post("/publish", NDJSON, lines).await.ok()["published"], 2);
        let nothing = request("POST", "/publish/t?key=b%20c&delete=true", &[], b"");
        assert_eq!(server.ask(&nothing).await.ok()["id"], "7-5");
        server.post("/publish/t?key=b&delete=true&event=gone", TEXT, "4").await.ok();
        for expected in [
            ("message", json!(1)),
            ("e", json!(2)),
            ("delete", json!({"topic": "t", "key": "a"})),
            ("delete", json!([3])),
            ("delete", json!({"topic": "t", "key": "b c"})),
            ("gone", json!(4)),
        ] {
            assert_eq!(seen(&stream.event().await), (expected.0.to_owned(), expected.1));
        }
    });
}

#[test]
fn invalid_keys_are_refused_with_the_rule() {
    run(async {
        let server = Server::start();
        let long = "x".repeat(256);
        for (target, body, what) in [
            ("/publish", format!(r#"{{"topic":"t","key":"{long}","data":1}}"#), "\"key\": "),
            ("/publish", r#"{"topic":"t","delete":1}"#.to_owned(), "expected a boolean"),
            ("/publish/t?key=", "1".to_owned(), "parameter key: "),
            ("/publish/t?key=a%0Ab", "1".to_owned(), "control character"),
            ("/publish/t?delete=yes", "1".to_owned(), "parameter delete: expected true or false"),
        ] {
            assert_problem(&server.post(target, JSON, body).await, 400, &[what]);
        }
        let untyped = request("POST", "/publish/t?key=a&delete=true", &[], b"1");
        assert_problem(&server.ask(&untyped).await, 415, &["application/json (a value) or text/plain"]);
        assert_eq!(server.hub.stats().published, 0);
    });
}

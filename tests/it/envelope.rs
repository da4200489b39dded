//! `format=envelope`: each event as one JSON object that names its topic.

use serde_json::{Value, json};

use crate::support::{Block, Event, Server, Stream, assert_problem, run};

const JSON: &str = "application/json";

const TOPICS: [&str; 3] = ["a", "b:1", "b:2"];

/// The topic of the event with this sequence.
fn topic(sequence: u64) -> &'static str {
    TOPICS[sequence as usize % 3]
}

/// The next event, which must be in an envelope that repeats the fields of the block.
async fn envelope(stream: &mut Stream) -> Value {
    let event = stream.event().await;
    let envelope = event.json();
    assert_eq!((&envelope["type"], envelope["id"].as_str()), (&json!("event"), event.id.as_deref()), "{event:?}");
    assert_eq!(envelope["event"], event.event, "{event:?}");
    envelope
}

#[test]
fn envelope_has_id_topic_name_and_payload_in_this_order() {
    run(async {
        let server = Server::start();
        let mut stream = server.follow("/stream?format=envelope").await;
        let body = r#"[{"topic":"a:1","data": {"b": 1.50,  "a":[1e400]} },
            {"topic":"b","event":"say \"x\"","text":"two\r\nlines \u0000"}]"#;
        server.post("/publish", JSON, body).await.ok();
        let expected = [
            r#"{"type":"event","id":"7-1","topic":"a:1","event":"message","data":{"b": 1.50,  "a":[1e400]}}"#,
            r#"{"type":"event","id":"7-2","topic":"b","event":"say \"x\"","text":"two\nlines \u0000"}"#,
        ];
        let names = ["message", r#"say "x""#];
        for (n, (data, name)) in (1..).zip(expected.into_iter().zip(names)) {
            let event = Event { retry: None, id: Some(format!("7-{n}")), event: name.into(), data: data.into() };
            assert_eq!(stream.event().await, event);
        }
    });
}

/// Server-Sent Events end a line at each line end, and a reader joins the lines again.
#[test]
fn json_with_line_ends_is_joined_to_the_same_json() {
    run(async {
        let server = Server::start();
        let mut stream = server.follow("/stream?format=envelope").await;
        server.post("/publish/t", JSON, "{\n  \"a\": [\r\n 1 ]\n}").await.ok();
        let chunk = stream.client().chunk().await.unwrap();
        let head = r#"{"type":"event","id":"7-1","topic":"t","event":"message","data":{"#;
        assert_eq!(chunk, format!("id: 7-1\ndata: {head}\ndata:   \"a\": [\ndata:  1 ]\ndata: }}}}\n\n"));
    });
}

#[test]
fn both_formats_deliver_the_same_events_on_replay_and_live() {
    run(async {
        let server = Server::start();
        for n in 1..=40 {
            server.publish(topic(n), [n]).await;
        }
        for (filters, topics, from) in
            [("", &TOPICS[..], 1), ("b:1,a", &["a", "b:1"], 30), ("b:*", &["b:1", "b:2"], 17)]
        {
            let path = format!("/stream?topics={filters}&last_event_id=7-{from}");
            let mut plain = server.subscribe(&path).await;
            let mut enveloped = server.subscribe(&format!("{path}&format=envelope")).await;
            let (mut hello, same) = (plain.hello().await, enveloped.hello().await);
            hello["client_id"] = same["client_id"].clone();
            hello["retry"] = same["retry"].clone();
            assert_eq!(hello, same, "control events are the same");
            let head = server.hub.position().sequence;
            for n in head + 1..=head + 6 {
                server.publish(topic(n), [n]).await;
            }
            for n in (from + 1..=head + 6).filter(|n| topics.contains(&topic(*n))) {
                assert_eq!(plain.data_at(n).await, format!("{{\"n\":{n}}}"));
                let id = format!("7-{n}");
                let expected =
                    json!({"type": "event", "id": id, "topic": topic(n), "event": "message", "data": {"n": n}});
                assert_eq!(envelope(&mut enveloped).await, expected);
            }
        }
    });
}

#[test]
fn gap_and_heartbeat_are_the_same_in_both_formats() {
    run(async {
        let server = Server::with(fanline::hub::HubOptions { history: 4, ..Server::hub_options() }, |builder| builder);
        for n in 1..=10 {
            server.publish("a", [n]).await;
        }
        for format in ["plain", "envelope"] {
            let path = format!("/stream?topics=a,heartbeat&heartbeat=1&last_event_id=7-2&format={format}");
            let mut stream = server.subscribe(&path).await;
            stream.hello().await;
            let (id, gap) = stream.gap().await;
            assert_eq!((id.as_deref(), &gap["missed"], &gap["topics"]), (Some("7-6"), &json!(4), &json!(["a"])));
            for _ in 7..=10 {
                assert_eq!(stream.event().await.event, "message");
            }
            let heartbeat = loop {
                match stream.block().await {
                    Block::Event(event) => break event,
                    Block::Comment => {}
                }
            };
            assert_eq!((heartbeat.event.as_str(), heartbeat.id.as_ref()), ("heartbeat", None));
            assert!(heartbeat.json()["clients"].is_u64());
        }
    });
}

#[test]
fn unknown_format_is_a_400_that_names_the_formats() {
    run(async {
        let server = Server::start();
        for value in ["json", "Envelope", "", "envelope,plain"] {
            let response = server.get(&format!("/stream?format={value}")).await;
            assert_problem(&response, 400, &["parameter format: expected plain (the default) or envelope"]);
        }
    });
}

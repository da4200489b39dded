//! A client that keeps its last event id by the letter of WHATWG HTML, section 9.2.6, and is cut off at any byte.
//!
//! The buffer of the last event id begins empty on each connection, and each event that is dispatched makes it the client's
//! id. So a first event without an id clears the id of a client that is cut off behind it: the client comes back without
//! one, and never learns that it missed anything.

use std::process::Command;

use serde_json::{Value, json};

use crate::process;
use crate::support::{Client, Server, run};

/// What a client keeps from connection to connection.
#[derive(Default)]
struct EventSource {
    last_event_id: String,
    /// Names and data of the events that were dispatched.
    events: Vec<(String, String)>,
}

impl EventSource {
    /// Interprets the lines of one connection. What is behind the last blank line is discarded.
    fn interpret(&mut self, body: &str) {
        let (mut id, mut name, mut data) = (String::new(), String::new(), String::new());
        let Some(whole) = body.rfind('\n') else { return };
        for line in body[..whole].split('\n') {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() => {
                    self.last_event_id.clone_from(&id);
                    if !data.is_empty() {
                        data.pop();
                        self.events.push((std::mem::take(&mut name), std::mem::take(&mut data)));
                    }
                    name.clear();
                }
                "event" => value.clone_into(&mut name),
                "data" => data.extend([value, "\n"]),
                "id" if !value.contains('\0') => value.clone_into(&mut id),
                _ => {}
            }
        }
    }

    fn gaps(&self) -> Vec<Value> {
        let gaps = self.events.iter().filter(|(name, _)| name == "gap");
        gaps.map(|(_, data)| serde_json::from_str(data).unwrap()).collect()
    }

    /// A stream without chunks, after its head.
    async fn connect(&self, server: &Server) -> Client {
        let mut client = server.connect().await;
        let header = match &*self.last_event_id {
            "" => String::new(),
            id => format!("last-event-id: {id}\r\n"),
        };
        client.send(format!("GET /stream?topics=a HTTP/1.0\r\nhost: test\r\n{header}\r\n")).await;
        assert_eq!(client.head().await.status, 200);
        client
    }
}

#[test]
fn a_gap_is_told_to_a_client_that_is_cut_off_at_any_byte_before_it() {
    run(async {
        let server = Server::start();
        server.publish("a", 1..=3).await;
        for (asked, reason, from) in [
            ("6-3", "epoch", json!("6-3")),
            ("nonsense", "unknown_id", Value::Null),
            ("7-4", "unknown_id", Value::Null),
            ("0-0", "unknown_id", Value::Null),
        ] {
            let gap = json!({"reason": reason, "from": from, "to": "7-0", "missed": null});
            for cut in 0.. {
                let mut source = EventSource { last_event_id: asked.to_owned(), ..EventSource::default() };
                let body = source.connect(&server).await.exactly(cut).await;
                source.interpret(std::str::from_utf8(&body).unwrap());
                if !source.gaps().is_empty() {
                    assert_eq!((source.gaps(), &*source.last_event_id), (vec![gap], "7-0"), "{asked}");
                    break;
                }
                // Up to the last of the events.
                let body = source.connect(&server).await.through(b"{\"n\":3}\n\n").await;
                source.interpret(std::str::from_utf8(&body).unwrap());
                assert_eq!(
                    source.gaps(),
                    std::slice::from_ref(&gap),
                    "asked for {asked}, and was cut off after {cut} bytes"
                );
                assert_eq!(source.last_event_id, "7-3");
            }
        }
    });
}

/// The clock of a machine without a battery begins at the same instant at each start. Here it stands still.
#[test]
#[ignore = "needs faketime; run scripts/test"]
fn a_server_that_starts_twice_at_the_same_instant_has_two_epochs() {
    let start = || {
        let server = process::serve(&["--listen", "127.0.0.1:0", "--shards", "1"]);
        let mut pinned = Command::new("faketime");
        pinned.env_clear().stdin(std::process::Stdio::null());
        // Only the time of day stands still: timers go on.
        pinned.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        pinned.args(["-f", "2026-03-01 12:00:00"]).arg(server.get_program()).args(server.get_args());
        process::Server::launch(pinned)
    };
    let epoch = |id: &str| id.split_once('-').expect("an id").0.to_owned();
    let before = start();
    let ids: Vec<String> = (0..3).map(|n| before.publish("a", &format!("before {n}"))).collect();
    drop(before);
    let again = start();
    let id = again.publish("a", "again");
    let (old, new) = (epoch(&ids[2]), epoch(&id));
    assert_eq!(old[..10], new[..10], "the clock is pinned: {old} and {new}");
    assert_ne!(old, new);
    let mut stream = process::Stream::open(again.address(), "topics=a", Some(&ids[2]));
    let gap = stream.next();
    assert_eq!((&*gap.name, &gap.json()["reason"], &gap.json()["from"]), ("gap", &json!("epoch"), &json!(ids[2])));
    assert_eq!(stream.next().data, "again");
}

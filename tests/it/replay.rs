//! Replay: where a stream resumes, what it replays, and the gap for what is missing.

mod reconnect;

use std::process::Command;

use fanline::hub::HubOptions;
use serde_json::{Value, json};

use crate::process;
use crate::support::{Client, Server, Stream, event, run};

/// A server with ten events, the odd ones on `a` and the even ones on `b`.
async fn start_with_ten_events() -> Server {
    let server = Server::start();
    let topics = ["b", "a"];
    for n in 1..=10 {
        server.publish(topics[n as usize % 2], [n]).await;
    }
    server
}

async fn assert_events(stream: &mut Stream, sequences: impl IntoIterator<Item = u64>) {
    for n in sequences {
        assert_eq!(stream.data_at(n).await, format!("{{\"n\":{n}}}"));
    }
}

#[test]
fn stream_resumes_after_last_event_id_from_header_or_query() {
    run(async {
        let server = start_with_ten_events().await;
        for (query, header, expected) in [
            ("?last_event_id=7-7", None, 8),
            ("?lastEventID=7-7", None, 8),
            ("", Some("7-7"), 8),
            ("?last_event_id=7-2", Some("7-7"), 8),
            ("?lastEventID=7-2", Some("7-7"), 8),
            ("?last_event_id=nonsense", Some("7-7"), 8),
            ("?last_event_id=earliest", Some("7-7"), 8),
            ("?last_event_id=7-7&history=9", None, 8),
            ("?history=9", Some("7-7"), 8),
            ("?last_event_id=7-7", Some(""), 8),
            ("?last_event_id=7-0", None, 1),
            ("?last_event_id=earliest", None, 1),
            ("", Some("earliest"), 1),
            ("?history=9", Some("earliest"), 1),
            ("?last_event_id=7-10", None, 11),
            ("?last_event_id=", None, 11),
            ("", None, 11),
        ] {
            let header = header.map(|id| ("Last-Event-ID", id));
            let mut stream = server.subscribe_with(&format!("/stream{query}"), header.as_slice()).await;
            let hello = stream.hello().await;
            assert_eq!(hello["position"], format!("7-{}", expected - 1), "{query} {header:?}");
            assert_eq!(hello["replayed"], 11 - expected, "{query} {header:?}");
            assert_events(&mut stream, expected..=10).await;
        }
    });
}

#[test]
fn history_replays_the_newest_events_of_the_topics() {
    run(async {
        let server = start_with_ten_events().await;
        for (query, expected) in [
            ("history=0", &[][..]),
            ("history=1", &[10]),
            ("history=3", &[8, 9, 10]),
            ("history=3&topics=a", &[5, 7, 9]),
            ("history=3&topics=a,b", &[8, 9, 10]),
            ("history=3&topics=b,none", &[6, 8, 10]),
            ("history=2&topics=*", &[9, 10]),
            ("history=999&topics=a", &[1, 3, 5, 7, 9]),
            ("history=18446744073709551615", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ] {
            let mut stream = server.subscribe(&format!("/stream?{query}")).await;
            assert_eq!(stream.hello().await["replayed"], expected.len(), "{query}");
            assert_events(&mut stream, expected.iter().copied()).await;
            let next = server.hub.position().sequence + 1;
            if query == "history=0" {
                assert_eq!(next, 11);
            }
        }
    });
}

#[test]
fn replay_contains_only_subscribed_topics_and_then_goes_live() {
    run(async {
        let server = start_with_ten_events().await;
        let mut a = server.follow("/stream?topics=a&last_event_id=7-4").await;
        let mut patterns = server.follow("/stream?topics=*&last_event_id=7-8").await;
        assert_events(&mut a, [5, 7, 9]).await;
        assert_events(&mut patterns, [9, 10]).await;
        server.publish("b", [11]).await;
        server.publish("a", [12]).await;
        assert_events(&mut a, [12]).await;
        assert_events(&mut patterns, [11, 12]).await;
    });
}

#[test]
fn unknown_id_gets_a_gap_and_all_retained_events() {
    run(async {
        let server = start_with_ten_events().await;
        let epoch = |id: &str| ("epoch", json!(id));
        let unknown = ("unknown_id", Value::Null);
        for (id, (reason, from)) in [
            ("nonsense", unknown.clone()),
            ("7-", unknown.clone()),
            ("07-1", unknown.clone()),
            ("7-99999999999999999999", unknown.clone()),
            ("7-11", unknown.clone()),
            ("\u{e4}", unknown.clone()),
            ("6-3", epoch("6-3")),
            ("8-0", epoch("8-0")),
            ("0-1", epoch("0-1")),
            ("0-0", unknown.clone()),
        ] {
            let mut stream = server.subscribe_with("/stream?topics=a,b", &[("last-event-id", id)]).await;
            let hello = stream.hello().await;
            assert_eq!((&hello["position"], &hello["replayed"]), (&Value::Null, &json!(10)), "{id}");
            let (id, gap) = stream.gap().await;
            assert_eq!(gap, json!({"reason": reason, "from": from, "to": "7-0", "missed": null}));
            assert_eq!(id.as_deref(), Some("7-0"));
            assert_events(&mut stream, 1..=10).await;
        }
    });
}

#[test]
fn evicted_events_are_a_gap_with_an_exact_count() {
    run(async {
        let server = Server::with(HubOptions { history: 20, ..Server::hub_options() }, |builder| builder);
        server.publish("quiet", 1..=5).await;
        server.publish("busy", 6..=105).await;
        // The newest twenty of `busy` are 86 to 105.
        for (target, after, missed) in [
            ("topics=busy", 5, 80),
            ("topics=busy", 0, 80),
            ("topics=busy", 3, 80),
            ("topics=busy", 50, 35),
            ("topics=busy", 84, 1),
            ("topics=quiet,busy", 5, 80),
        ] {
            let mut stream = server.subscribe(&format!("/stream?{target}&last_event_id=7-{after}")).await;
            let hello = stream.hello().await;
            assert_eq!(hello["position"], format!("7-{after}"));
            assert_eq!(hello["replayed"], 20);
            let (id, gap) = stream.gap().await;
            let mut expected =
                json!({"reason": "evicted", "from": format!("7-{after}"), "to": "7-85", "missed": missed});
            if target == "topics=quiet,busy" {
                expected["topics"] = json!(["busy"]);
            }
            assert_eq!(gap, expected, "{target}");
            assert_eq!(id.as_deref(), Some("7-85"));
            assert_events(&mut stream, 86..=105).await;
        }
    });
}

#[test]
fn resumed_quiet_topic_has_no_gap() {
    run(async {
        let server = Server::with(HubOptions { history: 20, ..Server::hub_options() }, |builder| builder);
        server.publish("quiet", 1..=5).await;
        server.publish("busy", 6..=105).await;
        let mut stream = server.follow("/stream?topics=quiet&last_event_id=7-3").await;
        assert_events(&mut stream, 4..=5).await;
        server.publish("quiet", [106]).await;
        assert_events(&mut stream, [106]).await;
        let mut at_the_edge = server.follow("/stream?topics=busy&last_event_id=7-86").await;
        assert_events(&mut at_the_edge, 87..=105).await;
    });
}

#[test]
fn gap_of_the_firehose_counts_evicted_events() {
    run(async {
        let options = HubOptions { firehose_history: 20, ..Server::hub_options() };
        let server = Server::with(options, |builder| builder);
        for n in 1..=100 {
            server.publish(&format!("t{}", n % 3), [n]).await;
        }
        let mut stream = server.follow("/stream?last_event_id=7-10").await;
        let (id, gap) = stream.gap().await;
        assert_eq!(gap, json!({"reason": "evicted", "from": "7-10", "to": "7-80", "missed": 70}));
        assert_eq!(id.as_deref(), Some("7-80"));
        assert_events(&mut stream, 81..=100).await;
        let mut pattern = server.follow("/stream?topics=*&last_event_id=7-10").await;
        let (_, gap) = pattern.gap().await;
        assert_eq!((&gap["reason"], &gap["missed"]), (&"evicted".into(), &Value::Null));
        assert_events(&mut pattern, 81..=100).await;
    });
}

#[test]
fn earliest_starts_at_the_oldest_retained_event_without_a_gap() {
    run(async {
        let server = Server::with(HubOptions { history: 20, ..Server::hub_options() }, |builder| builder);
        server.publish("t", 1..=100).await;
        let mut stream = server.subscribe("/stream?topics=t&last_event_id=earliest").await;
        let hello = stream.hello().await;
        assert_eq!((&hello["position"], &hello["replayed"]), (&"7-80".into(), &20.into()));
        assert_events(&mut stream, 81..=100).await;
    });
}

#[test]
fn replay_goes_live_without_gap_or_duplicate_under_load() {
    const EVENTS: u64 = 30_000;
    run(async {
        let options = HubOptions { history: 50_000, firehose_history: 50_000, ..Server::hub_options() };
        let server = Server::with(options, |builder| builder);
        server.publish("t", 1..=100).await;
        let hub = server.hub.clone();
        let publisher = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                for n in 101..=EVENTS {
                    hub.publish(event("t", &format!("{{\"n\":{n}}}"))).await.unwrap();
                }
            });
        });
        let mut followers = tokio::task::JoinSet::new();
        let queries = ["last_event_id=7-50&topics=t", "history=20&topics=t,u", "last_event_id=earliest", "topics=*"];
        while !publisher.is_finished() && followers.len() < 40 {
            let mut stream = server.subscribe(&format!("/stream?{}", queries[followers.len() % queries.len()])).await;
            followers.spawn(async move {
                let hello = stream.hello().await;
                let position: u64 = hello["position"].as_str().unwrap()["7-".len()..].parse().unwrap();
                assert!(hello["replayed"].as_u64().unwrap() <= EVENTS - position);
                assert_events(&mut stream, position + 1..=EVENTS).await;
            });
        }
        publisher.join().unwrap();
        assert!(followers.len() >= 4, "some came while events were published");
        while let Some(outcome) = followers.join_next().await {
            outcome.unwrap();
        }
        let mut history = server.follow("/stream?topics=t&history=1").await;
        assert_events(&mut history, [EVENTS]).await;
    });
}

#[test]
fn repeated_reconnects_deliver_every_event_once() {
    run(async {
        let server = Server::start();
        let mut last = "7-0".to_owned();
        let mut seen = 0;
        for round in 0..30 {
            server.publish("t", round * 7 + 1..=round * 7 + 7).await;
            let mut stream = server.subscribe_with("/stream?topics=t", &[("last-event-id", &last)]).await;
            assert_eq!(stream.hello().await["position"], last.as_str());
            // Reads some of the due events, and disconnects.
            while seen < round * 7 + round % 7 + 1 {
                seen += 1;
                let event = stream.event().await;
                assert_eq!(event.data, format!("{{\"n\":{seen}}}"));
                last = event.id.unwrap();
            }
        }
    });
}

/// The state that a client keeps between connections (WHATWG HTML, section 9.2.6).
///
/// The buffer of the last event id is empty at the start of each connection, and each dispatched event makes it the
/// client's id. A first event without an id would clear the id of a client that is cut off after it: the client would
/// resume without one, and miss the gap.
#[derive(Default)]
struct EventSource {
    last_event_id: String,
    /// Names and data of the dispatched events.
    events: Vec<(String, String)>,
}

impl EventSource {
    /// Interprets the lines of one connection. Everything after the last blank line is discarded.
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

    /// Opens an unchunked stream and reads its head.
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
fn gap_is_repeated_after_a_cut_at_any_byte_before_it() {
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
                // Up to the last event.
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

/// The clock of a machine without a battery starts at the same time after each boot. Here it is frozen.
#[test]
#[ignore = "needs faketime; run scripts/test"]
fn restart_at_the_same_instant_gets_a_new_epoch() {
    let start = || {
        let server = process::serve(&["--listen", "127.0.0.1:0", "--shards", "1"]);
        let mut pinned = Command::new("faketime");
        pinned.env_clear().stdin(std::process::Stdio::null());
        // Only the time of day is frozen, not the timers.
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

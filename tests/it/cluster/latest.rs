//! Latest values of servers that share a Redis.

use std::collections::BTreeMap;

use fanline::Hub;
use fanline::backbone::{Backbone, RedisOptions};
use fanline::event::{Event, Key, Payload};
use fanline::hub::{Change, HubOptions, LatestSubscription, Start};
use fanline::topic::Topic;

use super::{Redis, node};
use crate::process::Server;

/// A hub of a server that starts, which retains few events, as does the stream.
async fn start(redis: &Redis) -> (Hub, Backbone) {
    let mut options = RedisOptions::default();
    (options.url, options.history) = (redis.url(), 100);
    let hub = HubOptions { history: 10, firehose_history: 10, ..HubOptions::default() };
    Backbone::redis(options, &hub).await.expect("Redis is up")
}

fn event(topic: &str, key: Option<&str>, text: &str) -> Event {
    let event = Event::new(Topic::new(topic).unwrap(), Payload::text(text));
    match key {
        Some(key) => event.keyed(Key::new(key).unwrap()),
        None => event,
    }
}

fn deletion(topic: &str, key: &str) -> Event {
    Event::deletion(Topic::new(topic).unwrap(), Some(Key::new(key).unwrap()))
}

type Table = BTreeMap<String, String>;

fn table(rows: &[(&str, &str)]) -> Table {
    rows.iter().map(|&(key, text)| (key.to_owned(), text.to_owned())).collect()
}

struct Reader {
    values: LatestSubscription,
    table: Table,
}

impl Reader {
    fn new(hub: &Hub, filter: &str) -> Self {
        let (values, _) = hub.subscribe_latest(filter.parse().unwrap(), Start::Earliest);
        Self { values, table: Table::new() }
    }

    /// Reads changes until the table of what has a key is as expected.
    async fn until(&mut self, expected: &Table) {
        let read = async {
            while self.table != *expected {
                match self.values.next().await.expect("the hub is open") {
                    Change::Event(frame) => match frame.key() {
                        Some(key) if frame.is_deletion() => _ = self.table.remove(key.as_str()),
                        Some(key) => _ = self.table.insert(key.to_string(), frame.payload().into_owned()),
                        None => {}
                    },
                    Change::Gap(_) => self.table.clear(),
                    Change::Snapshot(_) => {}
                }
            }
        };
        let read = tokio::time::timeout(crate::process::TIMEOUT, read).await;
        assert!(read.is_ok(), "{:?} instead of {expected:?}", self.table);
    }
}

/// What a new reader has at the end of its snapshot.
async fn snapshot(hub: &Hub, filter: &str) -> Table {
    let mut reader = Reader::new(hub, filter);
    loop {
        match reader.values.next().await.expect("the hub is open") {
            Change::Event(frame) if frame.key().is_some() && !frame.is_deletion() => {
                let key = frame.key().expect("it has one").to_string();
                reader.table.insert(key, frame.payload().into_owned());
            }
            Change::Snapshot(_) => return reader.table,
            _ => {}
        }
    }
}

#[tokio::test]
#[ignore = "needs redis-server; run scripts/test"]
async fn server_that_starts_has_values_that_left_the_stream() {
    let mut redis = Redis::start();
    let (one, _backbone) = start(&redis).await;
    let first = vec![
        event("a", Some("old"), "1"),
        event("b", Some("deleted"), "2"),
        event("a", Some("updated"), "3"),
        event("a", Some("two\"lines"), "4\n5"),
        deletion("b", "deleted"),
    ];
    one.publish_all(first).await.unwrap();
    for _ in 0..10 {
        one.publish_all(vec![event("noise", None, "x"); 100]).await.unwrap();
    }
    one.publish(event("a", Some("updated"), "6")).await.unwrap();
    let trimmed: u64 = redis.cli(&["XLEN", "{fanline}:events"]).trim().parse().unwrap();
    assert!(trimmed < 300, "the first events have left the stream: {trimmed} are left");

    let expected = table(&[("old", "1"), ("two\"lines", "4\n5"), ("updated", "6")]);
    let (other, _other_backbone) = start(&redis).await;
    for filter in ["a", "**"] {
        assert_eq!(snapshot(&other, filter).await, expected, "{filter}");
    }
    assert_eq!(other.stats().latest_keys, 3);
    let mut readers = [Reader::new(&one, "a"), Reader::new(&other, "a,b"), Reader::new(&other, "**")];
    for reader in &mut readers {
        reader.until(&expected).await;
    }

    other.publish(deletion("a", "old")).await.unwrap();
    one.publish(event("b", Some("new"), "7")).await.unwrap();
    let expected = table(&[("two\"lines", "4\n5"), ("updated", "6")]);
    readers[0].until(&expected).await;
    let expected = table(&[("two\"lines", "4\n5"), ("updated", "6"), ("new", "7")]);
    readers[1].until(&expected).await;
    readers[2].until(&expected).await;

    redis.kill();
    redis.restart();
    let (late, _late_backbone) = start(&redis).await;
    assert_eq!(snapshot(&late, "**").await, expected, "values of the epoch before");
    late.publish(event("b", Some("new"), "8")).await.unwrap();
    let expected = table(&[("two\"lines", "4\n5"), ("updated", "6"), ("new", "8")]);
    for reader in &mut readers[1..] {
        reader.until(&expected).await;
    }
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn key_that_no_server_updates_is_deleted_once() {
    let redis = Redis::start();
    let nodes = [(); 3].map(|()| node(&redis, &["--latest-ttl", "2s"]));
    let mut readers = nodes.each_ref().map(|node| node.stream("topics=t"));
    let mut http = nodes.each_ref().map(Server::http);
    let mut set = |node: usize, key: &str| {
        let event = serde_json::json!({"topic": "t", "key": key, "data": key});
        assert_eq!(http[node].post("/publish", "application/json", event.to_string().as_bytes()).status, 200);
    };
    set(0, "a");
    set(0, "b");
    // The key that is deleted next, of the first reader, and its other events.
    let mut log = Vec::new();
    let mut next = |log: &mut Vec<_>| {
        let event = readers[0].next();
        log.push((event.id.clone(), event.name.clone(), event.data.clone()));
        (event.name == "delete").then(|| event.json()["key"].as_str().unwrap().to_owned())
    };
    // Each of the others updates a key that the first one has set.
    let deleted = (1..3).cycle().find_map(|node| {
        set(node, "b");
        next(&mut log)
    });
    assert_eq!(deleted.as_deref(), Some("a"), "it was not updated");
    while next(&mut log).is_none_or(|key| key != "b") {}
    // Another deletion of these would come before that of a later key.
    set(1, "c");
    while next(&mut log).is_none_or(|key| key != "c") {}
    let deletions: Vec<_> = log.iter().filter(|(_, name, _)| name == "delete").map(|(.., data)| &**data).collect();
    let deletion = |key| format!(r#"{{"topic":"t","key":"{key}"}}"#);
    assert_eq!(deletions, [deletion("a"), deletion("b"), deletion("c")]);
    for reader in &mut readers[1..] {
        for expected in &log {
            let event = reader.next();
            assert_eq!(&(event.id, event.name, event.data), expected);
        }
    }
    let metrics = nodes.each_ref().map(|node| node.get("/metrics/json").json()["latest"].clone());
    let count = |name: &str| metrics.iter().map(|latest| latest[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!((count("expired"), count("keys")), (3, 0), "{metrics:?}");
}

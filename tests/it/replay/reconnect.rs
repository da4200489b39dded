//! A subscriber that disconnects at any byte and resumes with its last id.
//!
//! Publishers write in parallel, with NDJSON uploads, arrays and single events. Their responses are the log that three
//! readers (of everything, of topics, of patterns) are checked against: nothing lost, nothing duplicated, in order and
//! without a gap, since the history holds everything.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::process::{Event, Http, Random, Server, Stream, TIMEOUT};

const EVENTS: u64 = 50_000;
const TOPICS: u64 = 20;
const PUBLISHERS: u64 = 5;
const RECONNECTS: usize = 200;

/// The last event, on a topic of every reader.
const END: &str = "the end";
const END_TOPIC: &str = "a:0";

type IsWanted = fn(&str) -> bool;

/// The query of each reader, and the topics that it subscribes to.
const READERS: [(&str, IsWanted); 3] = [
    ("", |_| true),
    ("topics=a:0,a:3,b.11,c/17/x,c/18/x", |topic| ["a:0", "a:3", "b.11", "c/17/x", "c/18/x"].contains(&topic)),
    ("topics=a:*,c/**", |topic| topic.starts_with("a:") || topic.starts_with("c/")),
];

/// The events of one request, and the range of their ids.
struct Batch {
    /// Topics and payloads.
    events: Vec<(String, String)>,
    first: u64,
    last: u64,
}

fn topic(number: u64) -> String {
    match number {
        0..10 => format!("a:{number}"),
        10..15 => format!("b.{number}"),
        _ => format!("c/{number}/x"),
    }
}

/// The progress of publishers and readers, which keeps publishing as slow as reconnecting.
#[derive(Default)]
struct Progress {
    published: AtomicU64,
    reconnects: [AtomicUsize; 3],
}

impl Progress {
    /// Waits while publishing is too far ahead of the readers.
    fn keep_pace(&self) {
        let deadline = Instant::now() + TIMEOUT;
        let fewest =
            || self.reconnects.iter().map(|reconnects| reconnects.load(Ordering::Relaxed)).min().unwrap_or(0) as u64;
        while self.published.load(Ordering::Relaxed) * RECONNECTS as u64 > (fewest() + 20) * EVENTS {
            assert!(Instant::now() < deadline, "the readers make no progress");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn sequence(id: &Value) -> u64 {
    id.as_str().and_then(|id| id.split_once('-')).expect("an id").1.parse().expect("a sequence")
}

/// Publishes `count` events with all kinds of requests.
fn publish(address: SocketAddr, publisher: u64, count: u64, seed: u64, progress: &Progress, log: &Mutex<Vec<Batch>>) {
    let mut random = Random::new(seed ^ (publisher + 1));
    let mut http = Http::connect(address);
    let mut number = 0;
    while number < count {
        progress.keep_pace();
        let way = random.below(8);
        let size = if way < 6 { 1 } else { 1 + random.below(400) }.min(count - number);
        let events: Vec<_> = (number..number + size)
            .map(|number| {
                let padding = "·".repeat(random.below(60) as usize);
                (topic(random.below(TOPICS)), format!("publisher {publisher} event {number} {padding}"))
            })
            .collect();
        let objects = events.iter().map(|(topic, text)| json!({"topic": topic, "text": text}));
        let answer = match way {
            0..6 => {
                let (topic, text) = &events[0];
                http.post(&format!("/publish/{}", topic.replace('/', "%2F")), "text/plain", text.as_bytes())
            }
            6 => http.post("/publish", "application/json", Value::from_iter(objects).to_string().as_bytes()),
            _ => {
                let lines: String = objects.map(|object| format!("{object}\n")).collect();
                http.post("/publish", "application/x-ndjson", lines.as_bytes())
            }
        };
        assert_eq!(answer.status, 200, "{answer:?}");
        let body = answer.json();
        assert_eq!(body["published"], size);
        let (first, last) = if way < 6 { (&body["id"], &body["id"]) } else { (&body["first_id"], &body["last_id"]) };
        let batch = Batch { events, first: sequence(first), last: sequence(last) };
        // The events of an array have consecutive ids. Other events may come between the lines of an upload.
        assert!(way == 7 || batch.last - batch.first + 1 == size, "{body}");
        log.lock().unwrap().push(batch);
        progress.published.fetch_add(size, Ordering::Relaxed);
        number += size;
    }
}

/// Reads with `query`, reconnecting at any byte, and returns the received events.
fn read(address: SocketAddr, query: &str, mut random: Random, reconnects: &AtomicUsize) -> Vec<Event> {
    let mut received: Vec<Event> = Vec::new();
    let mut last_id = "earliest".to_owned();
    loop {
        let may_disconnect = reconnects.load(Ordering::Relaxed) < RECONNECTS;
        // Often before or within the hello, otherwise anywhere, or after a pause.
        let bytes = if random.below(4) == 0 { random.below(400) } else { random.below(40_000) };
        let mut bytes = if may_disconnect { bytes as usize } else { usize::MAX };
        let life = Duration::from_micros(random.below(25_000));
        let disconnect_at = Instant::now() + if may_disconnect { life } else { TIMEOUT };
        let socket = TcpStream::connect(address).expect("the server accepts");
        let mut stream = Stream::request(socket, query, Some(&last_id));
        let mut has_hello = false;
        while bytes > 0 {
            let left = disconnect_at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                assert!(may_disconnect, "no event after {last_id}");
                break;
            }
            bytes -= stream.read(bytes, left);
            assert_eq!(stream.ended, None, "the server ended the stream after {last_id}");
            for event in stream.take() {
                if has_hello {
                    assert!(event.is_published(), "resumed after {last_id}: {event:?}");
                } else {
                    has_hello = true;
                    assert_eq!(event.name, "system", "{event:?}");
                    assert!(
                        last_id == "earliest" || event.id.as_ref() == Some(&last_id),
                        "asked for {last_id}: {event:?}"
                    );
                }
                last_id = event.id.clone().expect("each event here has an id");
                if event.is_published() {
                    received.push(event);
                }
            }
            if received.last().is_some_and(|event| event.data == END) {
                return received;
            }
        }
        reconnects.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn two_hundred_reconnects_at_any_byte_lose_and_duplicate_nothing() {
    let seed = match std::env::var("FANLINE_TEST_SEED") {
        Ok(seed) => seed.parse().expect("a number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
    };
    // Shown if the test fails.
    eprintln!("FANLINE_TEST_SEED={seed}");
    let server = Server::start(&[
        "--shards",
        "2",
        "--history",
        "60000",
        "--firehose-history",
        "60000",
        "--history-bytes",
        "1GiB",
        // Publishers wait for the readers.
        "--head-timeout",
        "2m",
    ]);
    let address = server.address();
    let progress = Arc::new(Progress::default());
    let log = Mutex::new(Vec::new());
    let received = thread::scope(|scope| {
        let progress = &progress;
        let readers: Vec<_> = (0..READERS.len())
            .map(|number| {
                let random = Random::new(seed.wrapping_add(1000 + number as u64));
                scope.spawn(move || read(address, READERS[number].0, random, &progress.reconnects[number]))
            })
            .collect();
        thread::scope(|scope| {
            for publisher in 0..PUBLISHERS {
                let (log, count) = (&log, EVENTS / PUBLISHERS);
                scope.spawn(move || publish(address, publisher, count, seed, progress, log));
            }
        });
        let reconnects = || progress.reconnects.iter().map(|reconnects| reconnects.load(Ordering::Relaxed));
        while reconnects().min() < Some(RECONNECTS) && !readers.iter().any(|reader| reader.is_finished()) {
            thread::sleep(Duration::from_millis(1));
        }
        server.publish(END_TOPIC, END);
        readers.into_iter().map(|reader| reader.join().unwrap()).collect::<Vec<_>>()
    });
    for (number, reconnects) in progress.reconnects.iter().enumerate() {
        assert!(reconnects.load(Ordering::Relaxed) >= RECONNECTS, "reader {number}");
    }

    check(&log.into_inner().unwrap(), &received);
}

/// Compares what each reader received with the log.
fn check(log: &[Batch], received: &[Vec<Event>]) {
    let mut place_of: HashMap<&str, (usize, &str)> = HashMap::new();
    for (number, batch) in log.iter().enumerate() {
        for (topic, payload) in &batch.events {
            assert!(place_of.insert(payload, (number, topic)).is_none());
        }
    }
    assert_eq!(place_of.len() as u64, EVENTS);
    for ((query, wants), received) in READERS.iter().zip(received) {
        let (end, received) = received.split_last().unwrap();
        assert_eq!((end.data.as_str(), end.sequence()), (END, EVENTS + 1));
        let expected = log.iter().flat_map(|batch| &batch.events).filter(|(topic, _)| wants(topic)).count();
        assert_eq!(received.len(), expected, "{query:?}");
        // Strictly ascending ids: in order and without duplicates. The expected number of events: none lost.
        assert!(received.is_sorted_by(|a, b| a.sequence() < b.sequence()), "{query:?}");
        let mut next_of_batch = vec![0; log.len()];
        for event in received {
            let (number, topic) = place_of[event.data.as_str()];
            let batch = &log[number];
            assert!(wants(topic), "{query:?} got {event:?}");
            assert!((batch.first..=batch.last).contains(&event.sequence()), "{event:?}");
            // The events of a request keep their order.
            let place = batch.events.iter().position(|(_, payload)| *payload == event.data).unwrap();
            assert!(place >= next_of_batch[number], "{event:?}");
            next_of_batch[number] = place + 1;
            if batch.last - batch.first + 1 == batch.events.len() as u64 {
                assert_eq!(event.sequence(), batch.first + place as u64, "{event:?}");
            }
        }
    }
}

//! Very many topics: what each costs, and a list of them.

use crate::process::{Http, Server, resident_bytes};

/// Publishes an event of 100 bytes to each of these topics.
fn publish(http: &mut Http, numbers: std::ops::Range<usize>) {
    let numbers: Vec<_> = numbers.collect();
    for some in numbers.chunks(500) {
        let line = |number| format!(r#"{{"topic":"room:{number}:messages","text":"{}"}}"#, "x".repeat(100));
        let lines: Vec<_> = some.iter().map(line).collect();
        let response = http.post("/publish", "application/x-ndjson", lines.join("\n").as_bytes());
        assert_eq!(response.status, 200, "{response:?}");
    }
}

/// The memory that the retained events take, as the server counts it.
fn events_bytes(http: &mut Http) -> u64 {
    let metrics = http.get("/metrics").body;
    let value = metrics.lines().find_map(|line| line.strip_prefix("fanline_history_bytes "));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no fanline_history_bytes in {metrics}"))
}

#[test]
fn topic_with_one_event_takes_little_more_than_the_event() {
    const TOPICS: usize = 20_000;
    let server = Server::start(&["--history-bytes", "256MiB", "--firehose-history", "100"]);
    let mut http = server.http();
    // What does not grow with the topics, and the first tables.
    publish(&mut http, 0..TOPICS / 4);
    let before = (resident_bytes(server.pid()), events_bytes(&mut http));
    publish(&mut http, TOPICS / 4..TOPICS + TOPICS / 4);
    let events = events_bytes(&mut http) - before.1;
    let each = (resident_bytes(server.pid()) - before.0).saturating_sub(events) / TOPICS as u64;
    eprintln!("{each} bytes for each topic, {} for its event", events / TOPICS as u64);
    // The allocator takes memory from the system in large pieces: 100 bytes for each of these topics.
    assert!(each <= 600 + 100, "{each} bytes for each topic besides its event");
}

#[test]
fn topic_without_events_takes_few_bytes_for_each_subscriber() {
    const STREAMS: usize = 100;
    const TOPICS: usize = 50;
    let server = Server::start(&["--listen", "127.0.0.1:0"]);
    let stream = |number: usize| {
        let topics: Vec<_> = (0..TOPICS).map(|topic| format!("room:{number}:{topic}:typing")).collect();
        server.stream(&format!("topics={}", topics.join(",")))
    };
    let first: Vec<_> = (0..STREAMS).map(&stream).collect();
    server.wait_for_streams(STREAMS as u64);
    let before = resident_bytes(server.pid());
    let more: Vec<_> = (STREAMS..3 * STREAMS).map(stream).collect();
    server.wait_for_streams(3 * STREAMS as u64);
    let each = (resident_bytes(server.pid()) - before) / (2 * STREAMS * TOPICS) as u64;
    eprintln!("{each} bytes for each topic of a subscriber");
    // The topic, the cursor in it, its name in the client's description, and a fiftieth of the stream.
    assert!(each <= 400 + 16 + 24 + 60, "{each} bytes for each topic of a subscriber");
    drop((first, more));
    server.wait_for_streams(0);
    assert_eq!(server.get("/topics").json()["count"], 0, "they are dropped with their last subscriber");
}

#[test]
fn pages_list_each_of_many_topics_once() {
    let server = Server::start(&[]);
    let mut http = server.http();
    publish(&mut http, 0..3000);
    let (mut listed, mut query) = (Vec::new(), "/topics?limit=1000".to_owned());
    loop {
        let page = http.get(&query).json();
        assert_eq!(page["count"], 3000);
        let names = page["topics"].as_array().unwrap().iter();
        listed.extend(names.map(|topic| topic["topic"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        query = format!("/topics?limit=1000&after={next}");
    }
    let mut expected: Vec<_> = (0..3000).map(|number| format!("room:{number}:messages")).collect();
    expected.sort_unstable();
    assert_eq!(listed, expected);
}

//! Coming back on another server, from further behind than any server's own history.

use super::{Redis, node};
use crate::process::{Http, Server, Stream};

const EVENTS: u64 = 12_000;

/// Publishes `count` events to `a:0`, `a:1` and `b` in turn, as one stream of lines.
fn publish(server: &Server, count: u64) {
    let lines: String = (0..count)
        .map(|number| {
            let topic = ["a:0", "a:1", "b"][number as usize % 3];
            format!("{{\"topic\":\"{topic}\",\"text\":\"{topic} {number}\"}}\n")
        })
        .collect();
    let answer = Http::connect(server.address()).post("/publish", "application/x-ndjson", lines.as_bytes());
    assert_eq!((answer.status, answer.json()["published"].as_u64()), (200, Some(count)), "{answer:?}");
}

fn read(server: &Server, query: &str, last_id: &str, end: u64) -> Vec<u64> {
    let mut stream = Stream::open(server.address(), query, Some(last_id));
    let mut sequences = Vec::new();
    while sequences.last() != Some(&end) {
        let event = stream.next();
        assert!(event.is_published(), "{query}: {event:?} after {:?}", sequences.last());
        let sequence = event.sequence();
        let number = sequence - 1;
        assert_eq!(event.data, format!("{} {number}", ["a:0", "a:1", "b"][number as usize % 3]));
        sequences.push(sequence);
    }
    sequences
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn a_client_that_comes_back_10_000_events_later_on_another_server_gets_exactly_those() {
    let redis = Redis::start();
    let small: &[&str] = &["--history", "100", "--firehose-history", "1000"];
    let (one, other) = (node(&redis, small), node(&redis, small));
    publish(&one, EVENTS);
    let last_id = one.publish("a:0", &format!("a:0 {EVENTS}"));
    let (epoch, end) = last_id.split_once('-').unwrap();
    let end: u64 = end.parse().unwrap();
    assert_eq!(end, EVENTS + 1);
    let from = end - 10_000;
    let late = node(&redis, small);
    for server in [&one, &other, &late] {
        for (query, wanted) in
            [("", &[0, 1, 2][..]), ("topics=b", &[2]), ("topics=a:*", &[0, 1]), ("topics=b,a:1", &[1, 2])]
        {
            let expected: Vec<u64> = (from + 1..=end).filter(|s| wanted.contains(&((s - 1) % 3))).collect();
            let last = *expected.last().unwrap();
            assert_eq!(read(server, query, &format!("{epoch}-{from}"), last), expected, "{query}");
        }
        let oldest = read(server, "topics=b", "earliest", end - 1);
        assert_eq!(oldest.first(), Some(&3), "the oldest that Redis has");
    }
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn what_redis_has_dropped_is_a_gap() {
    let redis = Redis::start();
    let server = node(&redis, &["--history", "100", "--firehose-history", "1000", "--redis-history", "2000"]);
    publish(&server, EVENTS);
    let last_id = server.publish("b", &format!("b {EVENTS}"));
    let epoch = last_id.split_once('-').unwrap().0;
    let mut stream = Stream::open(server.address(), "", Some(&format!("{epoch}-10")));
    let gap = stream.next();
    assert_eq!((gap.name.as_str(), &gap.json()["reason"]), ("gap", &"evicted".into()));
    assert_eq!(gap.json()["missed"], gap.sequence() - 10, "the count is exact");
    assert!(gap.sequence() <= EVENTS - 2000, "what is retained is not passed over: {gap:?}");
    for sequence in gap.sequence() + 1..=EVENTS + 1 {
        assert_eq!(stream.next().sequence(), sequence);
    }
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn a_server_that_starts_has_what_the_others_have() {
    let redis = Redis::start();
    let one = node(&redis, &[]);
    publish(&one, 300);
    let other = node(&redis, &[]);
    let mut stream = other.stream("topics=b&history=3");
    let newest: Vec<u64> = (0..3).map(|_| stream.next().sequence()).collect();
    assert_eq!(newest, [294, 297, 300]);
    assert_eq!(other.get("/health").json()["event_history_size"], 300);
    // Each server numbers as Redis does.
    assert_eq!(other.publish("b", "x").split_once('-').unwrap().1, "301");
}

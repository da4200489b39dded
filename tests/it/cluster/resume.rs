//! Resuming on another server.

use rustix::process::Signal;

use super::{Redis, epoch, node, sequence, wait_until_ready};
use crate::process::{Event, Http, Server, Stream};

const EVENTS: u64 = 12_000;

/// Publishes `count` events to `a:0`, `a:1` and `b` in turn, as one upload of lines.
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
fn resume_on_another_server_replays_ten_thousand_missed_events() {
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
        assert_eq!(oldest.first(), Some(&3), "the oldest event in Redis");
    }
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn events_trimmed_by_redis_are_a_gap() {
    let redis = Redis::start();
    let server = node(&redis, &["--history", "100", "--firehose-history", "1000", "--redis-history", "2000"]);
    publish(&server, EVENTS);
    let last_id = server.publish("b", &format!("b {EVENTS}"));
    let epoch = last_id.split_once('-').unwrap().0;
    let mut stream = Stream::open(server.address(), "", Some(&format!("{epoch}-10")));
    let gap = stream.next();
    assert_eq!((gap.name.as_str(), &gap.json()["reason"]), ("gap", &"evicted".into()));
    assert_eq!(gap.json()["missed"], gap.sequence() - 10, "the count is exact");
    assert!(gap.sequence() <= EVENTS - 2000, "the gap skips retained events: {gap:?}");
    for sequence in gap.sequence() + 1..=EVENTS + 1 {
        assert_eq!(stream.next().sequence(), sequence);
    }
}

/// Most events have left the rings: they are read from pages, and the newest from rings.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn envelopes_are_the_same_on_every_server_and_from_redis() {
    const EVENTS: u64 = 2000;
    let redis = Redis::start();
    let small: &[&str] = &["--history", "100", "--firehose-history", "200"];
    let (one, other) = (node(&redis, small), node(&redis, small));
    publish(&one, EVENTS);
    let last_id = one.publish("b", &format!("b {EVENTS}"));
    let epoch = last_id.split_once('-').unwrap().0;
    let late = node(&redis, small);
    for (query, wanted) in [("", &[0, 1, 2][..]), ("topics=b,a:1", &[1, 2]), ("topics=a:*,b", &[0, 1, 2])] {
        let query = format!("{query}&format=envelope");
        let streams = [&one, &other, &late].map(|server| server.address());
        let mut streams = streams.map(|address| Stream::open(address, &query, Some(&format!("{epoch}-20"))));
        for sequence in (21..=EVENTS + 1).filter(|sequence| wanted.contains(&((sequence - 1) % 3))) {
            let number = sequence - 1;
            let topic = ["a:0", "a:1", "b"][number as usize % 3];
            let expected = format!(
                r#"{{"type":"event","id":"{epoch}-{sequence}","topic":"{topic}","event":"message","text":"{topic} {number}"}}"#
            );
            for stream in &mut streams {
                assert_eq!(stream.next().data, expected, "{query}");
            }
        }
    }
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn starting_server_loads_the_shared_history() {
    let redis = Redis::start();
    let one = node(&redis, &[]);
    publish(&one, 300);
    let other = node(&redis, &[]);
    let mut stream = other.stream("topics=b&history=3");
    let newest: Vec<u64> = (0..3).map(|_| stream.next().sequence()).collect();
    assert_eq!(newest, [294, 297, 300]);
    assert_eq!(other.get("/health").json()["event_history_size"], 300);
    // Each server uses the sequences of Redis.
    assert_eq!(other.publish("b", "x").split_once('-').unwrap().1, "301");
}

fn assert_gap(event: &Event, reason: &str) {
    assert_eq!((event.name.as_str(), &event.json()["reason"]), ("gap", &reason.into()), "{event:?}");
}

/// Sends the request to a paused server, and lets it continue.
fn resume_on_stopped(server: &Server, query: &str, last_id: &str) -> Stream {
    let socket = std::net::TcpStream::connect(server.address()).unwrap();
    let stream = Stream::request(socket, query, Some(last_id));
    server.signal(Signal::CONT);
    stream
}

/// Server B is paused while A publishes. The client has read everything from A, and resumes on B before B has read
/// anything from Redis.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn server_behind_redis_waits_for_an_id_that_redis_has() {
    let redis = Redis::start();
    let (a, b) = (node(&redis, &[]), node(&redis, &[]));
    for round in 0..20 {
        b.signal(Signal::STOP);
        let last = (0..20).map(|number| a.publish("t", &format!("{round} {number}"))).next_back().unwrap();
        let mut stream = resume_on_stopped(&b, "topics=t", &last);
        let hello = stream.next();
        assert_eq!((&hello.json()["position"], hello.id.as_ref()), (&last.as_str().into(), Some(&last)), "{hello:?}");
        let next = a.publish("t", "next");
        assert_eq!(stream.next().id, Some(next), "no gap, and nothing twice");
        wait_until_ready(&b);
    }
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn id_that_redis_never_assigned_is_unknown() {
    let redis = Redis::start();
    let server = node(&redis, &[]);
    let id = server.publish("t", "x");
    let beyond = format!("{}-{}", epoch(&id), sequence(&id) + 1);
    let later_epoch = format!("{}-1", epoch(&id) + 1);
    for unknown in [beyond, later_epoch] {
        let mut stream = Stream::open(server.address(), "topics=t", Some(&unknown));
        assert_gap(&stream.next(), "unknown_id");
        assert_eq!(stream.next().data, "x");
    }
    let mut stream = Stream::open(server.address(), "topics=t", Some(&format!("{}-1", epoch(&id) - 1)));
    assert_gap(&stream.next(), "epoch");
}

/// B has not yet noticed that Redis was flushed when a client of the new epoch arrives.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn server_behind_redis_waits_for_a_new_epoch() {
    let redis = Redis::start();
    let (a, b) = (node(&redis, &[]), node(&redis, &[]));
    let old = a.publish("t", "old");
    b.signal(Signal::STOP);
    let mut reader = Stream::open(a.address(), "topics=t", Some(&old));
    redis.cli(&["FLUSHALL"]);
    assert_gap(&reader.next(), "epoch");
    wait_until_ready(&a);
    let new = a.publish("t", "new");
    assert!(epoch(&new) > epoch(&old), "{new} {old}");
    let mut stream = resume_on_stopped(&b, "topics=t", &new);
    assert_eq!(stream.next().json()["position"], new.as_str());
    let next = a.publish("t", "next");
    assert_eq!(stream.next().id, Some(next));
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn clients_hopping_between_servers_get_every_event_once() {
    const HOPS: usize = 2000;
    let redis = Redis::start();
    let servers = [node(&redis, &[]), node(&redis, &[])];
    let addresses = [servers[0].address(), servers[1].address()];
    std::thread::scope(|scope| {
        for reader in 0..4 {
            scope.spawn(move || {
                let mut publisher = crate::process::Http::connect(addresses[reader % 2]);
                let mut last = publisher.publish("t", "first");
                for hop in 0..HOPS / 4 {
                    let own = publisher.publish("t", &format!("{reader} {hop}"));
                    let mut stream = Stream::open(addresses[(reader + hop) % 2], "topics=t", Some(&last));
                    while last != own {
                        let event = stream.next();
                        let expected = format!("{}-{}", epoch(&last), sequence(&last) + 1);
                        assert_eq!(event.id.as_ref(), Some(&expected), "hop {hop} of {reader}: {event:?}");
                        last = expected;
                    }
                }
            });
        }
    });
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn earliest_position_precedes_the_oldest_event_in_redis() {
    let redis = Redis::start();
    let server = node(&redis, &["--history", "64", "--firehose-history", "64"]);
    let ids: Vec<String> = (0..200).map(|number| server.publish("t", &number.to_string())).collect();
    redis.cli(&["XTRIM", "{fanline}:events", "MINID", &ids[40]]);
    let socket = std::net::TcpStream::connect(server.address()).unwrap();
    let mut stream = Stream::request(socket, "topics=t&last_event_id=earliest", None);
    let hello = stream.next();
    assert_eq!(hello.json()["position"], ids[39].as_str(), "{hello:?}");
    assert_eq!(hello.id.as_ref(), Some(&ids[39]));
    for (number, id) in (40..).zip(&ids[40..]) {
        let event = stream.next();
        assert_eq!((event.data, event.id.as_ref()), (number.to_string(), Some(id)));
    }
}

//! Redis restarts without its last writes: no id is used twice, and no event is lost without a gap.

use rustix::process::Signal;
use serde_json::Value;

use super::proxy::{Flow, Proxy};
use super::{Redis, epoch, node, sequence, try_publish, wait_for_readiness, wait_for_replicas, wait_until_ready};
use crate::process::{Server, Stream};

/// A Redis that keeps only what is saved.
fn snapshot_only() -> Redis {
    Redis::with(&["--appendonly", "no"])
}

/// Reads the gap of a new epoch after `from`.
fn next_is_epoch_gap(stream: &mut Stream, from: &str) {
    let gap = stream.next();
    let data = gap.json();
    assert_eq!((gap.name.as_str(), &data["reason"]), ("gap", &"epoch".into()), "{gap:?}");
    assert_eq!((&data["from"], &data["missed"]), (&from.into(), &Value::Null), "{gap:?}");
    let id = gap.id.expect("a gap has an id");
    assert_eq!((data["to"].as_str(), sequence(&id)), (Some(&*id), 0), "the gap ends at the start of the epoch");
    assert!(epoch(&id) > epoch(from), "{id} {from}");
}

/// Redis keeps e1 to e5 and loses e6 to e8. No server that has read those is left.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn ids_lost_by_redis_are_never_reused() {
    let mut redis = snapshot_only();
    let server = node(&redis, &[]);
    let mut ids: Vec<String> = (1..=5).map(|number| server.publish("t", &format!("e{number}"))).collect();
    redis.cli(&["SAVE"]);
    ids.extend((6..=8).map(|number| server.publish("t", &format!("e{number}"))));
    drop(server);
    // Twice: the second time Redis has also lost the first new epoch.
    for _ in 0..2 {
        redis.kill();
        redis.restart();
        let server = node(&redis, &[]);
        let new: Vec<String> = (6..=10).map(|number| server.publish("t", &format!("f{number}"))).collect();
        let mut stream = Stream::open(server.address(), "topics=t", Some(&ids[7]));
        next_is_epoch_gap(&mut stream, &ids[7]);
        for (number, id) in (6..).zip(&new) {
            let event = stream.next();
            assert_eq!((event.data, event.id.as_ref()), (format!("f{number}"), Some(id)));
        }
        // A client of this epoch resumes after another restart, which has lost the epoch.
        ids[7].clone_from(&new[3]);
    }
}

/// The same with a surviving server: it has delivered e6 to e8, and its clients get a gap because more events may be
/// missing.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn events_lost_by_redis_are_a_gap_after_the_last_delivered_event() {
    let mut redis = snapshot_only();
    let (survivor, other) = (node(&redis, &[]), node(&redis, &[]));
    let mut stream = survivor.stream("topics=t");
    other.publish("t", "saved");
    redis.cli(&["SAVE"]);
    let last = other.publish("t", "lost");
    assert_eq!([stream.next().data, stream.next().data], ["saved", "lost"]);
    redis.kill();
    redis.restart();
    wait_until_ready(&survivor);
    next_is_epoch_gap(&mut stream, &last);
    let epochs = |server: &Server| server.get("/metrics/json").json()["backbone"]["epochs"].as_u64().unwrap();
    wait_until_ready(&other);
    assert_eq!(epochs(&survivor) + epochs(&other), 1, "both servers use the new epoch");
    let id = survivor.publish("t", "new");
    assert_eq!(stream.next().id, Some(id));
}

/// Of 100 identical events Redis keeps 50. A new server publishes 80 more of them while the old one is disconnected, so
/// the entry at every position equals the one that the old server has read there.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn redis_rollback_is_detected_with_identical_payloads() {
    let mut redis = snapshot_only();
    let proxy = Proxy::to(redis.port());
    let b = Server::start(&["--redis", &proxy.url(), "--redis-timeout", "1s"]);
    wait_until_ready(&b);
    let mut stream = b.stream("topics=t");
    let ids: Vec<String> = (0..100)
        .map(|number| {
            if number == 50 {
                redis.cli(&["SAVE"]);
            }
            b.publish("t", "same")
        })
        .collect();
    for id in &ids {
        assert_eq!(stream.next().id.as_ref(), Some(id));
    }
    redis.kill();
    proxy.set_target(1);
    redis.restart();
    let a = node(&redis, &[]);
    let new: Vec<String> = (0..80).map(|_| a.publish("t", "same")).collect();
    assert!(new.iter().all(|id| !ids.contains(id)), "each id has one event");
    proxy.set_target(redis.port());
    next_is_epoch_gap(&mut stream, &ids[99]);
    for id in &new {
        assert_eq!(stream.next().id.as_ref(), Some(id));
    }
}

/// With `--redis-lossless` a restart is not a gap, but a detected loss is.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn lossless_redis_restart_is_a_gap_only_if_events_are_missing() {
    let mut redis = snapshot_only();
    let server = node(&redis, &["--redis-lossless"]);
    let mut stream = server.stream("topics=t");
    let first = server.publish("t", "one");
    redis.cli(&["SAVE"]);
    redis.kill();
    wait_for_readiness(&server, 503);
    redis.restart();
    wait_until_ready(&server);
    let second = server.publish("t", "two");
    assert_eq!([stream.next().id, stream.next().id], [Some(first.clone()), Some(second.clone())]);
    assert_eq!(sequence(&second), sequence(&first) + 1);
    redis.kill();
    wait_for_readiness(&server, 503);
    redis.restart();
    next_is_epoch_gap(&mut stream, &second);
}

/// Redis receives the batch, and its reply is held back until the connection is cut. Then the address leads to a
/// replica that lacks the batch and rejects writes: the second attempt fails, and the first one succeeded.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn event_with_a_lost_reply_is_never_reported_as_unpublished() {
    let redis = Redis::start();
    let replication = Proxy::to(redis.port());
    let replica = Redis::with(&["--replicaof", "127.0.0.1", &replication.port().to_string()]);
    wait_for_replicas(&redis, 1);
    let proxy = Proxy::to(redis.port());
    let a = Server::start(&["--redis", &proxy.url(), "--redis-timeout", "1s", "--publish-timeout", "3s"]);
    wait_until_ready(&a);
    let b = node(&redis, &[]);
    let mut stream = b.stream("topics=t");
    a.publish("t", "before");
    assert_eq!(stream.next().data, "before");
    proxy.answers(Flow::IsHeld);
    replication.answers(Flow::IsHeld);
    std::thread::scope(|scope| {
        let mut http = a.http();
        let publisher = scope.spawn(move || try_publish(&mut http, "t", "perhaps"));
        assert_eq!(stream.next().data, "perhaps", "the event is published");
        redis.signal(Signal::STOP);
        proxy.set_target(replica.port());
        proxy.cut();
        proxy.answers(Flow::Passes);
        let (status, problem) = publisher.join().unwrap();
        assert_eq!(status, 503);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("may have been published"), "{detail}");
    });
    redis.signal(Signal::CONT);
}

/// A server that is connected to a read-only Redis retries with backoff.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn replica_is_retried_with_backoff_and_logged_once() {
    let redis = Redis::start();
    let port = redis.port().to_string();
    let replica = Redis::with(&["--replicaof", "127.0.0.1", &port]);
    let server = Server::start(&["--redis", &replica.url(), "--redis-timeout", "1s"]);
    // Seven attempts are made before the backoff reaches its maximum.
    let attempts = |replica: &Redis| {
        let info = replica.cli(&["INFO", "stats"]);
        let count = info.lines().find_map(|line| line.trim().strip_prefix("total_connections_received:"));
        count.and_then(|count| count.parse::<u64>().ok()).expect("a count of connections")
    };
    let before = attempts(&replica);
    server.log.wait_for("is a replica");
    let began = std::time::Instant::now();
    while began.elapsed() < std::time::Duration::from_secs(4) {
        assert_eq!(server.get("/health/ready").status, 503);
        std::thread::park_timeout(std::time::Duration::from_millis(200));
    }
    let count = attempts(&replica) - before;
    assert!(count < 20, "{count} connections in 4 s");
    assert_eq!(server.log.count("Redis is away"), 1, "one log line for all attempts");
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    wait_until_ready(&server);
    let id = server.publish("t", "x");
    assert!(epoch(&id) > 0);
}

/// Redis is away for longer than the maximum backoff. The server is ready again soon after Redis is.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn publishing_continues_after_redis_was_paused() {
    let redis = Redis::start();
    let server = node(&redis, &[]);
    let mut stream = server.stream("topics=t");
    redis.signal(Signal::STOP);
    wait_for_readiness(&server, 503);
    redis.signal(Signal::CONT);
    wait_until_ready(&server);
    let id = server.publish("t", "after");
    assert_eq!(stream.next().id, Some(id), "the same process keeps its data, so there is no gap");
}

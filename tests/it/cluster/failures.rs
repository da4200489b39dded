//! Single failures of Redis, as publishers, subscribers and operators observe them.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::{Redis, epoch, node, try_publish, wait_for_readiness, wait_for_replicas, wait_until_ready};
use crate::process::{Http, Server, wait_until};

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn redis_outage_fails_publishing_and_readiness_but_keeps_streams() {
    let mut redis = Redis::start();
    let server = node(&redis, &["--redis-lossless"]);
    let mut stream = server.stream("topics=a&heartbeat=1");
    server.publish("a", "before");
    assert_eq!(stream.next().data, "before");
    redis.kill();
    wait_for_readiness(&server, 503);
    let mut http = server.http();
    let refused = http.post("/publish/a", "text/plain", b"lost");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{refused:?}");
    assert!(refused.body.contains("the backbone is away: nothing was published"), "{}", refused.body);
    assert!(http.get("/metrics").body.contains("\nfanline_backbone_up 0\n"));
    let health = http.get("/health").json();
    assert_eq!((&health["status"], &health["backbone"]["status"]), (&"degraded".into(), &"away".into()));
    assert!(health["backbone"]["reason"].is_string());
    assert!(http.get("/health/ready").body.contains("the backbone (redis) is away"));
    assert_eq!(http.get("/health/live").status, 200);
    redis.restart();
    wait_until_ready(&server);
    server.publish("a", "after");
    assert_eq!(stream.next().data, "after", "the stream continues without a gap");
    assert_eq!(server.log.count("Redis is away"), 1, "one log line for all attempts");
    assert_eq!(server.log.count("Redis is back"), 1);
    let metrics = server.get("/metrics").body;
    for line in ["backbone_up 1", "backbone_losses_total 1", "backbone_published_total 2", "backbone_received_total 2"]
    {
        assert!(metrics.contains(&format!("\nfanline_{line}\n")), "{line}: {metrics}");
    }
    let json = server.get("/metrics/json").json();
    assert_eq!((&json["backbone"]["status"], &json["backbone"]["batches"]), (&"up".into(), &2.into()));
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn publisher_may_wait_for_redis() {
    let mut redis = Redis::start();
    let server = node(&redis, &["--redis-lossless", "--publish-timeout", "30s"]);
    let mut stream = server.stream("topics=a");
    server.publish("a", "before");
    redis.kill();
    wait_for_readiness(&server, 503);
    std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..20)
            .map(|number| {
                let mut http = server.http();
                scope.spawn(move || http.publish("a", &number.to_string()))
            })
            .collect();
        redis.restart();
        let mut ids: Vec<_> = publishers.into_iter().map(|publisher| publisher.join().unwrap()).collect();
        ids.sort_by_key(|id| id.split_once('-').unwrap().1.parse::<u64>().unwrap());
        assert_eq!(stream.next().data, "before");
        for id in ids {
            assert_eq!(stream.next().id, Some(id));
        }
    });
}

/// Redis receives the batch and is paused before it replies.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn unanswered_publish_is_reported_as_unknown_and_stored_at_most_once() {
    let redis = Redis::start();
    let server = node(&redis, &[]);
    let mut stream = server.stream("topics=a");
    redis.signal(Signal::STOP);
    let began = Instant::now();
    let (status, problem) = try_publish(&mut server.http(), "a", "perhaps");
    assert!(began.elapsed() < Duration::from_secs(10), "the unanswered publish was not retried forever");
    assert_eq!(status, 503);
    assert!(problem["detail"].as_str().unwrap().contains("may have been published"), "{problem}");
    redis.signal(Signal::CONT);
    wait_until_ready(&server);
    server.publish("a", "surely");
    let mut next = stream.next().data;
    if next == "perhaps" {
        next = stream.next().data;
    }
    assert_eq!(next, "surely");
}

/// Redis is paused for less than the timeout: no error is reported, and no event is duplicated.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn batch_is_retried_after_a_broken_connection_and_stored_once() {
    let redis = Redis::start();
    let server = node(&redis, &[]);
    let mut stream = server.stream("topics=a");
    let losses = || server.get("/metrics/json").json()["backbone"]["losses"].as_u64().unwrap();
    for number in 0..20 {
        let before = losses();
        redis.signal(Signal::STOP);
        std::thread::scope(|scope| {
            let mut http = server.http();
            let publisher = scope.spawn(move || try_publish(&mut http, "a", &number.to_string()));
            // All connections break after Redis continues, some before and some after it has executed the batch.
            redis.signal(Signal::CONT);
            redis.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            let (status, answer) = publisher.join().unwrap();
            assert_eq!(status, 200, "{answer}");
        });
        assert_eq!(stream.next().data, number.to_string());
        // A second loss before the next session would refuse the next event.
        wait_until(|| (losses() > before).then_some(()).ok_or("the loss is not counted".to_owned()));
        wait_until_ready(&server);
    }
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn full_redis_rejects_publishes_with_reason() {
    let redis = Redis::start();
    let server = node(&redis, &[]);
    let mut stream = server.stream("topics=a");
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let mut http = server.http();
    let (status, problem) = try_publish(&mut http, "a", "too much");
    assert_eq!(status, 503);
    assert!(problem["detail"].as_str().unwrap().contains("out of memory: nothing was published"), "{problem}");
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(try_publish(&mut http, "a", "fits").0, 200);
    assert_eq!(stream.next().data, "fits");
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn truncated_redis_stream_continues_in_a_new_epoch_with_a_gap() {
    // Redis writes only snapshots, so it restarts with the last one.
    let mut redis = Redis::with(&["--appendonly", "no"]);
    let servers = [node(&redis, &[]), node(&redis, &[])];
    let mut streams = [servers[0].stream("topics=a"), servers[1].stream("")];
    let old = servers[0].publish("a", "saved");
    redis.cli(&["SAVE"]);
    let lost = servers[0].publish("a", "lost");
    for stream in &mut streams {
        assert_eq!([stream.next().data, stream.next().data], ["saved", "lost"]);
    }
    redis.kill();
    redis.restart();
    for stream in &mut streams {
        let gap = stream.next();
        assert_eq!((gap.name.as_str(), &gap.json()["reason"]), ("gap", &"epoch".into()));
        assert_eq!((&gap.json()["from"], &gap.json()["missed"]), (&lost.as_str().into(), &Value::Null));
    }
    servers.iter().for_each(wait_until_ready);
    let new = servers[1].publish("a", "new");
    assert!(epoch(&new) > epoch(&old), "{new} {old}");
    for stream in &mut streams {
        let event = stream.next();
        assert_eq!((event.data.as_str(), event.id.as_deref()), ("new", Some(&*new)));
    }
}

/// While one server is disconnected, Redis loses its newest events and gets more events than it lost. The server must
/// not take those for the events that it has delivered.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn rewritten_events_at_delivered_positions_are_detected() {
    let mut redis = Redis::with(&["--appendonly", "no"]);
    let server = node(&redis, &[]);
    let mut stream = server.stream("topics=a");
    server.publish("a", "saved");
    redis.cli(&["SAVE"]);
    server.publish("a", "lost");
    assert_eq!([stream.next().data, stream.next().data], ["saved", "lost"]);
    let key = "{fanline}:events";
    let id = redis.cli(&["XREVRANGE", key, "+", "-", "COUNT", "1"]);
    let epoch_of_id = epoch(id.lines().next().unwrap());
    server.signal(Signal::STOP);
    redis.kill();
    redis.restart();
    for _ in 0..3 {
        let id = format!("{epoch_of_id}-*");
        assert!(redis.cli(&["XADD", key, &id, "t", "a", "x", "foreign"]).starts_with(&epoch_of_id.to_string()));
    }
    server.signal(Signal::CONT);
    let gap = stream.next();
    assert_eq!((gap.name.as_str(), &gap.json()["reason"]), ("gap", &"epoch".into()));
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn publish_reports_how_many_replicas_acknowledged() {
    let redis = Redis::start();
    let port = redis.port().to_string();
    let mut replica = Redis::with(&["--replicaof", "127.0.0.1", &port]);
    wait_for_replicas(&redis, 1);
    let server = node(&redis, &["--redis-wait", "1"]);
    let mut stream = server.stream("topics=a");
    server.publish("a", "safe");
    assert_eq!(stream.next().data, "safe");
    assert!(server.get("/metrics").body.contains("\nfanline_backbone_replicas 1\n"));
    replica.kill();
    let (status, problem) = try_publish(&mut server.http(), "a", "less safe");
    assert_eq!(status, 503);
    assert!(problem["detail"].as_str().unwrap().contains("only 0 of 1 replicas"), "{problem}");
    assert_eq!(
        problem["last_id"],
        stream.next().id.map_or(Value::Null, Value::from),
        "an unreplicated event is published"
    );
    wait_for_readiness(&server, 503);
    assert!(server.get("/health/ready").body.contains("0 of 1 Redis replicas confirm"));
    assert!(server.get("/metrics").body.contains("\nfanline_backbone_replicas 0\n"));
    // Each publisher waits for at most two rounds, however many publishers there are.
    let began = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..20 {
            let mut http = server.http();
            scope.spawn(move || assert_eq!(try_publish(&mut http, "a", &number.to_string()).0, 503));
        }
    });
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

/// The server asks any node of the cluster, and uses the one that serves the slot of its keys.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn redis_cluster_stream_is_served_by_the_node_of_its_slot() {
    let nodes = ["0 8191", "8192 16383"].map(|range| {
        let redis = Redis::with(&["--cluster-enabled", "yes"]);
        let (begin, end) = range.split_once(' ').unwrap();
        redis.cli(&["CLUSTER", "ADDSLOTSRANGE", begin, end]);
        redis
    });
    nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &nodes[1].port().to_string()]);
    let deadline = Instant::now() + crate::process::TIMEOUT;
    while nodes.iter().any(|node| !node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok")) {
        assert!(Instant::now() < deadline, "the cluster is not formed");
    }
    for node in &nodes {
        let url = format!("redis+cluster://127.0.0.1:1,127.0.0.1:{}", node.port());
        let server = Server::start(&["--redis", &url, "--redis-timeout", "2s"]);
        wait_until_ready(&server);
        let mut stream = server.stream("topics=a");
        let id = server.publish("a", "x");
        assert_eq!(stream.next().id, Some(id));
        // The clients of the stopped server are listed until its last report expires.
        wait_until(|| {
            let list = server.get("/clients?scope=cluster").json();
            if list["count"] == 1 { Ok(()) } else { Err(list.to_string()) }
        });
    }
    let sizes = nodes.each_ref().map(|node| node.cli(&["DBSIZE"]).trim().to_owned());
    assert!(sizes.contains(&"0".to_owned()), "all keys are on one node: {sizes:?}");
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn stream_continues_after_a_sentinel_failover() {
    let mut redis = Redis::start();
    let port = redis.port().to_string();
    let replica = Redis::with(&["--replicaof", "127.0.0.1", &port]);
    wait_for_replicas(&redis, 1);
    let sentinel = super::redis::Sentinel::of(&redis);
    let url = format!("redis+sentinel://127.0.0.1:{}/main", sentinel.port());
    let server = Server::start(&["--redis", &url, "--redis-timeout", "1s", "--redis-wait", "1", "--redis-lossless"]);
    wait_until_ready(&server);
    let mut stream = server.stream("topics=a");
    let before = server.publish("a", "before");
    assert_eq!(stream.next().data, "before");
    redis.kill();
    wait_for_readiness(&server, 503);
    wait_until_ready(&server);
    // No replica is left to wait for.
    let (status, problem) = try_publish(&mut Http::connect(server.address()), "a", "after");
    assert_eq!(status, 503, "{problem}");
    let event = stream.next();
    assert_eq!((event.data.as_str(), event.id), ("after", problem["last_id"].as_str().map(str::to_owned)));
    assert_eq!(epoch(&before), epoch(problem["last_id"].as_str().unwrap()), "no loss and no gap");
    assert!(replica.cli(&["ROLE"]).starts_with("master"));
}

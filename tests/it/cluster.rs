//! Several servers that share a Redis: real `redis-server` processes, which the tests pause, kill, flush and restart.

mod example;
mod failures;
mod fleet;
mod idempotency;
mod latest;
mod losses;
mod masters;
mod ndjson;
#[cfg(feature = "auth")]
mod presence;
mod producers;
mod proxy;
mod redis;
mod resume;
mod roster;
mod startup;
mod storm;

use fleet::{Fleet, Readers, publish_on_all};
use redis::Redis;

use crate::process::{Http, Server, TIMEOUT};

/// Starts a server that uses `redis`.
fn node(redis: &Redis, more: &[&str]) -> Server {
    let timeout: &[&str] = if more.contains(&"--redis-timeout") { &[] } else { &["--redis-timeout", "1s"] };
    let server = Server::start(&[&["--redis", &redis.url()], timeout, more].concat());
    wait_until_ready(&server);
    server
}

fn wait_until_ready(server: &Server) {
    wait_for_readiness(server, 200);
}

fn wait_for_readiness(server: &Server, status: u16) {
    let deadline = std::time::Instant::now() + TIMEOUT;
    loop {
        let answer = server.get("/health/ready");
        if answer.status == status {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "not {status}: {answer:?}");
        std::thread::yield_now();
    }
}

/// The epoch of an id.
fn epoch(id: &str) -> u64 {
    id.split_once('-').and_then(|(epoch, _)| epoch.parse().ok()).expect("an id")
}

/// The sequence of an id.
fn sequence(id: &str) -> u64 {
    id.split_once('-').and_then(|(_, sequence)| sequence.parse().ok()).expect("an id")
}

/// Publishes, and returns the status and the JSON body.
fn try_publish(http: &mut Http, topic: &str, text: &str) -> (u16, serde_json::Value) {
    let answer = http.post(&format!("/publish/{topic}"), "text/plain", text.as_bytes());
    (answer.status, answer.json())
}

/// Waits until `count` replicas are in sync with `redis`.
fn wait_for_replicas(redis: &Redis, count: usize) {
    let deadline = std::time::Instant::now() + TIMEOUT;
    while redis.cli(&["INFO", "replication"]).matches("state=online").count() < count {
        assert!(std::time::Instant::now() < deadline, "no replica");
    }
}

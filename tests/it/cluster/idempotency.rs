//! `Idempotency-Key` on servers that share a Redis: a publication that is repeated on any of them is published once.

use std::net::SocketAddr;
use std::thread;

use serde_json::Value;

use super::proxy::{Flow, Proxy};
use super::{Redis, node, wait_for_readiness, wait_until_ready};
use crate::process::{Server, wait_until};
use crate::support::{Client, JSON, Response, TEXT, assert_problem, request, run};

async fn publish(server: SocketAddr, content_type: &str, key: &str, body: &str) -> Response {
    let headers = [("content-type", content_type), ("idempotency-key", key)];
    let target = if content_type == TEXT { "/publish/t" } else { "/publish" };
    let mut client = Client::connect(server).await;
    client.send(request("POST", target, &headers, body.as_bytes())).await;
    client.response().await
}

fn is_repeat(response: &Response) -> bool {
    response.head.header("idempotent-replayed") == Some("true")
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn repetition_on_another_server_gets_the_same_answer() {
    run(async {
        let redis = Redis::start();
        let (one, two) = (node(&redis, &[]), node(&redis, &["--redis-wait", "0"]));
        let mut stream = two.stream("topics=t");
        let array = r#"[{"topic":"t","data":1},{"topic":"t","data":2}]"#;
        let first = publish(one.address(), JSON, "k", array).await;
        assert!(!is_repeat(&first));
        for server in [two.address(), one.address()] {
            let again = publish(server, JSON, "k", array).await;
            assert!(is_repeat(&again));
            assert_eq!(again.ok(), first.ok());
            let other = publish(server, TEXT, "k", "3").await;
            assert_problem(&other, 422, &["used for other events"]);
        }
        publish(two.address(), TEXT, "end", "end").await.ok();
        assert_eq!([stream.next().data, stream.next().data, stream.next().data], ["1", "2", "end"]);
    });
}

/// Publications with and without keys share batches, and a key may be in a batch twice.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn concurrent_repetitions_on_two_servers_are_published_once() {
    let redis = Redis::start();
    let servers = [node(&redis, &[]), node(&redis, &[])];
    let mut stream = servers[0].stream("topics=t");
    thread::scope(|scope| {
        for publisher in 0..16 {
            let server = servers[publisher % 2].address();
            scope.spawn(move || {
                run(async {
                    for n in 0..25 {
                        let (key, body) = (format!("key-{n}"), format!("shared {n}"));
                        let answer = publish(server, TEXT, &key, &body).await.ok();
                        assert!(answer["id"].is_string(), "{answer}");
                        let headers = [("content-type", TEXT)];
                        let own = format!("own {publisher}-{n}");
                        let mut client = Client::connect(server).await;
                        client.send(request("POST", "/publish/t", &headers, own.as_bytes())).await;
                        client.response().await.ok();
                    }
                });
            });
        }
    });
    let mut all: Vec<_> = (0..25 + 16 * 25).map(|_| stream.next().data).collect();
    servers[1].publish("t", "end");
    assert_eq!(stream.next().data, "end", "nothing was published twice");
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 25 + 16 * 25);
}

/// Redis publishes the batch, and its answer is lost with the connection.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn repetition_after_a_lost_answer_publishes_nothing_new() {
    let redis = Redis::start();
    let proxy = Proxy::to(redis.port());
    let one = Server::start(&["--redis", &proxy.url(), "--redis-timeout", "1s"]);
    wait_until_ready(&one);
    let two = node(&redis, &[]);
    let mut stream = two.stream("topics=t");
    proxy.answers(Flow::IsHeld);
    let lost = thread::scope(|scope| {
        let address = one.address();
        let lost = scope.spawn(move || {
            let mut answer = None;
            run(async { answer = Some(publish(address, TEXT, "k", "once").await) });
            answer.unwrap()
        });
        let event = stream.next();
        assert_eq!(event.data, "once");
        wait_for_readiness(&one, 503);
        run(async {
            let again = publish(two.address(), TEXT, "k", "once").await;
            assert!(is_repeat(&again), "{again:?}");
            assert_eq!(again.ok()["id"], Value::from(event.id));
        });
        proxy.answers(Flow::Passes);
        proxy.cut();
        lost.join().unwrap()
    });
    assert!([200, 503].contains(&lost.head.status), "{lost:?}");
    wait_until_ready(&one);
    run(async { assert!(is_repeat(&publish(one.address(), TEXT, "k", "once").await)) });
    two.publish("t", "end");
    assert_eq!(stream.next().data, "end");
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn redis_forgets_keys_after_the_window() {
    let redis = Redis::start();
    let server = node(&redis, &["--idempotency-window", "1s"]);
    run(async {
        assert!(!is_repeat(&publish(server.address(), TEXT, "k", "x").await));
        assert!(is_repeat(&publish(server.address(), TEXT, "k", "x").await));
    });
    wait_until(|| {
        let mut is_new = false;
        run(async { is_new = !is_repeat(&publish(server.address(), TEXT, "k", "x").await) });
        if is_new { Ok(()) } else { Err("the key is known".to_owned()) }
    });
}

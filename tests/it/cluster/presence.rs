//! Presence across servers: leases that they share in Redis.

use fanline::auth::{Claims, Permissions, SigningKey};
use serde_json::Value;

use super::{Redis, node};
use crate::access::{AUDIENCE, RSA, claims};
use crate::process::{Event, Server, Stream};

/// Servers that announce the subscribers of rooms.
fn nodes(redis: &Redis) -> [Server; 2] {
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/keys/rsa.pub.pem");
    let tokens = ["--jwt-public-key", key, "--jwt-audience", AUDIENCE];
    let presence = ["--presence-topics", "room:*", "--presence-grace", "1s"];
    [(); 2].map(|()| node(redis, &[tokens, presence].concat()))
}

fn stream(server: &Server, user: &str, topics: &str) -> Stream {
    let subscribe = vec!["room:*".into(), "presence:**".into()];
    let fanline = Permissions { subscribe, ..Permissions::default() };
    let claims = Claims { sub: Some(user.into()), fanline, ..claims() };
    let token = claims.sign(&SigningKey::private_pem(RSA.as_bytes()).unwrap()).unwrap();
    server.stream(&format!("topics={topics}&access_token={token}"))
}

/// The name of the event, and its topic and user.
fn parts(event: &Event) -> (&str, Value, Value) {
    let mut data = event.json();
    (&event.name, data["topic"].take(), data["user"].take())
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn member_of_several_servers_joins_once_and_leaves_once() {
    let redis = Redis::start();
    let [one, two] = nodes(&redis);
    let mut readers = [&one, &two].map(|server| stream(server, "reader", "presence:room:1"));
    let mut expect = |name: &str, user: &str| {
        for reader in &mut readers {
            assert_eq!(parts(&reader.next()), (name, "room:1".into(), user.into()));
        }
    };
    let first = stream(&one, "anna", "room:1");
    expect("join", "anna");
    let second = stream(&two, "anna", "room:1");
    drop(first);
    let carl = stream(&one, "carl", "room:1");
    // Nothing else of anna.
    expect("join", "carl");
    drop(carl);
    // Anna's first connection ended before: her leave would have come before this one.
    expect("leave", "carl");
    drop(second);
    expect("leave", "anna");
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn members_of_a_dead_server_leave() {
    let redis = Redis::start();
    let [one, two] = nodes(&redis);
    let mut reader = stream(&one, "reader", "presence:room:1");
    let _stays = stream(&one, "anna", "room:1");
    assert_eq!(parts(&reader.next()), ("join", "room:1".into(), "anna".into()));
    let (_anna, _bert) = (stream(&two, "anna", "room:1"), stream(&two, "bert", "room:1"));
    assert_eq!(parts(&reader.next()), ("join", "room:1".into(), "bert".into()));
    drop(two);
    assert_eq!(parts(&reader.next()), ("leave", "room:1".into(), "bert".into()));
    let carl = stream(&one, "carl", "room:1");
    assert_eq!(parts(&reader.next()), ("join", "room:1".into(), "carl".into()));
    drop(carl);
    assert_eq!(parts(&reader.next()), ("leave", "room:1".into(), "carl".into()), "anna is still there");
}

//! Clients and topics across all servers.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Redis, node, wait_for_readiness};
use crate::process::{Server, wait_until};

/// Requests `path` until `is_it` accepts the response.
fn until(server: &Server, path: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    wait_until(|| {
        let answer = server.get(path);
        assert_eq!(answer.status, 200, "{answer:?}");
        let list = answer.json();
        if is_it(&list) { Ok(list) } else { Err(format!("{path}: {list}")) }
    })
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn cluster_lists_clients_and_topics_of_live_servers() {
    let mut redis = Redis::start();
    let servers = ["one", "two"].map(|name| node(&redis, &["--node", name]));
    let mut dead = node(&redis, &["--node", "three"]);
    let mut streams = Vec::new();
    for (server, query) in [
        (&servers[0], "client_name=a&tags=x,y&topics=t"),
        (&servers[1], "client_name=b&tags=x&topics=t,u"),
        (&dead, "client_name=c&topics=u"),
    ] {
        streams.push(server.stream(query));
    }
    servers[0].publish("t", "1");
    streams[1].next();
    let clients = "/clients?scope=cluster";
    let list = until(&servers[0], clients, |list| {
        let received = |client: &Value| client["client_name"] == "b" && client["events_received"] == 1;
        list["count"] == 3 && list["clients"].as_array().unwrap().iter().any(received)
    });
    let pair = |client: &Value| ["client_name", "node"].map(|key| client[key].as_str().unwrap().to_owned());
    let pairs: BTreeSet<_> = list["clients"].as_array().unwrap().iter().map(pair).collect();
    assert_eq!(pairs, BTreeSet::from([["a", "one"], ["b", "two"], ["c", "three"]].map(|pair| pair.map(str::to_owned))));
    // Servers learn of each other with a delay.
    until(&servers[1], clients, |list| list["count"] == 3);
    assert_eq!(servers[1].get("/clients").json()["count"], 1, "without the parameter a server lists its own");
    assert_eq!(servers[1].get(&format!("{clients}&tag=x")).json()["count"], 2);
    assert_eq!(servers[1].get(&format!("{clients}&topic=u")).json()["count"], 2);
    let first = servers[1].get(&format!("{clients}&limit=2")).json();
    assert_eq!((first["clients"].as_array().unwrap().len(), &first["count"]), (2, &3.into()));
    let rest = servers[1].get(&format!("{clients}&after={}", first["next"].as_str().unwrap())).json();
    assert_eq!(rest["clients"].as_array().unwrap().len(), 1);

    let topics = until(&servers[0], "/topics?scope=cluster", |list| {
        list["topics"][0]["nodes"]["two"]["subscribers"] == 1 && list["topics"][0]["subscribers"] == 2
    });
    let t = &topics["topics"][0];
    assert_eq!((&t["topic"], &t["nodes"]["two"]["subscribers"]), (&"t".into(), &1.into()), "{t}");
    assert_eq!(t["nodes"]["one"]["last_position"], t["nodes"]["two"]["last_position"]);
    assert_eq!(servers[0].get("/topics?scope=cluster&topic=t").json()["count"], 1);

    dead = node(&redis, &["--node", "four"]);
    until(&servers[0], clients, |list| list["count"] == 2);
    drop(dead);
    assert_eq!(servers[0].get("/clients?scope=all").status, 400);
    redis.kill();
    wait_for_readiness(&servers[0], 503);
    let answer = servers[0].get(clients);
    assert!(answer.status == 503 && answer.body.contains("the backbone is unavailable"), "{answer:?}");
    assert_eq!(servers[0].get("/clients").status, 200);
}

#[test]
fn single_server_is_a_cluster_of_one() {
    let server = Server::start(&[]);
    let _stream = server.stream("topics=t&client_name=a");
    let clients = server.get("/clients?scope=cluster").json();
    assert_eq!((&clients["count"], &clients["clients"][0]["node"]), (&1.into(), &"local".into()));
    let topics = server.get("/topics?scope=cluster").json();
    let topic = &topics["topics"][0];
    assert_eq!((&topic["topic"], &topic["nodes"]["local"]["subscribers"]), (&"t".into(), &1.into()));
}

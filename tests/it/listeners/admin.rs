//! Admin endpoints and metrics are served on admin listeners, and nowhere else once there is one.

use fanline::server::Listener;

use crate::process::{Http, Process};
use crate::support::{Client, Server, request};
use crate::{process, support};

const OPERATORS: [(&str, &str); 6] = [
    ("GET", "/metrics"),
    ("GET", "/metrics/json"),
    ("GET", "/metrics/prometheus"),
    ("GET", "/clients"),
    ("GET", "/topics"),
    ("DELETE", "/clients/0000000000000000"),
];

fn with_admin() -> Server {
    Server::with(Server::hub_options(), |builder| builder.listen(Listener::from(([127, 0, 0, 1], 0)).admin()))
}

#[tokio::test]
async fn admin_endpoints_are_served_on_the_admin_listener_only() {
    let server = with_admin();
    let mut admin = Client::connect(server.admin[0]).await;
    for (method, path) in OPERATORS {
        let public = server.ask(request(method, path, &[], b"")).await;
        let problem = String::from_utf8_lossy(&public.body).into_owned();
        assert_eq!((public.head.status, problem.contains("setting admin_listen")), (404, true), "{path}: {problem}");
        admin.send(request(method, path, &[], b"")).await;
        let body = admin.response().await;
        let is_served = !String::from_utf8_lossy(&body.body).contains("admin_listen");
        assert!(is_served && (method == "DELETE" || body.head.status == 200), "{path}: {body:?}");
    }
}

#[tokio::test]
async fn index_lists_admin_endpoints_where_they_are_served() {
    let (with_admin, without) = (with_admin(), Server::start());
    for (address, are_listed) in [(with_admin.address, false), (with_admin.admin[0], true), (without.address, true)] {
        let mut client = Client::connect(address).await;
        let endpoints = client.get("/").await.ok()["endpoints"].clone();
        assert_eq!(endpoints["stream"], "/stream");
        client.send(request("GET", "/", &[("accept", "text/html")], b"")).await;
        let page = String::from_utf8(client.response().await.body.to_vec()).unwrap();
        for name in ["clients", "topics", "metrics"] {
            let link = format!("href=\"{name}\"");
            assert_eq!((!endpoints[name].is_null(), page.contains(&link)), (are_listed, are_listed), "{name}: {page}");
        }
    }
}

#[tokio::test]
async fn both_listeners_serve_health_and_events() {
    let server = with_admin();
    for address in [server.address, server.admin[0]] {
        let mut client = Client::connect(address).await;
        assert_eq!(client.get("/health").await.head.status, 200);
        client.send(request("POST", "/publish/t", &[("content-type", "text/plain")], b"x")).await;
        assert_eq!(client.response().await.head.status, 200);
        client.send(support::request("GET", "/stream?topics=t&history=1", &[], b"")).await;
        let mut stream = client.into_stream().await;
        stream.hello().await;
        assert_eq!(stream.event().await.data, "x");
    }
}

#[tokio::test]
async fn without_an_admin_listener_every_listener_serves_all() {
    let server = Server::with(Server::hub_options(), |builder| builder.listen(([127, 0, 0, 1], 0)));
    for &address in &server.addresses {
        assert_eq!(Client::connect(address).await.get("/clients").await.head.status, 200);
    }
}

/// The admin listener is for operators, not a credential.
#[test]
fn the_admin_listener_asks_for_credentials_like_any_other() {
    let directory = process::Directory::new("admin");
    let (_, table, key) = Process::run(process::fanline(&["key", "ops", "--admin"]));
    let config = directory.write("fanline.toml", &format!("admin_listen = \"127.0.0.1:0\"\n{table}"));
    let server = process::Server::start(&["--config", &config]);
    let line = server.log.wait_for("are on http://");
    let address = line.split("are on http://").nth(1).and_then(|rest| rest.split(' ').next()).expect("an address");
    let mut admin = Http::connect(address.parse().unwrap());
    assert_eq!(admin.get("/clients").status, 401);
    assert_eq!(admin.get(&format!("/clients?access_token={}", key.trim())).status, 200);
}

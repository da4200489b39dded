//! The addresses of clients behind trusted proxies. In these tests, the proxy has the address 127.0.0.2.

use std::os::unix::net::UnixListener;

use fanline::server::{HttpOptions, Limits, TrustedProxy};
use tokio::io::AsyncWriteExt;

use crate::process::Directory;
use crate::support::{Client, Server, TEXT, assert_problem, request, run, until};

const PROXY: [u8; 4] = [127, 0, 0, 2];

fn behind_proxy(limits: Limits) -> Server {
    let http = HttpOptions { trusted_proxies: vec!["127.0.0.2".parse().unwrap()], ..HttpOptions::default() };
    Server::with(Server::hub_options(), |builder| builder.http(http).limits(limits))
}

/// Connects from `source` and sends a request that was forwarded for `client`.
async fn send(server: &Server, source: [u8; 4], line: [&str; 2], client: &str) -> Client {
    let mut connection = Client::connect_from(source, server.address).await;
    let headers = [("x-forwarded-for", client), ("content-type", TEXT)];
    let body: &[u8] = if line[0] == "POST" { b"x" } else { b"" };
    connection.send(request(line[0], line[1], &headers, body)).await;
    connection
}

/// Asks for a stream in the name of a client.
async fn subscribe(server: &Server, client: &str) -> Client {
    send(server, PROXY, ["GET", "/stream?topics=t"], client).await
}

#[test]
fn the_list_of_clients_has_the_address_that_a_trusted_proxy_forwarded() {
    run(async {
        let server = behind_proxy(Limits::default());
        let forwarded = "6.6.6.6, 192.0.2.7, 127.0.0.2";
        for (source, expected) in [(PROXY, "192.0.2.7"), ([127, 0, 0, 3], "127.0.0.3:")] {
            let mut stream = send(&server, source, ["GET", "/stream"], forwarded).await.into_stream().await;
            stream.hello().await;
            let clients = server.get("/clients").await.ok();
            let address = clients["clients"][0]["remote_addr"].as_str().unwrap().to_owned();
            assert!(address.starts_with(expected), "{address}");
            drop(stream);
            until(|| server.stats().streams == 0).await;
        }
    });
}

#[test]
fn peers_on_unix_sockets_are_trusted_by_name() {
    run(async {
        let directory = Directory::new("forwarded");
        let path = directory.0.join("fanline.sock");
        for (proxies, expected) in [(vec![TrustedProxy::Unix], "192.0.2.7"), (vec![], "unix:uid=")] {
            let listener = UnixListener::bind(&path).unwrap();
            let http = HttpOptions { trusted_proxies: proxies, ..HttpOptions::default() };
            let server = Server::with(Server::hub_options(), |builder| builder.http(http).listen(listener));
            let mut socket = tokio::net::UnixStream::connect(&path).await.unwrap();
            let subscription = request("GET", "/stream", &[("x-forwarded-for", "192.0.2.7")], b"");
            socket.write_all(&subscription).await.unwrap();
            until(|| server.stats().streams == 1).await;
            let clients = server.get("/clients").await.ok();
            let address = clients["clients"][0]["remote_addr"].as_str().unwrap();
            assert!(address.starts_with(expected), "{address}");
            std::fs::remove_file(&path).unwrap();
        }
    });
}

#[test]
fn limits_of_an_address_count_the_streams_of_a_client_and_not_the_connections_of_its_proxy() {
    run(async {
        let server = behind_proxy(Limits { max_connections_per_address: Some(1), ..Limits::default() });
        let mut streams = Vec::new();
        for client in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
            streams.push(subscribe(&server, client).await.into_stream().await);
        }
        for (client, named) in [("192.0.2.2", "192.0.2.2 has"), ("2001:db8::2", "2001:db8::/64 has")] {
            let refused = subscribe(&server, client).await.response().await;
            assert_problem(&refused, 429, &[named, "max_connections_per_address"]);
        }
        // The permit is released with the stream.
        streams.remove(1);
        until(|| server.stats().streams == 2).await;
        while subscribe(&server, "192.0.2.2").await.head().await.status != 200 {}
        // Other addresses are still counted by connection.
        let other = Client::connect_from([127, 0, 0, 3], server.address).await;
        until(|| server.stats().connections >= 3).await;
        let mut second = Client::connect_from([127, 0, 0, 3], server.address).await;
        assert_problem(&second.get("/stream").await, 429, &["127.0.0.3 has"]);
        drop(other);
    });
}

#[test]
fn rates_are_those_of_the_forwarded_client() {
    run(async {
        let rate = |text: &str| Some(text.parse().unwrap());
        let limits = Limits { publish_rate: rate("1:2"), connect_rate: rate("1:2"), ..Limits::default() };
        let http = HttpOptions { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..HttpOptions::default() };
        let access = fanline::auth::Access::new().anonymous_publish("t".parse().unwrap());
        let server = Server::with(Server::hub_options(), |builder| builder.http(http).limits(limits).access(access));
        for client in ["192.0.2.1", "192.0.2.2"] {
            for _ in 0..2 {
                send(&server, PROXY, ["POST", "/publish/t"], client).await.response().await.ok();
                subscribe(&server, client).await.into_stream().await;
            }
            let denied = send(&server, PROXY, ["POST", "/publish/t"], client).await.response().await;
            assert_problem(&denied, 429, &[client, "publish_rate"]);
            let denied = subscribe(&server, client).await.response().await;
            assert_problem(&denied, 429, &[client, "connect_rate"]);
        }
    });
}

#[test]
fn forwarded_requests_are_not_local_whatever_they_claim() {
    run(async {
        let server = behind_proxy(Limits::default());
        for source in [PROXY, [127, 0, 0, 1]] {
            let refused = send(&server, source, ["POST", "/publish/t"], "127.0.0.1").await.response().await;
            assert_problem(&refused, 403, &["x-forwarded-for"]);
        }
        // A request of the proxy itself, such as a health check.
        let mut proxy = Client::connect_from(PROXY, server.address).await;
        proxy.send(request("POST", "/publish/t", &[("content-type", TEXT)], b"x")).await;
        proxy.response().await.ok();
    });
}

#[test]
fn headers_that_name_different_clients_are_refused() {
    run(async {
        let server = behind_proxy(Limits::default());
        let ask = async |source, forwarded| {
            let mut client = Client::connect_from(source, server.address).await;
            let headers = [("forwarded", forwarded), ("x-forwarded-for", "192.0.2.1")];
            client.send(request("GET", "/health/live", &headers, b"")).await;
            client.response().await
        };
        assert_problem(&ask(PROXY, "for=6.6.6.6").await, 400, &["6.6.6.6 and 192.0.2.1", "the proxy must remove"]);
        ask(PROXY, "for=192.0.2.1").await.ok();
        ask([127, 0, 0, 1], "for=6.6.6.6").await.ok();
    });
}

//! The PROXY protocol: a header in which a proxy names its client.

use std::time::Duration;

use fanline::server::{Builder, HttpOptions, Limits, Listener};

use crate::support::{Client, Server, assert_problem, request};

/// The beginning of a header of version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const LOCAL: &[u8] = b"\x20\x00\x00\x00";

/// A server whose second listener requires the PROXY protocol.
fn start(configure: impl FnOnce(Builder) -> Builder) -> Server {
    let listener = Listener::from(([127, 0, 0, 1], 0)).proxy_protocol();
    Server::with(Server::hub_options(), |builder| configure(builder.listen(listener)))
}

/// A connection to the second listener that begins with `header`.
async fn connect(server: &Server, header: impl AsRef<[u8]>) -> Client {
    let mut client = Client::connect(server.addresses[1]).await;
    client.send(header).await;
    client
}

fn header_of(client: &str) -> String {
    format!("PROXY TCP4 {client} 10.0.0.1 4711 80\r\n")
}

async fn rejections(server: &Server, reason: &str) -> u64 {
    let page = server.get("/metrics/prometheus").await;
    let line = format!("fanline_connections_rejected_total{{reason=\"{reason}\"}} ");
    let count = String::from_utf8_lossy(&page.body).lines().find_map(|text| text.strip_prefix(&line)?.parse().ok());
    count.unwrap_or_else(|| panic!("no line {line:?}"))
}

#[tokio::test]
async fn the_address_in_the_header_is_the_clients() {
    let server = start(|builder| builder);
    let version_2 = [SIGNATURE, b"\x21\x11\x00\x0c\xc0\x00\x02\x07\x0a\x00\x00\x01\x12\x67\x00\x50"].concat();
    for (header, expected) in [
        (header_of("192.0.2.1").into_bytes(), "192.0.2.1:4711"),
        (b"PROXY TCP6 2001:db8::1 ::1 4711 80\r\n".to_vec(), "[2001:db8::1]:4711"),
        (version_2, "192.0.2.7:4711"),
    ] {
        let mut client = connect(&server, [&header[..], &request("GET", "/stream", &[], b"")].concat()).await;
        client.through(b"connected").await;
        let list = server.get("/clients").await.json();
        assert_eq!(list["clients"][0]["remote_addr"], expected);
        drop(client);
        crate::support::until(|| server.stats().streams == 0).await;
    }
}

#[tokio::test]
async fn header_may_arrive_byte_by_byte() {
    let server = start(|builder| builder);
    for header in [header_of("192.0.2.1").into_bytes(), [SIGNATURE, LOCAL].concat()] {
        let mut client = Client::connect(server.addresses[1]).await;
        for byte in header {
            client.send([byte]).await;
        }
        assert_eq!(client.get("/health/live").await.head.status, 200);
        assert_eq!(client.get("/health/live").await.head.status, 200, "the next request has no header");
    }
}

#[tokio::test]
async fn http2_follows_the_header() {
    let server = start(|builder| builder);
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let preface = [header_of("192.0.2.1").as_bytes(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings].concat();
    let answer = connect(&server, preface).await.exactly(9).await;
    assert_eq!(answer[3], 4, "a SETTINGS frame: {answer:?}");
}

#[tokio::test]
async fn a_connection_without_a_valid_header_is_closed() {
    let server = start(|builder| builder);
    let refused = [
        request("GET", "/health/live", &[], b""),
        b"PROXY TCP4 192.0.2.256 10.0.0.1 4711 80\r\n".to_vec(),
        [SIGNATURE, b"\x31\x11\x00\x0c"].concat(),
        [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat(),
        // Longer than any header that is accepted.
        [SIGNATURE, b"\x21\x11\xff\xff", &[0; 5000]].concat(),
    ];
    for bytes in &refused {
        let answer = connect(&server, bytes).await.try_head().await;
        assert!(answer.is_none(), "{answer:?} to {}", bytes.escape_ascii());
    }
    // The sender ends within the header.
    let mut client = connect(&server, "PROXY TCP4 ").await;
    client.half_close().await;
    assert!(client.try_head().await.is_none());
    assert_eq!(rejections(&server, "proxy_header").await, refused.len() as u64 + 1);
    // A port check sends nothing.
    let mut client = connect(&server, "").await;
    client.half_close().await;
    assert!(client.try_head().await.is_none());
    assert_eq!(rejections(&server, "proxy_header").await, refused.len() as u64 + 1);
}

#[tokio::test]
async fn the_header_has_a_time_limit() {
    let http = HttpOptions { head_timeout: Duration::from_millis(100), ..HttpOptions::default() };
    let server = start(|builder| builder.http(http));
    for part in ["", "PROXY TCP4 192.0.2.1 "] {
        assert!(connect(&server, part).await.try_head().await.is_none());
    }
    assert_eq!(rejections(&server, "proxy_header_timeout").await, 2);
}

#[tokio::test]
async fn clients_of_a_proxy_are_never_local() {
    let server = start(|builder| builder);
    for header in [&*header_of("127.0.0.1"), "PROXY TCP6 ::1 ::1 1 2\r\n", "PROXY UNKNOWN\r\n"] {
        let mut client = connect(&server, header).await;
        client.send(request("GET", "/clients", &[("host", "localhost")], b"")).await;
        assert_problem(&client.response().await, 403, &["through a proxy"]);
    }
    // The connection is the proxy's own.
    let mut proxy = connect(&server, [SIGNATURE, LOCAL].concat()).await;
    proxy.send(request("GET", "/clients", &[("host", "localhost")], b"")).await;
    assert_eq!(proxy.response().await.head.status, 200);
}

#[tokio::test]
async fn connections_are_limited_by_the_address_in_the_header() {
    let limits = Limits { max_connections_per_address: Some(1), ..Limits::default() };
    let server = start(|builder| builder.limits(limits));
    let mut open = Vec::new();
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        let mut client = connect(&server, header_of(client)).await;
        assert_eq!(client.get("/health/live").await.head.status, 200);
        open.push(client);
    }
    let refused = connect(&server, header_of("192.0.2.2")).await.get("/").await;
    assert_problem(&refused, 429, &["192.0.2.2 has reached the limit of 1 connections"]);
    open.clear();
    crate::support::until(|| server.stats().connections == 0).await;
    assert_eq!(connect(&server, header_of("192.0.2.2")).await.get("/").await.head.status, 200);
}

//! The handshake (RFC 6455, sections 4.1 and 4.2), and its refusals.

use fanline::auth::Access;
use fanline::server::{HttpOptions, Origins};

use crate::support::websocket::{Frame, HANDSHAKE, TEXT};
use crate::support::{Client, Http2, Response, Server, WebSocket, assert_problem, request, run, until};

const PAGE: &str = "https://app.example";

/// The handshake with a field replaced, or left out for `None`.
fn handshake<'a>(name: &str, value: Option<&'a str>) -> Vec<(&'static str, &'a str)> {
    let others = HANDSHAKE.into_iter().filter(|(other, _)| *other != name);
    let replaced = HANDSHAKE.into_iter().find(|(other, _)| *other == name).zip(value);
    others.chain(replaced.map(|((name, _), value)| (name, value))).collect()
}

async fn ask(server: &Server, headers: &[(&str, &str)]) -> Response {
    server.ask(request("GET", "/ws?topics=t", headers, b"")).await
}

#[test]
fn fields_are_compared_without_case_and_as_lists() {
    run(async {
        let server = Server::start();
        for (name, value) in [
            ("upgrade", "WebSocket"),
            ("upgrade", "h2c, websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("connection", "upgrade,keep-alive"),
        ] {
            let mut client = server.connect().await;
            client.send(request("GET", "/ws", &handshake(name, Some(value)), b"")).await;
            assert_eq!(client.head().await.status, 101, "{name}: {value}");
        }
    });
}

#[test]
fn handshake_that_breaks_the_protocol_is_refused() {
    run(async {
        let server = Server::start();
        for (name, value, status, what) in [
            ("upgrade", None, 426, "upgrade"),
            ("upgrade", Some("h2c"), 426, "upgrade"),
            ("connection", None, 426, "connection"),
            ("connection", Some("keep-alive"), 426, "connection"),
            ("sec-websocket-key", None, 400, "sec-websocket-key"),
            ("sec-websocket-key", Some(""), 400, "sec-websocket-key"),
            ("sec-websocket-key", Some("c2hvcnQ="), 400, "16 bytes"),
            ("sec-websocket-key", Some("not base64, 24 character"), 400, "sec-websocket-key"),
            ("sec-websocket-key", Some("dGhlIHNhbXBsZSBub25jZSE="), 400, "16 bytes"),
        ] {
            let response = ask(&server, &handshake(name, value)).await;
            let problem = assert_problem(&response, status, &[]);
            let detail = problem["detail"].as_str().unwrap().to_ascii_lowercase();
            assert!(detail.contains(what), "{name}: {value:?}: {detail}");
        }
        let twice = [&HANDSHAKE[..], &[("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")]].concat();
        assert_problem(&ask(&server, &twice).await, 400, &[]);
        assert_eq!(server.stats().streams, 0);
    });
}

#[test]
fn other_version_is_refused_with_the_version_that_is_supported() {
    run(async {
        let server = Server::start();
        for version in [None, Some("0"), Some("8"), Some("12"), Some("14"), Some("x")] {
            let response = ask(&server, &handshake("sec-websocket-version", version)).await;
            assert_problem(&response, 426, &["13"]);
            assert_eq!(response.head.header("sec-websocket-version"), Some("13"), "{version:?}");
        }
    });
}

#[test]
fn method_and_version_of_http_are_checked() {
    run(async {
        let server = Server::start();
        let post = server.ask(request("POST", "/ws", &HANDSHAKE, b"")).await;
        assert_problem(&post, 405, &["GET"]);
        let mut client = server.connect().await;
        let fields = HANDSHAKE.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
        client.send(format!("GET /ws HTTP/1.0\r\nhost: test\r\n{fields}\r\n")).await;
        assert!(client.head().await.status >= 400, "HTTP/1.0 has no upgrade");
        let mut http2 = Http2::connect(server.address).await;
        let response = http2.get("/ws?topics=t").await;
        assert_problem(&response, response.head.status, &["HTTP/1.1"]);
        http2.get("/health/live").await.ok();
    });
}

#[test]
fn plain_request_gets_a_problem_and_the_connection_stays() {
    run(async {
        let server = Server::start();
        let mut client = server.connect().await;
        assert_problem(&client.get("/ws?topics=t").await, 426, &["WebSocket"]);
        client.get("/health/live").await.ok();
        client.send(request("GET", "/ws", &handshake("sec-websocket-version", Some("8")), b"")).await;
        assert_eq!(client.response().await.head.status, 426);
        client.get("/health/live").await.ok();
        assert_eq!(server.stats().accepted, 1);
    });
}

#[test]
fn parameters_are_checked_like_those_of_a_stream() {
    run(async {
        let server = Server::start();
        for query in ["topics=a**b", "topics=t&on_lag=x", "topics=t&heartbeat=x", "topics=t&history=x", "topics=%ff"] {
            let stream = server.get(&format!("/stream?{query}")).await;
            let refused = server.ask(request("GET", &format!("/ws?{query}"), &HANDSHAKE, b"")).await;
            assert_problem(&refused, 400, &[stream.json()["detail"].as_str().unwrap()]);
        }
    });
}

/// Browsers send the cookies and the address of a user with a handshake of any page, and do not ask for permission first.
#[test]
fn page_of_another_origin_is_refused() {
    run(async {
        let server = Server::start();
        for origin in [PAGE, "null", "http://test.example", "http://test:81", "http://xtest", "test", ""] {
            let response = ask(&server, &[&HANDSHAKE[..], &[("origin", origin)]].concat()).await;
            assert_problem(&response, 403, &["origin"]);
        }
        assert_eq!(server.stats().streams, 0);
    });
}

#[test]
fn page_of_the_server_itself_may_connect() {
    run(async {
        let server = Server::start();
        for (host, origin) in
            [("test", "http://test"), ("test:8000", "https://test:8000"), ("[::1]:80", "http://[::1]")]
        {
            let client = Client::connect(server.address).await;
            let mut socket = WebSocket::on(client, "/ws", &[("host", host), ("origin", origin)], b"").await;
            socket.hello().await;
        }
        // Programs send no origin.
        server.websocket("/ws").await;
    });
}

#[test]
fn origin_that_cors_allows_may_connect() {
    run(async {
        let listed = Origins::Listed { origins: vec![PAGE.parse().unwrap()], credentials: false };
        for (origins, others_may) in [(listed, false), (Origins::Any, true)] {
            let options = HttpOptions { origins, ..HttpOptions::default() };
            let server = Server::with(Server::hub_options(), |builder| builder.http(options));
            let client = Client::connect(server.address).await;
            WebSocket::on(client, "/ws", &[("origin", PAGE)], b"").await.hello().await;
            let fields = [&HANDSHAKE[..], &[("origin", "https://other.example")]].concat();
            let mut client = Client::connect(server.address).await;
            client.send(request("GET", "/ws", &fields, b"")).await;
            assert_eq!(client.head().await.status, if others_may { 101 } else { 403 });
        }
    });
}

/// A server may select none of what a client offers (RFC 6455, sections 1.9 and 9.1). Every frame is then uncompressed.
#[test]
fn compression_and_subprotocols_are_declined() {
    run(async {
        let server = Server::start();
        let offers = [
            ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame"),
            ("sec-websocket-protocol", "chat, mqtt"),
        ];
        let client = Client::connect(server.address).await;
        let mut socket = WebSocket::on(client, "/ws?topics=t", &offers, b"").await;
        assert_eq!(socket.head.header("sec-websocket-extensions"), None);
        assert_eq!(socket.head.header("sec-websocket-protocol"), None);
        socket.hello().await;
        server.publish("t", [1]).await;
        socket.data_at(1).await;
        let compressed = Frame { reserved: 4, ..Frame::new(TEXT, b"\xaa\x56\x2a\xa9\x2c\x48\x05\x00") };
        socket.assert_refuses(compressed.encode(), 1002, "a compressed message").await;
    });
}

#[test]
fn handshake_needs_the_credentials_of_a_stream() {
    run(async {
        let access = Access::new().accept(fanline::auth::ApiKeys::new([]));
        let server = Server::with(Server::hub_options(), |builder| builder.access(access));
        let response = ask(&server, &HANDSHAKE).await;
        assert_problem(&response, 401, &[]);
        let with_key = [&HANDSHAKE[..], &[("x-api-key", "unknown")]].concat();
        assert_problem(&ask(&server, &with_key).await, 401, &[]);
    });
}

#[test]
fn handshake_after_other_requests_keeps_their_responses() {
    run(async {
        let server = Server::start();
        let mut client = server.connect().await;
        client.send(request("GET", "/health/live", &[], b"").repeat(50)).await;
        client.send(request("GET", "/ws?topics=t", &HANDSHAKE, b"")).await;
        for _ in 0..50 {
            client.response().await.ok();
        }
        let head = client.head().await;
        assert_eq!(head.status, 101);
        let mut socket = WebSocket { head, client };
        socket.hello().await;
        server.publish("t", [1]).await;
        socket.data_at(1).await;
        socket.assert_alive().await;
        drop(socket);
        until(|| server.stats().streams == 0).await;
    });
}

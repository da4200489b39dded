//! Which requests the application gets, and what becomes of them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Request};
use axum::http::StatusCode;
use axum::routing::{any, get};
use fanline::server::{HttpOptions, Origins, Remote};
use tokio::sync::Notify;

use super::{Once, app, serve};
use crate::support::{Http2, JSON, Server, assert_problem, complete, request, run};

#[test]
fn application_gets_every_path_that_is_not_the_servers() {
    run(async {
        let server =
            serve(app().fallback(async |request: Request| (StatusCode::IM_A_TEAPOT, request.uri().to_string())));
        let mut http2 = Http2::connect(server.address).await;
        for (path, status) in
            [("/hello", 200), ("/nothing", 418), ("/streams", 418), ("/publish/", 418), ("/health", 200), ("/", 200)]
        {
            assert_eq!(server.get(path).await.head.status, status, "{path}");
            assert_eq!(http2.get(path).await.head.status, status, "{path}");
        }
        assert_eq!(server.get("/a%20b?c=%ff").await.body, "/a%20b?c=%ff", "the target is as it came");
        assert_eq!(server.get("/hello").await.body, "hello");
        // A wrong method on a path of the server is an error of the server.
        assert_problem(&server.ask(request("PUT", "/health", &[], b"")).await, 405, &["GET, HEAD"]);
        server.post("/publish/t", JSON, "1").await.ok();
    });
}

#[test]
fn connection_serves_the_application_until_it_becomes_a_stream() {
    run(async {
        let server = serve(app());
        let mut client = server.connect().await;
        client.send([request("GET", "/hello", &[], b""), request("GET", "/hello", &[], b"")].concat()).await;
        for _ in 0..2 {
            assert_eq!(client.response().await.body, "hello");
        }
        client.get("/health").await.ok();
        client.send([request("GET", "/hello", &[], b""), request("GET", "/stream", &[], b"")].concat()).await;
        assert_eq!(client.response().await.body, "hello");
        client.into_stream().await.hello().await;
        assert_eq!(server.stats().accepted, 1);
    });
}

#[test]
fn head_of_a_response_has_what_the_application_and_http_need() {
    run(async {
        let server = serve(app());
        let mut client = server.connect().await;
        client.send(request("HEAD", "/hello", &[], b"")).await;
        let head = client.head().await;
        assert_eq!((head.status, head.header("content-length")), (200, Some("5")));
        assert!(head.header("date").is_some());
        let whole = client.get("/hello").await;
        assert_eq!((whole.head.header("content-length"), &whole.body[..]), (Some("5"), &b"hello"[..]));
        assert_eq!(whole.head.header("content-type"), Some("text/plain; charset=utf-8"));
        let mut http2 = Http2::connect(server.address).await;
        for method in ["HEAD", "GET"] {
            let response = http2.ask(method, "/hello", &[], b"").await;
            assert_eq!((response.head.status, response.head.header("content-length")), (200, Some("5")), "{method}");
            assert!(response.head.header("date").is_some());
            assert_eq!(response.body, if method == "GET" { "hello" } else { "" });
        }
        let mut old = server.connect().await;
        old.send("GET /hello HTTP/1.0\r\n\r\n").await;
        assert_eq!((old.head().await.status, &old.rest().await[..]), (200, &b"hello"[..]));
    });
}

#[test]
fn rules_of_the_server_do_not_apply_to_the_application() {
    run(async {
        let http =
            || HttpOptions { origins: Origins::Any, max_query_bytes: 10, max_body_bytes: 10, ..HttpOptions::default() };
        let app = app().route("/preflight", any(async || StatusCode::IM_A_TEAPOT));
        let server = Server::with(Server::hub_options(), |builder| builder.http(http()).fallback(app));
        let preflight = [("origin", "http://a.example"), ("access-control-request-method", "GET")];
        let response = server.ask(request("OPTIONS", "/preflight", &preflight, b"")).await;
        assert_eq!((response.head.status, response.head.header("access-control-allow-origin")), (418, None));
        let response = server.ask(request("GET", &format!("/hello?{}", "q".repeat(100)), &preflight, b"")).await;
        assert_eq!((response.head.status, response.head.header("access-control-allow-origin")), (200, None));
        let response = server.post("/echo", JSON, [b'x'; 1000]).await;
        assert_eq!((response.head.status, response.body.len()), (200, 1000));
    });
}

#[test]
fn application_sees_where_a_request_comes_from() {
    run(async {
        let app = Router::new().route(
            "/remote",
            get(async |Extension(remote): Extension<Remote>| format!("{} {}", remote.peer, remote.client)),
        );
        let trusted = HttpOptions { trusted_proxies: vec!["127.0.0.1".parse().unwrap()], ..HttpOptions::default() };
        let server = Server::with(Server::hub_options(), |builder| builder.http(trusted).fallback(app));
        let forwarded = [("x-forwarded-for", "10.0.0.1")];
        let response = server.ask(request("GET", "/remote", &forwarded, b"")).await;
        let text = String::from_utf8(response.body.to_vec()).unwrap();
        assert!(text.starts_with("127.0.0.1:") && text.ends_with(" 10.0.0.1"), "{text}");
        let response = Http2::connect(server.address).await.ask("GET", "/remote", &forwarded, b"").await;
        assert!(response.body.ends_with(b" 10.0.0.1"), "{response:?}");
        // Which of the two a proxy set is unknown, and one of them may be forged.
        let both = [("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=10.0.0.2")];
        assert_problem(&server.ask(request("GET", "/remote", &both, b"")).await, 400, &["10.0.0.1", "10.0.0.2"]);
    });
}

#[test]
fn panic_of_the_application_is_a_500_and_ends_nothing_else() {
    run(async {
        let app = app().route("/panic", get(async || -> &'static str { panic!("on purpose") }));
        let server = Server::with(Server::hub_options(), |builder| builder.shards(1).fallback(app));
        let mut stream = server.follow("/stream").await;
        let mut client = server.connect().await;
        assert_problem(&client.get("/panic").await, 500, &["the application failed"]);
        assert_eq!(client.get("/hello").await.body, "hello");
        let mut http2 = Http2::connect(server.address).await;
        assert_problem(&http2.get("/panic").await, 500, &["the application failed"]);
        assert_eq!(http2.get("/hello").await.body, "hello");
        server.publish("t", [1]).await;
        stream.data_at(1).await;
        let metrics = server.get("/metrics/json").await.ok();
        let responses = &metrics["fallback"]["responses"];
        assert_eq!((&responses["5xx"], &responses["2xx"], &responses["4xx"]), (&2.into(), &2.into(), &0.into()));
        let text = server.get("/metrics").await;
        let text = std::str::from_utf8(&text.body).unwrap();
        assert!(text.contains("fanline_fallback_responses_total{status=\"5xx\"} 2\n"), "{text}");
    });
}

/// A handler that counts how many run, and waits to be let through.
fn gate() -> (Router, Arc<Notify>, Arc<Notify>) {
    let (entered, open) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    let (enters, opens) = (entered.clone(), open.clone());
    let wait = async move || {
        enters.notify_one();
        opens.notified().await;
        "through"
    };
    (Router::new().route("/wait", get(wait)), entered, open)
}

#[test]
fn request_in_progress_is_finished_in_the_drain() {
    run(async {
        for is_http2 in [false, true] {
            let (app, entered, open) = gate();
            let builder =
                |builder: fanline::server::Builder| builder.drain(std::time::Duration::from_secs(20)).fallback(app);
            let mut server = Server::with(Server::hub_options(), builder);
            let (mut client, mut http2) = (server.connect().await, Http2::connect(server.address).await);
            let response = if is_http2 {
                Some(http2.start("GET", "/wait", &[], b"").await)
            } else {
                client.send(request("GET", "/wait", &[], b"")).await;
                None
            };
            entered.notified().await;
            server.stop();
            while server.get("/health").await.json()["status"] != "draining" {}
            open.notify_one();
            match response {
                Some(response) => {
                    let response = complete(response).await.unwrap();
                    assert_eq!((response.head.status, &response.body[..]), (200, &b"through"[..]));
                }
                None => {
                    let response = client.response().await;
                    assert_eq!((response.head.status, &response.body[..]), (200, &b"through"[..]));
                    assert_eq!(client.rest().await, "", "the connection is closed");
                }
            }
            drop(server);
        }
    });
}

#[test]
fn reset_of_an_http2_request_drops_its_handler() {
    run(async {
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        let (held, entered) = (Once::new(held), Arc::<Notify>::default());
        let enters = entered.clone();
        let app = Router::new().route(
            "/wait",
            get(async move || {
                let _held = held.take();
                enters.notify_one();
                std::future::pending::<&'static str>().await
            }),
        );
        let server = serve(app);
        let mut http2 = Http2::connect(server.address).await;
        let response = http2.start("GET", "/wait", &[], b"").await;
        entered.notified().await;
        drop(response);
        assert!(dropped.await.is_err(), "the handler is dropped without a response");
    });
}

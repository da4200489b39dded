//! Connections that the application upgrades to a protocol of its own.

use axum::Router;
use axum::extract::Request;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

use super::{app, serve};
use crate::support::websocket::{HANDSHAKE, TEXT, text};
use crate::support::{Http2, Server, WebSocket, request, run, until};

async fn echo(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                break;
            }
        }
    })
}

#[test]
fn websocket_of_the_application_works_beside_those_of_the_server() {
    run(async {
        let server = serve(app().route("/chat", any(echo)));
        let mut client = server.connect().await;
        assert_eq!(client.get("/hello").await.body, "hello");
        // A message that arrives with the handshake is not lost.
        let mut chat = WebSocket::on(client, "/chat", &[], &text("early")).await;
        assert_eq!(chat.frame().await.payload, "early");
        for message in ["one", "two"] {
            chat.client.send(text(message)).await;
            let frame = chat.frame().await;
            assert_eq!((frame.opcode, &frame.payload[..]), (TEXT, message.as_bytes()));
        }
        assert_eq!((server.stats().connections, server.stats().streams), (1, 0));
        let events = WebSocket::connect(server.address, "/ws?topics=t").await;
        until(|| server.stats().streams == 1).await;
        drop((chat, events));
        until(|| server.stats().connections == 0).await;
    });
}

#[test]
fn refused_upgrade_is_an_ordinary_response() {
    run(async {
        let server = serve(app().route("/chat", any(echo)).route("/no", get(async || StatusCode::FORBIDDEN)));
        let mut client = server.connect().await;
        client.send(request("GET", "/no", &HANDSHAKE, b"")).await;
        assert_eq!(client.response().await.head.status, 403);
        client.send(request("GET", "/chat", &[("upgrade", "websocket"), ("connection", "upgrade")], b"")).await;
        assert_eq!(client.response().await.head.status, 400);
        assert_eq!(client.get("/hello").await.body, "hello", "the connection is kept");
        assert!(Http2::connect(server.address).await.get("/chat").await.head.status >= 400);
    });
}

/// Returns the bytes of each socket that is upgraded, in upper case.
fn upper_case() -> (Router, mpsc::UnboundedReceiver<&'static str>) {
    let (ended, ends) = mpsc::unbounded_channel();
    let upgrade = async move |mut request: Request| {
        let upgrade = hyper::upgrade::on(&mut request);
        let ended = ended.clone();
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut socket = TokioIo::new(upgrade.await.unwrap());
            let mut bytes = [0; 1024];
            while let Ok(length @ 1..) = socket.read(&mut bytes).await {
                socket.write_all(&bytes[..length].to_ascii_uppercase()).await.unwrap();
            }
            // The request lives as long as the socket.
            drop(request);
            let _ = ended.send("by the client");
        });
        (StatusCode::SWITCHING_PROTOCOLS, [("upgrade", "upper"), ("connection", "upgrade")]).into_response()
    };
    (Router::new().route("/upper", get(upgrade)), ends)
}

const UPGRADE: [(&str, &str); 2] = [("upgrade", "upper"), ("connection", "upgrade")];

/// hyper cannot represent the two largest lengths, and the server replaces them in heads. These bytes are no head.
#[test]
fn bytes_of_an_upgraded_connection_are_not_changed() {
    run(async {
        let (app, _ends) = upper_case();
        let server = serve(app);
        let mut client = server.connect().await;
        client.send(request("GET", "/upper", &UPGRADE, b"")).await;
        assert_eq!(client.head().await.status, 101);
        let bytes = "content-length: 18446744073709551615\r\n";
        for _ in 0..10 {
            client.send(bytes).await;
            assert_eq!(client.exactly(bytes.len()).await, bytes.to_ascii_uppercase());
        }
    });
}

#[test]
fn upgraded_connection_is_counted_until_its_socket_is_closed() {
    run(async {
        let (app, mut ends) = upper_case();
        let server = serve(app);
        let mut client = server.connect().await;
        client.send(request("GET", "/upper", &UPGRADE, b"")).await;
        assert_eq!(client.head().await.status, 101);
        assert_eq!(server.get("/metrics/json").await.ok()["fallback"]["responses"]["1xx"], 1);
        until(|| server.stats().connections == 1).await;
        client.half_close().await;
        assert_eq!(ends.recv().await, Some("by the client"));
        assert_eq!(client.rest().await, "");
        until(|| server.stats().connections == 0).await;
    });
}

#[test]
fn upgraded_connection_is_closed_at_the_end_of_the_drain() {
    run(async {
        let (app, _ends) = upper_case();
        let mut server: Server = serve(app);
        let mut client = server.connect().await;
        client.send(request("GET", "/upper", &UPGRADE, b"")).await;
        assert_eq!(client.head().await.status, 101);
        server.stop();
        assert_eq!(client.rest().await, "");
    });
}

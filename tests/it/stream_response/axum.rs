//! Streams in an axum application.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::get;
use fanline::auth::Grant;
use fanline::http::{StreamBody, StreamResponseOptions, drain_streams, stream_response, stream_stats};
use fanline::hub::Hub;
use fanline::topic::Topic;
use hyper::StatusCode;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::{Client, Server, Stream, assert_problem, event, request, run};

async fn events(State(hub): State<Hub>, request: Request) -> Response<StreamBody> {
    stream_response(&hub, &request, StreamResponseOptions::default()).await
}

/// The events of a room, for its members.
async fn room(
    State(hub): State<Hub>,
    Path(room): Path<String>,
    request: Request,
) -> Result<Response<StreamBody>, StatusCode> {
    let topic = Topic::of(["room", &room]).map_err(|_| StatusCode::NOT_FOUND)?;
    let user = request.headers().get("x-user").and_then(|user| user.to_str().ok()).ok_or(StatusCode::UNAUTHORIZED)?;
    let options =
        StreamResponseOptions { grant: Grant::new().with_user(user), ..StreamResponseOptions::of([topic.into()]) };
    Ok(stream_response(&hub, &request, options).await)
}

/// An application that drains its streams when it is stopped.
struct Application {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

async fn start(hub: &Hub) -> Application {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/events", get(events)).route("/rooms/{room}/events", get(room));
    let router = router.with_state(hub.clone());
    let (stop, stopped) = oneshot::channel::<()>();
    let hub = hub.clone();
    let serving = tokio::spawn(async move {
        let shutdown = async move {
            let _ = stopped.await;
            drain_streams(&hub, Duration::from_millis(300)).await;
        };
        axum::serve(listener, router).with_graceful_shutdown(shutdown).await
    });
    Application { address, stop, serving }
}

impl Application {
    async fn send(&self, target: &str, headers: &[(&str, &str)]) -> Client {
        let mut client = Client::connect(self.address).await;
        client.send(request("GET", target, headers, b"")).await;
        client
    }

    async fn follow(&self, target: &str, headers: &[(&str, &str)]) -> Stream {
        let mut stream = self.send(target, headers).await.into_stream().await;
        stream.hello().await;
        stream
    }
}

#[test]
fn a_handler_returns_the_response_as_it_is() {
    run(async {
        let hub = Hub::new(&Server::hub_options());
        let application = start(&hub).await;
        let mut stream = application.follow("/events?topics=t", &[]).await;
        hub.publish(event("t", "1")).await.unwrap();
        assert_eq!(stream.data_at(1).await, "1");
        let refused = application.send("/events?topics=a*b", &[]).await.response().await;
        assert_problem(&refused, 400, &["parameter topics"]);
    });
}

#[test]
fn a_handler_decides_who_gets_which_events() {
    run(async {
        let hub = Hub::new(&Server::hub_options());
        let application = start(&hub).await;
        assert_eq!(application.send("/rooms/17/events", &[]).await.head().await.status, 401);
        let mut stream = application.follow("/rooms/17/events?topics=**", &[("x-user", "anna")]).await;
        for topic in ["room:18", "room:17", "user:bob", "user:anna"] {
            hub.publish(event(topic, "1")).await.unwrap();
        }
        stream.data_at(2).await;
        stream.data_at(4).await;
    });
}

#[test]
fn a_graceful_shutdown_drains_the_streams_and_returns() {
    run(async {
        let hub = Hub::new(&Server::hub_options());
        let application = start(&hub).await;
        let mut streams = Vec::new();
        for _ in 0..5 {
            streams.push(application.follow("/events", &[]).await);
        }
        application.stop.send(()).unwrap();
        for mut stream in streams {
            assert_eq!(stream.event().await.json()["message"], "server restarting");
            stream.end().await;
        }
        application.serving.await.unwrap().unwrap();
        hub.publish(event("t", "1")).await.expect("the hub is still open");
    });
}

#[test]
fn a_fallback_of_a_server_may_have_streams_of_its_own() {
    run(async {
        let hub = Hub::new(&Server::hub_options());
        let router = Router::new().route("/own/events", get(events)).with_state(hub.clone());
        let server = Server::of(hub.clone(), |builder| builder.fallback(router));
        let (mut ours, mut theirs) =
            (server.follow("/own/events?topics=t").await, server.follow("/stream?topics=t").await);
        server.publish("t", 1..=100).await;
        for sequence in 1..=100 {
            assert_eq!(ours.data_at(sequence).await, theirs.data_at(sequence).await);
        }
        assert_eq!((stream_stats(&hub).streams, server.stats().streams), (1, 1));
    });
}

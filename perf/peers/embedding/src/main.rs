//! One axum application in three ways, each on one processor: `embedding fallback|plain|response ADDRESS`.
//!
//! * `fallback`: fanline serves the streams, and the application as its fallback.
//! * `plain`: axum serves the application, without streams.
//! * `response`: axum serves the application and the streams, as responses of `stream_response`.

use std::net::{SocketAddr, TcpListener};

use axum::extract::{Path, Request, State};
use axum::http::{Response, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use fanline::event::{Event, Payload};
use fanline::http::{StreamBody, StreamResponseOptions, stream_response};
use fanline::topic::Topic;
use fanline::{Hub, Server};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Serialize)]
struct Item {
    id: u64,
    title: &'static str,
    tags: [&'static str; 2],
}

/// The route that is measured: a path with a parameter, and a small document.
async fn item(Path(id): Path<u64>) -> Json<Item> {
    Json(Item { id, title: "an item of the application", tags: ["alpha", "beta"] })
}

fn application() -> Router<Hub> {
    Router::new().route("/items/{id}", get(item))
}

#[derive(Deserialize)]
struct Publication {
    topic: String,
    data: String,
}

#[derive(Serialize)]
struct Published {
    id: String,
}

async fn publish(State(hub): State<Hub>, Json(event): Json<Publication>) -> Result<Json<Published>, StatusCode> {
    let topic = Topic::new(&event.topic).map_err(|_| StatusCode::BAD_REQUEST)?;
    let payload = Payload::serialize(&event.data).map_err(|_| StatusCode::BAD_REQUEST)?;
    let id = hub.publish(Event::new(topic, payload)).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(Json(Published { id: id.to_string() }))
}

async fn stream(State(hub): State<Hub>, request: Request) -> Response<StreamBody> {
    stream_response(&hub, &request, StreamResponseOptions::default()).await
}

/// Listens as fanline does, with its backlog.
fn listen(address: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    tokio::net::TcpListener::from_std(TcpListener::from(socket))
}

async fn serve(address: SocketAddr, routes: Router) -> std::io::Result<()> {
    use axum::serve::ListenerExt;
    let listener = listen(address)?.tap_io(|socket| {
        let _ = socket.set_nodelay(true);
    });
    axum::serve(listener, routes).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let (mode, address) = (arguments.next(), arguments.next());
    let usage = "usage: embedding fallback|plain|response ADDRESS";
    let (mode, address) = mode.zip(address).ok_or(usage)?;
    let (hub, address) = (Hub::default(), address.parse()?);
    let application = application();
    match mode.as_str() {
        "fallback" => {
            let application = application.with_state(hub.clone());
            let server = Server::builder(hub).listen(address).shards(1).fallback(application).bind()?;
            server.run(std::future::pending()).await?;
        }
        "plain" => serve(address, application.with_state(hub)).await?,
        "response" => {
            let routes = application.route("/stream", get(stream)).route("/publish", post(publish));
            serve(address, routes.with_state(hub)).await?;
        }
        _ => return Err(usage.into()),
    }
    Ok(())
}

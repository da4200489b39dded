//! The obvious Rust server: axum's SSE responses and WebSockets over one `tokio::sync::broadcast` channel for each topic.
//!
//! `POST /publish` accepts `{"topic", "data"}`. `GET /stream?topics=a,b` follows topics, and so does `GET /ws?topics=a,b`, with
//! the same messages as fanline's, each encoded once. `GET /gzip?topics=a,b` is the same stream compressed. It has one thread, because it is
//! measured on one processor, and the same backlog as fanline. A subscriber that lags is disconnected.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock};

use axum::body::Body;
use axum::extract::ws::{self, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream::{Stream, StreamExt, select_all};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

/// Longer than a burst of the load generator's publishers.
const CAPACITY: usize = 16_384;

#[derive(Default)]
struct Hub {
    topics: RwLock<HashMap<String, broadcast::Sender<Arc<Message>>>>,
    sequence: AtomicU64,
}

struct Message {
    sequence: u64,
    publication: Publication,
    /// Made for the first WebSocket, and shared by all.
    json: OnceLock<Utf8Bytes>,
}

impl Message {
    fn json(&self) -> Utf8Bytes {
        #[derive(Serialize)]
        struct Envelope<'a> {
            r#type: &'static str,
            id: String,
            topic: &'a str,
            event: &'static str,
            data: &'a str,
        }
        let Publication { topic, data } = &self.publication;
        let envelope = || Envelope { r#type: "event", id: self.sequence.to_string(), topic, event: "message", data };
        self.json.get_or_init(|| serde_json::to_string(&envelope()).expect("texts are JSON").into()).clone()
    }
}

#[derive(Deserialize)]
struct Publication {
    topic: String,
    data: String,
}

#[derive(Serialize)]
struct Published {
    id: u64,
}

#[derive(Deserialize)]
struct Subscription {
    topics: String,
}

impl Hub {
    fn topic(&self, name: &str) -> broadcast::Sender<Arc<Message>> {
        if let Some(topic) = self.topics.read().expect("no thread panics").get(name) {
            return topic.clone();
        }
        let mut topics = self.topics.write().expect("no thread panics");
        // A channel allocates all of its memory at once, so that 10,000 topics need shorter channels than one.
        let capacity = if topics.len() < 128 { CAPACITY } else { 64 };
        topics.entry(name.to_owned()).or_insert_with(|| broadcast::Sender::new(capacity)).clone()
    }
}

async fn publish(State(hub): State<Arc<Hub>>, Json(publication): Json<Publication>) -> Json<Published> {
    let sequence = hub.sequence.fetch_add(1, Ordering::Relaxed) + 1;
    let topic = hub.topic(&publication.topic);
    // Fails without subscribers.
    let _ = topic.send(Arc::new(Message { sequence, publication, json: OnceLock::new() }));
    Json(Published { id: sequence })
}

async fn subscribe(
    State(hub): State<Arc<Hub>>,
    Query(subscription): Query<Subscription>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = follow(&hub, &subscription)
        .take_while(|message| std::future::ready(message.is_ok()))
        .filter_map(|message| std::future::ready(message.ok()))
        .map(|message| Ok(Event::default().id(message.sequence.to_string()).data(&message.publication.data)));
    Sse::new(events)
}

type Received = Result<Arc<Message>, BroadcastStreamRecvError>;

fn follow(hub: &Hub, subscription: &Subscription) -> impl Stream<Item = Received> + Send + Unpin + use<> {
    let topics = subscription.topics.split(',').map(|name| BroadcastStream::new(hub.topic(name).subscribe()));
    select_all(topics.collect::<Vec<_>>())
}

/// A stream with a compressor of its own, which is flushed after each event.
async fn subscribe_gzip(State(hub): State<Arc<Hub>>, Query(subscription): Query<Subscription>) -> Response {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let body = follow(&hub, &subscription).map(move |message| {
        let message = message.map_err(io::Error::other)?;
        write!(encoder, "id: {}\ndata: {}\n\n", message.sequence, message.publication.data)?;
        encoder.flush()?;
        Ok::<_, io::Error>(std::mem::take(encoder.get_mut()))
    });
    ([(CONTENT_TYPE, "text/event-stream"), (CONTENT_ENCODING, "gzip")], Body::from_stream(body)).into_response()
}

async fn upgrade(
    State(hub): State<Arc<Hub>>,
    Query(subscription): Query<Subscription>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let events = follow(&hub, &subscription);
    upgrade.on_upgrade(|socket| send(events, socket))
}

async fn send(mut events: impl Stream<Item = Received> + Unpin, mut socket: WebSocket) {
    loop {
        tokio::select! {
            message = events.next() => {
                let Some(Ok(message)) = message else { return };
                if socket.send(ws::Message::Text(message.json())).await.is_err() {
                    return;
                }
            }
            received = socket.recv() => {
                if !matches!(received, Some(Ok(_))) {
                    return;
                }
            }
        }
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("usage: axum-peer ADDRESS")?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listen(address)?)?;
        let hub = Arc::new(Hub::default());
        let routes = Router::new()
            .route("/publish", post(publish))
            .route("/stream", get(subscribe))
            .route("/gzip", get(subscribe_gzip))
            .route("/ws", get(upgrade))
            .with_state(hub);
        use axum::serve::ListenerExt;
        let listener = listener.tap_io(|socket| {
            let _ = socket.set_nodelay(true);
        });
        axum::serve(listener, routes).await?;
        Ok(())
    })
}

//! The obvious Rust server: axum's SSE responses over one `tokio::sync::broadcast` channel for each topic.
//!
//! `POST /publish` accepts `{"topic", "data"}`, `GET /stream?topics=a,b` follows topics. It has one thread, because it is
//! measured on one processor, and the same backlog as fanline. A subscriber that lags is disconnected.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use axum::extract::{Query, State};
use axum::response::sse::{Event, Sse};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream::{Stream, StreamExt, select_all};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

/// Longer than a burst of the load generator's publishers.
const CAPACITY: usize = 16_384;

#[derive(Default)]
struct Hub {
    topics: RwLock<HashMap<String, broadcast::Sender<Message>>>,
    sequence: AtomicU64,
}

#[derive(Clone)]
struct Message {
    sequence: u64,
    data: Arc<str>,
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
    fn topic(&self, name: &str) -> broadcast::Sender<Message> {
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
    // Fails without subscribers.
    let _ = hub.topic(&publication.topic).send(Message { sequence, data: publication.data.into() });
    Json(Published { id: sequence })
}

async fn subscribe(
    State(hub): State<Arc<Hub>>,
    Query(subscription): Query<Subscription>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let topics = subscription.topics.split(',').map(|name| BroadcastStream::new(hub.topic(name).subscribe()));
    let events = select_all(topics.collect::<Vec<_>>())
        .take_while(|message| std::future::ready(message.is_ok()))
        .filter_map(|message| std::future::ready(message.ok()))
        .map(|message| Ok(Event::default().id(message.sequence.to_string()).data(&*message.data)));
    Sse::new(events)
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
        let routes =
            Router::new().route("/publish", post(publish)).route("/stream", get(subscribe)).with_state(hub);
        use axum::serve::ListenerExt;
        let listener = listener.tap_io(|socket| {
            let _ = socket.set_nodelay(true);
        });
        axum::serve(listener, routes).await?;
        Ok(())
    })
}

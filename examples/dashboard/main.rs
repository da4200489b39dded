//! A program that shows its own metrics in a page: `cargo run --example dashboard`, then open the address that it logs.
//!
//! The page adds jobs, and the program's workers do them. [`publish`] sends the metrics once a second. Argument: the address
//! to listen on.

mod work;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::{get, post};
use fanline::event::{Event, Payload};
use fanline::server::{ListenAddress, Producer};
use fanline::topic::Topic;
use fanline::{Hub, Server};
use work::{WORKERS, Work};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let address: ListenAddress = std::env::args().nth(1).unwrap_or("127.0.0.1:8000".into()).parse()?;
    let work = Arc::new(Work::default());
    for worker in std::iter::repeat_n(work.clone(), WORKERS as usize) {
        thread::spawn(move || worker.run());
    }
    let routes = Router::new()
        .route("/", get(Html(include_str!("index.html"))))
        .route("/jobs/{count}", post(add))
        .with_state(work.clone());
    let metrics = Producer::new("metrics", async move |server| publish(server.hub(), &work).await);
    let server =
        Server::builder(Hub::default()).listen(address).prefix("/live").fallback(routes).producer(metrics).bind()?;
    eprintln!("listening on http://{}", server.local_addresses()[0]);
    server.run(async { tokio::signal::ctrl_c().await.expect("the program may handle signals") }).await?;
    Ok(())
}

/// Publishes the metrics once a second.
async fn publish(hub: &Hub, work: &Work) -> Result<(), Error> {
    let topic = Topic::new("metrics")?;
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        hub.publish(Event::new(topic.clone(), Payload::serialize(&work.metrics())?)).await?;
    }
}

async fn add(
    State(work): State<Arc<Work>>,
    Path(count): Path<usize>,
) -> Result<StatusCode, (StatusCode, &'static str)> {
    match work.add(count) {
        true => Ok(StatusCode::ACCEPTED),
        false => Err((StatusCode::SERVICE_UNAVAILABLE, "too many jobs are waiting")),
    }
}

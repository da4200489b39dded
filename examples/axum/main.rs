//! An axum application with a stream: `cargo run --example axum`, then open the address that it logs.
//!
//! axum serves `/` and `/greet`. fanline serves its own paths below `/live`, and publishes what the handler hands in. Argument: the
//! address to listen on.

use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::{get, post};
use fanline::event::{Event, Payload};
use fanline::server::ListenAddress;
use fanline::topic::Topic;
use fanline::{Hub, Server};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: ListenAddress = std::env::args().nth(1).unwrap_or("127.0.0.1:8000".into()).parse()?;
    let hub = Hub::default();
    let routes = Router::new()
        .route("/", get(Html(include_str!("index.html"))))
        .route("/greet", post(greet))
        .with_state(hub.clone());
    let server = Server::builder(hub).listen(address).prefix("/live").fallback(routes).bind()?;
    eprintln!("listening on http://{}", server.local_addresses()[0]);
    Ok(server.run(std::future::pending()).await?)
}

async fn greet(State(hub): State<Hub>, name: String) -> Result<(), String> {
    let topic = Topic::new("greetings").map_err(|error| error.to_string())?;
    hub.publish(Event::new(topic, Payload::text(format!("Hello, {name}!"))))
        .await
        .map_err(|error| error.to_string())?;
    Ok(())
}

//! A discussion that every browser sees change: `cargo run --example comments`, then open the address that it logs.
//!
//! REST over SQLite, with axum. A handler that changes a comment publishes its id, and the pages fetch that comment: "notify,
//! then fetch". Arguments: the address to listen on, and the file of the database, which is in memory otherwise.

mod failure;
mod store;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::Html;
use axum::routing::{get, post};
use axum::{Json, Router};
use failure::Failure;
use fanline::event::{Event, Payload};
use fanline::server::ListenAddress;
use fanline::topic::Topic;
use fanline::{Hub, Server};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Comment, Store};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

/// The longest name and the longest comment, in characters.
const MAX_AUTHOR: usize = 40;
const MAX_TEXT: usize = 2000;

#[derive(Clone)]
struct App {
    store: Arc<Store>,
    hub: Hub,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: ListenAddress = arguments.next().unwrap_or("127.0.0.1:8000".into()).parse()?;
    let store = Arc::new(Store::open(arguments.next().unwrap_or(":memory:".into()))?);
    let hub = Hub::default();
    let routes = routes(App { store, hub: hub.clone() });
    let server = Server::builder(hub).listen(address).prefix("/live").fallback(routes).bind()?;
    eprintln!("listening on http://{}", server.local_addresses()[0]);
    server.run(async { tokio::signal::ctrl_c().await.expect("the program may handle signals") }).await?;
    Ok(())
}

fn routes(app: App) -> Router {
    Router::new()
        .route("/", get(Html(include_str!("index.html"))))
        .route("/page.js", get(([(CONTENT_TYPE, "text/javascript")], include_str!("page.js"))))
        .route("/discussion.js", get(([(CONTENT_TYPE, "text/javascript")], include_str!("discussion.js"))))
        .route("/style.css", get(([(CONTENT_TYPE, "text/css")], include_str!("style.css"))))
        .route("/discussions/{name}/comments", get(list).post(create))
        .route("/discussions/{name}/comments/{id}", get(read).put(update).delete(delete))
        .route("/discussions/{name}/typing", post(typing))
        .with_state(app)
}

/// The comments of a discussion, and the position from which a stream has all later changes.
#[derive(Serialize)]
struct Comments {
    position: String,
    comments: Vec<Comment>,
}

async fn list(State(app): State<App>, Path(name): Path<String>) -> Result<Json<Comments>, Failure> {
    // Before the comments are read: a change that they lack has a later position.
    let position = app.hub.position().to_string();
    let comments = app.query(move |store| store.list(&name)).await?;
    Ok(Json(Comments { position, comments }))
}

async fn read(State(app): State<App>, Path((name, id)): Path<(String, i64)>) -> Result<Json<Comment>, Failure> {
    Ok(Json(app.query(move |store| store.read(&name, id)).await?))
}

#[derive(Deserialize)]
struct NewComment {
    author: String,
    text: String,
}

async fn create(
    State(app): State<App>,
    Path(name): Path<String>,
    Json(NewComment { author, text }): Json<NewComment>,
) -> Result<(StatusCode, Json<Comment>), Failure> {
    check("name", &author, MAX_AUTHOR)?;
    check("comment", &text, MAX_TEXT)?;
    let comment = app.change(name, move |store, name| store.create(name, &author, &text)).await?;
    Ok((StatusCode::CREATED, Json(comment)))
}

#[derive(Deserialize)]
struct NewText {
    text: String,
}

async fn update(
    State(app): State<App>,
    Path((name, id)): Path<(String, i64)>,
    Json(NewText { text }): Json<NewText>,
) -> Result<Json<Comment>, Failure> {
    check("comment", &text, MAX_TEXT)?;
    Ok(Json(app.change(name, move |store, name| store.update(name, id, &text)).await?))
}

async fn delete(State(app): State<App>, Path((name, id)): Path<(String, i64)>) -> Result<StatusCode, Failure> {
    app.change(name, move |store, name| store.delete(name, id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Typing {
    author: String,
    /// Identifies the page, which ignores its own events.
    page: String,
}

async fn typing(
    State(app): State<App>,
    Path(name): Path<String>,
    Json(Typing { author, page }): Json<Typing>,
) -> Result<StatusCode, Failure> {
    check("name", &author, MAX_AUTHOR)?;
    check("page", &page, MAX_AUTHOR)?;
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
    // A topic of its own, so that these events do not take the place of changes in the history.
    app.publish(topic(&name, "typing")?, json!({ "author": author, "page": page, "at": at })).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl App {
    async fn query<T: Send + 'static>(
        self,
        query: impl FnOnce(&Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        Ok(spawn_blocking(move || query(&self.store)).await.expect("a query does not panic")?)
    }

    /// Changes a comment and publishes its id. A client that disconnects may cancel its handler, but not this task: a change
    /// that is stored is also published.
    async fn change(
        self,
        name: String,
        change: impl FnOnce(&Store, &str) -> rusqlite::Result<Comment> + Send + 'static,
    ) -> Result<Comment, Failure> {
        let topic = topic(&name, "comments")?;
        let task = spawn_blocking(move || {
            let comment = change(&self.store, &name)?;
            Handle::current().block_on(self.publish(topic, json!({ "id": comment.id })))?;
            Ok(comment)
        });
        task.await.expect("a change does not panic")
    }

    async fn publish(&self, topic: Topic, data: Value) -> Result<(), Failure> {
        let event = Event::new(topic, Payload::serialize(&data).map_err(Failure::invalid)?);
        self.hub.publish(event).await.map(drop).map_err(Failure::unavailable)
    }
}

fn topic(name: &str, part: &str) -> Result<Topic, Failure> {
    Topic::of(["discussion", name, part]).map_err(Failure::invalid)
}

/// Checks a text that a visitor has entered.
fn check(what: &str, text: &str, most: usize) -> Result<(), Failure> {
    match text.trim().chars().count() {
        0 => Err(Failure::invalid(format!("the {what} is empty"))),
        length if length > most => {
            Err(Failure::invalid(format!("the {what} has {length} characters, at most {most} are allowed")))
        }
        _ => Ok(()),
    }
}

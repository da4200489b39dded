//! An application's own service beside the server's endpoints: an axum `Router` as the fallback, a prefix, and endpoints that are
//! disabled.

mod bodies;
mod bodies_over_http2;
mod limits;
mod paths;
mod requests;
mod upgrades;

use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use crate::support::{Client, Head, Server};

/// A server whose fallback is `router`.
fn serve(router: Router) -> Server {
    Server::with(Server::hub_options(), |builder| builder.fallback(router))
}

/// `GET /hello` has a short body, and `POST /echo` sends each part of its body back as it comes.
fn app() -> Router {
    Router::new().route("/hello", get(async || "hello")).route("/echo", post(async |body: Body| body))
}

const PART: usize = 64 << 10;

/// `GET /large` has a body of `parts` parts of [`PART`] bytes. Also returns the number of parts that were asked for so far.
fn download(parts: u64) -> (Router, Arc<AtomicU64>) {
    let produced = Arc::new(AtomicU64::new(0));
    let count = produced.clone();
    let large = async move || {
        let count = count.clone();
        Body::from_stream(stream::iter(0..parts).map(move |part| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from(vec![part as u8; PART]))
        }))
    };
    (app().route("/large", get(large)), produced)
}

/// A body of one part, and of what `fail` does when the next one is asked for.
fn failing(fail: fn() -> io::Result<&'static str>) -> Body {
    let rest = stream::once(async move {
        // What is there is sent first.
        tokio::task::yield_now().await;
        fail()
    });
    Body::from_stream(stream::once(async { Ok("one") }).chain(rest))
}

/// A value that a handler takes.
struct Once<T>(Arc<Mutex<Option<T>>>);

impl<T> Clone for Once<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Once<T> {
    fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(Some(value))))
    }

    fn take(&self) -> T {
        self.0.lock().unwrap().take().expect("the handler is called once")
    }
}

/// The next chunk of a body, or none at its end.
async fn chunk(client: &mut Client) -> Option<Bytes> {
    let line = client.through(b"\r\n").await;
    let length = usize::from_str_radix(std::str::from_utf8(&line[..line.len() - 2]).unwrap(), 16).unwrap();
    let mut chunk = client.exactly(length + 2).await;
    assert_eq!(chunk.split_off(length), "\r\n");
    (length > 0).then_some(chunk)
}

/// Reads the body that follows `head`.
async fn body(client: &mut Client, head: &Head) -> Vec<u8> {
    if let Some(length) = head.header("content-length") {
        return client.exactly(length.parse().unwrap()).await.into();
    }
    assert_eq!(head.header("transfer-encoding"), Some("chunked"), "{head:?}");
    let mut whole = Vec::new();
    while let Some(chunk) = chunk(client).await {
        whole.extend_from_slice(&chunk);
    }
    whole
}

/// One chunk of a body.
fn chunked(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

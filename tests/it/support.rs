//! A server in the test process, and a client that sees every byte.

mod client;
mod http2;
mod problem;
mod server;
mod sse;
pub mod websocket;

use std::future::Future;
use std::time::Duration;

pub use client::{Client, Head, Response, request};
pub use http2::{Http2, MAX_WINDOW, complete, data};
pub use problem::assert_problem;
pub use server::{EPOCH, Server, event};
pub use sse::{Block, Event, Stream};
pub use websocket::WebSocket;

pub const JSON: &str = "application/json";
pub const NDJSON: &str = "application/x-ndjson";
pub const TEXT: &str = "text/plain";

/// The longest time that a test may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs a test, and fails if it takes longer than the limit.
pub fn run(test: impl Future<Output = ()>) {
    run_within(LIMIT, test);
}

/// Runs a test that may take this long.
pub fn run_within(limit: Duration, test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(limit, test).await.expect("the test takes longer than its limit") });
}

/// Runs a test whose time passes only while it waits for a timer.
pub fn run_paused(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(test);
}

/// Waits until `holds` returns true, for conditions that no socket reports.
pub async fn until(mut holds: impl FnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(1));
    while !holds() {
        looks.tick().await;
    }
}

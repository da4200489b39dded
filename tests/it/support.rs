//! A server in this process, and a client that sees every byte.

mod client;
mod problem;
mod server;
mod sse;

use std::future::Future;
use std::time::Duration;

pub use client::{Client, Head, Response, request};
pub use problem::assert_problem;
pub use server::{EPOCH, Server, event};
pub use sse::{Block, Event, Stream};

/// No test waits longer, whatever it waits for.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs a test to its end, or fails when it takes too long.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, test).await.expect("what the test waits for comes") });
}

/// Waits until `holds`, for what no socket tells.
pub async fn until(mut holds: impl FnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(1));
    while !holds() {
        looks.tick().await;
    }
}

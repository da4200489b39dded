//! One shard: a thread with a runtime of its own, where its connections live and die.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::listener::Accepted;
use crate::http::{Routes, takeover};

/// How long the farewell to the streams may take when no drain time is set.
const FAREWELL: Duration = Duration::from_millis(200);

/// How many tasks run before the runtime looks at its sockets again. Enough for a crowd of publishers to be read before
/// the first of them publishes: their events go out as one batch. And few enough that nobody waits long: writing to so
/// many clients takes about a millisecond.
const TURN: u32 = 256;

/// Starts a shard that serves what comes in through `inbox` until `routes` says to drain; then it ends its connections
/// over `window`, and ends.
pub(super) fn spawn(
    name: String,
    routes: Arc<Routes>,
    inbox: mpsc::UnboundedReceiver<Accepted>,
    window: Duration,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(TURN).build()?;
    // Dropping the runtime ends whatever is left.
    std::thread::Builder::new().name(name).spawn(move || runtime.block_on(serve(routes, inbox, window)))
}

async fn serve(routes: Arc<Routes>, inbox: mpsc::UnboundedReceiver<Accepted>, window: Duration) {
    let drained = async {
        routes.draining().await;
        let end = async {
            routes.shard.drain(window).await;
            // Ordinary requests that are under way.
            while routes.shard.counts().connections() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(window.max(FAREWELL), end).await.is_err() {
            let connections = routes.shard.counts().connections();
            tracing::warn!(connections, "the drain time is over: closing what is left");
        }
    };
    tokio::select! {
        () = drained => {}
        () = routes.shard.run() => {}
        () = take_in(&routes, inbox) => {}
    }
}

async fn take_in(routes: &Arc<Routes>, mut inbox: mpsc::UnboundedReceiver<Accepted>) {
    while let Some(Accepted { socket, remote, guard, over }) = inbox.recv().await {
        match TcpStream::from_std(socket) {
            Ok(socket) => {
                drop(tokio::spawn(takeover::serve(socket, remote, guard, over.map(Box::new), routes.clone())))
            }
            Err(error) => tracing::warn!(%error, "a connection could not be registered"),
        }
    }
    // The listeners are gone, the connections are not.
    std::future::pending().await
}

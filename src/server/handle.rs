//! A handle to a server, for code that runs beside it.

use std::fmt;
use std::sync::Arc;

use super::{AccessHandle, Stats};
use crate::conn::Drain;
use crate::http::producers::{ProducerState, Producers};
use crate::hub::Hub;

/// A handle to a [`Server`](super::Server): its hub, counts, access rules and producers. Cheap to clone.
///
/// ```
/// use fanline::server::{ProducerState, Producer, Server};
/// use fanline::Hub;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hello = Producer::new("hello", async |_| Ok(println!("the server runs")));
/// let server = Server::builder(Hub::default()).listen(([127, 0, 0, 1], 0)).producer(hello).bind()?;
/// let handle = server.handle();
/// assert_eq!(handle.stats().read().streams, 0);
/// assert_eq!(handle.producers(), [("hello".to_owned(), ProducerState::Stopped)]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ServerHandle {
    pub(super) hub: Hub,
    pub(super) stats: Stats,
    pub(super) access: AccessHandle,
    pub(super) producers: Producers,
    pub(super) drain: Arc<Drain>,
}

impl ServerHandle {
    /// The hub that the server serves.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// The counts of the server.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The access rules of the server, which can be replaced.
    pub fn access(&self) -> &AccessHandle {
        &self.access
    }

    /// The names and states of the [producers](super::Producer), in the order in which they were added.
    pub fn producers(&self) -> Vec<(String, ProducerState)> {
        self.producers.states()
    }

    /// Waits until the server begins to drain. Returns at once if it has begun.
    pub async fn draining(&self) {
        self.drain.begun().await;
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle")
            .field("stats", &self.stats)
            .field("producers", &self.producers())
            .field("is_draining", &self.drain.has_begun())
            .finish_non_exhaustive()
    }
}

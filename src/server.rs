//! The server: listeners, shards, and the drain.
//!
//! The caller's thread accepts connections and evicts expired topics. Each shard is a thread that serves its connections.
//! At the end the server drains: it is no longer ready, every stream announces the restart, the streams are closed one by one
//! over the drain time, so that their clients do not all reconnect at once, and the threads end.

mod accept;
mod acceptor;
mod access;
mod builder;
mod files;
mod handle;
mod listen;
mod producer;
mod stats;
mod unix;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use accept::{Dispatcher, Inbox};
use acceptor::Acceptor;
pub use access::AccessHandle;
pub use builder::{Builder, DEFAULT_DRAIN, DEFAULT_SEND_BUFFER};
pub use files::raise_open_file_limit;
pub use handle::ServerHandle;
pub use listen::{InvalidListenAddress, ListenAddress, Listener};
pub use producer::Producer;
use producer::ProducerTasks;
pub use stats::{ServerStats, Stats};
use tokio::task::JoinSet;
pub use unix::UnixSocketOptions;

use crate::conn::http::{Http, RequestLimits};
use crate::conn::{Clients, Drain, Poller, Shard};
pub use crate::conn::{RequestBodyError, StreamOptions};
pub use crate::http::body::RequestBody;
pub use crate::http::cors::{InvalidOrigin, Origin, Origins};
use crate::http::documents::Documents;
pub use crate::http::fallback::Remote;
pub use crate::http::options::Options as HttpOptions;
pub use crate::http::paths::{Endpoint, InvalidPathPrefix, PathPrefix};
pub use crate::http::producers::ProducerState;
use crate::http::producers::Producers;
pub use crate::http::refusal::StreamRefusals;
use crate::http::{self, Routes, cors};
use crate::hub::Hub;
use crate::limit::Limiter;
pub use crate::limit::{InvalidRate, Limits, Rate};
use crate::metrics::Metrics;
pub use crate::peer::{InvalidProxy, TrustedProxy};
pub use crate::presence::PresenceOptions;
use crate::presence::{ClientIds, Members};

/// Serves a [`Hub`] over HTTP: `GET /stream`, `GET /ws`, `POST /publish`, and what operators need.
///
/// ```
/// use fanline::event::{Event, Payload};
/// use fanline::topic::Topic;
/// use fanline::{Hub, Server};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = Hub::default();
/// let server = Server::builder(hub.clone()).listen(([127, 0, 0, 1], 0)).bind()?;
/// println!("curl -N http://{}/stream", server.local_addresses()[0]);
///
/// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
/// let running = tokio::spawn(server.run(async { drop(stopped.await) }));
/// hub.publish(Event::new(Topic::new("greeting")?, Payload::text("hello"))).await?;
///
/// drop(stop); // in a program: when `tokio::signal::ctrl_c()` completes
/// running.await??;
/// # Ok(())
/// # }
/// ```
pub struct Server {
    builder: Builder,
    acceptors: Vec<Acceptor>,
    metrics: Arc<Metrics>,
    limiter: Arc<Limiter>,
    drain: Arc<Drain>,
    /// The states of the builder's producers.
    producers: Producers,
    /// The size of each listener's reserve of open files.
    reserved_files: usize,
}

impl Builder {
    /// Starts the shards' threads.
    fn spawn_shards(
        &self,
        metrics: &Arc<Metrics>,
        limiter: &Arc<Limiter>,
        drain: &Arc<Drain>,
        producers: &Producers,
        members: Option<&Arc<Members>>,
    ) -> io::Result<Shards> {
        let new_shard = |number| {
            Arc::new(Shard::new(number, self.hub.clone(), self.streams.clone(), metrics.clone(), drain.clone()))
        };
        let shards: Vec<_> = (0..self.shards).map(new_shard).collect();
        let clients: Arc<[_]> = shards.iter().map(|shard| shard.clients.clone()).collect();
        let ids = Arc::new(ClientIds::new());
        let documents = Arc::new(Documents::new(self.paths.clone()));
        let HttpOptions { head_timeout, max_head_bytes, max_headers, max_streams_per_connection, .. } = self.http;
        let limits =
            RequestLimits { head_timeout, max_head_bytes, max_headers, max_streams: max_streams_per_connection };
        let (mut inboxes, mut threads) = (Vec::new(), Vec::new());
        for (number, shard) in shards.into_iter().enumerate() {
            let handler = Arc::new(Routes {
                shard: shard.clone(),
                clients: clients.clone(),
                options: self.http.clone(),
                access: self.access.rules.clone(),
                limiter: limiter.clone(),
                cors: cors::layer(&self.http.origins),
                ids: ids.clone(),
                producers: producers.clone(),
                backbone: self.backbone.clone(),
                members: members.cloned(),
                paths: self.paths.clone(),
                documents: documents.clone(),
                fallback: self.fallback.clone(),
            });
            let (limiter, trusted_proxies) = (limiter.clone(), self.http.trusted_proxies.clone().into());
            let http = Http { handler, shard, poller: Poller::new()?, limits, limiter, trusted_proxies };
            let (inbox, thread) = accept::spawn_shard(number, http, self.drain)?;
            inboxes.push(inbox);
            threads.push(thread);
        }
        Ok(Shards { clients, inboxes, threads })
    }

    /// Evicts expired topics once a second, and applies new access rules. Does not return.
    async fn maintain(&self, clients: &[Arc<Clients>], limiter: &Limiter) {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                _ = seconds.tick() => {
                    self.hub.evict_expired().await;
                    limiter.maintain();
                }
                () = self.access.replaced.notified() => self.access.revoke_streams(clients).await,
            }
        }
    }
}

/// The shards of a running server.
struct Shards {
    clients: Arc<[Arc<Clients>]>,
    inboxes: Vec<Inbox>,
    threads: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.local_addresses()).finish_non_exhaustive()
    }
}

impl Server {
    /// Returns a builder for a server of `hub`.
    pub fn builder(hub: Hub) -> Builder {
        Builder::new(hub)
    }

    /// Returns the addresses that the server listens on, with the actual ports, apart from those of admin listeners.
    pub fn local_addresses(&self) -> Vec<ListenAddress> {
        self.addresses(false)
    }

    /// Returns the addresses of the admin listeners.
    pub fn admin_addresses(&self) -> Vec<ListenAddress> {
        self.addresses(true)
    }

    fn addresses(&self, of_admin: bool) -> Vec<ListenAddress> {
        let acceptors = self.acceptors.iter().filter(|acceptor| acceptor.is_admin == of_admin);
        acceptors.map(|acceptor| acceptor.address.clone()).collect()
    }

    /// Returns the number of threads that serve connections.
    pub fn shards(&self) -> usize {
        self.builder.shards
    }

    /// Returns the handle that replaces the access rules of the running server.
    pub fn access(&self) -> AccessHandle {
        self.builder.access.clone()
    }

    /// Returns a handle to the server, for code that runs beside it.
    pub fn handle(&self) -> ServerHandle {
        let (hub, producers, drain) = (self.builder.hub.clone(), self.producers.clone(), self.drain.clone());
        ServerHandle { hub, stats: self.stats(), access: self.access(), producers, drain }
    }

    /// Returns the handle that reads the counts of the running server.
    pub fn stats(&self) -> Stats {
        Stats(self.metrics.clone())
    }

    /// Serves until `shutdown` completes, then drains. Returns when all connections and producers have ended, at the latest
    /// after the drain time, with the hub closed.
    ///
    /// Runs in a Tokio runtime with I/O and time enabled. The threads that serve connections have runtimes of their own.
    ///
    /// # Errors
    /// When a thread cannot be started, or accepting fails for good.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let handle = self.handle();
        let Self { mut builder, acceptors, metrics, limiter, drain, producers, reserved_files } = self;
        let members = Members::new(&builder.presence);
        let Shards { clients, inboxes, threads } =
            builder.spawn_shards(&metrics, &limiter, &drain, &producers, members.as_ref())?;
        if let Some(backbone) = &builder.backbone {
            backbone.share_lists(http::local_lists(clients.clone(), builder.hub.clone()));
            members.iter().for_each(|members| backbone.share_members(members.clone()));
        }
        let announcing = async {
            match &members {
                Some(members) if builder.backbone.is_none() => members.announce(&builder.hub).await,
                _ => {}
            }
            std::future::pending().await
        };
        let trusted_proxies = builder.http.trusted_proxies.clone().into();
        let dispatcher = Dispatcher { inboxes: inboxes.into(), metrics, limiter: limiter.clone(), trusted_proxies };
        let has_admin = acceptors.iter().any(|acceptor| acceptor.is_admin);
        let mut accepting = JoinSet::new();
        for acceptor in acceptors {
            let serves_operators = !has_admin || acceptor.is_admin;
            let listener = acceptor.register(serves_operators)?;
            accepting.spawn(accept::accept(listener, dispatcher.clone(), reserved_files));
        }
        let producers = ProducerTasks::start(std::mem::take(&mut builder.producers), &handle);
        let outcome = tokio::select! {
            () = shutdown => Ok(()),
            () = builder.maintain(&clients, &limiter) => Ok(()),
            () = announcing => Ok(()),
            Some(ended) = accepting.join_next() => ended.unwrap_or_else(|error| Err(io::Error::other(error))),
        };
        drain.begin();
        // The server accepts while the shards drain, so that readiness checks are answered.
        let panics = move || threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count();
        let all_well = tokio::task::spawn_blocking(panics).await.is_ok_and(|panics| panics == 0);
        producers.stop().await;
        builder.hub.close();
        outcome?;
        if all_well { Ok(()) } else { Err(io::Error::other("a shard panicked")) }
    }
}

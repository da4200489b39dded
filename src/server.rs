//! The server: listeners, shards, and their orderly end.
//!
//! The caller's thread accepts and keeps house; each shard is a thread of its own (`shard_thread`) that serves its
//! connections. At the end the server drains: readiness goes off, every stream is told, the streams are closed one after
//! the other over the drain time, so that their clients do not come back all at once, and then the threads end.

mod files;
mod listener;
mod shard_thread;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

pub use files::raise_open_file_limit;

use crate::auth::{Access, Grant};
use crate::backbone::Backbone;
use crate::conn::Shard;
pub use crate::conn::StreamOptions;
pub use crate::http::Options as HttpOptions;
pub use crate::http::cors::{InvalidOrigin, Origin, Origins};
use crate::http::{self, ProducerStatus, Routes, cors};
use crate::hub::Hub;
use crate::limit::{Connections, Limiter};
pub use crate::limit::{InvalidRate, Limits, Rate};
use crate::metrics::{Metrics, Stats};
use crate::presence::{ClientIds, Clients};
use crate::topic::TopicFilter;

/// Serves a [`Hub`] over HTTP.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// use fanline::{Hub, Server};
///
/// let hub = Hub::default();
/// let server = Server::builder(hub.clone()).listen(([127, 0, 0, 1], 8000).into()).bind()?;
/// server.run(std::future::pending()).await
/// # }
/// ```
pub struct Server {
    builder: Builder,
    listeners: Vec<TcpListener>,
    metrics: Arc<Metrics>,
    limiter: Arc<Limiter>,
    /// Open files that each listener keeps in reserve.
    reserved_files: usize,
}

/// The default of [`Builder::send_buffer`].
pub const DEFAULT_SEND_BUFFER: usize = 64 << 10;
/// The default of [`Builder::drain`].
pub const DEFAULT_DRAIN: Duration = Duration::from_secs(5);

/// What a server is made of.
pub struct Builder {
    hub: Hub,
    addresses: Vec<SocketAddr>,
    shards: usize,
    send_buffer: usize,
    drain: Duration,
    streams: StreamOptions,
    http: HttpOptions,
    limits: Limits,
    producers: Vec<(String, ProducerStatus)>,
    backbone: Option<Backbone>,
    access: AccessHandle,
}

/// The rules of a server, which can be replaced while it runs. Cheap to clone.
#[derive(Clone, Default)]
pub struct AccessHandle {
    rules: Arc<ArcSwap<Access>>,
    replaced: Arc<Notify>,
}

impl AccessHandle {
    /// Has the server go by `access` from now on. Each open stream is looked at once: those whose grant it does not renew,
    /// or that its grant does not cover any more, are closed, and the others do not notice. Who must agree to each
    /// subscription besides is not asked again.
    pub fn replace(&self, access: Access) {
        self.rules.store(Arc::new(access));
        self.replaced.notify_one();
    }

    /// Closes the streams that the rules of now do not allow.
    async fn look_at(&self, clients: &[Arc<Clients>]) {
        let rules = self.rules.load_full();
        let nothing = Grant::anonymous(false);
        let mut revoked = 0;
        for registry in clients {
            let mut place = Some(0);
            while let Some(begin) = place {
                let (slice, next) = registry.slice(begin, CLIENTS_AT_A_TIME);
                for client in slice {
                    let identity = &client.identity;
                    let grant = identity.standing.as_ref().map_or(&nothing, |standing| &standing.grant);
                    let filters: Vec<_> =
                        identity.labels.topics().filter_map(|topic| TopicFilter::new(topic).ok()).collect();
                    if !rules.still_holds(grant, &filters) {
                        client.revoke();
                        revoked += 1;
                    }
                }
                place = next;
                tokio::task::yield_now().await;
            }
        }
        tracing::info!(revoked, "the rules of access were replaced");
    }
}

/// How many open streams are looked at before others have their turn.
const CLIENTS_AT_A_TIME: usize = 256;

impl Builder {
    /// Adds an address to listen on; port 0 takes a free one. Without any it is 127.0.0.1:8000.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.addresses.push(address);
        self
    }

    /// How many threads serve connections; without this, one for each core.
    #[must_use]
    pub fn shards(self, shards: usize) -> Self {
        Self { shards: shards.max(1), ..self }
    }

    /// Bytes that the kernel may hold for a client that does not read (it takes about twice as much memory for them).
    #[must_use]
    pub fn send_buffer(self, bytes: usize) -> Self {
        Self { send_buffer: bytes, ..self }
    }

    /// Over how long the streams are closed at the end.
    #[must_use]
    pub fn drain(self, window: Duration) -> Self {
        Self { drain: window, ..self }
    }

    /// How streams are treated.
    #[must_use]
    pub fn streams(self, streams: StreamOptions) -> Self {
        Self { streams, ..self }
    }

    /// What is accepted over HTTP.
    #[must_use]
    pub fn http(self, http: HttpOptions) -> Self {
        Self { http, ..self }
    }

    /// How many connections, subscribers of everything, and events of publishers are taken.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Shows a producer of events in `GET /health`: `status` answers `running`, `stopped` or `off`.
    #[must_use]
    pub fn producer(
        mut self,
        name: impl Into<String>,
        status: impl Fn() -> &'static str + Send + Sync + 'static,
    ) -> Self {
        self.producers.push((name.into(), Arc::new(status)));
        self
    }

    /// Shows how the hub's backbone is, and what the other servers have; the server is ready only while it is up.
    #[must_use]
    pub fn backbone(self, backbone: Backbone) -> Self {
        Self { backbone: Some(backbone), ..self }
    }

    /// Who may do what. Without this everybody may subscribe, and the server's own machine may do everything.
    #[must_use]
    pub fn access(self, access: Access) -> Self {
        self.access.rules.store(Arc::new(access));
        self
    }

    /// Binds the addresses: clients can connect from now on, and are served by [`Server::run`].
    ///
    /// # Errors
    /// When an address cannot be bound; the error names it. When there are not as many open files as connections are
    /// wanted.
    pub fn bind(mut self) -> io::Result<Server> {
        if self.addresses.is_empty() {
            self.addresses.push(([127, 0, 0, 1], 8000).into());
        }
        let bind = |&address: &SocketAddr| {
            listener::bind(address, self.send_buffer, self.streams.write_timeout)
                .map_err(|error| io::Error::new(error.kind(), format!("listen on {address}: {error}")))
        };
        let listeners = self.addresses.iter().map(bind).collect::<io::Result<_>>()?;
        let metrics = Arc::new(Metrics::new(self.shards));
        let room = files::room(self.limits.max_connections, self.shards)?;
        let max_per_address = self.limits.max_connections_per_address;
        let connections = Connections::new(room.connections, room.set_by, room.turned_away, max_per_address);
        let limiter = Arc::new(Limiter::new(&self.limits, connections));
        Ok(Server { builder: self, listeners, metrics, limiter, reserved_files: room.reserved })
    }
}

impl Server {
    /// A server of `hub`.
    pub fn builder(hub: Hub) -> Builder {
        Builder {
            hub,
            addresses: Vec::new(),
            shards: std::thread::available_parallelism().map_or(1, usize::from),
            send_buffer: DEFAULT_SEND_BUFFER,
            drain: DEFAULT_DRAIN,
            streams: StreamOptions::default(),
            http: HttpOptions::default(),
            limits: Limits::default(),
            producers: Vec::new(),
            backbone: None,
            access: AccessHandle::default(),
        }
    }

    /// The addresses that are listened on, with the ports that were free.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(TcpListener::local_addr).collect()
    }

    /// The number of threads that serve connections.
    pub fn shards(&self) -> usize {
        self.builder.shards
    }

    /// The server's rules, to replace them while it runs.
    pub fn access(&self) -> AccessHandle {
        self.builder.access.clone()
    }

    /// What the server counts, also while it runs.
    pub fn stats(&self) -> Stats {
        Stats(self.metrics.clone())
    }

    /// Serves until `shutdown` completes, then drains: it returns when all connections have ended, after the drain time
    /// at the latest. The hub is closed then.
    ///
    /// # Errors
    /// When a thread cannot be started, or accepting fails for good.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let Self { builder, listeners, metrics, limiter, reserved_files } = self;
        let (drain, is_draining) = watch::channel(false);
        let ids = Arc::new(ClientIds::new());
        let (mut inboxes, mut threads) = (Vec::new(), Vec::new());
        let new_shard =
            |number| Arc::new(Shard::new(number, builder.hub.clone(), builder.streams.clone(), metrics.clone()));
        let shards: Vec<_> = (0..builder.shards).map(new_shard).collect();
        let clients: Arc<[_]> = shards.iter().map(|shard| shard.clients.clone()).collect();
        if let Some(backbone) = &builder.backbone {
            backbone.tell_with(http::roll_call(clients.clone(), builder.hub.clone()));
        }
        for (number, shard) in shards.into_iter().enumerate() {
            let routes = Routes {
                shard,
                clients: clients.clone(),
                options: builder.http.clone(),
                access: builder.access.rules.clone(),
                limiter: limiter.clone(),
                cors: cors::layer(&builder.http.origins),
                ids: ids.clone(),
                producers: builder.producers.clone(),
                backbone: builder.backbone.clone(),
                drain: is_draining.clone(),
            };
            let (inbox, accepted) = mpsc::unbounded_channel();
            inboxes.push(inbox);
            let name = format!("fanline-{number}");
            threads.push(shard_thread::spawn(name, Arc::new(routes), accepted, builder.drain)?);
        }
        let shards = listener::Shards { inboxes: inboxes.into(), metrics, limiter: limiter.clone() };
        let mut acceptors = JoinSet::new();
        for listener in listeners {
            acceptors.spawn(listener::accept(listener, shards.clone(), reserved_files));
        }
        let keep_house = async {
            let mut seconds = tokio::time::interval(Duration::from_secs(1));
            loop {
                tokio::select! {
                    _ = seconds.tick() => {
                        builder.hub.sweep();
                        limiter.maintain();
                    }
                    () = builder.access.replaced.notified() => builder.access.look_at(&clients).await,
                }
            }
        };
        let outcome = tokio::select! {
            () = shutdown => Ok(()),
            () = keep_house => Ok(()),
            Some(ended) = acceptors.join_next() => ended.unwrap_or_else(|error| Err(io::Error::other(error))),
        };
        drain.send_replace(true);
        // Accepting goes on while the shards drain: whoever asks for readiness is answered.
        let joined =
            tokio::task::spawn_blocking(move || threads.into_iter().map(|thread| thread.join()).all(|end| end.is_ok()));
        let all_well = joined.await.unwrap_or(false);
        builder.hub.close();
        outcome?;
        if all_well { Ok(()) } else { Err(io::Error::other("a shard ended by a panic")) }
    }
}

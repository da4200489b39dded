//! The server: listeners, shards, and the drain.
//!
//! The caller's thread accepts connections and evicts expired topics. Each shard is a thread that serves its connections.
//! At the end the server drains: it is no longer ready, every stream announces the restart, the streams are closed one by one
//! over the drain time, so that their clients do not all reconnect at once, and the threads end.

mod accept;
mod acceptor;
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
use acceptor::{Acceptor, SocketOptions};
use arc_swap::ArcSwap;
use bytes::Bytes;
pub use files::raise_open_file_limit;
pub use handle::ServerHandle;
use hyper::body::Body;
pub use listen::{InvalidListenAddress, ListenAddress, Listener};
pub use producer::Producer;
use producer::ProducerTasks;
pub use stats::{ServerStats, Stats};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tower_service::Service;
pub use unix::UnixSocketOptions;

use crate::auth::{Access, Grant};
use crate::backbone::Backbone;
use crate::conn::http::{Http, RequestLimits};
use crate::conn::reply::BoxError;
use crate::conn::{Clients, Drain, EndReason, Request, Shard};
pub use crate::conn::{RequestBodyError, StreamOptions};
pub use crate::http::body::RequestBody;
pub use crate::http::cors::{InvalidOrigin, Origin, Origins};
use crate::http::documents::Documents;
use crate::http::fallback::Fallback;
pub use crate::http::fallback::Remote;
pub use crate::http::options::Options as HttpOptions;
use crate::http::paths::Paths;
pub use crate::http::paths::{Endpoint, InvalidPathPrefix, PathPrefix};
pub use crate::http::producers::ProducerState;
use crate::http::producers::Producers;
pub use crate::http::refusal::StreamRefusals;
use crate::http::{self, Routes, cors};
use crate::hub::Hub;
use crate::limit::{Connections, Limiter};
pub use crate::limit::{InvalidRate, Limits, Rate};
use crate::metrics::Metrics;
pub use crate::peer::{InvalidProxy, TrustedProxy};
pub use crate::presence::PresenceOptions;
use crate::presence::{ClientIds, Members, each_client};

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

/// The default of [`Builder::send_buffer`].
pub const DEFAULT_SEND_BUFFER: usize = 64 << 10;
/// The default of [`Builder::drain`].
pub const DEFAULT_DRAIN: Duration = Duration::from_secs(5);

/// The settings and parts of a [`Server`].
///
/// ```
/// use std::time::Duration;
///
/// use fanline::auth::Access;
/// use fanline::server::{HttpOptions, Limits, StreamOptions};
/// use fanline::{Hub, Server};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder(Hub::default())
///     .listen(([127, 0, 0, 1], 0))
///     .shards(2)
///     .drain(Duration::from_secs(10))
///     .access(Access::new().anonymous_subscribe("news, price:*".parse()?))
///     .http(HttpOptions { max_event_bytes: 16 << 10, ..HttpOptions::default() })
///     .streams(StreamOptions { heartbeat: Duration::from_secs(15), ..StreamOptions::default() })
///     .limits(Limits { max_connections_per_address: Some(50), ..Limits::default() })
///     .bind()?;
/// assert_eq!(server.shards(), 2);
/// # Ok(())
/// # }
/// ```
pub struct Builder {
    hub: Hub,
    listeners: Vec<Listener>,
    unix: UnixSocketOptions,
    shards: usize,
    send_buffer: usize,
    drain: Duration,
    streams: StreamOptions,
    http: HttpOptions,
    limits: Limits,
    producers: Vec<Producer>,
    backbone: Option<Backbone>,
    access: AccessHandle,
    presence: PresenceOptions,
    paths: Paths,
    /// Why the prefix was not accepted.
    invalid_prefix: Option<InvalidPathPrefix>,
    fallback: Option<Fallback>,
}

/// The rules of a server, which can be replaced while it runs. Cheap to clone.
#[derive(Clone, Default)]
pub struct AccessHandle {
    rules: Arc<ArcSwap<Access>>,
    replaced: Arc<Notify>,
}

impl fmt::Debug for AccessHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AccessHandle").field(&self.rules.load()).finish()
    }
}

impl AccessHandle {
    /// Replaces the rules. Open streams that the new rules do not allow are closed, and the others are not affected. An
    /// authorization service is not called again for open streams.
    pub fn replace(&self, access: Access) {
        self.rules.store(Arc::new(access));
        self.replaced.notify_one();
    }

    /// Closes the open streams that the current rules do not allow.
    async fn revoke_streams(&self, clients: &[Arc<Clients>]) {
        let rules = self.rules.load_full();
        let anonymous = Grant::anonymous(false);
        let mut revoked = 0;
        each_client(clients, |client| {
            let grant = client.identity.grant().unwrap_or(&anonymous);
            let filters = client.filters();
            // Without filters the client has no events, and only the grant matters.
            let holds = match filters.is_empty() {
                true => rules.renew(grant).is_some(),
                false => rules.still_holds(grant, &filters),
            };
            if !holds {
                client.control.raise(Request::Revoke);
                revoked += 1;
            }
            true
        })
        .await;
        tracing::info!(revoked, "the rules of access were replaced");
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl Builder {
    /// Adds a listener: a TCP address, a [`ListenAddress`], or a socket that listens already. Port 0 takes a free port. The
    /// default is 127.0.0.1:8000.
    #[must_use]
    pub fn listen(mut self, listener: impl Into<Listener>) -> Self {
        self.listeners.push(listener.into());
        self
    }

    /// Sets the access to the Unix sockets that the server binds.
    #[must_use]
    pub fn unix_sockets(self, unix: UnixSocketOptions) -> Self {
        Self { unix, ..self }
    }

    /// Sets how many threads serve connections. The default is one for each core.
    #[must_use]
    pub fn shards(self, shards: usize) -> Self {
        Self { shards: shards.max(1), ..self }
    }

    /// Sets the size of a connection's send buffer in the kernel, which takes about twice as much memory.
    #[must_use]
    pub fn send_buffer(self, bytes: usize) -> Self {
        Self { send_buffer: bytes, ..self }
    }

    /// Sets the time over which the streams are closed at the end.
    #[must_use]
    pub fn drain(self, window: Duration) -> Self {
        Self { drain: window, ..self }
    }

    /// Sets the times that apply to each stream.
    #[must_use]
    pub fn streams(self, streams: StreamOptions) -> Self {
        Self { streams, ..self }
    }

    /// Sets what is accepted over HTTP.
    #[must_use]
    pub fn http(self, http: HttpOptions) -> Self {
        Self { http, ..self }
    }

    /// Limits connections, subscribers of everything, and publishers.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Adds a producer of events, which starts and ends with the server.
    #[must_use]
    pub fn producer(mut self, producer: Producer) -> Self {
        self.producers.push(producer);
        self
    }

    /// Shows the state of the hub's backbone and the lists of the other servers. The server is ready only while it is up.
    #[cfg(feature = "redis")]
    #[must_use]
    pub fn backbone(self, backbone: Backbone) -> Self {
        Self { backbone: Some(backbone), ..self }
    }

    /// Sets the access rules. By default anyone may subscribe, and loopback may do everything.
    #[must_use]
    pub fn access(self, access: Access) -> Self {
        self.access.rules.store(Arc::new(access));
        self
    }

    /// Sets the topics whose subscribers are announced on `presence:{topic}`. By default there are none.
    #[must_use]
    pub fn presence(self, presence: PresenceOptions) -> Self {
        Self { presence, ..self }
    }

    /// Lets `service` handle every request whose path is not one of the server's own: an axum `Router`, for example, or any other
    /// [`Service`] of HTTP requests.
    ///
    /// Its requests come over the same listeners, in HTTP/1.1 and HTTP/2, and bodies are streamed in both directions. Over
    /// HTTP/1.1 a response of 101 upgrades the connection, as WebSockets of axum do. Each request has a [`Remote`] as an extension.
    ///
    /// * **Threads.** A request is handled on the thread of its connection, and tasks that the handler spawns run there too. The
    ///   streams of the same thread wait meanwhile: pass work that blocks or computes for long to
    ///   [`spawn_blocking`](tokio::task::spawn_blocking).
    /// * **Errors.** If the service fails or panics, the client gets a 500, and the reason is logged. If the body of a response
    ///   does, the response breaks off.
    /// * **Limits.** Those of connections, of request heads and of idle connections apply. The others do not, and neither do the
    ///   rules of CORS and access: the service has its own.
    /// * **Disconnects.** A client of HTTP/1.1 may close its sending half and read the response, therefore its handler runs to the
    ///   end after a disconnect; over HTTP/2 a handler without a request body is dropped.
    /// * **Shutdown.** Requests in progress may take the drain time, and are cut off then.
    ///
    /// ```
    /// use fanline::{Hub, Server};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let app = axum::Router::new().route("/", axum::routing::get(async || "hello"));
    /// let server = Server::builder(Hub::default()).listen(([127, 0, 0, 1], 0)).prefix("/live").fallback(app).bind()?;
    /// # drop(server);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn fallback<S, B>(self, service: S) -> Self
    where
        S: Service<hyper::Request<RequestBody>, Response = hyper::Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self { fallback: Some(Fallback::new(service)), ..self }
    }

    /// Moves the server's own paths below `prefix`, such as `/live`: the stream is `/live/stream` then, and the index `/live/`.
    /// By default there is no prefix.
    ///
    /// An invalid prefix is an error of [`bind`](Self::bind). [`PathPrefix`] has the rules.
    #[must_use]
    pub fn prefix(mut self, prefix: impl AsRef<str>) -> Self {
        match prefix.as_ref().parse() {
            Ok(prefix) => (self.paths.prefix, self.invalid_prefix) = (prefix, None),
            Err(error) => self.invalid_prefix = Some(error),
        }
        self
    }

    /// Disables endpoints. Their paths get a 404, or the [fallback](Self::fallback) serves them. By default all are enabled.
    ///
    /// ```
    /// use fanline::server::Endpoint;
    /// # use fanline::{Hub, Server};
    ///
    /// // Only the stream.
    /// let others = Endpoint::ALL.iter().copied().filter(|endpoint| *endpoint != Endpoint::Stream);
    /// let builder = Server::builder(Hub::default()).disable(others);
    /// ```
    #[must_use]
    pub fn disable(mut self, endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        self.paths.disabled.extend(endpoints);
        self
    }

    /// Binds the addresses. Clients can connect from now on, and are served by [`Server::run`].
    ///
    /// # Errors
    /// When the prefix is invalid. When a listener cannot be bound; the error names it. When the limit on open files does not
    /// allow the wanted number of connections. When two producers have the same name.
    pub fn bind(mut self) -> io::Result<Server> {
        if let Some(error) = self.invalid_prefix {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        let producers = producer::records(&self.producers)?;
        let mut listeners = std::mem::take(&mut self.listeners);
        if listeners.is_empty() {
            listeners.push(([127, 0, 0, 1], 8000).into());
        }
        let (send_buffer, write_timeout, unix) = (self.send_buffer, self.streams.write_timeout, self.unix);
        let options = SocketOptions { send_buffer, write_timeout, unix };
        let bind = |listener| Acceptor::bind(listener, &options);
        let acceptors = listeners.into_iter().map(bind).collect::<io::Result<_>>()?;
        let metrics = Arc::new(Metrics::new(self.shards, EndReason::ALL.len()));
        let room = files::room(self.limits.max_connections, self.shards)?;
        let max_per_address = self.limits.max_connections_per_address;
        let connections = Connections::new(room.connections, room.set_by, room.turned_away, max_per_address);
        let limiter = Arc::new(Limiter::new(&self.limits, connections));
        let (drain, reserved_files) = (Arc::default(), room.reserved);
        Ok(Server { builder: self, acceptors, metrics, limiter, drain, producers, reserved_files })
    }

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
            let http = Http { handler, shard, limits, limiter, trusted_proxies };
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
        Builder {
            hub,
            listeners: Vec::new(),
            unix: UnixSocketOptions::default(),
            shards: std::thread::available_parallelism().map_or(1, usize::from),
            send_buffer: DEFAULT_SEND_BUFFER,
            drain: DEFAULT_DRAIN,
            streams: StreamOptions::default(),
            http: HttpOptions::default(),
            limits: Limits::default(),
            producers: Vec::new(),
            backbone: None,
            access: AccessHandle::default(),
            presence: PresenceOptions::default(),
            paths: Paths::default(),
            invalid_prefix: None,
            fallback: None,
        }
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

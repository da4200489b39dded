//! The builder of a server.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use tower_service::Service;

use super::acceptor::{Acceptor, SocketOptions};
use super::{
    AccessHandle, HttpOptions, Limits, Listener, PresenceOptions, Producer, Server, StreamOptions, UnixSocketOptions,
    files, producer,
};
use crate::auth::Access;
use crate::backbone::Backbone;
use crate::conn::EndReason;
use crate::conn::reply::BoxError;
use crate::http::body::RequestBody;
use crate::http::fallback::Fallback;
use crate::http::paths::{Endpoint, InvalidPathPrefix, Paths};
use crate::hub::Hub;
use crate::limit::{Connections, Limiter};
use crate::metrics::Metrics;

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
    pub(super) hub: Hub,
    pub(super) listeners: Vec<Listener>,
    pub(super) unix: UnixSocketOptions,
    pub(super) shards: usize,
    pub(super) send_buffer: usize,
    pub(super) drain: Duration,
    pub(super) streams: StreamOptions,
    pub(super) http: HttpOptions,
    pub(super) limits: Limits,
    pub(super) producers: Vec<Producer>,
    pub(super) backbone: Option<Backbone>,
    pub(super) access: AccessHandle,
    pub(super) presence: PresenceOptions,
    pub(super) paths: Paths,
    /// Why the prefix was not accepted.
    pub(super) invalid_prefix: Option<InvalidPathPrefix>,
    pub(super) fallback: Option<Fallback>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl Builder {
    pub(super) fn new(hub: Hub) -> Self {
        Self {
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

    /// Adds a listener: a TCP address, a [`ListenAddress`](super::ListenAddress), or a socket that listens already. Port 0 takes a
    /// free port. The default is 127.0.0.1:8000.
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

    /// Sets how many threads serve connections, at least one. The default is one for each core.
    #[must_use]
    pub fn shards(self, shards: usize) -> Self {
        Self { shards: shards.max(1), ..self }
    }

    /// Sets the size of a connection's send buffer in the kernel, which takes about twice as much memory. The
    /// default is [`DEFAULT_SEND_BUFFER`].
    #[must_use]
    pub fn send_buffer(self, bytes: usize) -> Self {
        Self { send_buffer: bytes, ..self }
    }

    /// Sets the time over which the streams are closed at the end. The default is [`DEFAULT_DRAIN`].
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

    /// Limits connections, subscriptions to everything, and publishers.
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
    #[cfg(any(feature = "cli", feature = "redis"))]
    #[must_use]
    pub fn backbone(self, backbone: Backbone) -> Self {
        Self { backbone: Some(backbone), ..self }
    }

    /// Sets the access rules. By default every client may subscribe, and local clients of the server's own user may do
    /// everything.
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
    /// HTTP/1.1 a response of 101 upgrades the connection, as WebSockets of axum do. Each request has a
    /// [`Remote`](super::Remote) as an extension.
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
    /// An invalid prefix is an error of [`bind`](Self::bind). [`PathPrefix`](super::PathPrefix) has the rules.
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
}

//! Streams as ordinary responses, for applications that have their own listener.
//!
//! [`stream_response`] returns the response to a request for a stream, which any server on hyper can send: axum's handlers return
//! it as it is. A [`Server`](crate::Server), which has its own listeners, needs less memory and CPU time for each stream. The
//! repository's `docs/library.md` compares them.

// The rest is private: the endpoints of a server. `Routes` handles each request: it checks the framing, applies CORS, finds the
// `Endpoint`, authorizes the request, and calls a handler. A handler returns a response or a `Problem`. The response of
// `GET /stream` is a stream, which `conn` moves to a task of its own.

mod accept;
mod admit;
mod asset;
mod body;
mod clients;
mod cluster;
mod content_encoding;
pub(crate) mod cors;
mod documents;
mod forwarded;
mod framing;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod health;
mod metrics;
pub(crate) mod options;
mod page;
mod problem;
pub(crate) mod producers;
mod publish;
mod query;
pub(crate) mod refusal;
mod stream;
mod stream_response;
mod topics;
mod viewer;
mod websocket;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock};

use admit::{Source, auth_request};
use arc_swap::ArcSwap;
use body::RequestBody;
use bytes::Bytes;
pub(crate) use cluster::local_lists;
use cors::Origins;
use futures_util::FutureExt;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use options::Options;
use page::PageQuery;
use problem::Problem;
use producers::Producers;
use refusal::Refusable;
use serde::Serialize;
pub use stream_response::{StreamResponseOptions, StreamStats, drain_streams, stream_response, stream_stats};
use tower_http::cors::CorsLayer;

use crate::auth::{Access, Action};
use crate::backbone::Backbone;
use crate::conn::http::{Handler, Reply};
use crate::conn::{Clients, Incoming, Shard};
pub use crate::conn::{StreamBody, StreamBodyError};
use crate::limit::{LimitExceeded, Limiter};
use crate::peer::Peer;
use crate::presence::{ClientIds, Members};

/// The handlers of one shard, and the state that they use.
pub(crate) struct Routes {
    pub(crate) shard: Arc<Shard>,
    /// The clients of each shard.
    pub(crate) clients: Arc<[Arc<Clients>]>,
    pub(crate) options: Options,
    /// The access rules, shared by all shards and replaced when settings are reloaded.
    pub(crate) access: Arc<ArcSwap<Access>>,
    /// The limits, shared by all shards.
    pub(crate) limiter: Arc<Limiter>,
    /// The CORS rules of `options.origins`; `None` if only the server's own pages may read.
    pub(crate) cors: Option<CorsLayer>,
    pub(crate) ids: Arc<ClientIds>,
    pub(crate) producers: Producers,
    pub(crate) backbone: Option<Backbone>,
    /// The members of the topics whose subscribers are announced.
    pub(crate) members: Option<Arc<Members>>,
}

impl Handler for Routes {
    async fn handle(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: &Peer,
        exceeded: Option<&LimitExceeded>,
    ) -> Reply {
        let (head, body) = request.into_parts();
        let (body, end) = body::watch(&head, body);
        let mut reply = self.reply(&head, body, peer, exceeded).await;
        if let Reply::Ordinary(response) = &mut reply
            && !end.is_certain()
        {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }
}

impl Routes {
    async fn reply(
        self: &Arc<Self>,
        head: &Parts,
        body: RequestBody,
        peer: &Peer,
        exceeded: Option<&LimitExceeded>,
    ) -> Reply {
        let client = forwarded::client(peer.address, &head.headers, &self.options.trusted_proxies);
        let mut source = Source { peer, client: *client.as_ref().unwrap_or(&peer.address), host: None };
        match client.map_err(Problem::from).and_then(|_| framing::check(head)) {
            Ok(host) => source.host = host,
            Err(problem) => return self.refuse(problem, head, source, None),
        }
        match &self.cors {
            Some(layer) if self.is_readable_by_pages(head.uri.path()) => {
                // Boxed, so that requests of servers without such rules have no room for it.
                let handling = Box::pin(self.route_or_refuse(head, body, source, exceeded));
                cors::apply(layer, head, handling).await
            }
            _ => self.route_or_refuse(head, body, source, exceeded).await,
        }
    }

    /// Whether the CORS rules apply to `path`. A browser on the server's own machine sends requests for every page that it
    /// shows: if any origin may read, the operators' endpoints are excluded.
    fn is_readable_by_pages(&self, path: &str) -> bool {
        match Endpoint::of(path).and_then(|endpoint| endpoint.operator_action()) {
            None => true,
            Some(Action::Measure) if self.access.load().has_open_metrics() => true,
            Some(_) => self.options.origins != Origins::Any,
        }
    }

    async fn route_or_refuse(
        self: &Arc<Self>,
        head: &Parts,
        body: RequestBody,
        source: Source<'_>,
        exceeded: Option<&LimitExceeded>,
    ) -> Reply {
        let (method, path) = (&head.method, head.uri.path());
        let outcome = match exceeded {
            Some(exceeded) if !Endpoint::of(path).is_some_and(|endpoint| endpoint.is_for_monitoring()) => {
                Err(exceeded.clone().into())
            }
            // Unwind safe: handlers share only atomics, and locks whose data is consistent after each statement.
            _ => AssertUnwindSafe(self.route(head, body, source)).catch_unwind().await.unwrap_or_else(|_| {
                tracing::error!(remote = %source.client, %method, path, "a handler panicked: this is a bug in fanline");
                let detail = "internal error: the server failed to handle this request, and logged the reason";
                Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail))
            }),
        };
        outcome.unwrap_or_else(|problem| {
            let is_stream = *method == Method::GET && matches!(Endpoint::of(path), Some(Endpoint::Stream));
            self.refuse(problem, head, source, is_stream.then(|| Refusable::of(head)).flatten())
        })
    }

    /// Logs and counts a refusal. That of a `refusable` stream is sent in band if a retry may succeed.
    fn refuse(&self, problem: Problem, head: &Parts, source: Source<'_>, refusable: Option<Refusable>) -> Reply {
        let (method, path) = (&head.method, head.uri.path());
        tracing::debug!(remote = %source.client, %method, path, ?problem, "refused");
        self.shard.metrics.refusals.add((problem.status().as_u16(), problem.reason()));
        if path == "/publish" || path.starts_with("/publish/") {
            self.shard.metrics.publish_errors.add(problem.reason());
        }
        let in_band = refusable.and_then(|request| self.refusal_in_band(&request, &problem));
        Reply::Ordinary(in_band.unwrap_or_else(|| problem.into_response()))
    }

    /// Returns the endpoint at `path` if it allows the method.
    fn endpoint<'a>(&self, method: &Method, path: &'a str, query: &str) -> Result<Endpoint<'a>, Problem> {
        let (length, max) = (query.len(), self.options.max_query_bytes);
        if length > max {
            let detail = format!("the query has {length} bytes, and the limit is {max} (setting max_query_bytes)");
            return Err(Problem::new(StatusCode::URI_TOO_LONG, detail));
        }
        let endpoint = Endpoint::of(path).ok_or_else(|| not_found(path))?;
        let is_allowed = endpoint.methods().split([',', ' ']).any(|allowed| allowed == method.as_str());
        if is_allowed { Ok(endpoint) } else { Err(Problem::method_not_allowed(endpoint.methods())) }
    }

    async fn route(self: &Arc<Self>, head: &Parts, body: RequestBody, source: Source<'_>) -> Result<Reply, Problem> {
        let (headers, path, query) = (&head.headers, head.uri.path(), head.uri.query().unwrap_or(""));
        let endpoint = self.endpoint(&head.method, path, query)?;
        if let Some(action) = endpoint.operator_action() {
            if !source.peer.serves_operators {
                return Err(only_for_operators(path));
            }
            self.admit(&auth_request(head, source, action)).await?;
        }
        let response = match endpoint {
            Endpoint::Stream => {
                return Ok(Reply::Stream(Box::new(stream::subscribe(self, head, &body, source).await?)));
            }
            Endpoint::WebSocket => {
                // Boxed: other requests have no room for its state.
                return Ok(Reply::WebSocket(Box::new(Box::pin(websocket::upgrade(self, head, &body, source)).await?)));
            }
            Endpoint::Publish(topic) => {
                let permit = self.admit(&auth_request(head, source, Action::Publish)).await?;
                let quota = self.limiter.publish_quota(source.client, || permit.grant.identity());
                match topic {
                    None => publish::publish(self, permit, &quota, head, body).await?,
                    Some(topic) => publish::publish_to(self, permit, &quota, topic, head, body).await?,
                }
            }
            Endpoint::Index => documents::index(self, headers, source.peer.serves_operators),
            Endpoint::OpenApi => documents::openapi(headers),
            Endpoint::AsyncApi => documents::asyncapi(headers),
            Endpoint::Docs => viewer::page(headers),
            Endpoint::DocsFile(name) => viewer::file(name, headers).ok_or_else(|| not_found(path))?,
            Endpoint::Console => documents::console(headers),
            Endpoint::ConsoleFile(file) => file.response(headers),
            Endpoint::BrowserClient => documents::CLIENT.response(headers),
            Endpoint::Health => health::health(self),
            Endpoint::Live => health::live(),
            Endpoint::Ready => health::ready(self)?,
            Endpoint::Metrics(format) => {
                let format = format.unwrap_or_else(|| metrics::Format::preferred(headers));
                metrics::metrics(self, format).await
            }
            Endpoint::Clients => clients::respond(self, &head.method, query).await?,
            Endpoint::Client(id) => json_response(&clients::disconnect(self, id).await?),
            Endpoint::Topics => json_response(&match PageQuery::parse(query, &["topic"])? {
                page if page.is_of_cluster => cluster::topics(self, &page).await?,
                page => topics::list(self, &page).await?,
            }),
        };
        Ok(Reply::Ordinary(response))
    }
}

/// What a path serves.
#[derive(Clone, Copy)]
enum Endpoint<'a> {
    Index,
    OpenApi,
    AsyncApi,
    Docs,
    /// With the file's name.
    DocsFile(&'a str),
    Console,
    ConsoleFile(&'static documents::File),
    BrowserClient,
    Stream,
    WebSocket,
    /// With the topic from the path, if any.
    Publish(Option<&'a str>),
    Health,
    Live,
    Ready,
    /// In this format, or in the one that the client prefers.
    Metrics(Option<metrics::Format>),
    Clients,
    /// With the client's id.
    Client(&'a str),
    Topics,
}

impl<'a> Endpoint<'a> {
    fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            "/" => Self::Index,
            "/openapi.json" => Self::OpenApi,
            "/asyncapi.json" => Self::AsyncApi,
            "/docs" => Self::Docs,
            "/demo" => Self::Console,
            "/fanline.js" => Self::BrowserClient,
            "/stream" | "/events" => Self::Stream,
            "/ws" => Self::WebSocket,
            "/publish" => Self::Publish(None),
            "/health" => Self::Health,
            "/health/live" => Self::Live,
            "/health/ready" => Self::Ready,
            "/metrics" => Self::Metrics(None),
            "/metrics/prometheus" => Self::Metrics(Some(metrics::Format::Prometheus)),
            "/metrics/json" => Self::Metrics(Some(metrics::Format::Json)),
            "/clients" => Self::Clients,
            "/topics" => Self::Topics,
            _ => return Self::below(path),
        })
    }

    /// The endpoint of a path that has a parameter.
    fn below(path: &'a str) -> Option<Self> {
        let (collection, item) = path.strip_prefix('/')?.split_once('/')?;
        match collection {
            "clients" => Some(Self::Client(item)),
            "demo" => documents::File::of_console(item).map(Self::ConsoleFile),
            "docs" => Some(Self::DocsFile(item)),
            "publish" if !item.is_empty() => Some(Self::Publish(Some(item))),
            _ => None,
        }
    }

    /// The allowed methods, as in the header `Allow`.
    fn methods(self) -> &'static str {
        match self {
            Self::Stream | Self::WebSocket => "GET",
            Self::Publish(_) => "POST",
            Self::Client(_) => "DELETE",
            Self::Clients => "GET, HEAD, DELETE",
            // hyper omits the body of a response to HEAD.
            _ => "GET, HEAD",
        }
    }

    /// The action that an operators' endpoint requires permission for.
    fn operator_action(self) -> Option<Action<'static>> {
        match self {
            Self::Metrics(_) => Some(Action::Measure),
            Self::Clients | Self::Client(_) | Self::Topics => Some(Action::Administer),
            _ => None,
        }
    }

    /// Whether the endpoint is served on connections over a limit as well.
    fn is_for_monitoring(self) -> bool {
        matches!(self, Self::Health | Self::Live | Self::Ready | Self::Metrics(_))
    }
}

fn only_for_operators(path: &str) -> Problem {
    let detail = format!("{path:?} is served on the admin listener only (setting admin_listen)");
    Problem::new(StatusCode::NOT_FOUND, detail)
}

fn not_found(path: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("no endpoint {path:?}; GET / lists the endpoints"))
}

fn json_response(body: &impl Serialize) -> Response<Full<Bytes>> {
    json_body(serde_json::to_vec(body).expect("JSON whose keys are strings"))
}

/// A response with this JSON as its body.
fn json_body(json: Vec<u8>) -> Response<Full<Bytes>> {
    // Copying all fields costs less than inserting each of them.
    static HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| {
        let fields = [
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        ];
        fields.into_iter().collect()
    });
    let mut response = Response::new(Full::from(json));
    response.headers_mut().clone_from(&HEADERS);
    response
}

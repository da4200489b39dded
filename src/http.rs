//! Streams as ordinary responses, for applications that have their own listener.
//!
//! [`stream_response`](stream_response()) returns the response to a request for a stream, which any server on hyper can send: axum's handlers return
//! it as it is. A [`Server`](crate::Server), which has its own listeners, needs less memory and CPU time for each stream. The
//! repository's `docs/library.md` compares them.

// The rest is private: the endpoints of a server. `Routes` handles each request: it finds the `Route`, checks the framing,
// applies CORS, authorizes the request, and calls a handler. A handler returns a response or a `Problem`. The response of
// `GET /stream` is a stream, which `conn` moves to a task of its own. Requests for other paths go to the `fallback`, if there is
// one.

mod accept;
mod admit;
mod asset;
pub(crate) mod body;
mod clients;
mod cluster;
mod content_encoding;
pub(crate) mod cors;
pub(crate) mod documents;
pub(crate) mod fallback;
mod forwarded;
mod framing;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod health;
mod index;
mod interval;
mod metrics;
pub(crate) mod options;
mod page;
pub(crate) mod paths;
mod problem;
pub(crate) mod producers;
mod publish;
mod query;
pub(crate) mod refusal;
mod route;
mod stream;
mod stream_response;
mod topics;
mod viewer;
mod websocket;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::Poll;

use admit::{Source, auth_request};
use arc_swap::ArcSwap;
use body::RequestBody;
use bytes::Bytes;
pub(crate) use cluster::local_lists;
use cors::Origins;
use documents::Documents;
use fallback::Fallback;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use options::Options;
use paths::Paths;
use problem::Problem;
use producers::Producers;
use refusal::Refusable;
use route::Route;
use serde::Serialize;
pub use stream_response::{StreamResponseOptions, StreamStats, drain_streams, stream_response, stream_stats};
use tower_http::cors::CorsLayer;

use crate::auth::{Access, Action, KnownHeaders};
use crate::backbone::Backbone;
use crate::conn::http::Handler;
use crate::conn::reply::Reply;
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
    pub(crate) paths: Paths,
    /// The documents that depend on the paths, shared by all shards.
    pub(crate) documents: Arc<Documents>,
    /// The application's service for all other paths.
    pub(crate) fallback: Option<Fallback>,
}

impl Handler for Routes {
    fn handle<'a>(
        self: &'a Arc<Self>,
        request: Request<Incoming>,
        peer: &'a Peer,
        exceeded: Option<&'a LimitExceeded>,
    ) -> BoxFuture<'a, Reply> {
        match &self.fallback {
            Some(fallback) if self.paths.route(request.uri().path()).is_none() => {
                self.fall_back(fallback, request, peer, exceeded)
            }
            _ => {
                // Outside the future, which would have room for the whole request as well.
                let (head, body) = request.into_parts();
                let (body, end) = body::watch(head.version, body);
                let mut body = Some(body);
                Box::pin(async move {
                    let mut reply = match self.source(&head, peer) {
                        // Boxed, so that requests of servers without such rules have no room for it.
                        Ok(source) if self.is_readable_by_pages(head.uri.path()) => {
                            Box::pin(self.reply_to_pages(&head, &mut body, &source, exceeded)).await
                        }
                        Ok(source) => self.route_or_refuse(&head, &mut body, &source, exceeded).await,
                        Err(refusal) => *refusal,
                    };
                    end.close_if_uncertain(&mut reply);
                    reply
                })
            }
        }
    }
}

impl Routes {
    /// Returns where a request comes from, or the refusal of one whose framing or client is ambiguous.
    fn source<'a>(&self, head: &'a Parts, peer: &'a Peer) -> Result<Source<'a>, Box<Reply>> {
        let known = KnownHeaders::of(&head.headers);
        let client = forwarded::client(peer.address, &head.headers, &self.options.trusted_proxies);
        let source = Source { peer, client: *client.as_ref().unwrap_or(&peer.address), host: None, known };
        match client.map_err(Problem::from).and_then(|_| framing::check(head, &known)) {
            Ok(host) => Ok(Source { host, ..source }),
            Err(problem) => Err(Box::new(self.refuse(problem, head, source, None))),
        }
    }

    /// Like [`Routes::route_or_refuse`], with the headers of the CORS rules.
    async fn reply_to_pages(
        self: &Arc<Self>,
        head: &Parts,
        body: &mut Option<RequestBody>,
        source: &Source<'_>,
        exceeded: Option<&LimitExceeded>,
    ) -> Reply {
        let handling = Box::pin(self.route_or_refuse(head, body, source, exceeded));
        match &self.cors {
            Some(layer) => cors::apply(layer, head, handling).await,
            None => handling.await,
        }
    }

    /// Whether there are CORS rules that apply to `path`. A browser on the server's own machine sends requests for every page
    /// that it shows: if any origin may read, the operators' endpoints are excluded.
    fn is_readable_by_pages(&self, path: &str) -> bool {
        if self.cors.is_none() {
            return false;
        }
        match self.paths.route(path).and_then(Route::operator_action) {
            None => true,
            Some(Action::Measure) if self.access.load().has_open_metrics() => true,
            Some(_) => self.options.origins != Origins::Any,
        }
    }

    /// Calls the handler. An error becomes a refusal, and a panic, which is a bug, a 500.
    async fn route_or_refuse(
        self: &Arc<Self>,
        head: &Parts,
        body: &mut Option<RequestBody>,
        source: &Source<'_>,
        exceeded: Option<&LimitExceeded>,
    ) -> Reply {
        if let Some(exceeded) = exceeded
            && !self.paths.route(head.uri.path()).is_some_and(Route::is_for_monitoring)
        {
            return self.refuse_route(exceeded.clone().into(), head, source);
        }
        // Pinned here, because it is large, and a combinator would move it.
        let mut handling = pin!(self.route(head, body, source));
        let handled = poll_fn(|cx| {
            // Unwind safe: handlers share only atomics, and locks whose data is consistent after each statement.
            let outcome = catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(cx)));
            outcome.map_or(Poll::Ready(None), |poll| poll.map(Some))
        });
        match handled.await {
            Some(Ok(reply)) => reply,
            Some(Err(problem)) => self.refuse_route(problem, head, source),
            None => self.refuse_route(after_panic(head, source), head, source),
        }
    }

    /// Like [`Routes::refuse`], after the route is known.
    #[cold]
    fn refuse_route(&self, problem: Problem, head: &Parts, source: &Source<'_>) -> Reply {
        let is_stream = head.method == Method::GET && matches!(self.paths.route(head.uri.path()), Some(Route::Stream));
        self.refuse(problem, head, *source, is_stream.then(|| Refusable::of(head)).flatten())
    }

    /// Logs and counts a refusal. That of a `refusable` stream is sent in band if a retry may succeed.
    #[cold]
    fn refuse(&self, problem: Problem, head: &Parts, source: Source<'_>, refusable: Option<Refusable>) -> Reply {
        let (method, path) = (&head.method, head.uri.path());
        tracing::debug!(remote = %source.client, %method, path, ?problem, "refused");
        self.shard.metrics.refusals.add((problem.status().as_u16(), problem.reason()));
        if let Some(Route::Publish(_)) = self.paths.route(path) {
            self.shard.metrics.publish_errors.add(problem.reason());
        }
        let in_band = refusable.and_then(|request| self.refusal_in_band(&request, &problem));
        Reply::whole(in_band.unwrap_or_else(|| problem.into_response()))
    }

    /// Returns the route of `path` if it allows the method.
    fn find<'a>(&self, method: &Method, path: &'a str, query: &str) -> Result<Route<'a>, Problem> {
        let (length, max) = (query.len(), self.options.max_query_bytes);
        if length > max {
            return Err(query_too_long(length, max));
        }
        let route = self.paths.route(path).ok_or_else(|| self.not_found(path))?;
        let allowed = route.methods();
        // Most routes have one method: the comparison costs less than the split.
        let is_allowed = allowed == method.as_str() || allowed.split(", ").any(|allowed| allowed == method.as_str());
        if is_allowed { Ok(route) } else { Err(Problem::method_not_allowed(allowed)) }
    }

    #[cold]
    fn not_found(&self, path: &str) -> Problem {
        let mut detail = format!("no endpoint {path:?}");
        if self.paths.serves("/") {
            detail += &format!("; GET {}/ lists the endpoints", self.paths.prefix);
        }
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    async fn route(
        self: &Arc<Self>,
        head: &Parts,
        body: &mut Option<RequestBody>,
        source: &Source<'_>,
    ) -> Result<Reply, Problem> {
        let (headers, path, query) = (&head.headers, head.uri.path(), head.uri.query().unwrap_or(""));
        let route = self.find(&head.method, path, query)?;
        if let Some(action) = route.operator_action() {
            if !source.peer.serves_operators {
                return Err(only_for_operators(path));
            }
            Box::pin(async { self.admit(&auth_request(head, *source, action)).await }).await?;
        }
        let response = match route {
            // Boxed, like others below: a publication has no room for their state.
            Route::Stream => {
                return Ok(Reply::Stream(Box::new(
                    Box::pin(stream::subscribe(self, head, body.as_ref(), *source)).await?,
                )));
            }
            Route::WebSocket => {
                return Ok(Reply::WebSocket(Box::new(
                    Box::pin(websocket::upgrade(self, head, body.as_ref(), *source)).await?,
                )));
            }
            Route::Publish(topic) => {
                let mut permit = match self.admit_at_once(&auth_request(head, *source, Action::Publish)) {
                    Some(permit) => permit?,
                    None => Box::pin(self.admit_to_publish(head, source)).await?,
                };
                match topic {
                    None => publish::publish(self, &mut permit, head, source, body).await?,
                    Some(topic) => publish::publish_to(self, &mut permit, topic, head, source, body).await?,
                }
            }
            Route::Directory => documents::redirect(path),
            Route::Index => index::index(self, headers, source.peer.serves_operators),
            Route::OpenApi => self.documents.openapi(headers),
            Route::AsyncApi => self.documents.asyncapi(headers),
            Route::Docs => viewer::page(headers),
            Route::DocsFile(name) => viewer::file(name, headers).ok_or_else(|| self.not_found(path))?,
            Route::Console => documents::console(headers),
            Route::ConsoleFile(file) => file.response(headers),
            Route::BrowserClient => documents::CLIENT.response(headers),
            Route::Health => health::health(self),
            Route::Live => health::live(),
            Route::Ready => health::ready(self)?,
            Route::Metrics(format) => {
                let format = format.unwrap_or_else(|| metrics::Format::preferred(headers));
                Box::pin(metrics::metrics(self, format)).await
            }
            Route::Clients => Box::pin(clients::respond(self, &head.method, query)).await?,
            Route::Client(id) => json_response(&Box::pin(clients::disconnect(self, id)).await?),
            Route::Topics => json_response(&Box::pin(topics::respond(self, query)).await?),
        };
        Ok(Reply::whole(response))
    }
}

#[cold]
fn query_too_long(length: usize, max: usize) -> Problem {
    let detail = format!("the query has {length} bytes, and the limit is {max} (setting max_query_bytes)");
    Problem::new(StatusCode::URI_TOO_LONG, detail)
}

/// Logs that a handler panicked, which is a bug.
#[cold]
fn after_panic(head: &Parts, source: &Source<'_>) -> Problem {
    let (method, path) = (&head.method, head.uri.path());
    tracing::error!(remote = %source.client, %method, path, "a handler panicked: this is a bug in fanline");
    let detail = "internal error: the server failed to handle this request, and logged the reason";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
}

#[cold]
fn only_for_operators(path: &str) -> Problem {
    let detail = format!("{path:?} is served on the admin listener only (setting admin_listen)");
    Problem::new(StatusCode::NOT_FOUND, detail)
}

fn json_response(body: &impl Serialize) -> Response<Full<Bytes>> {
    json_body(serde_json::to_vec(body).expect("JSON whose keys are strings"))
}

/// A response with this JSON as its body.
fn json_body(json: impl Into<Bytes>) -> Response<Full<Bytes>> {
    // Copying all fields costs less than inserting each of them.
    static HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| {
        let fields = [
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        ];
        fields.into_iter().collect()
    });
    let mut response = Response::new(Full::new(json.into()));
    response.headers_mut().clone_from(&HEADERS);
    response
}

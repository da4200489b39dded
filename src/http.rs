//! The HTTP side: which path is answered by whom, and how a stream leaves hyper.
//!
//! A request is answered by ordinary code over hyper's types, readable from top to bottom: [`Routes::answer`] finds the
//! handler, a handler returns a response or a [`problem::Problem`], and `GET /stream` returns a stream that
//! [`http1`](crate::conn::http1) puts on its own task.

mod admit;
mod clients;
mod cluster;
pub(crate) mod cors;
mod demo;
mod framing;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod metrics;
mod page;
mod problem;
mod publish;
mod query;
mod status;
mod stream;
mod topics;

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use admit::auth_request;
use arc_swap::ArcSwap;
use bytes::Bytes;
pub(crate) use cluster::local_lists;
use cors::Origins;
use futures_util::FutureExt;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use problem::Problem;
use serde_json::Value;
use tower_http::cors::CorsLayer;

use crate::auth::{Access, Action};
use crate::backbone::Backbone;
use crate::conn::http1::{Handler, Reply};
use crate::conn::{Clients, Shard};
use crate::limit::{LimitExceeded, Limiter};
use crate::presence::ClientIds;

/// What the server accepts over HTTP.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of one event's payload.
    pub max_event_bytes: usize,
    /// Bytes of a body that is one JSON document. A body of lines may have any length.
    pub max_body_bytes: usize,
    /// Bytes of one line of such a body; none is what the largest event takes when each of its characters is escaped.
    pub max_line_bytes: Option<usize>,
    /// How long a body that is one JSON document may take to come, and how long a line.
    pub body_timeout: Duration,
    /// How long a body of lines may be quiet between two of them.
    pub upload_timeout: Duration,
    /// Topics and patterns of one subscription.
    pub max_topics: usize,
    /// Patterns among these: each event is compared with each.
    pub max_patterns: usize,
    /// Segments of one pattern that are wildcards.
    pub max_wildcards: usize,
    /// Bytes of a request's query.
    pub max_query_bytes: usize,
    /// Bytes of a request's head.
    pub max_head_bytes: usize,
    /// Fields of a request's head.
    pub max_headers: usize,
    /// Which pages of other origins may read what is answered.
    pub origins: Origins,
    /// How long a client waits that comes with an id which this server does not have yet, and its backbone has.
    pub resume_wait: Duration,
    /// How long a client may take to send a request's head; also how long a connection is kept between requests.
    pub head_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            resume_wait: Duration::from_secs(2),
            max_event_bytes: 64 << 10,
            max_body_bytes: 1 << 20,
            max_line_bytes: None,
            body_timeout: Duration::from_secs(30),
            upload_timeout: Duration::from_secs(300),
            max_topics: 100,
            max_patterns: 20,
            max_wildcards: 8,
            max_query_bytes: 16 << 10,
            max_head_bytes: 64 << 10,
            max_headers: 100,
            origins: Origins::Own,
            head_timeout: Duration::from_secs(10),
        }
    }
}

/// Says how a producer of events is: `running`, `stopped` or `off`.
pub(crate) type ProducerStatus = Arc<dyn Fn() -> &'static str + Send + Sync>;

/// The handlers of one shard, and what they need.
pub(crate) struct Routes {
    pub(crate) shard: Arc<Shard>,
    /// The clients of all shards.
    pub(crate) clients: Arc<[Arc<Clients>]>,
    pub(crate) options: Options,
    /// Who may do what: of all shards, and replaced while they run.
    pub(crate) access: Arc<ArcSwap<Access>>,
    /// What all shards have let in.
    pub(crate) limiter: Arc<Limiter>,
    /// What `options` says of origins, ready to use.
    pub(crate) cors: Option<CorsLayer>,
    pub(crate) ids: Arc<ClientIds>,
    pub(crate) producers: Vec<(String, ProducerStatus)>,
    /// How the backbone is, if there is one.
    pub(crate) backbone: Option<Backbone>,
}

impl Handler for Routes {
    async fn answer(&self, request: Request<Incoming>, remote: SocketAddr, over: Option<&LimitExceeded>) -> Reply {
        if let Err(problem) = framing::check(&request) {
            return self.refuse(problem, request.method(), request.uri().path(), remote);
        }
        match &self.cors {
            Some(cors)
                if cors::covers(&self.options.origins, request.uri().path(), || {
                    self.access.load().has_open_metrics()
                }) =>
            {
                cors::answer(cors, request, |request| self.answer_plainly(request, remote, over)).await
            }
            _ => self.answer_plainly(request, remote, over).await,
        }
    }
}

impl Routes {
    async fn answer_plainly(
        &self,
        request: Request<Incoming>,
        remote: SocketAddr,
        over: Option<&LimitExceeded>,
    ) -> Reply {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let outcome = match over {
            Some(over) if !is_for_monitoring(&path) => Err(over.clone().into()),
            // What it held is dropped; what handlers share is behind atomics and locks that are in order wherever it panics.
            _ => AssertUnwindSafe(self.route(request, &path, remote)).catch_unwind().await.unwrap_or_else(|_| {
                tracing::error!(%remote, %method, path, "a handler panicked: this is an error in the program");
                Err(Problem::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the server failed at this request; its log says how",
                ))
            }),
        };
        outcome.unwrap_or_else(|problem| self.refuse(problem, &method, &path, remote))
    }

    fn refuse(&self, problem: Problem, method: &Method, path: &str, remote: SocketAddr) -> Reply {
        tracing::debug!(%remote, %method, path, ?problem, "refused");
        self.shard.metrics.refusals.add((problem.status().as_u16(), problem.reason()));
        if path == "/publish" || path.starts_with("/publish/") {
            self.shard.metrics.publish_errors.add(problem.reason());
        }
        Reply::Ordinary(problem.into_response())
    }

    async fn route(&self, request: Request<Incoming>, path: &str, remote: SocketAddr) -> Result<Reply, Problem> {
        /// A path that answers GET answers HEAD: hyper leaves the body away.
        fn reads(request: &Request<Incoming>) -> Result<(), Problem> {
            allow("GET, HEAD", matches!(*request.method(), Method::GET | Method::HEAD))
        }
        let (query, max) = (request.uri().query().map_or(0, str::len), self.options.max_query_bytes);
        if query > max {
            let detail = format!("the query has {query} bytes, and the limit is {max} (setting max_query_bytes)");
            return Err(Problem::new(StatusCode::URI_TOO_LONG, detail));
        }
        let response = match path {
            "/stream" | "/events" => {
                allow("GET", request.method() == Method::GET)?;
                return Ok(Reply::Stream(Box::new(stream::subscribe(self, request, remote).await?)));
            }
            "/publish" => {
                allow("POST", request.method() == Method::POST)?;
                let permit = self.admit(&auth_request(&request, remote, Action::Publish)).await?;
                let quota = self.limiter.publish_quota(remote.ip(), || permit.grant.identity());
                json_response(&publish::publish(self, permit, &quota, request).await?)
            }
            "/" => reads(&request).map(|()| status::index(self, request.headers()))?,
            "/openapi.json" => reads(&request).map(|()| status::openapi())?,
            "/demo" => reads(&request).map(|()| demo::page())?,
            "/health" => reads(&request).map(|()| status::health(self))?,
            "/health/live" => reads(&request).map(|()| status::live())?,
            "/health/ready" => reads(&request).and_then(|()| status::ready(self))?,
            "/metrics" => {
                reads(&request)?;
                self.admit(&auth_request(&request, remote, Action::Measure)).await?;
                metrics::metrics(self, metrics::Format::asked_for(request.headers())).await
            }
            "/metrics/prometheus" => {
                reads(&request)?;
                self.admit(&auth_request(&request, remote, Action::Measure)).await?;
                metrics::metrics(self, metrics::Format::Prometheus).await
            }
            "/metrics/json" => {
                reads(&request)?;
                self.admit(&auth_request(&request, remote, Action::Measure)).await?;
                metrics::metrics(self, metrics::Format::Json).await
            }
            "/clients" => {
                reads(&request)?;
                self.admit(&auth_request(&request, remote, Action::Administer)).await?;
                clients::list(self, request.uri().query().unwrap_or("")).await?
            }
            "/topics" => {
                reads(&request)?;
                self.admit(&auth_request(&request, remote, Action::Administer)).await?;
                json_response(&topics::list(self, request.uri().query().unwrap_or("")).await?)
            }
            path if path.starts_with("/clients/") => {
                allow("DELETE", request.method() == Method::DELETE)?;
                self.admit(&auth_request(&request, remote, Action::Administer)).await?;
                json_response(&clients::disconnect(self, &path["/clients/".len()..]).await?)
            }
            _ => {
                let Some(topic) = path.strip_prefix("/publish/").filter(|topic| !topic.is_empty()) else {
                    let detail = format!("there is no {path:?} here; GET / lists what there is");
                    return Err(Problem::new(StatusCode::NOT_FOUND, detail));
                };
                allow("POST", request.method() == Method::POST)?;
                let permit = self.admit(&auth_request(&request, remote, Action::Publish)).await?;
                let quota = self.limiter.publish_quota(remote.ip(), || permit.grant.identity());
                json_response(&publish::publish_to(self, permit, &quota, topic, request).await?)
            }
        };
        Ok(Reply::Ordinary(response))
    }
}

/// What is answered to whoever asks how the server is, also when there is no room for others.
fn is_for_monitoring(path: &str) -> bool {
    ["/health", "/metrics"]
        .iter()
        .any(|prefix| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

fn allow(methods: &'static str, is_allowed: bool) -> Result<(), Problem> {
    if is_allowed { Ok(()) } else { Err(Problem::method_not_allowed(methods)) }
}

fn json_response(body: &Value) -> Response<Full<Bytes>> {
    json_bytes(body.to_string().into())
}

fn json_bytes(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

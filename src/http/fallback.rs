//! The application's own service, which handles the requests for all paths that are not the server's own.
//!
//! **Contract.** The service gets the request as it came, with its [`Remote`] among the extensions, on the thread of the connection's
//! shard. Limits of connections, heads and idle connections apply to it, and nothing else does: no CORS rules, no access rules, no
//! limits of bodies. An error or a panic of the service is a 500. One of a body ends the response before its end.

use std::any::Any;
use std::future::ready;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::http::uri::PathAndQuery;
use hyper::service::Service as _;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::service::TowerToHyperService;
use tower_service::Service;

use super::admit::Source;
use super::body::{self, BodyEnd, RequestBody};
use super::problem::Problem;
use super::{Routes, forwarded};
use crate::auth::KnownHeaders;
use crate::conn::reply::{BoxError, Reply, ReplyBody};
use crate::conn::{Incoming, Shard};
use crate::limit::LimitExceeded;
use crate::peer::{Peer, PeerAddress};

/// A service of the application, shared by all shards.
#[derive(Clone)]
pub(crate) struct Fallback(Arc<dyn Application>);

/// A service of any type.
trait Application: Send + Sync {
    /// Calls the service for a request of `client`.
    fn call<'a>(&self, request: Request<Incoming>, client: PeerAddress, shard: &'a Shard) -> BoxFuture<'a, Reply>;
}

/// Where a request comes from. Each request that [`Builder::fallback`](crate::server::Builder::fallback) handles has it as an
/// extension.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Remote {
    /// The peer of the connection.
    pub peer: Peer,
    /// The address of the client: that of the peer, or the one that a trusted proxy forwarded.
    pub client: PeerAddress,
}

impl Fallback {
    pub(crate) fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Arc::new(Wrapped(TowerToHyperService::new(service))))
    }
}

/// The service in its own type, so that a request has one boxed future.
struct Wrapped<S>(TowerToHyperService<S>);

impl<S, B> Application for Wrapped<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn call<'a>(&self, request: Request<Incoming>, client: PeerAddress, shard: &'a Shard) -> BoxFuture<'a, Reply> {
        let (method, target) = (request.method().clone(), request.uri().path_and_query().cloned());
        let (version, mut end) = (request.version(), BodyEnd::default());
        let request = request.map(|body| {
            let (body, its_end) = body::watch(version, body);
            end = its_end;
            body
        });
        let reply = move |outcome: Result<Result<Response<B>, S::Error>, Panic>| {
            let response = match outcome {
                Ok(Ok(response)) => response.map(|body| ReplyBody::Streamed(body.map_err(Into::into).boxed_unsync())),
                Ok(Err(error)) => failure(&error.into(), client, &method, target.as_ref()),
                Err(_) => failure(&"it panicked".into(), client, &method, target.as_ref()),
            };
            shard.counts().add_fallback(response.status().as_u16());
            let mut reply = Reply::Ordinary(response);
            end.close_if_uncertain(&mut reply);
            reply
        };
        // Unwind safe: nothing of the server is shared with the service. Combinators: the state of an `async` block would have
        // room for each intermediate value, and be copied with it.
        Box::pin(AssertUnwindSafe(self.0.call(request)).catch_unwind().map(reply))
    }
}

/// What a panic leaves.
type Panic = Box<dyn Any + Send>;

/// Logs an error of the service, and returns its response.
fn failure(
    error: &BoxError,
    client: PeerAddress,
    method: &Method,
    target: Option<&PathAndQuery>,
) -> Response<ReplyBody> {
    let path = target.map_or("", PathAndQuery::path);
    tracing::error!(remote = %client, %method, path, %error, "the application's service failed");
    let detail = "internal error: the application failed to handle this request, and the server logged the reason";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response().map(ReplyBody::Whole)
}

impl Routes {
    /// Lets the application's service handle the request.
    pub(super) fn fall_back<'a>(
        &'a self,
        fallback: &Fallback,
        mut request: Request<Incoming>,
        peer: &Peer,
        exceeded: Option<&LimitExceeded>,
    ) -> BoxFuture<'a, Reply> {
        let client = forwarded::client(peer.address, request.headers(), &self.options.trusted_proxies);
        let remote = Remote { peer: peer.clone(), client: *client.as_ref().unwrap_or(&peer.address) };
        let exceeded = exceeded.cloned().map(Problem::from);
        if let Some(problem) = exceeded.or(client.err().map(Problem::from)) {
            let (head, body) = request.into_parts();
            let source = Source { peer, client: remote.client, host: None, known: KnownHeaders::default() };
            let (_, end) = body::watch(head.version, body);
            let mut reply = self.refuse(problem, &head, source, None);
            end.close_if_uncertain(&mut reply);
            return Box::pin(ready(reply));
        }
        let client = remote.client;
        request.extensions_mut().insert(remote);
        fallback.0.call(request, client, &self.shard)
    }
}

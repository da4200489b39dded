//! The application's own service, which handles the requests for all paths that are not the server's own.
//!
//! **Contract.** The service gets the request as it came, with its [`Remote`] among the extensions, on the thread of the connection's
//! shard. Limits of connections, heads and idle connections apply to it, and nothing else does: no CORS rules, no access rules, no
//! limits of bodies. An error or a panic of the service is a 500. One of a body ends the response before its end.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Body;
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use tower_service::Service;

use super::admit::Source;
use super::body::RequestBody;
use super::problem::Problem;
use super::{Routes, forwarded};
use crate::conn::reply::{BoxError, Reply, ReplyBody};
use crate::limit::LimitExceeded;
use crate::peer::{Peer, PeerAddress};

type Handling = Pin<Box<dyn Future<Output = Result<Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError>> + Send>>;

/// A service of the application, shared by all shards.
#[derive(Clone)]
pub(crate) struct Fallback(Arc<dyn Fn(Request<RequestBody>) -> Handling + Send + Sync>);

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
        Self(Arc::new(move |request| {
            let mut service = service.clone();
            Box::pin(async move {
                poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
                let response = service.call(request).await.map_err(Into::into)?;
                Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
            })
        }))
    }

    /// Calls the service. The error says why there is no response.
    async fn call(&self, request: Request<RequestBody>) -> Result<Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError> {
        // Unwind safe: nothing of the server is shared with the service.
        let outcome = AssertUnwindSafe(async { self.0(request).await }).catch_unwind().await;
        outcome.unwrap_or_else(|_| Err("it panicked".into()))
    }
}

impl Routes {
    /// Lets the application's service handle the request.
    pub(super) async fn fall_back(
        &self,
        fallback: &Fallback,
        head: Parts,
        body: RequestBody,
        peer: &Peer,
        exceeded: Option<&LimitExceeded>,
    ) -> Reply {
        let client = forwarded::client(peer.address, &head.headers, &self.options.trusted_proxies);
        let remote = Remote { peer: peer.clone(), client: *client.as_ref().unwrap_or(&peer.address) };
        let exceeded = exceeded.cloned().map(Problem::from);
        if let Some(problem) = exceeded.or(client.err().map(Problem::from)) {
            let source = Source { peer, client: remote.client, host: None };
            return self.refuse(problem, &head, source, None);
        }
        let (address, method, uri) = (remote.client, head.method.clone(), head.uri.clone());
        let mut request = Request::from_parts(head, body);
        request.extensions_mut().insert(remote);
        let reply = match fallback.call(request).await {
            Ok(response) => response.map(ReplyBody::Streamed),
            Err(error) => {
                tracing::error!(remote = %address, %method, path = uri.path(), %error, "the application's service failed");
                let detail =
                    "internal error: the application failed to handle this request, and the server logged the reason";
                let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail);
                problem.into_response().map(ReplyBody::Whole)
            }
        };
        self.shard.counts().add_fallback(reply.status().as_u16());
        Reply::Ordinary(reply)
    }
}

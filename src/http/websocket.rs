//! `GET /ws`: accepts a WebSocket, whose events are those of `GET /stream` with the same parameters.

#[cfg(test)]
mod echo;
mod handshake;
mod message;
mod reply;
mod router;

use std::borrow::Cow;
use std::sync::Arc;

use hyper::header::{CONNECTION, COOKIE, HeaderValue, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use super::Routes;
use super::admit::Source;
use super::body::RequestBody;
use super::problem::Problem;
use super::query::StreamQuery;
use super::stream;
use crate::conn::reply::WebSocketReply;
use crate::hub::Feed;
use crate::wire::websocket::reader::MessageLimits;
use router::Router;

pub(super) async fn upgrade(
    routes: &Arc<Routes>,
    head: &Parts,
    body: Option<&RequestBody>,
    source: Source<'_>,
) -> Result<WebSocketReply, Problem> {
    let handshake = handshake::check(head, &routes.options.origins)?;
    stream::check_body(body)?;
    stream::check_backbone(routes)?;
    let mut head = Cow::Borrowed(head);
    if !handshake.takes_cookies {
        head.to_mut().headers.remove(COOKIE);
    }
    let mut query = StreamQuery::parse(head.uri.query().unwrap_or(""), &head.headers, &routes.options)?;
    // Read before the grant, so that it is never taken for one of later rules.
    let rules = routes.access.load_full();
    let (mut request, permit) = stream::open::<Feed>(routes, &head, source, &mut query).await?;
    let client = request.registration.client.clone();
    let firehose = request.firehose.take();
    let messages = Box::new(Router::new(routes.clone(), client, firehose, &head, source, rules));
    let limits = MessageLimits { max_bytes: routes.options.max_event_as_json(), accepts_binary: false };
    let head = response(handshake.accept).into_parts().0;
    let reply = WebSocketReply { head, request, messages, limits, permit };
    #[cfg(test)]
    let reply = echo::apply(reply);
    Ok(reply)
}

/// The response that accepts a handshake (RFC 6455, section 4.2.2). It agrees on no extension and no subprotocol.
fn response(accept: HeaderValue) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

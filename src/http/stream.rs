//! `GET /stream`: a subscription as a response.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};

use super::Routes;
use super::problem::Problem;
use super::query::StreamQuery;
use crate::auth::{Action, AuthRequest};
use crate::backbone::State;
use crate::conn::StreamRequest;
use crate::conn::http1::StreamReply;
use crate::presence::{Identity, Labels};

const EVENT_STREAM: &str = "text/event-stream";

pub(super) async fn subscribe(
    routes: &Routes,
    request: Request<Incoming>,
    remote: SocketAddr,
) -> Result<StreamReply, Problem> {
    let (request, body) = request.into_parts();
    if !accepts_event_stream(&request.headers) {
        return Err(Problem::new(
            StatusCode::NOT_ACCEPTABLE,
            format!("this path answers with {EVENT_STREAM}, and the Accept header excludes it"),
        ));
    }
    if !body.is_end_stream() {
        return Err(Problem::bad_request("a subscription has no body; what it asks for stands in the query"));
    }
    if routes.backbone.as_ref().is_some_and(|backbone| backbone.status().state() == State::Connecting) {
        return Err(Problem::unavailable("this server has not reached its backbone yet, and has no positions to give"));
    }
    let shard = &routes.shard;
    let text = request.uri.query().unwrap_or("");
    let query = StreamQuery::parse(text, &request.headers, &routes.options)?;
    let action = Action::Subscribe(&query.filters);
    let auth_request = AuthRequest { action, method: &request.method, headers: &request.headers, query: text, remote };
    let permit = routes.admit(&auth_request).await?;
    // Before anything is taken that others could have meanwhile.
    let start = shard.hub.resolve(query.start, routes.options.resume_wait).await?;
    let filter = query.filter();
    let firehose = if filter.reads_firehose() { routes.limiter.read_firehose()? } else { None };
    let takes_heartbeats = query.takes_heartbeats(&filter);
    let identity = Identity {
        id: routes.ids.next(),
        labels: Labels::new(query.name.as_deref(), &query.tags, query.filters.iter().map(|filter| filter.as_str())),
        remote: remote.into(),
        grant: (!permit.grant.is_anonymous()).then(|| Box::new(permit.grant.clone())),
        connected_at: unix_milliseconds(),
    };
    let heartbeat = query.heartbeat.unwrap_or_else(|| shard.options.heartbeat.as_secs().clamp(1, 3600) as u16);
    let (subscription, opening) = shard
        .subscribe(filter, start, routes.limiter.max_silent_topics())
        .map_err(|_| routes.limiter.refuse_silent_topics())?;
    tracing::debug!(
        client = %identity.id, name = query.name, %remote, tags = ?identity.labels.tags().collect::<Vec<_>>(),
        topics = ?identity.labels.topics().collect::<Vec<_>>(),
        "client connects"
    );
    let registration = shard.clients.register(identity);
    // Whoever replaces the rules looks at those who are entered.
    permit.renew(&query.filters)?;
    let on_lag = query.on_lag;
    let stream = StreamRequest { subscription, opening, registration, on_lag, heartbeat, takes_heartbeats, firehose };
    Ok(StreamReply { head: head(), version: request.version, request: stream })
}

fn head() -> hyper::http::response::Parts {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    // nginx buffers a response unless told otherwise.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response.into_parts().0
}

/// Whether the Accept header, if any, takes an event stream (RFC 9110, section 12.5.1): the most specific range decides.
fn accepts_event_stream(headers: &HeaderMap) -> bool {
    let mut best: Option<(u8, bool)> = None;
    let mut is_asked = false;
    for value in headers.get_all(ACCEPT) {
        is_asked = true;
        for range in value.to_str().unwrap_or("").split(',') {
            let mut parts = range.split(';').map(str::trim);
            let specificity = match parts.next().unwrap_or("").to_ascii_lowercase().as_str() {
                "text/event-stream" => 2,
                "text/*" => 1,
                "*/*" => 0,
                _ => continue,
            };
            let quality = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
            let is_taken = quality.and_then(|quality| quality.parse().ok()).is_none_or(|quality: f32| quality > 0.0);
            if best.is_none_or(|(known, _)| specificity >= known) {
                best = Some((specificity, is_taken));
            }
        }
    }
    best.map_or(!is_asked, |(_, is_taken)| is_taken)
}

fn unix_milliseconds() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accept_header_excludes_event_streams_or_takes_them() {
        for (accept, expected) in [
            (None, true),
            (Some("*/*"), true),
            (Some("text/event-stream"), true),
            (Some("text/html, text/*;q=0.5"), true),
            (Some("application/json"), false),
            (Some("*/*, text/event-stream;q=0"), false),
            (Some("text/event-stream, */*;q=0"), true),
            (Some(""), false),
        ] {
            let headers = accept.map(|accept| (ACCEPT, accept.parse().unwrap())).into_iter().collect();
            assert_eq!(accepts_event_stream(&headers), expected, "{accept:?}");
        }
    }
}

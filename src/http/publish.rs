//! `POST /publish` and `POST /publish/{topic}`.

mod collect;
mod idempotency;
mod ndjson;
mod query;
mod receipt;

use bytes::Bytes;
use collect::collect;
use http_body_util::Full;
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use idempotency::publish_together;
use percent_encoding::percent_decode_str;
use query::PublishQuery;
use receipt::Receipt;
use tokio::time::Instant;

use super::admit::{Permit, Source};
use super::body::RequestBody;
use super::{Routes, content_encoding, json_body, problem::Problem};
use crate::conn::Shard;
use crate::event::Event;
use crate::peer::PeerAddress;
use crate::position::StreamPosition;
use crate::topic::Topic;
use crate::wire::publication::{is_array, parse_event, parse_events};

#[derive(Clone, Copy, PartialEq, Eq)]
enum MediaType {
    Json,
    Ndjson,
    Text,
}

/// Publishes one event, an array of events, or lines.
pub(super) async fn publish(
    routes: &Routes,
    permit: &mut Permit<'_>,
    head: &Parts,
    source: &Source<'_>,
    body: &mut Option<RequestBody>,
) -> Result<Response<Full<Bytes>>, Problem> {
    let options = &routes.options;
    let body = content_encoding::decode(&head.headers, &source.known, take(body))?;
    let key = idempotency::key(&head.headers, &source.known)?;
    match source.known.content_type.and_then(media_type) {
        Some(MediaType::Json) => {
            let body = collect(body, options.max_body_bytes, options.body_timeout, permit).await?;
            if !is_array(&body) {
                let event = parse_event(&body, options.max_event_bytes)?;
                let once = publish_together(routes, permit, source.client, key, [event])?.await?;
                return Ok(once.response(Receipt::of_one));
            }
            let events = parse_events(&body, options.max_event_bytes)?;
            let count = events.len() as u64;
            let once = publish_together(routes, permit, source.client, key, events)?.await?;
            Ok(once.response(|published| Receipt::of_several(published, count)))
        }
        // A key is for events that are known as a whole before the first one is published.
        Some(MediaType::Ndjson) if key.is_some() => {
            let body = collect(body, options.max_body_bytes, options.body_timeout, permit).await?;
            let events = ndjson::parse(&body, options.max_event_bytes)?;
            let count = events.len() as u64;
            let once = publish_together(routes, permit, source.client, key, events)?.await?;
            Ok(once.response(|published| Receipt::of_several(published, count)))
        }
        Some(MediaType::Ndjson) => {
            let quota = routes.limiter.publish_quota(source.client, || permit.grant.identity());
            // Boxed: a single event has no room for it.
            let receipt = Box::pin(ndjson::publish(&routes.shard, options, permit, quota, body)).await?;
            Ok(json_body(receipt.to_json()))
        }
        _ => Err(unsupported("application/json (one event or an array) or application/x-ndjson (one event a line)")),
    }
}

/// Publishes one event of a client at `address`.
pub(super) async fn publish_one(
    routes: &Routes,
    permit: Permit<'_>,
    address: PeerAddress,
    event: Event,
) -> Result<StreamPosition, Problem> {
    let once = publish_together(routes, &permit, address, None, [event])?.await?;
    Ok(once.last().expect("there was an event"))
}

/// Publishes the body as the payload of an event. The path has the topic, the query what else it has.
pub(super) async fn publish_to(
    routes: &Routes,
    permit: &mut Permit<'_>,
    topic: &str,
    head: &Parts,
    source: &Source<'_>,
    body: &mut Option<RequestBody>,
) -> Result<Response<Full<Bytes>>, Problem> {
    let (options, known) = (&routes.options, &source.known);
    let topic = percent_decode_str(topic)
        .decode_utf8()
        .map_err(|_| Problem::bad_request("the topic in the path is not UTF-8"))?;
    let topic = Topic::new(&topic).map_err(|error| Problem::bad_request(format!("the topic in the path: {error}")))?;
    permit.check_topic(&topic)?;
    let query = PublishQuery::parse(head.uri.query().unwrap_or(""))?;
    let is_json = match known.content_type.and_then(media_type) {
        Some(MediaType::Json) => Some(true),
        Some(MediaType::Text) => Some(false),
        None if query.is_deletion && known.content_type.is_none() => None,
        _ => return Err(unsupported(PAYLOAD_TYPES)),
    };
    let body = content_encoding::decode(&head.headers, known, take(body))?;
    let key = idempotency::key(&head.headers, known)?;
    let max_bytes = options.max_body_bytes.max(options.max_event_bytes);
    let body = collect(body, max_bytes, options.body_timeout, permit).await?;
    let event = query.event(topic, body, is_json, options.max_event_bytes)?;
    let once = publish_together(routes, permit, source.client, key, [event])?.await?;
    Ok(once.response(Receipt::of_one))
}

/// Takes the body of a request. Until then it stays in the caller's `Option`, so that futures need not store it.
fn take(body: &mut Option<RequestBody>) -> RequestBody {
    body.take().expect("a body is taken once")
}

/// Observes the time until the events have their positions, which is the server's part of the response time.
fn observe_latency(shard: &Shard, began: Instant) {
    shard.counts().publish_latency.observe(began.elapsed());
}

const PAYLOAD_TYPES: &str = "application/json (a value) or text/plain (raw text)";

fn media_type(value: &HeaderValue) -> Option<MediaType> {
    const TYPES: [(&str, MediaType); 4] = [
        ("application/json", MediaType::Json),
        ("application/x-ndjson", MediaType::Ndjson),
        ("application/ndjson", MediaType::Ndjson),
        ("text/plain", MediaType::Text),
    ];
    // How nearly all publishers spell it.
    if let Some((_, media_type)) = TYPES.into_iter().find(|(name, _)| value == name) {
        return Some(media_type);
    }
    let value = value.to_str().ok()?;
    let mut parts = value.split(';').map(str::trim);
    let essence = parts.next()?;
    if let Some(charset) = parts.find_map(|part| part.strip_prefix("charset=")) {
        let charset = charset.trim_matches('"');
        if !["utf-8", "utf8"].iter().any(|utf8| charset.eq_ignore_ascii_case(utf8)) {
            return None;
        }
    }
    TYPES.into_iter().find(|(name, _)| essence.eq_ignore_ascii_case(name)).map(|(_, media_type)| media_type)
}

#[cold]
fn unsupported(expected: &str) -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("the Content-Type here is {expected}, in UTF-8"))
}

//! `POST /publish` and `POST /publish/{topic}`.

mod ndjson;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Request, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::admit::Permit;
use super::body::RequestBody;
use super::content_encoding::{self, DecodedBody};
use super::{Routes, problem::Problem};
use crate::conn::Shard;
use crate::event::{Event, EventName};
use crate::hub::{PublishError, Published};
use crate::limit::PublishQuota;
use crate::topic::Topic;
use crate::wire::publication::{parse_events, parse_payload};

#[derive(Clone, Copy, PartialEq, Eq)]
enum MediaType {
    Json,
    Ndjson,
    Text,
}

/// Publishes one event, an array of events, or a stream of lines.
pub(super) async fn publish(
    routes: &Routes,
    mut permit: Permit<'_>,
    quota: &PublishQuota<'_>,
    request: Request<RequestBody>,
) -> Result<Value, Problem> {
    let (shard, options) = (&*routes.shard, &routes.options);
    let request = content_encoding::decode(request)?;
    match media_type(request.headers()) {
        Some(MediaType::Json) => {
            let body = collect(request.into_body(), options.max_body_bytes, options.body_timeout).await?;
            let is_array = body.trim_ascii_start().first() == Some(&b'[');
            let events = parse_events(&body, options.max_event_bytes)?;
            permit.check_upload()?;
            events.iter().try_for_each(|event| permit.check_topic(event.topic()))?;
            let count = events.len();
            quota.charge(count)?;
            let published = timed(shard, shard.hub.publish_with_others(events)).await?;
            Ok(if is_array { receipt(published, count as u64) } else { receipt_of_one(published) })
        }
        Some(MediaType::Ndjson) => ndjson::publish(shard, options, permit, quota, request.into_body()).await,
        _ => Err(unsupported("application/json (one event or an array) or application/x-ndjson (one event a line)")),
    }
}

/// Publishes the body as the payload of an event. The path has the topic, the query the event name.
pub(super) async fn publish_to(
    routes: &Routes,
    mut permit: Permit<'_>,
    quota: &PublishQuota<'_>,
    topic: &str,
    request: Request<RequestBody>,
) -> Result<Value, Problem> {
    let (shard, options) = (&*routes.shard, &routes.options);
    let topic = percent_decode_str(topic)
        .decode_utf8()
        .map_err(|_| Problem::bad_request("the topic in the path is not UTF-8"))?;
    let topic = Topic::new(&topic).map_err(|error| Problem::bad_request(format!("the topic in the path: {error}")))?;
    permit.check_topic(&topic)?;
    let query = request.uri().query().unwrap_or("");
    let name = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "event");
    let name = name.map(|(_, name)| EventName::new(&name)).transpose();
    let name = name.map_err(|error| Problem::bad_request(format!("parameter event: {error}")))?;
    let is_json = match media_type(request.headers()) {
        Some(MediaType::Json) => true,
        Some(MediaType::Text) => false,
        _ => return Err(unsupported("application/json (a value) or text/plain (raw text)")),
    };
    let request = content_encoding::decode(request)?;
    let max_bytes = options.max_body_bytes.max(options.max_event_bytes);
    let body = collect(request.into_body(), max_bytes, options.body_timeout).await?;
    let event = Event::new(topic, parse_payload(body, is_json, options.max_event_bytes)?);
    let event = match name {
        Some(name) => event.named(name),
        None => event,
    };
    permit.check_upload()?;
    permit.check_topic(event.topic())?;
    quota.charge(1)?;
    Ok(receipt_of_one(timed(shard, shard.hub.publish_with_others(vec![event])).await?))
}

/// Observes the time until the events have their positions, which is the server's part of the response time.
async fn timed<T>(shard: &Shard, publishing: impl Future<Output = Result<T, PublishError>>) -> Result<T, PublishError> {
    let began = Instant::now();
    let published = publishing.await?;
    shard.counts().publish_latency.observe(began.elapsed());
    Ok(published)
}

fn receipt_of_one(published: Option<Published>) -> Value {
    json!({"id": published.map(|published| published.last.to_string()), "published": 1})
}

fn receipt(published: Option<Published>, count: u64) -> Value {
    json!({
        "first_id": published.map(|published| published.first.to_string()),
        "last_id": published.map(|published| published.last.to_string()),
        "published": count,
    })
}

async fn collect(body: DecodedBody, max_bytes: usize, timeout: Duration) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the body is larger than {max_bytes} bytes (setting max_body_bytes)");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    // Before the first read, so that a client that waits for 100 Continue does not send the body.
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(too_large());
    }
    let body = tokio::time::timeout(timeout, concat(Limited::new(body, max_bytes))).await.map_err(|_| {
        let detail = format!("the body did not come within {} s (setting body_timeout)", timeout.as_secs_f64());
        Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
    })?;
    body.map_err(|error| {
        if error.is::<LengthLimitError>() {
            too_large()
        } else {
            Problem::bad_request(format!("the body could not be read: {error}"))
        }
    })
}

/// Collects a body into one buffer. Keeping its frames would cost far more memory than bytes if each has one byte.
async fn concat(mut body: Limited<DecodedBody>) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    // Most bodies have one frame and are not copied.
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if first.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.extend_from_slice(&first);
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

fn media_type(headers: &HeaderMap) -> Option<MediaType> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
    let charset = parameters.split(';').find_map(|part| part.trim().strip_prefix("charset="));
    let charset = charset.map_or("utf-8".to_owned(), |charset| charset.trim_matches('"').to_ascii_lowercase());
    if !["utf-8", "utf8"].contains(&charset.as_str()) {
        return None;
    }
    match essence.trim().to_ascii_lowercase().as_str() {
        "application/json" => Some(MediaType::Json),
        "application/x-ndjson" | "application/ndjson" => Some(MediaType::Ndjson),
        "text/plain" => Some(MediaType::Text),
        _ => None,
    }
}

fn unsupported(expected: &str) -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("the Content-Type here is {expected}, in UTF-8"))
}

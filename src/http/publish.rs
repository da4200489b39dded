//! `POST /publish` and `POST /publish/{topic}`.

mod collect;
mod idempotency;
mod ndjson;

use bytes::Bytes;
use collect::collect;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Request, Response, StatusCode};
use idempotency::publish_together;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::admit::Permit;
use super::body::RequestBody;
use super::{Routes, content_encoding, json_response, problem::Problem};
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

/// Publishes one event, an array of events, or lines.
pub(super) async fn publish(
    routes: &Routes,
    mut permit: Permit<'_>,
    quota: &PublishQuota<'_>,
    request: Request<RequestBody>,
) -> Result<Response<Full<Bytes>>, Problem> {
    let (shard, options) = (&*routes.shard, &routes.options);
    let (head, body) = content_encoding::decode(request)?.into_parts();
    let key = idempotency::key(&head.headers)?;
    match media_type(&head.headers) {
        Some(MediaType::Json) => {
            let body = collect(body, options.max_body_bytes, options.body_timeout).await?;
            let is_array = body.trim_ascii_start().first() == Some(&b'[');
            let events = parse_events(&body, options.max_event_bytes)?;
            let count = events.len() as u64;
            let once = publish_together(shard, &mut permit, quota, key, events).await?;
            Ok(once.response(|published| if is_array { receipt(published, count) } else { receipt_of_one(published) }))
        }
        // A key is for events that are known as a whole before the first one is published.
        Some(MediaType::Ndjson) if key.is_some() => {
            let body = collect(body, options.max_body_bytes, options.body_timeout).await?;
            let events = ndjson::parse(&body, options.max_event_bytes)?;
            let count = events.len() as u64;
            let once = publish_together(shard, &mut permit, quota, key, events).await?;
            Ok(once.response(|published| receipt(published, count)))
        }
        Some(MediaType::Ndjson) => Ok(json_response(&ndjson::publish(shard, options, permit, quota, body).await?)),
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
) -> Result<Response<Full<Bytes>>, Problem> {
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
    let (head, body) = content_encoding::decode(request)?.into_parts();
    let key = idempotency::key(&head.headers)?;
    let max_bytes = options.max_body_bytes.max(options.max_event_bytes);
    let body = collect(body, max_bytes, options.body_timeout).await?;
    let event = Event::new(topic, parse_payload(body, is_json, options.max_event_bytes)?);
    let event = match name {
        Some(name) => event.named(name),
        None => event,
    };
    let once = publish_together(shard, &mut permit, quota, key, vec![event]).await?;
    Ok(once.response(receipt_of_one))
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

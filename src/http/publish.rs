//! `POST /publish` and `POST /publish/{topic}`.

use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Request, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::admit::Permit;
use super::{Options, problem::Problem};
use crate::conn::Shard;
use crate::event::{Event, EventName};
use crate::hub::{PublishError, Published};
use crate::topic::Topic;
use crate::wire::lines::Lines;
use crate::wire::publication::{parse_event, parse_events, parse_payload};

/// How many lines of a stream are published before readers on the same shard get their turn.
const LINES_PER_TURN: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq)]
enum MediaType {
    Json,
    Ndjson,
    Text,
}

/// One event or an array of them, or a stream of lines.
pub(super) async fn publish(
    shard: &Shard,
    options: &Options,
    permit: Permit<'_>,
    request: Request<Incoming>,
) -> Result<Value, Problem> {
    match media_type(request.headers()) {
        Some(MediaType::Json) => {
            let body = whole(request.into_body(), options.max_body_bytes).await?;
            let is_array = body.trim_ascii_start().first() == Some(&b'[');
            let events = parse_events(&body, options.max_event_bytes)?;
            events.iter().try_for_each(|event| permit.publishes(event.topic()))?;
            let count = events.len();
            let published = timed(shard, shard.hub.publish_with_others(events)).await?;
            Ok(if is_array { answer(published, count as u64) } else { answer_one(published) })
        }
        Some(MediaType::Ndjson) => publish_lines(shard, options, permit, request.into_body()).await,
        _ => Err(unsupported("application/json (one event or an array) or application/x-ndjson (one event a line)")),
    }
}

/// The body is the payload; the path names the topic, the query the event.
pub(super) async fn publish_to(
    shard: &Shard,
    options: &Options,
    permit: &Permit<'_>,
    topic: &str,
    request: Request<Incoming>,
) -> Result<Value, Problem> {
    let topic = percent_decode_str(topic)
        .decode_utf8()
        .map_err(|_| Problem::bad_request("the topic in the path is not UTF-8"))?;
    let topic = Topic::new(&topic).map_err(|error| Problem::bad_request(format!("the topic in the path: {error}")))?;
    permit.publishes(&topic)?;
    let query = request.uri().query().unwrap_or("");
    let name = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "event");
    let name = name.map(|(_, name)| EventName::new(&name)).transpose();
    let name = name.map_err(|error| Problem::bad_request(format!("parameter event: {error}")))?;
    let is_json = match media_type(request.headers()) {
        Some(MediaType::Json) => true,
        Some(MediaType::Text) => false,
        _ => return Err(unsupported("application/json (a value) or text/plain (raw text)")),
    };
    let body = whole(request.into_body(), options.max_body_bytes.max(options.max_event_bytes)).await?;
    let event = Event::new(topic, parse_payload(body, is_json, options.max_event_bytes)?);
    let event = match name {
        Some(name) => event.named(name),
        None => event,
    };
    Ok(answer_one(timed(shard, shard.hub.publish_with_others(vec![event])).await?))
}

/// Publishes each line as it comes; stops at the first that is not right.
async fn publish_lines(
    shard: &Shard,
    options: &Options,
    mut permit: Permit<'_>,
    mut body: Incoming,
) -> Result<Value, Problem> {
    // An escaped character takes up to six times its bytes; and there is room for the other keys.
    let mut lines = Lines::new(options.max_event_bytes * 6 + 2048);
    let mut progress = Progress::default();
    loop {
        let frame = match body.frame().await {
            None => break,
            Some(Ok(frame)) => frame,
            // The client went away: what came whole is published, and nobody is left to be told.
            Some(Err(error)) => {
                return Err(progress.stopped_at(Problem::bad_request(format!("the body broke off: {error}"))));
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        lines.push(data);
        permit.goes_on().map_err(|problem| progress.stopped_at(problem))?;
        progress.publish(shard, options, &permit, std::iter::from_fn(|| lines.next())).await?;
    }
    progress.publish(shard, options, &permit, lines.finish().into_iter()).await?;
    Ok(answer(progress.published, progress.count))
}

/// How far a stream of lines has got.
#[derive(Default)]
struct Progress {
    lines: u64,
    count: u64,
    published: Option<Published>,
}

impl Progress {
    async fn publish(
        &mut self,
        shard: &Shard,
        options: &Options,
        permit: &Permit<'_>,
        lines: impl Iterator<Item = Result<Bytes, crate::wire::lines::TooLong>>,
    ) -> Result<(), Problem> {
        let mut lines = lines.peekable();
        while lines.peek().is_some() {
            let mut events = Vec::new();
            let mut problem = None;
            for line in lines.by_ref().take(LINES_PER_TURN) {
                self.lines += 1;
                let event = match line {
                    Ok(line) if line.trim_ascii().is_empty() => continue,
                    Ok(line) => parse_event(&line, options.max_event_bytes).map_err(Problem::from),
                    Err(_) => Err(Problem::new(
                        StatusCode::PAYLOAD_TOO_LARGE,
                        format!(
                            "the line is too long for an event of {} bytes (setting max_event_bytes)",
                            options.max_event_bytes
                        ),
                    )),
                };
                match event.and_then(|event| permit.publishes(event.topic()).map(|()| event)) {
                    Ok(event) => events.push(event),
                    Err(error) => {
                        problem = Some(error);
                        break;
                    }
                }
            }
            let count = events.len() as u64;
            if count > 0 {
                let published = timed(shard, shard.hub.publish_all(events)).await;
                self.note(count, published.map_err(|error| self.stopped_at(error.into()))?);
            }
            if let Some(problem) = problem {
                let line = self.lines;
                return Err(self.stopped_at(problem.at(&format!("line {line}")).with("line", line)));
            }
            // A body can come faster than readers on this shard are woken: they have their turn now.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn note(&mut self, count: u64, published: Option<Published>) {
        self.count += count;
        if let Some(Published { first, last }) = published {
            let first = self.published.map_or(first, |earlier| earlier.first);
            self.published = Some(Published { first, last });
        }
    }

    /// The problem, with what went out before it.
    fn stopped_at(&self, problem: Problem) -> Problem {
        let first = self.published.map(|published| published.first.to_string());
        let last = self.published.map(|published| published.last.to_string());
        problem.with("published", self.count).with("first_id", first).with("last_id", last)
    }
}

/// Notes how long it takes until the events have their positions: the answer's part that is the server's own.
async fn timed<T>(shard: &Shard, publishing: impl Future<Output = Result<T, PublishError>>) -> Result<T, PublishError> {
    let began = Instant::now();
    let published = publishing.await?;
    shard.counts().publish_latency.observe(began.elapsed());
    Ok(published)
}

fn answer_one(published: Option<Published>) -> Value {
    json!({"id": published.map(|published| published.last.to_string()), "published": 1})
}

fn answer(published: Option<Published>, count: u64) -> Value {
    json!({
        "first_id": published.map(|published| published.first.to_string()),
        "last_id": published.map(|published| published.last.to_string()),
        "published": count,
    })
}

async fn whole(body: Incoming, max_bytes: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the body is larger than {max_bytes} bytes (setting max_body_bytes)");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    // Before it is read: a client that waits for 100 Continue is spared the sending.
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(too_large());
    }
    let body = Limited::new(body, max_bytes).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            too_large()
        } else {
            Problem::bad_request(format!("the body could not be read: {error}"))
        }
    })?;
    Ok(body.to_bytes())
}

fn media_type(headers: &HeaderMap) -> Option<MediaType> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
    let charset = parameters.split(';').find_map(|part| part.trim().strip_prefix("charset="));
    if charset
        .is_some_and(|charset| !["utf-8", "utf8"].contains(&charset.trim_matches('"').to_ascii_lowercase().as_str()))
    {
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

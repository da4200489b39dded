//! `GET /clients` and `DELETE /clients/{client_id}`.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::yield_now;

use super::cluster;
use super::page::PageQuery;
use super::problem::Problem;
use super::{Routes, json_bytes, json_response};
use crate::conn::{Client, Request};
use crate::hub::{Hub, SubscriptionFilter};
use crate::presence::{ClientId, each_client};
use crate::topic::TopicFilter;

/// How many clients are described in one go: some 100 µs. Others have their turn in between, of some ten times that.
const DESCRIBED: usize = 32;

/// A page of the clients that the query asks for, by their ids, which is the order in which they came.
pub(super) async fn list(routes: &Routes, query: &str) -> Result<Response<Full<Bytes>>, Problem> {
    let query = PageQuery::parse(query, &["tag", "topic", "name", "scope"])?;
    if cluster::is_asked_for(&query)? {
        return Ok(json_response(&cluster::clients(routes, &query).await?));
    }
    let after = query.after.as_deref().map(parse_id).transpose().map_err(|problem| problem.at("parameter after"))?;
    let mut count = 0;
    let mut page = BTreeMap::new();
    each_client(&routes.clients, |client| {
        let identity = &client.identity;
        let labels = &identity.labels;
        let is_wanted = query.takes("name", |name| labels.name() == Some(name))
            && query.takes("tag", |tag| labels.tags().any(|one| one == tag))
            && query.takes("topic", |topic| labels.topics().any(|one| one == topic));
        if is_wanted {
            count += 1;
            let is_before_the_end = || page.len() < query.limit || page.keys().next_back() > Some(&identity.id);
            if after.is_none_or(|after| identity.id > after) && is_before_the_end() {
                page.insert(identity.id, client);
                if page.len() > query.limit {
                    page.pop_last();
                }
            }
        }
        true
    })
    .await;
    let next = page.last_key_value().filter(|_| page.len() == query.limit).map(|(id, _)| id.to_string());
    // Written as it goes: a page that is put together first and turned to text at once takes milliseconds.
    let mut body = Vec::with_capacity(page.len() * 256 + 64);
    let written = (|| {
        write!(body, "{{\"count\":{count},\"next\":")?;
        serde_json::to_writer(&mut body, &next)?;
        body.write_all(b",\"clients\":[")
    })();
    written.expect("memory takes all");
    for (number, client) in page.into_values().enumerate() {
        if number % DESCRIBED == DESCRIBED - 1 {
            yield_now().await;
        }
        if number > 0 {
            body.push(b',');
        }
        serde_json::to_writer(&mut body, &describe(&client, &routes.shard.hub)).expect("memory takes all");
    }
    body.extend_from_slice(b"]}");
    Ok(json_bytes(body.into()))
}

/// Has the client's stream closed.
pub(super) async fn disconnect(routes: &Routes, id: &str) -> Result<Value, Problem> {
    let id = parse_id(id)?;
    let mut found = None;
    each_client(&routes.clients, |client| {
        if client.identity.id == id {
            found = Some(client);
        }
        found.is_none()
    })
    .await;
    let Some(client) = found else {
        let detail = format!("no client {id} is connected; GET /clients lists those that are");
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    };
    client.control.raise(Request::Disconnect);
    Ok(json!({"client_id": id.to_string(), "status": "disconnected"}))
}

/// How far a client is behind the newest event of its topics; with a pattern, events that it does not want included.
pub(super) fn lag(client: &Client, hub: &Hub) -> u64 {
    let filters = client.identity.labels.topics().filter_map(|topic| TopicFilter::new(topic).ok());
    // What it has passed first: what is published meanwhile makes it look a little behind, and not ahead.
    let passed = client.passed.get();
    hub.appended(&SubscriptionFilter::of(filters)).saturating_sub(passed)
}

/// What is told of a client.
#[derive(Serialize)]
pub(super) struct Description<'a> {
    client_id: String,
    client_name: Option<&'a str>,
    tags: Vec<&'a str>,
    topics: Vec<&'a str>,
    connected_at: String,
    events_received: u64,
    queue_size: u64,
    bytes_sent: u64,
    remote_addr: String,
    transport: &'static str,
    user: Option<&'a str>,
}

pub(super) fn describe<'a>(client: &'a Client, hub: &Hub) -> Description<'a> {
    let identity = &client.identity;
    let connected_at = UNIX_EPOCH + Duration::from_millis(identity.connected_at);
    Description {
        client_id: identity.id.to_string(),
        client_name: identity.labels.name(),
        tags: identity.labels.tags().collect(),
        topics: identity.labels.topics().collect(),
        connected_at: humantime::format_rfc3339_millis(connected_at).to_string(),
        events_received: client.events.get(),
        queue_size: lag(client, hub),
        bytes_sent: client.bytes.get(),
        remote_addr: identity.remote.to_string(),
        transport: "sse",
        user: identity.grant.as_ref().and_then(|grant| grant.subject.as_deref()),
    }
}

fn parse_id(text: &str) -> Result<ClientId, Problem> {
    text.parse().map_err(|error| Problem::bad_request(format!("{text:?}: {error}")))
}

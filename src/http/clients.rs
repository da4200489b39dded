//! `GET /clients`, `DELETE /clients/{client_id}` and `DELETE /clients?user={user}`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Response, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::task::yield_now;

use super::page::PageQuery;
use super::problem::Problem;
use super::{Routes, cluster, json_response};
use crate::conn::{Client, Interval, Request};
use crate::hub::Hub;
use crate::presence::{ClientId, each_client};

/// The number of clients described in one go, in about 100 µs. Other tasks of the shard run in between.
const DESCRIBED_AT_ONCE: usize = 32;

/// A page of the list.
#[derive(Serialize)]
struct Page {
    count: usize,
    clients: Vec<Box<RawValue>>,
    next: Option<String>,
}

/// Lists clients, or disconnects those of a user.
pub(super) async fn respond(routes: &Routes, method: &Method, query: &str) -> Result<Response<Full<Bytes>>, Problem> {
    if method == Method::DELETE {
        return Ok(json_response(&disconnect_user(routes, query).await?));
    }
    match PageQuery::parse(query, &["tag", "topic", "name", "user"])? {
        page if page.is_of_cluster => Ok(json_response(&cluster::clients(routes, &page).await?)),
        page => list(routes, &page).await,
    }
}

/// Returns a page of this server's clients, by id, which is the order in which they connected.
async fn list(routes: &Routes, query: &PageQuery) -> Result<Response<Full<Bytes>>, Problem> {
    let after = query.after.as_deref().map(parse_id).transpose().map_err(|problem| problem.at("parameter after"))?;
    let mut count = 0;
    let mut page = BTreeMap::new();
    each_client(&routes.clients, |client| {
        let (id, labels) = (client.identity.id, &client.identity.labels);
        let is_wanted = query.matches("name", |name| labels.name() == Some(name))
            && query.matches("tag", |tag| labels.tags().any(|one| one == tag))
            && query.matches("topic", |topic| client.topics().iter().any(|one| *one == topic))
            && query.matches("user", |user| client.identity.user() == Some(user));
        if is_wanted {
            count += 1;
            if after.is_none_or(|after| id > after) {
                page.insert(id, client);
                if page.len() > query.limit {
                    page.pop_last();
                }
            }
        }
        true
    })
    .await;
    let next = page.last_key_value().filter(|_| page.len() == query.limit).map(|(id, _)| id.to_string());
    let mut clients = Vec::with_capacity(page.len());
    for (number, client) in page.into_values().enumerate() {
        if number % DESCRIBED_AT_ONCE == DESCRIBED_AT_ONCE - 1 {
            yield_now().await;
        }
        let description = describe(&client, &routes.shard.hub);
        clients.push(serde_json::value::to_raw_value(&description).expect("a description is valid JSON"));
    }
    Ok(json_response(&Page { count, clients, next }))
}

/// `DELETE /clients/{client_id}`: ends the client's stream.
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
        let detail = format!("unknown client {id}; GET /clients lists the connected clients");
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    };
    client.control.raise(Request::Disconnect);
    Ok(json!({"client_id": id.to_string(), "status": "disconnected"}))
}

/// `DELETE /clients?user={user}`: ends the streams of all connections of a user.
async fn disconnect_user(routes: &Routes, query: &str) -> Result<Value, Problem> {
    let user = wanted_user(query)?;
    let mut count = 0;
    each_client(&routes.clients, |client| {
        if client.identity.user() == Some(&*user) {
            client.control.raise(Request::Disconnect);
            count += 1;
        }
        true
    })
    .await;
    Ok(json!({"user": user, "status": "disconnected", "count": count}))
}

/// The parameter `user`, the only one that is allowed: a misspelled one must not select other clients.
fn wanted_user(query: &str) -> Result<String, Problem> {
    let mut users = Vec::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "user" => users.push(value.into_owned()),
            // Read by the authorization.
            "access_token" => {}
            key => return Err(Problem::bad_request(format!("unknown parameter {key:?}; expected user"))),
        }
    }
    match <[String; 1]>::try_from(users) {
        Ok([user]) if !user.is_empty() => Ok(user),
        _ => Err(Problem::bad_request("expected one parameter user: DELETE /clients?user=anna")),
    }
}

/// Returns how many events a client is behind the newest event of its topics. With a pattern, this counts events that it
/// does not match as well.
pub(super) fn lag(client: &Client, hub: &Hub) -> u64 {
    // Read first: an event published in between makes the client look one behind, and never ahead.
    let passed = client.passed.get();
    hub.appended(&client.filters()).saturating_sub(passed)
}

/// A client as the list shows it.
#[derive(Serialize)]
pub(super) struct Description<'a> {
    client_id: String,
    client_name: Option<&'a str>,
    tags: Vec<&'a str>,
    topics: Vec<Cow<'a, str>>,
    connected_at: String,
    events_received: u64,
    queue_size: u64,
    bytes_sent: u64,
    mode: &'static str,
    interval_ms: Option<u32>,
    remote_addr: String,
    transport: &'static str,
    protocol: &'static str,
    encoding: Option<&'static str>,
    user: Option<&'a str>,
}

pub(super) fn describe<'a>(client: &'a Client, hub: &Hub) -> Description<'a> {
    let identity = &client.identity;
    let connected_at = UNIX_EPOCH + Duration::from_millis(identity.connected_at);
    Description {
        client_id: identity.id.to_string(),
        client_name: identity.labels.name(),
        tags: identity.labels.tags().collect(),
        topics: client.topics(),
        connected_at: humantime::format_rfc3339_millis(connected_at).to_string(),
        events_received: client.events.get(),
        queue_size: lag(client, hub),
        bytes_sent: client.bytes.get(),
        mode: client.control.mode().as_str(),
        interval_ms: client.control.interval().map(Interval::as_millis),
        remote_addr: identity.remote.to_string(),
        transport: identity.transport.as_str(),
        protocol: identity.protocol.as_str(),
        encoding: identity.is_compressed.then_some("gzip"),
        user: identity.user(),
    }
}

fn parse_id(text: &str) -> Result<ClientId, Problem> {
    text.parse().map_err(|error| Problem::bad_request(format!("{text:?}: {error}")))
}

//! `?scope=cluster`: the lists of all servers that share the backbone.
//!
//! This server's own part is of this moment; that of the others is what they wrote down last.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::page::PageQuery;
use super::problem::Problem;
use super::{Routes, clients, topics};
use crate::backbone::{Backbone, List, LocalLists};
use crate::conn::Clients;
use crate::hub::Hub;
use crate::presence::SLICE;
use crate::topic::TopicFilter;

/// Whether the query asks for all servers.
pub(super) fn is_asked_for(query: &PageQuery) -> Result<bool, Problem> {
    match query.values("scope").last() {
        None | Some("node") => Ok(false),
        Some("cluster") => Ok(true),
        Some(_) => Err(Problem::bad_request("parameter scope: it is node or cluster")),
    }
}

/// A page of the clients of all servers, by their ids.
pub(super) async fn clients(routes: &Routes, query: &PageQuery) -> Result<Value, Problem> {
    let here = all_clients(&routes.clients, &routes.shard.hub);
    let is_one_of =
        |list: &Value, wanted: &str| list.as_array().is_some_and(|list| list.iter().any(|one| one == wanted));
    let mut page: BTreeMap<String, Value> = BTreeMap::new();
    for (node, list) in everywhere(routes, List::Clients, here).await? {
        for mut client in list {
            let is_wanted = query.takes("name", |name| client["client_name"] == name)
                && query.takes("tag", |tag| is_one_of(&client["tags"], tag))
                && query.takes("topic", |topic| is_one_of(&client["topics"], topic));
            if let Some(id) = client["client_id"].as_str().map(str::to_owned).filter(|_| is_wanted) {
                client["node"] = node.clone().into();
                page.insert(id, client);
            }
        }
    }
    Ok(answer("clients", "client_id", query, page))
}

/// A page of the topics of all servers, by name. What each server retains is its own; the newest event is the same
/// everywhere, as far as each has come.
pub(super) async fn topics(routes: &Routes, query: &PageQuery, filters: &[TopicFilter]) -> Result<Value, Problem> {
    let here = topics::all(&routes.shard.hub);
    let mut page: BTreeMap<String, Value> = BTreeMap::new();
    for (node, list) in everywhere(routes, List::Topics, here).await? {
        for topic in list {
            let Some(name) = topic["topic"].as_str() else { continue };
            let matches =
                |filter: &TopicFilter| crate::topic::Topic::new(name).is_ok_and(|topic| filter.matches(&topic));
            if !filters.is_empty() && !filters.iter().any(matches) {
                continue;
            }
            let all =
                page.entry(name.to_owned()).or_insert_with(|| json!({"topic": name, "subscribers": 0, "nodes": {}}));
            let subscribers = |one: &Value| one["subscribers"].as_u64().unwrap_or(0);
            all["subscribers"] = (subscribers(all) + subscribers(&topic)).into();
            let mut own = topic;
            own.as_object_mut().map(|own| own.remove("topic"));
            all["nodes"][node.as_str()] = own;
        }
    }
    Ok(answer("topics", "topic", query, page))
}

/// Returns the source of the lists that the other servers see of this one.
pub(crate) fn local_lists(clients: std::sync::Arc<[std::sync::Arc<Clients>]>, hub: Hub) -> LocalLists {
    Box::new(move |list| match list {
        List::Clients => all_clients(&clients, &hub),
        List::Topics => topics::all(&hub),
    })
}

fn all_clients(clients: &[std::sync::Arc<Clients>], hub: &Hub) -> Vec<Value> {
    let mut list = Vec::new();
    for registry in clients {
        let mut place = Some(0);
        while let Some(begin) = place {
            let (slice, next) = registry.slice(begin, SLICE);
            list.extend(slice.iter().map(|client| json!(clients::describe(client, hub))));
            place = next;
        }
    }
    list
}

/// The part of each server, this one first.
async fn everywhere(routes: &Routes, list: List, here: Vec<Value>) -> Result<Vec<(String, Vec<Value>)>, Problem> {
    // A server alone is a cluster of one.
    let Some(backbone) = &routes.backbone else { return Ok(vec![("local".to_owned(), here)]) };
    let mut all = vec![(backbone.status().node().to_owned(), here)];
    all.extend(others(backbone, list).await?);
    Ok(all)
}

async fn others(backbone: &Backbone, list: List) -> Result<Vec<(String, Vec<Value>)>, Problem> {
    let lists = backbone.remote_lists(list).await;
    lists.ok_or_else(|| Problem::unavailable("the backbone is away: the other servers cannot be asked"))
}

fn answer(list: &str, key: &str, query: &PageQuery, all: BTreeMap<String, Value>) -> Value {
    let count = all.len();
    let is_after = |name: &String| query.after.as_ref().is_none_or(|after| name > after);
    let page: Vec<Value> =
        all.into_iter().filter(|(name, _)| is_after(name)).map(|(_, one)| one).take(query.limit).collect();
    let next = page.last().filter(|_| page.len() == query.limit).map(|last| last[key].clone());
    json!({"count": count, list: page, "next": next})
}

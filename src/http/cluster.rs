//! `?scope=cluster`: the lists of all servers that share the backbone.
//!
//! This server's part is current. The parts of the others are as they last stored them in the backbone.

use std::collections::BTreeMap;
use std::iter;
use std::sync::Arc;

use serde_json::{Value, json};

use super::page::PageQuery;
use super::problem::Problem;
use super::{Routes, clients, topics};
use crate::backbone::{List, LocalLists, RemoteLists};
use crate::conn::Clients;
use crate::hub::Hub;
use crate::topic::Topic;

/// Returns a page of the clients of all servers, by id.
pub(super) async fn clients(routes: &Routes, query: &PageQuery) -> Result<Value, Problem> {
    let here = all_clients(&routes.clients, &routes.shard.hub);
    let is_one_of =
        |list: &Value, wanted: &str| list.as_array().is_some_and(|list| list.iter().any(|one| one == wanted));
    let mut page: BTreeMap<String, Value> = BTreeMap::new();
    for (node, list) in everywhere(routes, List::Clients, here).await? {
        for mut client in list {
            let is_wanted = query.matches("name", |name| client["client_name"] == name)
                && query.matches("tag", |tag| is_one_of(&client["tags"], tag))
                && query.matches("topic", |topic| is_one_of(&client["topics"], topic))
                && query.matches("user", |user| client["user"] == user);
            if let Some(id) = client["client_id"].as_str().map(str::to_owned).filter(|_| is_wanted) {
                client["node"] = node.clone().into();
                page.insert(id, client);
            }
        }
    }
    Ok(page_of("clients", "client_id", query, page))
}

/// Returns a page of the topics of all servers, by name. Subscribers are summed; the rest is listed for each server.
pub(super) async fn topics(routes: &Routes, query: &PageQuery) -> Result<Value, Problem> {
    let filters = topics::filters(routes, query)?;
    let here = topics::all(&routes.shard.hub);
    let mut page: BTreeMap<String, Value> = BTreeMap::new();
    for (node, list) in everywhere(routes, List::Topics, here).await? {
        for topic in list {
            let Some(name) = topic["topic"].as_str() else { continue };
            let is_wanted =
                |name| Topic::new(name).is_ok_and(|name| filters.iter().any(|filter| filter.matches(&name)));
            if !filters.is_empty() && !is_wanted(name) {
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
    Ok(page_of("topics", "topic", query, page))
}

/// Returns the source of the lists that the other servers see of this one.
pub(crate) fn local_lists(clients: Arc<[Arc<Clients>]>, hub: Hub) -> LocalLists {
    Box::new(move |list| match list {
        List::Clients => all_clients(&clients, &hub),
        List::Topics => topics::all(&hub),
    })
}

fn all_clients(registries: &[Arc<Clients>], hub: &Hub) -> Vec<Value> {
    let clients = registries.iter().flat_map(|registry| registry.slices()).flatten();
    clients.map(|client| json!(clients::describe(&client, hub))).collect()
}

/// Returns the lists of all servers, this one first. Without a backbone there is only this one.
async fn everywhere(routes: &Routes, list: List, here: Vec<Value>) -> Result<RemoteLists, Problem> {
    let Some(backbone) = &routes.backbone else { return Ok(vec![("local".to_owned(), here)]) };
    let others = backbone.remote_lists(list).await;
    let others =
        others.ok_or_else(|| Problem::unavailable("the backbone is unavailable: list this server with scope=node"))?;
    Ok(iter::once((backbone.status().node().to_owned(), here)).chain(others).collect())
}

/// Returns the requested page of `all`.
fn page_of(list: &str, key: &str, query: &PageQuery, all: BTreeMap<String, Value>) -> Value {
    let count = all.len();
    let is_after = |name: &String| query.after.as_ref().is_none_or(|after| name > after);
    let page: Vec<Value> =
        all.into_iter().filter(|(name, _)| is_after(name)).map(|(_, one)| one).take(query.limit).collect();
    let next = page.last().filter(|_| page.len() == query.limit).map(|last| last[key].clone());
    json!({"count": count, list: page, "next": next})
}

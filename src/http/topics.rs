//! `GET /topics`.

use serde_json::{Value, json};

use super::Routes;
use super::cluster;
use super::page::PageQuery;
use super::problem::Problem;
use super::query::check_filters;
use crate::hub::{Hub, TopicStats};
use crate::topic::TopicFilter;

/// A page of the topics that the query asks for, by name.
pub(super) async fn list(routes: &Routes, query: &str) -> Result<Value, Problem> {
    let query = PageQuery::parse(query, &["topic", "scope"])?;
    let filters = query.values("topic").map(|text| {
        TopicFilter::new(text).map_err(|e| Problem::bad_request(format!("parameter topic: {text:?} is no topic: {e}")))
    });
    let filters = filters.collect::<Result<Vec<_>, _>>()?;
    check_filters(&filters, "topic", &routes.options)?;
    if cluster::is_asked_for(&query)? {
        return cluster::topics(routes, &query, &filters).await;
    }
    let is_wanted = |topic: &_| filters.is_empty() || filters.iter().any(|filter| filter.matches(topic));
    let (topics, count) = routes.shard.hub.topics(query.after.as_deref(), query.limit, is_wanted);
    let next = topics.last().filter(|_| topics.len() == query.limit).map(|last| last.topic.to_string());
    Ok(json!({"count": count, "topics": topics.iter().map(describe).collect::<Vec<_>>(), "next": next}))
}

/// All topics of this server.
pub(super) fn all(hub: &Hub) -> Vec<Value> {
    hub.topics(None, usize::MAX, |_| true).0.iter().map(describe).collect()
}

fn describe(topic: &TopicStats) -> Value {
    json!({
        "topic": topic.topic.as_str(),
        "subscribers": topic.subscribers,
        "retained_events": topic.retained_events,
        "retained_bytes": topic.retained_bytes,
        "last_position": topic.last.map(|last| last.to_string()),
    })
}

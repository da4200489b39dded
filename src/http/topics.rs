//! `GET /topics`.

use serde_json::{Value, json};

use super::page::PageQuery;
use super::problem::Problem;
use super::query::{check_filters, invalid};
use super::{Routes, cluster};
use crate::hub::{Hub, TopicStats};
use crate::topic::TopicFilter;

/// Returns the page that `query` asks for.
pub(super) async fn respond(routes: &Routes, query: &str) -> Result<Value, Problem> {
    let page = PageQuery::parse(query, &["topic"])?;
    if page.is_of_cluster { cluster::topics(routes, &page).await } else { list(routes, &page).await }
}

/// Returns a page of this server's topics, by name.
async fn list(routes: &Routes, query: &PageQuery) -> Result<Value, Problem> {
    let filters = filters(routes, query)?;
    let is_wanted = |topic: &_| filters.is_empty() || filters.iter().any(|filter| filter.matches(topic));
    let (topics, count) = routes.shard.hub.topics_in_steps(query.after.as_deref(), query.limit, is_wanted).await;
    let next = topics.last().filter(|_| topics.len() == query.limit).map(|last| last.topic.to_string());
    Ok(json!({"count": count, "topics": topics.iter().map(describe).collect::<Vec<_>>(), "next": next}))
}

/// Parses the filters in the query. Without any, all topics are listed.
pub(super) fn filters(routes: &Routes, query: &PageQuery) -> Result<Vec<TopicFilter>, Problem> {
    let parse = |text| {
        let invalid =
            |error| Problem::bad_request(format!("parameter topic: {text:?} is not a topic or pattern: {error}"));
        TopicFilter::new(text).map_err(invalid)
    };
    let filters = query.values("topic").map(parse).collect::<Result<Vec<_>, _>>()?;
    check_filters(&filters, &routes.options).map_err(|detail| invalid("topic", &detail))?;
    Ok(filters)
}

/// Returns all topics of this server.
pub(super) fn all(hub: &Hub) -> Vec<Value> {
    hub.topics(None, usize::MAX, |_| true).0.iter().map(describe).collect()
}

fn describe(topic: &TopicStats) -> Value {
    json!({
        "topic": topic.topic.as_str(),
        "subscribers": topic.subscribers,
        "published_events": topic.published_events,
        "retained_events": topic.retained_events,
        "retained_bytes": topic.retained_bytes,
        "latest_keys": topic.latest_keys,
        "latest_bytes": topic.latest_bytes,
        "last_position": topic.last.map(|last| last.to_string()),
    })
}

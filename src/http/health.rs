//! `GET /health`: the state of the server, for people and for orchestrators.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use serde_json::{Value, json};

use super::problem::Problem;
use super::producers::{HEARTBEAT, ProducerState};
use super::{Routes, json_response};
use crate::backbone::{State, Status};

/// `GET /health`: the state of the server in full.
pub(super) fn health(routes: &Routes) -> Response<Full<Bytes>> {
    let mut producers = serde_json::Map::new();
    let mut failures = serde_json::Map::new();
    for (name, state) in routes.producers.states() {
        failures.extend(state.reason().map(|reason| (name.clone(), Value::from(reason))));
        producers.insert(name, Value::from(state.as_str()));
    }
    producers.insert(HEARTBEAT.to_owned(), Value::from(ProducerState::Running.as_str()));
    let is_degraded =
        backbone_problem(routes).is_some() || routes.shard.metrics.is_accepting_paused() || !failures.is_empty();
    let status = match (routes.shard.drain.has_begun(), is_degraded) {
        (true, _) => "draining",
        (false, true) => "degraded",
        (false, false) => "healthy",
    };
    let mut health = json!({
        "status": status,
        "connected_clients": routes.shard.metrics.streams(),
        "event_history_size": routes.shard.hub.stats().retained_events,
        "producers": producers,
        "backbone": describe_backbone(routes.backbone.as_ref().map(|backbone| &**backbone.status())),
    });
    if !failures.is_empty() {
        health["producer_failures"] = Value::from(failures);
    }
    json_response(&health)
}

fn describe_backbone(status: Option<&Status>) -> Value {
    let Some(status) = status else { return json!({"kind": "local", "status": "up"}) };
    json!({
        "kind": status.kind(),
        "status": status.state().as_str(),
        "reason": status.reason(),
        "node": status.node(),
    })
}

/// `GET /health/live`: the process responds.
pub(super) fn live() -> Response<Full<Bytes>> {
    json_response(&json!({"status": "live"}))
}

/// `GET /health/ready`: whether new clients should be sent to this server.
pub(super) fn ready(routes: &Routes) -> Result<Response<Full<Bytes>>, Problem> {
    let connections = &routes.limiter.connections;
    let problem = if let Some(problem) = backbone_problem(routes) {
        problem
    } else if routes.shard.drain.has_begun() {
        "draining: the server is shutting down".to_owned()
    } else if routes.shard.metrics.is_accepting_paused() {
        "no file descriptor is left: raise the limit on open files (ulimit -n)".to_owned()
    } else if let (true, Some(max)) = (connections.is_full(), connections.max()) {
        format!("all {max} connections are taken ({})", connections.set_by())
    } else {
        return Ok(json_response(&json!({"status": "ready"})));
    };
    Err(Problem::unavailable(problem))
}

fn backbone_problem(routes: &Routes) -> Option<String> {
    let status = routes.backbone.as_ref()?.status();
    if status.state() != State::Up {
        let (kind, state, reason) = (status.kind(), status.state().as_str(), status.reason().unwrap_or_default());
        return Some(format!("the backbone ({kind}) is {state}: {reason}"));
    }
    let (confirmed, wanted) = status.missing_replicas()?;
    Some(format!("{confirmed} of {wanted} Redis replicas confirm what is published (setting redis_wait)"))
}

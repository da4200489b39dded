//! `GET /` and the health endpoints.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{Routes, json_response, problem::Problem};
use crate::backbone::{Backbone, State, Status};

/// What there is, for people and programs that look around.
pub(super) fn index(routes: &Routes, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let wants_html =
        headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|accept| accept.contains("text/html"));
    if wants_html {
        let page = include_str!("index.html").replace("{version}", env!("CARGO_PKG_VERSION"));
        let mut response = Response::new(Full::from(page));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        return response;
    }
    json_response(&json!({
        "status": "running",
        "name": "fanline",
        "version": env!("CARGO_PKG_VERSION"),
        "clients": routes.shard.metrics.streams(),
        "history_size": routes.shard.hub.stats().retained_events,
        "endpoints": {
            "stream": "/stream",
            "publish": "/publish",
            "demo": "/demo",
            "openapi": "/openapi.json",
            "health": "/health",
            "live": "/health/live",
            "ready": "/health/ready",
            "clients": "/clients",
            "topics": "/topics",
            "metrics": "/metrics",
        },
        "features": ["sse", "replay", "gap", "topic-patterns", "ndjson"],
    }))
}

/// What this server answers, as OpenAPI 3.1.
pub(super) fn openapi() -> Response<Full<Bytes>> {
    let document = include_str!("openapi.json").replace("{version}", env!("CARGO_PKG_VERSION"));
    let mut response = Response::new(Full::from(document));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// How the server is, in full.
pub(super) fn health(routes: &Routes) -> Response<Full<Bytes>> {
    let mut producers = serde_json::Map::new();
    for (name, status) in &routes.producers {
        producers.insert(name.clone(), Value::from(status()));
    }
    producers.insert("heartbeat_producer".to_owned(), Value::from("running"));
    let is_backbone_up = routes.backbone.as_ref().is_none_or(|backbone| backbone.status().state() == State::Up);
    let lacks_replicas =
        routes.backbone.as_ref().is_some_and(|backbone| backbone.status().missing_replicas().is_some());
    let is_degraded = !is_backbone_up
        || lacks_replicas
        || routes.shard.metrics.is_accepting_paused()
        || producers.values().any(|status| status == "stopped");
    let status = match (routes.shard.drain.has_begun(), is_degraded) {
        (true, _) => "draining",
        (false, true) => "degraded",
        (false, false) => "healthy",
    };
    json_response(&json!({
        "status": status,
        "connected_clients": routes.shard.metrics.streams(),
        "event_history_size": routes.shard.hub.stats().retained_events,
        "producers": producers,
        "backbone": backbone(routes.backbone.as_ref().map(|backbone| &**backbone.status())),
    }))
}

/// How the backbone is: what several servers share, or this server alone.
fn backbone(status: Option<&Status>) -> Value {
    let Some(status) = status else { return json!({"kind": "local", "status": "up"}) };
    json!({
        "kind": status.kind(),
        "status": status.state().as_str(),
        "reason": status.reason(),
        "node": status.node(),
    })
}

/// The process answers: there is nothing else to check.
pub(super) fn live() -> Response<Full<Bytes>> {
    json_response(&json!({"status": "live"}))
}

/// Whether new clients should be sent here.
pub(super) fn ready(routes: &Routes) -> Result<Response<Full<Bytes>>, Problem> {
    if let Some(backbone) = routes.backbone.as_ref().map(Backbone::status).filter(|status| status.state() != State::Up)
    {
        let (kind, state) = (backbone.kind(), backbone.state().as_str());
        let reason = backbone.reason().unwrap_or_default();
        return Err(Problem::unavailable(format!("the backbone ({kind}) is {state}: {reason}")));
    }
    if let Some((confirmed, wanted)) =
        routes.backbone.as_ref().and_then(|backbone| backbone.status().missing_replicas())
    {
        let reason = format!("{confirmed} of {wanted} Redis replicas confirm what is published (setting redis_wait)");
        return Err(Problem::unavailable(reason));
    }
    let reason = if routes.shard.drain.has_begun() {
        "draining: the server is shutting down"
    } else if routes.shard.metrics.is_accepting_paused() {
        "no file descriptor is left: raise the limit on open files (ulimit -n)"
    } else if let (true, Some(max)) = (routes.limiter.connections.is_full(), routes.limiter.connections.max()) {
        let set_by = routes.limiter.connections.set_by();
        return Err(Problem::unavailable(format!("all {max} connections are taken ({set_by})")));
    } else {
        return Ok(json_response(&json!({"status": "ready"})));
    };
    Err(Problem::unavailable(reason))
}

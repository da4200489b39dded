//! Documents: the index, the OpenAPI description, the dashboard and the browser client.
//!
//! The dashboard is one page without external resources, assembled at compile time. Its charts are uPlot, under the MIT
//! licence of `demo/uPlot.LICENSE`. Its script is an ordinary client of `GET /stream`.

use std::hash::{DefaultHasher, Hasher};
use std::sync::LazyLock;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH,
};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::{Routes, accept, json_response};

const HTML: &str = "text/html; charset=utf-8";
const VERSION: &str = env!("CARGO_PKG_VERSION");

const DASHBOARD: &str = concat!(
    include_str!("demo/head.html"),
    "<style>\n",
    include_str!("demo/uPlot.min.css"),
    include_str!("demo/page.css"),
    "</style>\n",
    include_str!("demo/body.html"),
    "<script>\n/*\n",
    include_str!("demo/uPlot.LICENSE"),
    "*/\n",
    include_str!("demo/uPlot.iife.min.js"),
    "</script>\n<script>\n",
    include_str!("demo/page.js"),
    "</script>\n</html>\n",
);

/// The browser client: a package of npm, which this server serves as well.
const CLIENT: &str = include_str!("fanline-js/fanline.js");

/// The entity tag of [`CLIENT`]: a hash of its content, so that equal servers have equal tags.
static CLIENT_TAG: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    hasher.write(CLIENT.as_bytes());
    format!("\"{:016x}\"", hasher.finish())
});

/// Restricts the dashboard to its own server, whatever an event contains.
const POLICY: &str = "default-src 'none'; connect-src 'self'; img-src data:; style-src 'unsafe-inline'; \
                      script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`: the index, as a page for browsers and as JSON for other clients.
pub(super) fn index(routes: &Routes, headers: &HeaderMap) -> Response<Full<Bytes>> {
    if accept::preferred(headers, &["application/json", "text/html"]) == Some("text/html") {
        return document(HTML, include_str!("index.html").replace("{version}", VERSION));
    }
    json_response(&json!({
        "status": "running",
        "name": "fanline",
        "version": VERSION,
        "clients": routes.shard.metrics.streams(),
        "history_size": routes.shard.hub.stats().retained_events,
        "endpoints": {
            "stream": "/stream",
            "publish": "/publish",
            "demo": "/demo",
            "client": "/fanline.js",
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

/// `GET /openapi.json`: the API as OpenAPI 3.1.
pub(super) fn openapi() -> Response<Full<Bytes>> {
    document("application/json", include_str!("openapi.json").replace("{version}", VERSION))
}

/// `GET /demo`: the dashboard.
pub(super) fn dashboard() -> Response<Full<Bytes>> {
    let mut response = document(HTML, DASHBOARD);
    // A cached page of another version may not understand this server's events.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// `GET /fanline.js`: the browser client. A browser asks before each use whether its copy is current.
pub(super) fn client(headers: &HeaderMap) -> Response<Full<Bytes>> {
    let mut tags = headers.get_all(IF_NONE_MATCH).iter().flat_map(|tags| tags.as_bytes().split(|&byte| byte == b','));
    let is_current = tags.any(|tag| {
        let tag = tag.trim_ascii();
        tag.strip_prefix(b"W/").unwrap_or(tag) == CLIENT_TAG.as_bytes()
    });
    let mut response = document("text/javascript; charset=utf-8", if is_current { "" } else { CLIENT });
    if is_current {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(ETAG, HeaderValue::from_str(&CLIENT_TAG).expect("hexadecimal digits"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn document(content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

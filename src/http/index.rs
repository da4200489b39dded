//! `GET /`: the index, as a page for browsers and as JSON for other clients.
//!
//! **Contract.** It lists the endpoints that are served, and those for operators only where these are served.

use std::sync::OnceLock;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{HeaderMap, HeaderValue, VARY};
use serde_json::{Map, Value, json};

use super::asset::{self, Asset};
use super::documents::{POLICY, VERSION};
use super::paths::Paths;
use super::{Routes, accept, json_response};

/// The items of the page, each with the path that it needs. Its links are relative, so that a proxy may add a prefix too.
const ITEMS: [(&str, &str); 7] = [
    ("/demo", r#"<a href="demo">Console</a>: topics, events, subscribers, charts"#),
    (
        "/docs",
        r#"<a href="docs">API</a>: every endpoint, from <a href="openapi.json"><code>{prefix}/openapi.json</code></a>"#,
    ),
    ("/asyncapi.json", r#"<a href="asyncapi.json"><code>{prefix}/asyncapi.json</code></a>: the messages of WebSocket"#),
    (
        "/stream",
        r#"<a href="stream"><code>GET {prefix}/stream</code></a>: subscribe; <code>?topics=metric,log</code> limits it to these topics"#,
    ),
    ("/publish", "<code>POST {prefix}/publish</code>: publish events"),
    (
        "/fanline.js",
        r#"<a href="fanline.js"><code>GET {prefix}/fanline.js</code></a>: a client for browsers, an ES module"#,
    ),
    (
        "/health",
        r#"<a href="health"><code>GET {prefix}/health</code></a>, <a href="health/live"><code>{prefix}/health/live</code></a>, <a href="health/ready"><code>{prefix}/health/ready</code></a>"#,
    ),
];

/// The items for operators.
const OPERATORS_ITEMS: [(&str, &str); 3] = [
    ("/clients", r#"<a href="clients"><code>GET {prefix}/clients</code></a>, for operators: connected clients"#),
    ("/topics", r#"<a href="topics"><code>GET {prefix}/topics</code></a>, for operators: topics and their history"#),
    ("/metrics", r#"<a href="metrics"><code>GET {prefix}/metrics</code></a>, for operators: metrics"#),
];

/// The endpoints in JSON, by name.
const ENDPOINTS: [(&str, &str); 11] = [
    ("stream", "/stream"),
    ("websocket", "/ws"),
    ("publish", "/publish"),
    ("demo", "/demo"),
    ("docs", "/docs"),
    ("client", "/fanline.js"),
    ("openapi", "/openapi.json"),
    ("asyncapi", "/asyncapi.json"),
    ("health", "/health"),
    ("live", "/health/live"),
    ("ready", "/health/ready"),
];

/// The endpoints for operators in JSON.
const OPERATORS_ENDPOINTS: [(&str, &str); 3] =
    [("clients", "/clients"), ("topics", "/topics"), ("metrics", "/metrics")];

/// The page with and without the operators' items, made when it is first asked for.
#[derive(Debug, Default)]
pub(super) struct Pages([OnceLock<Asset>; 2]);

impl Pages {
    fn page(&self, paths: &Paths, serves_operators: bool) -> &Asset {
        self.0[usize::from(serves_operators)].get_or_init(|| {
            let operators = OPERATORS_ITEMS.iter().filter(|_| serves_operators);
            let items = ITEMS.iter().chain(operators).filter(|(path, _)| paths.serves(path));
            let items: String = items.map(|(_, item)| format!("  <li>{item}</li>\n")).collect();
            let page = include_str!("console/index.html").replace("{version}", VERSION).replace("{items}", &items);
            Asset::page(POLICY, page.replace("{prefix}", paths.prefix.as_str())).chosen_by_accept()
        })
    }
}

pub(super) fn index(routes: &Routes, headers: &HeaderMap, serves_operators: bool) -> Response<Full<Bytes>> {
    if accept::preferred(headers, &["application/json", "text/html"]) == Some("text/html") {
        return routes.documents.index.page(&routes.paths, serves_operators).response(headers);
    }
    let mut response = json_response(&json!({
        "status": "running",
        "name": "fanline",
        "version": VERSION,
        "clients": routes.shard.metrics.streams(),
        "history_size": routes.shard.hub.stats().retained_events,
        "endpoints": endpoints(&routes.paths, serves_operators),
        "features": ["sse", "websocket", "replay", "gap", "topic-patterns", "ndjson"],
    }));
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    asset::confine(response.headers_mut(), Some(asset::NOTHING));
    response
}

fn endpoints(paths: &Paths, serves_operators: bool) -> Map<String, Value> {
    let operators = OPERATORS_ENDPOINTS.iter().filter(|_| serves_operators);
    let served = ENDPOINTS.iter().chain(operators).filter(|(_, path)| paths.serves(path));
    served.map(|(name, path)| ((*name).to_owned(), format!("{}{path}", paths.prefix).into())).collect()
}

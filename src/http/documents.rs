//! Documents: the index, the OpenAPI and AsyncAPI descriptions, the console with its files, and the browser client.
//!
//! Pages load files of this server only, by relative addresses, so that they work offline and under a path prefix. The
//! console is a client of the other endpoints. Its charts are uPlot, under the MIT licence of `console/uPlot.LICENSE`.

use std::sync::{LazyLock, OnceLock};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{HeaderMap, HeaderValue, VARY};
use serde_json::json;

use super::asset::{self, Asset};
use super::{Routes, accept, json_response};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Restricts pages to files and requests of their own server, whatever an event contains.
const POLICY: &str = "default-src 'none'; connect-src 'self'; img-src 'self'; script-src 'self'; style-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// The browser client: a package of npm, which this server serves as well.
pub(super) static CLIENT: File = File::new("fanline.js", include_str!("fanline-js/fanline.js"));

/// The charts, with their licence.
static UPLOT: File = File::new(
    "uPlot.iife.min.js",
    concat!("/*\n", include_str!("console/uPlot.LICENSE"), "*/\n", include_str!("console/uPlot.iife.min.js")),
);

macro_rules! files {
    ($($name:literal)*) => { [$(File::new($name, include_str!(concat!("console/", $name)))),*] };
}

static CONSOLE: [File; 27] = files! {
    "chart.js" "clipboard.js" "console.css" "console.js" "credentials.js" "dom.js" "event_row.js" "format.js" "history.js"
    "icon.svg" "inspector.js" "json_tree.js" "live.js" "overview.js" "publisher.js" "rates.js" "rows.js" "server.js"
    "slots.js" "socket.js" "sparkline.js" "subscribers.js" "theme.css" "theme.js" "topics.js" "uPlot.min.css" "values.js"
};

/// A file that pages load.
#[derive(Debug)]
pub(super) struct File {
    pub(super) name: &'static str,
    body: &'static str,
    asset: OnceLock<Asset>,
}

impl File {
    pub(super) const fn new(name: &'static str, body: &'static str) -> Self {
        Self { name, body, asset: OnceLock::new() }
    }

    /// Finds a file of the console by its name.
    pub(super) fn of_console(name: &str) -> Option<&'static Self> {
        CONSOLE.iter().chain([&UPLOT]).find(|file| file.name == name)
    }

    /// Returns the file, or 304 if the browser has it.
    pub(super) fn response(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        self.asset.get_or_init(|| Asset::new(content_type(self.name), self.body)).response(headers)
    }
}

/// The type of a file, by the extension of its name.
pub(super) fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => asset::SCRIPT,
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

/// The operators' part of the index.
const OPERATORS: &str = r#"<li><a href="clients"><code>GET /clients</code></a>, <a href="topics"><code>/topics</code></a>,
    <a href="metrics"><code>/metrics</code></a>: for operators</li>"#;

/// `GET /`: the index, as a page for browsers and as JSON for other clients. It lists the operators' endpoints where they are
/// served.
pub(super) fn index(routes: &Routes, headers: &HeaderMap, serves_operators: bool) -> Response<Full<Bytes>> {
    static PAGES: LazyLock<[Asset; 2]> = LazyLock::new(|| {
        let page = include_str!("console/index.html").replace("{version}", VERSION);
        ["", OPERATORS].map(|part| Asset::page(POLICY, page.replace("{operators}", part)).chosen_by_accept())
    });
    if accept::preferred(headers, &["application/json", "text/html"]) == Some("text/html") {
        return PAGES[usize::from(serves_operators)].response(headers);
    }
    let mut response = overview(routes, serves_operators);
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    asset::confine(response.headers_mut(), Some(asset::NOTHING));
    response
}

fn overview(routes: &Routes, serves_operators: bool) -> Response<Full<Bytes>> {
    let mut overview = json!({
        "status": "running",
        "name": "fanline",
        "version": VERSION,
        "clients": routes.shard.metrics.streams(),
        "history_size": routes.shard.hub.stats().retained_events,
        "endpoints": {
            "stream": "/stream",
            "websocket": "/ws",
            "publish": "/publish",
            "demo": "/demo",
            "docs": "/docs",
            "client": "/fanline.js",
            "openapi": "/openapi.json",
            "asyncapi": "/asyncapi.json",
            "health": "/health",
            "live": "/health/live",
            "ready": "/health/ready",
        },
        "features": ["sse", "websocket", "replay", "gap", "topic-patterns", "ndjson"],
    });
    if serves_operators {
        for (name, path) in [("clients", "/clients"), ("topics", "/topics"), ("metrics", "/metrics")] {
            overview["endpoints"][name] = path.into();
        }
    }
    json_response(&overview)
}

/// `GET /openapi.json`: the API as OpenAPI 3.1.
pub(super) fn openapi(headers: &HeaderMap) -> Response<Full<Bytes>> {
    static DOCUMENT: LazyLock<Asset> = LazyLock::new(|| {
        let document = include_str!("openapi.json").replace("{version}", VERSION);
        Asset::new("application/json", document)
    });
    DOCUMENT.response(headers)
}

/// `GET /asyncapi.json`: the messages of WebSocket as AsyncAPI 3.
pub(super) fn asyncapi(headers: &HeaderMap) -> Response<Full<Bytes>> {
    static DOCUMENT: LazyLock<Asset> = LazyLock::new(|| {
        let document = include_str!("asyncapi.json").replace("{version}", VERSION);
        Asset::new("application/json", document)
    });
    DOCUMENT.response(headers)
}

/// `GET /demo`: the console.
pub(super) fn console(headers: &HeaderMap) -> Response<Full<Bytes>> {
    static PAGE: LazyLock<Asset> = LazyLock::new(|| Asset::page(POLICY, include_str!("console/console.html")));
    PAGE.response(headers)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_file_of_the_console_is_served() {
        for file in fs::read_dir("src/http/console").unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            let is_file = !name.ends_with(".html") && !name.ends_with(".LICENSE");
            assert_eq!(File::of_console(&name).is_some(), is_file, "{name}");
        }
    }
}

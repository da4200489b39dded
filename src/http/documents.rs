//! Documents: the index, the OpenAPI description, the console with its files, and the browser client.
//!
//! Pages load files of this server only, by relative addresses, so that they work offline and under a path prefix. The
//! console is a client of the other endpoints. Its charts are uPlot, under the MIT licence of `console/uPlot.LICENSE`.

use std::hash::{DefaultHasher, Hasher};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::{Routes, accept, json_response};

pub(super) const HTML: &str = "text/html; charset=utf-8";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Restricts pages to files and requests of their own server, whatever an event contains.
const POLICY: &str = "default-src 'none'; connect-src 'self'; img-src 'self'; script-src 'self'; style-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// The browser client: a package of npm, which this server serves as well.
pub(super) static CLIENT: File = File { name: "fanline.js", body: include_str!("fanline-js/fanline.js") };

/// The charts, with their licence.
static UPLOT: File = File {
    name: "uPlot.iife.min.js",
    body: concat!("/*\n", include_str!("console/uPlot.LICENSE"), "*/\n", include_str!("console/uPlot.iife.min.js")),
};

macro_rules! files {
    ($($name:literal)*) => { [$(File { name: $name, body: include_str!(concat!("console/", $name)) }),*] };
}

static CONSOLE: [File; 26] = files! {
    "chart.js" "clipboard.js" "console.css" "console.js" "credentials.js" "dom.js" "event_row.js" "format.js" "history.js"
    "icon.svg" "inspector.js" "json_tree.js" "live.js" "overview.js" "publisher.js" "rates.js" "rows.js" "server.js"
    "slots.js" "sparkline.js" "subscribers.js" "theme.css" "theme.js" "topics.js" "uPlot.min.css" "values.js"
};

/// A file that pages load.
#[derive(Debug)]
pub(super) struct File {
    pub(super) name: &'static str,
    pub(super) body: &'static str,
}

impl File {
    /// Finds a file of the console by its name.
    pub(super) fn of_console(name: &str) -> Option<&'static Self> {
        CONSOLE.iter().chain([&UPLOT]).find(|file| file.name == name)
    }

    /// Returns the file, or 304 if the browser has it.
    pub(super) fn response(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        cached(headers, content_type(self.name), self.body.into())
    }
}

/// The type of a file, by the extension of its name.
pub(super) fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

/// `GET /`: the index, as a page for browsers and as JSON for other clients.
pub(super) fn index(routes: &Routes, headers: &HeaderMap) -> Response<Full<Bytes>> {
    if accept::preferred(headers, &["application/json", "text/html"]) == Some("text/html") {
        return page(POLICY, include_str!("console/index.html").replace("{version}", VERSION));
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
            "docs": "/docs",
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

/// `GET /demo`: the console.
pub(super) fn console() -> Response<Full<Bytes>> {
    page(POLICY, include_str!("console/console.html"))
}

/// A page with what its content security policy allows.
pub(super) fn page(policy: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = document(HTML, body);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    // A cached page of another version may not understand this server.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// A file that browsers keep, and ask before each use whether it is current. Its tag is a hash of its content, so that
/// equal servers have equal tags.
pub(super) fn cached(headers: &HeaderMap, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut hasher = DefaultHasher::new();
    hasher.write(&body);
    let current = format!("\"{:016x}\"", hasher.finish());
    let mut tags = headers.get_all(IF_NONE_MATCH).iter().flat_map(|tags| tags.as_bytes().split(|&byte| byte == b','));
    let is_current = tags.any(|tag| {
        let tag = tag.trim_ascii();
        tag.strip_prefix(b"W/").unwrap_or(tag) == current.as_bytes()
    });
    let mut response = document(content_type, if is_current { Bytes::new() } else { body });
    if is_current {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(ETAG, HeaderValue::from_str(&current).expect("hexadecimal digits"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn document(content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
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

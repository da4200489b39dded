//! Documents: the index, the OpenAPI and AsyncAPI descriptions, the console with its files, and the browser client.
//!
//! Pages load files of this server only, by relative addresses, so that they work offline and under a path prefix, of this server
//! or of a proxy. The documents name only what is served. The console is a client of the other endpoints. Its charts are uPlot, under the MIT licence of `console/uPlot.LICENSE`.

use std::sync::{LazyLock, OnceLock};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HeaderMap, HeaderValue, LOCATION};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::asset::{self, Asset};
use super::index;
use super::paths::Paths;

pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Restricts pages to files and requests of their own server, whatever an event contains.
pub(super) const POLICY: &str = "default-src 'none'; connect-src 'self'; img-src 'self'; script-src 'self'; style-src 'self'; \
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

    /// Whether the pages that are not the console use the file too.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.name, "icon.svg" | "theme.css" | "theme.js")
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

/// The documents that depend on the paths of the server, each made when it is first asked for.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    paths: Paths,
    pub(super) index: index::Pages,
    openapi: OnceLock<Asset>,
    asyncapi: OnceLock<Asset>,
}

impl Documents {
    pub(crate) fn new(paths: Paths) -> Self {
        Self { paths, ..Self::default() }
    }

    /// `GET /openapi.json`: the API as OpenAPI 3.1.
    pub(super) fn openapi(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let document = || include_str!("openapi.json").replace("{version}", VERSION);
        let asset = || Asset::new("application/json", openapi_of(document(), &self.paths));
        self.openapi.get_or_init(asset).response(headers)
    }

    /// `GET /asyncapi.json`: the messages of WebSocket as AsyncAPI 3.
    pub(super) fn asyncapi(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let document = || include_str!("asyncapi.json").replace("{version}", VERSION);
        let address = || format!(r#""address": "{}/ws""#, self.paths.prefix);
        let asset = || Asset::new("application/json", document().replace(r#""address": "/ws""#, &address()));
        self.asyncapi.get_or_init(asset).response(headers)
    }
}

/// The OpenAPI document of a server with these paths.
fn openapi_of(document: String, paths: &Paths) -> String {
    if paths.are_default() {
        return document;
    }
    let mut document: Value = serde_json::from_str(&document).expect("the document is JSON");
    if !paths.prefix.as_str().is_empty() {
        document["servers"] = json!([{"url": paths.prefix.as_str()}]);
    }
    document["paths"].as_object_mut().expect("an object").retain(|path, _| paths.serves(path));
    document.to_string()
}

/// Redirects from the prefix to the index below it, whose links are relative to its directory.
pub(super) fn redirect(path: &str) -> Response<Full<Bytes>> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let target = HeaderValue::try_from(format!("{name}/")).expect("a prefix is ASCII");
    response.headers_mut().insert(LOCATION, target);
    response
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

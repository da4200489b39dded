//! The paths that the server serves itself: those of the enabled endpoints, below the prefix.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::route::Route;

/// A part of the server that can be disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// `/stream` and `/events`.
    Stream,
    /// `/ws`.
    WebSocket,
    /// `/publish` and `/publish/{topic}`.
    Publish,
    /// `/health`, `/health/live` and `/health/ready`.
    Health,
    /// `/metrics`, `/metrics/prometheus` and `/metrics/json`.
    Metrics,
    /// `/clients` and `/clients/{id}`.
    Clients,
    /// `/topics`.
    Topics,
    /// The index at `/`, `/openapi.json`, `/asyncapi.json` and `/docs`.
    Documents,
    /// `/fanline.js`.
    BrowserClient,
    /// `/demo`. It uses the other endpoints.
    Console,
}

impl Endpoint {
    /// Every endpoint.
    pub const ALL: &'static [Self] = &[
        Self::Stream,
        Self::WebSocket,
        Self::Publish,
        Self::Health,
        Self::Metrics,
        Self::Clients,
        Self::Topics,
        Self::Documents,
        Self::BrowserClient,
        Self::Console,
    ];
}

/// The path below which the server's own paths are, such as `/live` or `/api/live`: segments of ASCII letters, digits, `-`, `.`,
/// `_` and `~`, with a slash before each. The default is none, which is the empty text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathPrefix(Option<Arc<str>>);

impl PathPrefix {
    /// The prefix; empty if there is none.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl AsRef<str> for PathPrefix {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl FromStr for PathPrefix {
    type Err = InvalidPathPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidPathPrefix> {
        let is_segment = |segment: &str| {
            let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            !matches!(segment, "" | "." | "..") && segment.bytes().all(is_allowed)
        };
        match text.strip_prefix('/') {
            _ if text.is_empty() => Ok(Self::default()),
            Some(path) if path.split('/').all(is_segment) => Ok(Self(Some(text.into()))),
            _ => Err(InvalidPathPrefix { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not a [`PathPrefix`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a path prefix: expected a slash before each segment and none at the end, as in /live or /api/live, \
     with segments of ASCII letters, digits, and - . _ ~"
)]
pub struct InvalidPathPrefix {
    text: String,
}

/// The paths that the server serves itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Paths {
    pub(crate) prefix: PathPrefix,
    pub(crate) disabled: Vec<Endpoint>,
}

impl Paths {
    /// Returns what the server serves at `path`, if it is one of its own.
    pub(super) fn route<'a>(&self, path: &'a str) -> Option<Route<'a>> {
        let prefix = self.prefix.as_str();
        let below = path.strip_prefix(prefix)?;
        let is_directory = below.is_empty() && !prefix.is_empty();
        let route = if is_directory { Route::Directory } else { Route::of(below)? };
        self.is_enabled(route).then_some(route)
    }

    /// Whether the server serves `path`, which is without the prefix.
    pub(super) fn serves(&self, path: &str) -> bool {
        Route::of(path).is_some_and(|route| self.is_enabled(route))
    }

    /// Whether every endpoint is served, without a prefix.
    pub(super) fn are_default(&self) -> bool {
        self.disabled.is_empty() && self.prefix == PathPrefix::default()
    }

    fn is_enabled(&self, route: Route<'_>) -> bool {
        let is_on = |endpoint| !self.disabled.contains(&endpoint);
        match route {
            // It describes the WebSocket.
            Route::AsyncApi => is_on(Endpoint::Documents) && is_on(Endpoint::WebSocket),
            // The pages of both use it.
            Route::ConsoleFile(file) if file.is_shared() => is_on(Endpoint::Documents) || is_on(Endpoint::Console),
            route => is_on(route.endpoint()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(prefix: &str, disabled: &[Endpoint]) -> Paths {
        Paths { prefix: prefix.parse().unwrap(), disabled: disabled.to_vec() }
    }

    #[test]
    fn prefix_is_an_absolute_path_without_a_slash_at_the_end() {
        for text in ["", "/live", "/api/live", "/~anna/v1.2/x_y-z", "/..."] {
            assert_eq!(text.parse::<PathPrefix>().unwrap().as_str(), text);
        }
        for text in ["/", "live", "/live/", "//live", "/a//b", "/a/./b", "/..", "/a b", "/a?b", "/a#b", "/%61", "/ä"] {
            assert!(text.parse::<PathPrefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_paths_below_the_prefix_are_the_servers() {
        let live = paths("/live", &[]);
        for path in
            ["/live", "/live/", "/live/stream", "/live/health/ready", "/live/publish/t", "/live/demo/console.js"]
        {
            assert!(live.route(path).is_some(), "{path}");
        }
        for path in
            ["", "/", "/stream", "/liveness", "/live/nothing", "/live/live/stream", "/live//stream", "/LIVE/stream"]
        {
            assert!(live.route(path).is_none(), "{path}");
        }
        let root = paths("", &[]);
        assert!(root.route("/stream").is_some() && root.route("/").is_some() && root.route("").is_none());
    }

    #[test]
    fn each_endpoint_is_disabled_with_all_its_paths() {
        use Endpoint::{
            BrowserClient, Clients, Console, Documents, Health, Metrics, Publish, Stream, Topics, WebSocket,
        };
        for (endpoint, paths_of_it) in [
            (Stream, &["/stream", "/events"][..]),
            (WebSocket, &["/ws", "/asyncapi.json"]),
            (Publish, &["/publish", "/publish/t"]),
            (Health, &["/health", "/health/live", "/health/ready"]),
            (Metrics, &["/metrics", "/metrics/prometheus", "/metrics/json"]),
            (Clients, &["/clients", "/clients/0000000000000000"]),
            (Topics, &["/topics"]),
            (Documents, &["/", "/openapi.json", "/asyncapi.json", "/docs", "/docs/docs.js"]),
            (BrowserClient, &["/fanline.js"]),
            (Console, &["/demo", "/demo/console.js"]),
        ] {
            let (without, with_only) = (paths("", &[endpoint]), {
                let others: Vec<_> = Endpoint::ALL.iter().copied().filter(|other| *other != endpoint).collect();
                paths("", &others)
            });
            for path in paths_of_it {
                assert!(without.route(path).is_none(), "{endpoint:?}: {path}");
                let needs_two = *path == "/asyncapi.json";
                assert_eq!(with_only.route(path).is_some(), !needs_two, "{endpoint:?}: {path}");
            }
        }
        let none = paths("/live", Endpoint::ALL);
        assert!(
            ["/live", "/live/", "/live/stream", "/live/demo/theme.css"].iter().all(|path| none.route(path).is_none())
        );
        // The pages share a style sheet.
        for page in [Documents, Console] {
            assert!(paths("", &[page]).route("/demo/theme.css").is_some());
        }
    }
}

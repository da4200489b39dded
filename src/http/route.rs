//! The routes: what each path serves, to which methods, and as part of which endpoint.

use super::paths::Endpoint;
use super::{documents, metrics};
use crate::auth::Action;

/// What a path serves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Route<'a> {
    /// The prefix without the slash at its end.
    Directory,
    Index,
    OpenApi,
    AsyncApi,
    Docs,
    /// With the file's name.
    DocsFile(&'a str),
    Console,
    ConsoleFile(&'static documents::File),
    BrowserClient,
    Stream,
    WebSocket,
    /// With the topic from the path, if any.
    Publish(Option<&'a str>),
    Health,
    Live,
    Ready,
    /// In this format, or in the one that the client prefers.
    Metrics(Option<metrics::Format>),
    Clients,
    /// With the client's id.
    Client(&'a str),
    Topics,
}

impl<'a> Route<'a> {
    /// The route of `path`, which is without the prefix.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            "/" => Self::Index,
            "/openapi.json" => Self::OpenApi,
            "/asyncapi.json" => Self::AsyncApi,
            "/docs" => Self::Docs,
            "/demo" => Self::Console,
            "/fanline.js" => Self::BrowserClient,
            "/stream" | "/events" => Self::Stream,
            "/ws" => Self::WebSocket,
            "/publish" => Self::Publish(None),
            "/health" => Self::Health,
            "/health/live" => Self::Live,
            "/health/ready" => Self::Ready,
            "/metrics" => Self::Metrics(None),
            "/metrics/prometheus" => Self::Metrics(Some(metrics::Format::Prometheus)),
            "/metrics/json" => Self::Metrics(Some(metrics::Format::Json)),
            "/clients" => Self::Clients,
            "/topics" => Self::Topics,
            _ => return Self::below(path),
        })
    }

    /// The route of a path that has a parameter.
    fn below(path: &'a str) -> Option<Self> {
        // Prefixes, because most paths here are the application's: a search for the slash costs more than all four.
        if let Some(topic) = path.strip_prefix("/publish/") {
            (!topic.is_empty()).then_some(Self::Publish(Some(topic)))
        } else if let Some(id) = path.strip_prefix("/clients/") {
            Some(Self::Client(id))
        } else if let Some(file) = path.strip_prefix("/demo/") {
            documents::File::of_console(file).map(Self::ConsoleFile)
        } else {
            path.strip_prefix("/docs/").map(Self::DocsFile)
        }
    }

    /// The endpoint that it is a part of.
    pub(super) fn endpoint(self) -> Endpoint {
        match self {
            Self::Directory | Self::Index | Self::OpenApi | Self::AsyncApi | Self::Docs | Self::DocsFile(_) => {
                Endpoint::Documents
            }
            Self::Console | Self::ConsoleFile(_) => Endpoint::Console,
            Self::BrowserClient => Endpoint::BrowserClient,
            Self::Stream => Endpoint::Stream,
            Self::WebSocket => Endpoint::WebSocket,
            Self::Publish(_) => Endpoint::Publish,
            Self::Health | Self::Live | Self::Ready => Endpoint::Health,
            Self::Metrics(_) => Endpoint::Metrics,
            Self::Clients | Self::Client(_) => Endpoint::Clients,
            Self::Topics => Endpoint::Topics,
        }
    }

    /// The allowed methods, as in the header `Allow`.
    pub(super) fn methods(self) -> &'static str {
        match self {
            Self::Stream | Self::WebSocket => "GET",
            Self::Publish(_) => "POST",
            Self::Client(_) => "DELETE",
            Self::Clients => "GET, HEAD, DELETE",
            // hyper omits the body of a response to HEAD.
            _ => "GET, HEAD",
        }
    }

    /// The action that an operators' route requires permission for.
    pub(super) fn operator_action(self) -> Option<Action<'static>> {
        match self {
            Self::Metrics(_) => Some(Action::Measure),
            Self::Clients | Self::Client(_) | Self::Topics => Some(Action::Administer),
            _ => None,
        }
    }

    /// Whether the route is served on connections over a limit as well.
    pub(super) fn is_for_monitoring(self) -> bool {
        matches!(self, Self::Health | Self::Live | Self::Ready | Self::Metrics(_))
    }
}

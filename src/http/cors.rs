//! Cross-origin requests (WHATWG Fetch, "CORS protocol"): which pages may read this server's responses.
//!
//! `tower-http` decides and builds the headers. They are added to the head of every reply, including streams and problems.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::header::{
    ACCESS_CONTROL_REQUEST_METHOD, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderName,
    HeaderValue, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, Uri};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_layer::Layer;
use tower_service::Service;

use crate::conn::reply::Reply;

/// How long a browser may cache the response to a preflight request.
const MAX_AGE: Duration = Duration::from_secs(600);

/// The origins whose pages may read this server's responses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// Only the server's own.
    #[default]
    Own,
    /// All origins, without credentials.
    Any,
    /// The listed origins, with or without credentials.
    Listed {
        /// The origins.
        origins: Vec<Origin>,
        /// Whether pages may send cookies.
        credentials: bool,
    },
}

/// The origin of a page as browsers send it, such as `https://example.com` or `http://127.0.0.1:5173`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let (scheme, authority) = text.split_once("://").ok_or(InvalidOrigin::Scheme)?;
        if !matches!(scheme, "http" | "https") {
            return Err(InvalidOrigin::Scheme);
        }
        if authority.contains(['/', '?', '#', '@']) {
            return Err(InvalidOrigin::Path);
        }
        let uri: Uri = text.parse().map_err(|_| InvalidOrigin::Host)?;
        let is_normalized = !authority.contains(|c: char| c.is_ascii_uppercase() || !c.is_ascii());
        let host = uri.host().filter(|host| is_normalized && !host.is_empty() && !host.contains('*'));
        let port = &authority[host.ok_or(InvalidOrigin::Host)?.len()..];
        let number = port.strip_prefix(':').map(str::parse::<u16>);
        match (number, scheme) {
            (None, _) if port.is_empty() => {}
            (Some(Ok(80)), "http") | (Some(Ok(443)), "https") => return Err(InvalidOrigin::DefaultPort),
            (Some(Ok(1..)), _) => {}
            _ => return Err(InvalidOrigin::Host),
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| InvalidOrigin::Host)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

impl Origins {
    /// Whether pages of `origin` are allowed, and whether their cookies count.
    pub(super) fn allow(&self, origin: &HeaderValue) -> Option<bool> {
        match self {
            Self::Own => None,
            Self::Any => Some(false),
            Self::Listed { origins, credentials } => {
                origins.iter().any(|allowed| allowed.0 == origin).then_some(*credentials)
            }
        }
    }
}

/// Why a text is not an [`Origin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidOrigin {
    /// The scheme is not http or https.
    #[error("an origin begins with http:// or https://, as in https://example.com")]
    Scheme,
    /// It has a path, a query or user information.
    #[error("an origin ends with its host or port: leave out the slash and everything after it, and any user name")]
    Path,
    /// The host or port is invalid.
    #[error("expected a host in lower-case ASCII (xn--… for other names), optionally with a port")]
    Host,
    /// The port is the default of the scheme.
    #[error("leave out the port: browsers omit the default port of the scheme")]
    DefaultPort,
}

/// Returns the rules, or `None` if no page of another origin may read.
pub(crate) fn layer(origins: &Origins) -> Option<CorsLayer> {
    let (origins, credentials) = match origins {
        Origins::Own => return None,
        Origins::Any => (AllowOrigin::any(), false),
        Origins::Listed { origins, credentials } => {
            (AllowOrigin::list(origins.iter().map(|origin| origin.0.clone())), *credentials)
        }
    };
    let last_event_id = HeaderName::from_static("last-event-id");
    let layer = CorsLayer::new()
        .allow_origin(origins)
        .allow_credentials(credentials)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::DELETE])
        // Libraries that replace the browser's EventSource send Cache-Control.
        .allow_headers([
            AUTHORIZATION,
            CACHE_CONTROL,
            CONTENT_ENCODING,
            CONTENT_TYPE,
            last_event_id,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("x-api-key"),
        ])
        .expose_headers([ALLOW, RETRY_AFTER, WWW_AUTHENTICATE, HeaderName::from_static("idempotent-replayed")])
        .max_age(MAX_AGE);
    Some(layer)
}

/// Replies to a preflight request, or waits for the reply of `handling` and adds the CORS headers.
pub(crate) async fn apply(layer: &CorsLayer, head: &Parts, handling: impl Future<Output = Reply>) -> Reply {
    let is_preflight = head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if head.method == Method::OPTIONS && !is_preflight {
        // The layer would treat it as a preflight request.
        return handling.await;
    }
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    request.headers_mut().extend(head.headers.get(ORIGIN).map(|origin| (ORIGIN, origin.clone())));
    let Ok(cors) = layer.layer(EmptyResponse).call(request).await;
    if head.method == Method::OPTIONS {
        return Reply::whole(cors.map(|()| Full::default()));
    }
    let mut reply = handling.await;
    let headers = match &mut reply {
        Reply::Ordinary(response) => response.headers_mut(),
        Reply::Stream(stream) => &mut stream.head.headers,
        Reply::WebSocket(websocket) => &mut websocket.head.headers,
    };
    for (name, value) in &cors.into_parts().0.headers {
        // The reply may have a Vary of its own.
        headers.append(name, value.clone());
    }
    reply
}

/// The service below the layer, which needs only the head of the request.
struct EmptyResponse;

impl Service<Request<()>> for EmptyResponse {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_parses_as_browsers_send_it() {
        for text in
            ["https://example.com", "http://127.0.0.1:5173", "http://[::1]:8000", "https://xn--bcher-kva.example"]
        {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), text);
        }
        for (text, error) in [
            ("example.com", InvalidOrigin::Scheme),
            ("null", InvalidOrigin::Scheme),
            ("ftp://example.com", InvalidOrigin::Scheme),
            ("HTTPS://example.com", InvalidOrigin::Scheme),
            ("https://example.com/", InvalidOrigin::Path),
            ("https://me@example.com", InvalidOrigin::Path),
            ("https://Example.com", InvalidOrigin::Host),
            ("https://bücher.example", InvalidOrigin::Host),
            ("https://*.example.com", InvalidOrigin::Host),
            ("https://", InvalidOrigin::Host),
            ("https://a b", InvalidOrigin::Host),
            ("https://example.com:0", InvalidOrigin::Host),
            ("https://example.com:x", InvalidOrigin::Host),
            ("https://example.com:443", InvalidOrigin::DefaultPort),
            ("http://example.com:80", InvalidOrigin::DefaultPort),
        ] {
            assert_eq!(text.parse::<Origin>(), Err(error), "{text}");
        }
    }
}

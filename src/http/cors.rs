//! Cross-origin requests (WHATWG Fetch, "CORS protocol"): which pages may read what this server answers.
//!
//! `tower-http` decides. What it sees as the service is [`super::Routes`], whose stream replies have a head like any other
//! response: the headers go on that head before the takeover writes it, and on problems as well.
//!
//! **Operators' endpoints are not for any page.** `/clients` and `/topics` are answered to whoever asks from the server's
//! own machine, and a browser there asks for every page that it shows. Where any origin may read, these are left out.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCESS_CONTROL_REQUEST_METHOD, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, Uri, Version};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_layer::Layer;
use tower_service::Service;

use crate::conn::StreamRequest;
use crate::conn::http1::{Reply, StreamReply};

/// How long a browser may remember the answer to a preflight. Browsers forget earlier by themselves.
const MAX_AGE: Duration = Duration::from_secs(600);

/// Which pages of other origins may read what this server answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// None but the server's own.
    #[default]
    Own,
    /// All of them, without credentials.
    Any,
    /// Those that are listed, with the cookies that the browser has for this server, or without.
    Listed {
        /// The origins.
        origins: Vec<Origin>,
        /// Whether a page may send cookies, and read the answer to them.
        credentials: bool,
    },
}

/// The origin of a page as browsers write it: `https://example.com` or `http://127.0.0.1:5173`.
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
        let is_spelled_so = !authority.contains(|c: char| c.is_ascii_uppercase() || !c.is_ascii());
        let host = uri.host().filter(|host| is_spelled_so && !host.is_empty() && !host.contains('*'));
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

/// Why a text is no origin, as a browser would write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOrigin {
    /// It has none of the schemes of pages.
    #[error("an origin begins with http:// or https://, as in https://example.com")]
    Scheme,
    /// It has more than an origin has.
    #[error("an origin ends with its host or port: leave out the slash and what follows it, and any user name")]
    Path,
    /// Its host or port is none.
    #[error("a host in lower case and ASCII (xn--… for others) is expected, and perhaps a port")]
    Host,
    /// It names a port that browsers leave out.
    #[error("browsers leave this port out, because it is the scheme's own: leave it out here as well")]
    DefaultPort,
}

/// The rules; none when no page of another origin may read anything.
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
        // Cache-Control: what clients that are no browser's own EventSource like to send.
        .allow_headers([
            AUTHORIZATION,
            CACHE_CONTROL,
            CONTENT_TYPE,
            last_event_id,
            HeaderName::from_static("x-api-key"),
        ])
        .expose_headers([ALLOW, RETRY_AFTER, WWW_AUTHENTICATE])
        .max_age(MAX_AGE);
    Some(layer)
}

/// Whether pages that `origins` lets in may read what `path` answers. A browser on the server's own machine asks for every
/// page that it shows: with any origin, what is for operators is left out.
pub(crate) fn covers(origins: &Origins, path: &str, has_open_metrics: impl FnOnce() -> bool) -> bool {
    let is_within = |parent| path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let is_for_operators =
        || is_within("/topics") || is_within("/clients") || (is_within("/metrics") && !has_open_metrics());
    *origins != Origins::Any || !is_for_operators()
}

/// Answers a preflight, or has `answer` answer and puts the headers on that.
pub(crate) async fn answer<B, F: Future<Output = Reply>>(
    layer: &CorsLayer,
    request: Request<B>,
    answer: impl FnOnce(Request<B>) -> F,
) -> Reply {
    let is_options = request.method() == Method::OPTIONS;
    let is_preflight = is_options && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    // The layer takes every OPTIONS for a preflight.
    if is_options && !is_preflight {
        return answer(request).await;
    }
    let mut asked = Request::new(());
    *asked.method_mut() = request.method().clone();
    asked.headers_mut().extend(request.headers().get(ORIGIN).map(|origin| (ORIGIN, origin.clone())));
    let given = if is_preflight { Response::default() } else { to_response(answer(request).await) };
    match layer.layer(Given(Some(given))).call(asked).await {
        Ok(response) => to_reply(response),
        Err(never) => match never {},
    }
}

/// A service that answers what it was given: the layer only looks at the head, and the request is answered by then.
struct Given(Option<Response<Payload>>);

impl Service<Request<()>> for Given {
    type Response = Response<Payload>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(self.0.take().unwrap_or_default()))
    }
}

/// What a reply has besides its head.
enum Payload {
    Whole(Full<Bytes>),
    Stream(Box<(Version, StreamRequest)>),
}

impl Default for Payload {
    fn default() -> Self {
        Self::Whole(Full::default())
    }
}

fn to_response(reply: Reply) -> Response<Payload> {
    match reply {
        Reply::Ordinary(response) => response.map(Payload::Whole),
        Reply::Stream(stream) => {
            let StreamReply { head, version, request } = *stream;
            Response::from_parts(head, Payload::Stream(Box::new((version, request))))
        }
    }
}

fn to_reply(response: Response<Payload>) -> Reply {
    let (head, payload) = response.into_parts();
    match payload {
        Payload::Whole(body) => Reply::Ordinary(Response::from_parts(head, body)),
        Payload::Stream(stream) => {
            let (version, request) = *stream;
            Reply::Stream(Box::new(StreamReply { head, version, request }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_sends() {
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

//! The part of a request that authorization uses: its action, its credentials and its origin.

use std::borrow::Cow;
use std::fmt;

use hyper::header::{AUTHORIZATION, COOKIE, HeaderName};
use hyper::http::request::Parts;

use super::Refusal;
use super::host::Host;
use super::known::{KnownHeaders, Rare};
use crate::peer::{Peer, PeerAddress};
use crate::topic::TopicFilter;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The cookie with a key or token, because browsers cannot add a header to an `EventSource`.
const COOKIE_NAME: &str = "fanline_token";
/// The query parameter with a key or token.
const PARAMETER: &str = "access_token";

/// What a request wants to do.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Action<'a> {
    /// Subscribes to these filters; empty means everything.
    Subscribe(&'a [TopicFilter]),
    /// Opens a WebSocket without topics. Its subscriptions and publications are checked later.
    Connect,
    /// Publishes. The topics are checked against the grant later, as the events are read.
    Publish,
    /// Uses an admin endpoint.
    Administer,
    /// Reads metrics.
    Measure,
}

/// A request that is to be authorized: what it wants to do, its head, and where it comes from.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct AuthRequest<'a> {
    /// What the request wants to do.
    pub action: Action<'a>,
    /// The head of the request: method, target, version, headers, and the extensions that an application has added.
    pub parts: &'a Parts,
    /// The peer of the connection.
    pub peer: &'a Peer,
    /// The address of the client: that of the peer, or the one that a trusted proxy forwarded.
    pub client: PeerAddress,
    /// The host that the request names.
    pub(crate) host: Option<Host<'a>>,
    pub(crate) known: KnownHeaders<'a>,
}

impl fmt::Debug for AuthRequest<'_> {
    /// Omits the request's parts, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthRequest")
            .field("action", &self.action)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl<'a> AuthRequest<'a> {
    /// The request with this head, from the client at the other end of the connection. Tests of an
    /// [`Authorize`](super::Authorize) create it.
    pub fn new(action: Action<'a>, parts: &'a Parts, peer: &'a Peer) -> Self {
        let known = KnownHeaders::of(&parts.headers);
        let host = Host::of(parts.version, &parts.uri, &known).ok().flatten();
        Self { action, parts, peer, client: peer.address, host, known }
    }

    /// Returns the value of a cookie, the first of this name, if it is text.
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        self.cookies(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Returns the values of all cookies of this name. Other cookies need not be text.
    fn cookies(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let pairs =
            self.parts.headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|&byte| byte == b';'));
        pairs.filter_map(move |pair| {
            let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
        })
    }

    /// Returns the API key or token from `Authorization: Bearer`, `X-Api-Key`, the cookie `fanline_token` or the parameter
    /// `access_token`, in this order. Cookies count for safe methods only, because a browser sends them with requests of
    /// any page.
    ///
    /// # Errors
    /// [`Refusal::InvalidCredentials`] if one of these is repeated, empty or not text.
    pub fn secret(&self) -> Result<Option<Cow<'a, str>>, Refusal> {
        // Most publishers on the server's own machine send neither.
        if self.parts.uri.query().is_none() && !self.known.may_have(Rare::Secret) {
            return Ok(None);
        }
        if let Some(value) = self.single_header(&AUTHORIZATION)? {
            // Other schemes belong to a proxy in front of this server.
            let (scheme, secret) = value.split_once([' ', '\t']).unwrap_or((value, ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                return match secret.trim() {
                    "" => Err(ambiguous("the header authorization has no token")),
                    secret => Ok(Some(secret.into())),
                };
            }
        }
        if let Some(value) = self.single_header(&API_KEY)? {
            return Ok(Some(value.trim().into()));
        }
        let mut cookies = self.cookies(COOKIE_NAME).filter(|value| !value.is_empty() && self.parts.method.is_safe());
        if let Some(value) = cookies.next() {
            if cookies.any(|other| other != value) {
                return Err(ambiguous(&format!("the cookie {COOKIE_NAME} is repeated")));
            }
            let not_text = |_| ambiguous(&format!("the cookie {COOKIE_NAME} is not text"));
            return std::str::from_utf8(value).map(|value| Some(value.into())).map_err(not_text);
        }
        let query = self.parts.uri.query().unwrap_or("");
        let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == PARAMETER);
        match (values.next(), values.next()) {
            (first, None) => Ok(first.map(|(_, value)| value)),
            _ => Err(ambiguous(&format!("the parameter {PARAMETER} is repeated"))),
        }
    }

    fn single_header(&self, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
        let mut values = self.parts.headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => {
                value.to_str().map(Some).map_err(|_| ambiguous(&format!("the header {name} is not text")))
            }
            _ => Err(ambiguous(&format!("the header {name} is repeated"))),
        }
    }
}

pub(super) fn ambiguous(what: &str) -> Refusal {
    Refusal::InvalidCredentials(format!("{what}: send one API key or token"))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use hyper::{Method, Request};

    use super::*;

    fn peer(remote: &str) -> Peer {
        Peer::tcp(remote.parse().unwrap(), ([127, 0, 0, 1], 8000).into())
    }

    fn secret(method: &Method, pairs: &[(&str, &str)], query: &str) -> Result<Option<String>, Refusal> {
        let target = if query.is_empty() { "/publish".to_owned() } else { format!("/publish?{query}") };
        let request = Request::builder().method(method).uri(target);
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        for (name, value) in pairs {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            parts.headers.append(name.parse::<HeaderName>().unwrap(), value);
        }
        let peer = peer("127.0.0.1:1");
        let request = AuthRequest::new(Action::Publish, &parts, &peer);
        Ok(request.secret()?.map(Cow::into_owned))
    }

    #[test]
    fn the_authorization_header_wins_over_other_places_of_a_secret() {
        let all = [("authorization", "bearer a"), ("x-api-key", "b"), ("cookie", "x=1; fanline_token=c; y=2")];
        let found = |from: usize, query| secret(&Method::GET, &all[from..], query).unwrap();
        assert_eq!(found(0, "access_token=d").as_deref(), Some("a"));
        assert_eq!(found(1, "access_token=d").as_deref(), Some("b"));
        assert_eq!(found(2, "access_token=d").as_deref(), Some("c"));
        assert_eq!(found(3, "topics=x&access_token=d%2E").as_deref(), Some("d."));
        assert_eq!(found(3, "topics=x"), None);
        assert_eq!(secret(&Method::GET, &[("authorization", "Basic dTpw")], ""), Ok(None));
        // Cookies do not authorize unsafe methods.
        assert_eq!(secret(&Method::POST, &all[2..], ""), Ok(None));
    }

    #[test]
    fn a_secret_is_found_in_each_header_without_a_query() {
        for (name, value) in [("Authorization", "Bearer a"), ("X-Api-Key", "a"), ("Cookie", "fanline_token=a")] {
            assert_eq!(secret(&Method::GET, &[("accept", "*/*"), (name, value)], "").unwrap().as_deref(), Some("a"));
        }
        assert_eq!(secret(&Method::GET, &[("accept", "*/*")], ""), Ok(None));
    }

    #[test]
    fn a_repeated_secret_is_refused() {
        let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
        assert!(matches!(secret(&Method::GET, &twice, ""), Err(Refusal::InvalidCredentials(_))));
        assert!(matches!(
            secret(&Method::GET, &[], "access_token=a&access_token=b"),
            Err(Refusal::InvalidCredentials(_))
        ));
        let cookies = |text| secret(&Method::GET, &[("cookie", text)], "");
        assert!(matches!(cookies("fanline_token=a; fanline_token=b"), Err(Refusal::InvalidCredentials(_))));
        assert_eq!(cookies("fanline_token=a; fanline_token=\"a\"").unwrap().as_deref(), Some("a"));
    }

    #[test]
    fn a_secret_is_found_beside_other_cookies_and_an_empty_one_is_refused() {
        let beside = [("cookie", "name=Jos\u{e9}; fanline_token=a; fanline_tokens=b")];
        assert_eq!(secret(&Method::GET, &beside, "").unwrap().as_deref(), Some("a"));
        assert_eq!(secret(&Method::GET, &[("authorization", "Bearer\ta")], "").unwrap().as_deref(), Some("a"));
        for value in ["Bearer", "bearer ", "Bearer\t"] {
            let empty = [("authorization", value), ("x-api-key", "b")];
            assert!(matches!(secret(&Method::GET, &empty, ""), Err(Refusal::InvalidCredentials(_))), "{value:?}");
        }
        assert_eq!(
            secret(&Method::GET, &[("cookie", "fanline_token=")], "access_token=d").unwrap().as_deref(),
            Some("d")
        );
    }
}

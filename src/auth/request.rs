//! What somebody wants to do, and what they show for it.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use hyper::header::{AUTHORIZATION, COOKIE, FORWARDED, HOST, HeaderMap, HeaderName, ORIGIN, VIA};
use hyper::{Method, Uri};

use super::refusal::Refusal;
use crate::topic::TopicFilter;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The cookie that bears a token: browsers cannot give an `EventSource` a header.
const COOKIE_NAME: &str = "fanline_token";
/// The parameter that bears a token.
const PARAMETER: &str = "access_token";

/// What proxies say of whom they speak for, besides what begins with `x-forwarded-`.
const OF_PROXIES: [HeaderName; 8] = [
    FORWARDED,
    VIA,
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-client-ip"),
    HeaderName::from_static("x-cluster-client-ip"),
    HeaderName::from_static("true-client-ip"),
    HeaderName::from_static("cf-connecting-ip"),
    HeaderName::from_static("fastly-client-ip"),
];

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Action<'a> {
    /// To have the events of these topics; none is all of them.
    Subscribe(&'a [TopicFilter]),
    /// To publish. Which topics the events have is known later, and checked against the grant.
    Publish,
    /// To see or do what operators see and do.
    Administer,
    /// To read metrics.
    Measure,
}

/// A request before it is answered.
#[derive(Clone, Copy)]
pub struct AuthRequest<'a> {
    /// What is wanted.
    pub action: Action<'a>,
    /// How.
    pub method: &'a Method,
    /// The headers of the request.
    pub headers: &'a HeaderMap,
    /// The query of its target, without the question mark.
    pub query: &'a str,
    /// Where it comes from: the peer of the connection.
    pub remote: SocketAddr,
}

impl fmt::Debug for AuthRequest<'_> {
    /// Without headers and query: they may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthRequest")
            .field("action", &self.action)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

impl<'a> AuthRequest<'a> {
    /// The value of a cookie, the first of this name if that is text.
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        self.cookies(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The values of all cookies of this name. Others may be of any bytes.
    fn cookies(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let pairs = self.headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|&byte| byte == b';'));
        pairs.filter_map(move |pair| {
            let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
        })
    }

    /// The key or token that is shown: `Authorization: Bearer`, `X-Api-Key`, the cookie `fanline_token`, or the parameter
    /// `access_token`, in this order. A browser sends cookies for whatever page asks it to, so they count for nothing
    /// that changes something.
    ///
    /// # Errors
    /// When there are several of one kind, or one that is empty or no text: it is not guessed what is meant.
    pub fn secret(&self) -> Result<Option<Cow<'a, str>>, Refusal> {
        let single = |name: &HeaderName| {
            let mut values = self.headers.get_all(name).iter();
            match (values.next(), values.next()) {
                (None, _) => Ok(None),
                (Some(value), None) => {
                    value.to_str().map(Some).map_err(|_| ambiguous(&format!("the header {name} is no text")))
                }
                _ => Err(ambiguous(&format!("the header {name} stands more than once"))),
            }
        };
        if let Some(value) = single(&AUTHORIZATION)? {
            // Other schemes are for whoever stands before this server.
            let (scheme, secret) = value.split_once([' ', '\t']).unwrap_or((value, ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                return match secret.trim() {
                    "" => Err(ambiguous("the header authorization bears no token")),
                    secret => Ok(Some(secret.into())),
                };
            }
        }
        if let Some(value) = single(&API_KEY)? {
            return Ok(Some(value.trim().into()));
        }
        let mut cookies = self.cookies(COOKIE_NAME).filter(|value| !value.is_empty() && self.method.is_safe());
        if let Some(value) = cookies.next() {
            if cookies.any(|other| other != value) {
                return Err(ambiguous(&format!("the cookie {COOKIE_NAME} stands more than once")));
            }
            let no_text = |_| ambiguous(&format!("the cookie {COOKIE_NAME} is no text"));
            return std::str::from_utf8(value).map(|value| Some(value.into())).map_err(no_text);
        }
        let mut values = form_urlencoded::parse(self.query.as_bytes()).filter(|(key, _)| key == PARAMETER);
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some((_, value)), None) => Ok(Some(value)),
            _ => Err(ambiguous(&format!("the parameter {PARAMETER} stands more than once"))),
        }
    }

    /// Whether this comes from the server's own machine, and for nobody else: not through a proxy there, and not because
    /// a page of elsewhere has a browser there send it.
    pub(crate) fn is_local(&self) -> bool {
        self.remote.ip().to_canonical().is_loopback()
            && self.proxy_header().is_none()
            && self.public_host().is_none()
            && (self.method.is_safe() || !self.is_sent_by_a_strange_page())
    }

    /// The header that says that a proxy speaks for another.
    pub(crate) fn proxy_header(&self) -> Option<&'a str> {
        let says_so = |name: &&HeaderName| name.as_str().starts_with("x-forwarded-") || OF_PROXIES.contains(*name);
        self.headers.keys().find(says_so).map(HeaderName::as_str)
    }

    /// The host that this is for, if that is a name that somebody elsewhere may own: a proxy that says nothing of itself
    /// passes it on, and a page whose name was made to lead here (DNS rebinding) asks for it.
    pub(crate) fn public_host(&self) -> Option<&'a str> {
        self.headers.get_all(HOST).iter().find_map(|host| {
            let Ok(host) = host.to_str() else { return Some("of no text") };
            let name = match host.rsplit_once(':') {
                Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
                _ => host,
            };
            let is_address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
            let is_own = is_address || !name.contains('.') || name.to_ascii_lowercase().ends_with(".localhost");
            (!is_own).then_some(name)
        })
    }

    fn is_sent_by_a_strange_page(&self) -> bool {
        let Some(origin) = self.headers.get(ORIGIN) else { return false };
        let uri: Option<Uri> = origin.to_str().ok().and_then(|origin| origin.parse().ok());
        let host = uri.as_ref().and_then(Uri::host).map(|host| host.trim_matches(['[', ']']));
        !host.is_some_and(|host| {
            host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        })
    }
}

pub(super) fn ambiguous(what: &str) -> Refusal {
    Refusal::Unauthenticated(format!("{what}: it is not clear which credentials are meant"))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn secret(method: &Method, pairs: &[(&str, &str)], query: &str) -> Result<Option<String>, Refusal> {
        let headers = headers(pairs);
        let remote = ([127, 0, 0, 1], 1).into();
        let request = AuthRequest { action: Action::Publish, method, headers: &headers, query, remote };
        Ok(request.secret()?.map(Cow::into_owned))
    }

    #[test]
    fn a_secret_comes_by_four_ways_and_the_header_wins() {
        let all = [("authorization", "bearer a"), ("x-api-key", "b"), ("cookie", "x=1; fanline_token=c; y=2")];
        let found = |from: usize, query| secret(&Method::GET, &all[from..], query).unwrap();
        assert_eq!(found(0, "access_token=d").as_deref(), Some("a"));
        assert_eq!(found(1, "access_token=d").as_deref(), Some("b"));
        assert_eq!(found(2, "access_token=d").as_deref(), Some("c"));
        assert_eq!(found(3, "topics=x&access_token=d%2E").as_deref(), Some("d."));
        assert_eq!(found(3, "topics=x"), None);
        assert_eq!(secret(&Method::GET, &[("authorization", "Basic dTpw")], ""), Ok(None));
        // What changes something is not done on the word of a cookie.
        assert_eq!(secret(&Method::POST, &all[2..], ""), Ok(None));
    }

    #[test]
    fn of_two_secrets_none_is_taken() {
        let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
        assert!(matches!(secret(&Method::GET, &twice, ""), Err(Refusal::Unauthenticated(_))));
        assert!(matches!(secret(&Method::GET, &[], "access_token=a&access_token=b"), Err(Refusal::Unauthenticated(_))));
        let cookies = |text| secret(&Method::GET, &[("cookie", text)], "");
        assert!(matches!(cookies("fanline_token=a; fanline_token=b"), Err(Refusal::Unauthenticated(_))));
        assert_eq!(cookies("fanline_token=a; fanline_token=\"a\"").unwrap().as_deref(), Some("a"));
    }

    #[test]
    fn what_is_shown_is_found_beside_anything_and_an_empty_one_is_no_word_for_nothing() {
        let beside = [("cookie", "name=Jos\u{e9}; fanline_token=a; fanline_tokens=b")];
        assert_eq!(secret(&Method::GET, &beside, "").unwrap().as_deref(), Some("a"));
        assert_eq!(secret(&Method::GET, &[("authorization", "Bearer\ta")], "").unwrap().as_deref(), Some("a"));
        for value in ["Bearer", "bearer ", "Bearer\t"] {
            let empty = [("authorization", value), ("x-api-key", "b")];
            assert!(matches!(secret(&Method::GET, &empty, ""), Err(Refusal::Unauthenticated(_))), "{value:?}");
        }
        assert_eq!(
            secret(&Method::GET, &[("cookie", "fanline_token=")], "access_token=d").unwrap().as_deref(),
            Some("d")
        );
    }

    #[test]
    fn only_this_machine_is_local_and_only_for_itself() {
        let is_local = |remote: &str, method: &Method, pairs: &[(&str, &str)]| {
            let (headers, remote) = (headers(pairs), remote.parse().unwrap());
            AuthRequest { action: Action::Administer, method, headers: &headers, query: "", remote }.is_local()
        };
        for (remote, expected) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("10.0.0.1:1", false),
            ("[::ffff:10.0.0.1]:1", false),
            ("[2001:db8::1]:1", false),
        ] {
            assert_eq!(is_local(remote, &Method::POST, &[]), expected, "{remote}");
        }
        let forwarded = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "X-Forwarded-Prefix", "forwarded"];
        for name in forwarded.into_iter().chain(["via", "x-real-ip", "true-client-ip"]) {
            assert!(!is_local("127.0.0.1:1", &Method::GET, &[(name, "127.0.0.1")]), "{name}");
        }
        for (host, expected) in [
            ("localhost", true),
            ("localhost:8000", true),
            ("a.localhost:8000", true),
            ("127.0.0.1:8000", true),
            ("[::1]:8000", true),
            ("[::1]", true),
            ("10.0.0.7", true),
            ("workstation:8000", true),
            ("app.example", false),
            ("app.example:8000", false),
            ("127.0.0.1.evil.example", false),
            ("evil.example.:80", false),
        ] {
            assert_eq!(is_local("127.0.0.1:1", &Method::GET, &[("host", host)]), expected, "{host}");
        }
        for (origin, expected) in [
            ("http://localhost:3000", true),
            ("http://127.0.0.1:8000", true),
            ("http://[::1]:8000", true),
            ("https://evil.example", false),
            ("http://localhost.evil.example", false),
            ("null", false),
        ] {
            assert_eq!(is_local("127.0.0.1:1", &Method::POST, &[("origin", origin)]), expected, "{origin}");
            // Reading is for the same-origin policy.
            assert!(is_local("127.0.0.1:1", &Method::GET, &[("origin", origin)]));
        }
    }
}

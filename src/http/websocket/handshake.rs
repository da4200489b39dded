//! The handshake of a WebSocket (RFC 6455, section 4.2).
//!
//! **Origins.** A browser sends the handshakes of all pages, with the server's cookies, and any page may read what follows. So a
//! handshake from a page of another origin is refused, unless the CORS rules allow that origin. Its cookies count only where
//! they would count in other requests. Clients that are not browsers send no `Origin`.

use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::{StatusCode, Version};
use tungstenite::handshake::derive_accept_key;

use crate::http::cors::Origins;
use crate::http::problem::Problem;

/// The version of the protocol.
const VERSION: &str = "13";

/// A handshake that can be accepted.
#[derive(Debug)]
pub(super) struct Handshake {
    /// The proof that the server has read the handshake.
    pub(super) accept: HeaderValue,
    /// Whether cookies of the request count.
    pub(super) takes_cookies: bool,
}

/// Checks the handshake in a request's head.
pub(super) fn check(head: &Parts, origins: &Origins) -> Result<Handshake, Problem> {
    let headers = &head.headers;
    if head.version != Version::HTTP_11 {
        let detail = "a WebSocket begins with an HTTP/1.1 request; over HTTP/2 use GET /stream";
        return Err(Problem::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, detail));
    }
    if !names(headers, &UPGRADE, "websocket") || !names(headers, &CONNECTION, "upgrade") {
        let detail = "this endpoint speaks WebSocket: send Upgrade: websocket and Connection: Upgrade. A proxy in between must \
                      pass both on";
        return Err(Problem::upgrade_required(detail, None));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != VERSION) {
        let detail = format!("Sec-WebSocket-Version must be {VERSION}");
        return Err(Problem::upgrade_required(detail, Some(VERSION)));
    }
    let accept = accept(headers)?;
    let takes_cookies = check_origin(headers, origins)?;
    Ok(Handshake { accept, takes_cookies })
}

/// Whether the header `name` lists `token`.
fn names(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|one| one.trim().eq_ignore_ascii_case(token))
}

/// Returns the header `Sec-WebSocket-Accept` for the key of the client.
fn accept(headers: &HeaderMap) -> Result<HeaderValue, Problem> {
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let key = keys.next().filter(|key| is_key(key.as_bytes()));
    let (Some(key), None) = (key, keys.next()) else {
        return Err(Problem::bad_request("Sec-WebSocket-Key must be 16 bytes in base64, once"));
    };
    Ok(HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64 is ASCII"))
}

/// Whether `text` is 16 bytes in base64.
fn is_key(text: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    text.strip_suffix(b"==").is_some_and(|digits| digits.len() == 22 && digits.iter().all(is_digit))
}

/// Checks the page that sends the handshake. Returns whether its cookies count.
fn check_origin(headers: &HeaderMap, origins: &Origins) -> Result<bool, Problem> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(true) };
    if headers.get(HOST).is_some_and(|host| is_of_host(origin, host)) {
        return Ok(true);
    }
    origins.allow(origin).ok_or_else(|| {
        let detail = format!("pages of {origin:?} may not connect (setting cors_origin)");
        Problem::new(StatusCode::FORBIDDEN, detail)
    })
}

/// Whether `origin` is that of `host`. The scheme is not compared: behind a proxy with TLS the server does not know it.
fn is_of_host(origin: &HeaderValue, host: &HeaderValue) -> bool {
    let (Ok(origin), Ok(host)) = (origin.to_str(), host.to_str()) else { return false };
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    host.strip_suffix(default_port).unwrap_or(host).eq_ignore_ascii_case(authority)
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    /// The handshake of the RFC's example, with `changes`: an empty value removes a header.
    fn check_with(changes: &[(&str, &str)], origins: &Origins) -> Result<Handshake, Problem> {
        let usual = [
            ("host", "example.com"),
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-key", KEY),
            ("sec-websocket-version", "13"),
        ];
        let mut head = Request::new(()).into_parts().0;
        for (name, value) in usual.iter().chain(changes) {
            let name: HeaderName = name.parse().unwrap();
            match *value {
                "" => head.headers.remove(name),
                value => head.headers.insert(name, value.parse().unwrap()),
            };
        }
        check(&head, origins)
    }

    fn status(changes: &[(&str, &str)]) -> u16 {
        check_with(changes, &Origins::Own).map_or_else(|problem| problem.status().as_u16(), |_| 101)
    }

    #[test]
    fn the_key_is_accepted_as_in_the_rfc() {
        let handshake = check_with(&[], &Origins::Own).unwrap();
        assert_eq!(handshake.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let keys = ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25j", "AAAAAAAAAAAAAAAAAAAAAAA=", "!"];
        for key in keys {
            assert_eq!(status(&[("sec-websocket-key", key)]), 400, "{key}");
        }
    }

    #[test]
    fn a_handshake_upgrades_to_version_13() {
        for tokens in ["keep-alive, Upgrade", "upgrade", "close ,UPGRADE"] {
            assert_eq!(status(&[("connection", tokens), ("upgrade", "h2c, WebSocket")]), 101, "{tokens}");
        }
        for missing in ["upgrade", "connection", "sec-websocket-version"] {
            assert_eq!(status(&[(missing, "")]), 426, "{missing}");
        }
        for other in [("connection", "keep-alive"), ("upgrade", "h2c"), ("sec-websocket-version", "8")] {
            assert_eq!(status(&[other]), 426, "{other:?}");
        }
        let (mut head, ()) = Request::new(()).into_parts();
        head.version = Version::HTTP_2;
        assert_eq!(check(&head, &Origins::Own).unwrap_err().status(), 505);
    }

    #[test]
    fn pages_of_the_own_host_may_connect() {
        for (host, origin) in [
            ("example.com", "http://example.com"),
            ("example.com", "https://example.com"),
            ("Example.com:443", "https://example.com"),
            ("example.com:8000", "http://example.com:8000"),
            ("[::1]:8000", "http://[::1]:8000"),
        ] {
            assert_eq!(status(&[("host", host), ("origin", origin)]), 101, "{host} {origin}");
        }
        for (host, origin) in [
            ("example.com", "http://example.org"),
            ("example.com:8000", "http://example.com"),
            ("example.com", "http://example.com:8000"),
            ("example.com", "http://example.com.evil.example"),
            ("example.com", "null"),
            ("example.com:443", "http://example.com"),
        ] {
            assert_eq!(status(&[("host", host), ("origin", origin)]), 403, "{host} {origin}");
        }
    }

    #[test]
    fn pages_of_other_origins_need_the_cors_rules() {
        let takes_cookies = |origin, origins: &Origins| {
            check_with(&[("origin", origin)], origins).map(|handshake| handshake.takes_cookies).ok()
        };
        let listed = |credentials| Origins::Listed { origins: vec!["https://a.example".parse().unwrap()], credentials };
        assert_eq!(takes_cookies("https://a.example", &listed(false)), Some(false));
        assert_eq!(takes_cookies("https://a.example", &listed(true)), Some(true));
        assert_eq!(takes_cookies("https://b.example", &listed(true)), None);
        assert_eq!(takes_cookies("null", &Origins::Any), Some(false));
        assert_eq!(takes_cookies("https://example.com", &Origins::Any), Some(true), "the own origin");
    }
}

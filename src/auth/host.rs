//! The host that a request names.

use std::net::{IpAddr, Ipv6Addr};

use hyper::http::uri::Authority;
use hyper::{Uri, Version};

use super::known::KnownHeaders;

/// The host of a request's target: a name or an IP address, in the form of RFC 9110, section 7.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Host<'a> {
    /// Empty if the header `Host` is empty, which a client sends for a target without a host.
    name: &'a str,
}

/// Which bytes names consist of. Each request has a host, and the table costs less than comparisons.
static IS_IN_NAMES: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0);
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    table
};

/// Why a request has no valid host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidHost {
    #[error("an HTTP/1.1 request must have one Host header, and this one has {0}")]
    Count(u32),
    #[error("{0:?} is not a host: expected a name or an IP address, and an optional port")]
    Malformed(String),
    #[error("the authority {authority:?} and the Host header {host:?} differ")]
    Ambiguous { authority: String, host: String },
}

impl<'a> Host<'a> {
    /// Returns the host of a request; `None` if it names none, as HTTP/1.0 allows.
    ///
    /// A target with a host replaces the header `Host` (RFC 9112, section 3.2.2). In HTTP/2 both must be the same (RFC 9113,
    /// section 8.3.1).
    pub(crate) fn of(version: Version, uri: &'a Uri, known: &KnownHeaders<'a>) -> Result<Option<Self>, InvalidHost> {
        let header = known.host;
        // Two proxies may go by two different headers.
        if known.hosts > 1 || (header.is_none() && version == Version::HTTP_11) {
            return Err(InvalidHost::Count(known.hosts));
        }
        let authority = uri.authority().map(Authority::as_str);
        let header =
            header.map(|host| host.to_str().map_err(|_| InvalidHost::Malformed(format!("{host:?}")))).transpose()?;
        // An ignored header is checked too: a proxy may have gone by it.
        let header_host = header.map(Self::parse).transpose()?;
        let Some(authority) = authority else { return Ok(header_host) };
        if let Some(host) = header.filter(|host| version == Version::HTTP_2 && !host.eq_ignore_ascii_case(authority)) {
            return Err(InvalidHost::Ambiguous { authority: authority.to_owned(), host: host.to_owned() });
        }
        Self::parse(authority).map(Some)
    }

    /// Parses a host and an optional port. Names consist of the characters that are in use: the syntax of URIs would allow
    /// commas and other marks, which proxies read in different ways.
    fn parse(text: &'a str) -> Result<Self, InvalidHost> {
        let (name, port, is_host) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
            Some((address, port)) => (address, port, address.parse::<Ipv6Addr>().is_ok()),
            None => {
                let end = text.bytes().position(|byte| !IS_IN_NAMES[usize::from(byte)]);
                let (name, port) = text.split_at(end.unwrap_or(text.len()));
                // A target without a host has an empty header.
                (name, port, text.is_empty() || !name.is_empty())
            }
        };
        let is_port = match port.strip_prefix(':') {
            Some(digits) => {
                // Four digits are always a port: parsing costs more than the comparison.
                digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits.len() <= 4 || digits.parse::<u16>().is_ok())
            }
            None => port.is_empty(),
        };
        if is_host && is_port { Ok(Self { name }) } else { Err(InvalidHost::Malformed(text.to_owned())) }
    }

    /// The name or address, without brackets and port.
    pub(crate) fn name(self) -> &'a str {
        self.name
    }

    /// Whether only the own machine or network resolves this name: an address, a name without a dot, or a name below
    /// `localhost`. A local proxy that adds no headers passes public names on, and a page that uses DNS rebinding sends one.
    pub(crate) fn is_private(self) -> bool {
        let name = self.name;
        let is_below_localhost = || name.to_ascii_lowercase().ends_with(".localhost");
        // The usual names first, which need no parser.
        let is_usual = matches!(name, "127.0.0.1" | "localhost");
        is_usual || !name.is_empty() && (!name.contains('.') || name.parse::<IpAddr>().is_ok() || is_below_localhost())
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{HOST, HeaderMap, HeaderValue};

    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        for (text, name) in [
            ("localhost", "localhost"),
            ("localhost:8000", "localhost"),
            ("localhost:", "localhost"),
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::1]", "::1"),
            ("[2001:db8::7]:65535", "2001:db8::7"),
            ("app_1.example.", "app_1.example."),
            ("", ""),
        ] {
            assert_eq!(Host::parse(text).unwrap().name(), name, "{text}");
        }
        for text in [
            "a b",
            "a/b@c",
            "a, b",
            "a@b",
            "@",
            "a@",
            ":80",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:+1",
            "a:-1",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]8000",
            "[127.0.0.1]",
            "[]",
            "[a]",
            "a]",
            "a/",
            "http://a",
            "a?b",
            "a#b",
            "\u{fc}",
            "a\\b",
            "a\"",
        ] {
            assert_eq!(Host::parse(text), Err(InvalidHost::Malformed(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn the_host_of_a_target_replaces_the_header() {
        let host = |version, uri: &'static str, header: &'static [&str]| {
            let uri = Uri::from_static(uri);
            let headers: HeaderMap = header.iter().map(|host| (HOST, HeaderValue::from_static(host))).collect();
            Host::of(version, &uri, &KnownHeaders::of(&headers)).map(|host| host.map(|host| host.name().to_owned()))
        };
        let named = |name: &str| Ok(Some(name.to_owned()));
        assert_eq!(host(Version::HTTP_11, "/", &["a"]), named("a"));
        assert_eq!(host(Version::HTTP_11, "http://b.example/", &["a"]), named("b.example"));
        assert_eq!(host(Version::HTTP_11, "http://b.example/", &[]), Err(InvalidHost::Count(0)));
        assert_eq!(host(Version::HTTP_11, "/", &["a", "a"]), Err(InvalidHost::Count(2)));
        assert_eq!(host(Version::HTTP_10, "/", &[]), Ok(None));
        assert_eq!(host(Version::HTTP_10, "/", &["a", "b"]), Err(InvalidHost::Count(2)));
        assert!(matches!(host(Version::HTTP_11, "http://u@b/", &["a"]), Err(InvalidHost::Malformed(_))));
        assert!(matches!(host(Version::HTTP_11, "http://b/", &["a b"]), Err(InvalidHost::Malformed(_))));
        assert_eq!(host(Version::HTTP_2, "http://b/", &[]), named("b"));
        assert_eq!(host(Version::HTTP_2, "http://b/", &["B"]), named("b"));
        assert!(matches!(host(Version::HTTP_2, "http://b/", &["a"]), Err(InvalidHost::Ambiguous { .. })));
    }

    #[test]
    fn public_names_and_no_name_are_not_private() {
        for (text, expected) in [
            ("localhost", true),
            ("a.LOCALHOST:8000", true),
            ("127.0.0.1:8000", true),
            ("[::1]:8000", true),
            ("10.0.0.7", true),
            ("workstation:8000", true),
            ("app.example", false),
            ("127.0.0.1.evil.example", false),
            ("evil.example.:80", false),
            ("", false),
        ] {
            assert_eq!(Host::parse(text).unwrap().is_private(), expected, "{text}");
        }
    }
}

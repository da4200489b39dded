//! The headers that most requests need, and which of the rare ones a request has, found in one pass.
//!
//! Most requests have few headers, and a publication mostly has a host, a type and a length. One look at each name costs less
//! than a search for each header that a request may have.

use hyper::header::{HeaderMap, HeaderValue};

/// The headers that most requests need, and which of the rare ones a request has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KnownHeaders<'a> {
    /// The first `Host`.
    pub(super) host: Option<&'a HeaderValue>,
    /// The number of headers `Host`.
    pub(super) hosts: u32,
    /// The first `Content-Type`.
    pub(crate) content_type: Option<&'a HeaderValue>,
    rare: u8,
}

/// Headers that most publications do not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Rare {
    TransferEncoding = 1,
    ContentEncoding = 1 << 1,
    IdempotencyKey = 1 << 2,
    Origin = 1 << 3,
    /// One that may have an API key or a token.
    Secret = 1 << 4,
    /// One that only a proxy adds.
    Forwarded = 1 << 5,
}

impl<'a> KnownHeaders<'a> {
    pub(crate) fn of(headers: &'a HeaderMap) -> Self {
        let mut known = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                "host" => {
                    known.host = known.host.or(Some(value));
                    known.hosts += 1;
                }
                "content-type" => known.content_type = known.content_type.or(Some(value)),
                "content-length" => {}
                name => known.rare |= rare(name).map_or(0, |rare| rare as u8),
            }
        }
        known
    }

    /// Whether the request may have this header. A header that it does not have need not be searched for.
    pub(crate) fn may_have(&self, rare: Rare) -> bool {
        self.rare & rare as u8 != 0
    }
}

fn rare(name: &str) -> Option<Rare> {
    Some(match name {
        "transfer-encoding" => Rare::TransferEncoding,
        "content-encoding" => Rare::ContentEncoding,
        "idempotency-key" => Rare::IdempotencyKey,
        "origin" => Rare::Origin,
        "authorization" | "x-api-key" | "cookie" => Rare::Secret,
        name if is_of_proxy(name) => Rare::Forwarded,
        _ => return None,
    })
}

/// Whether only a proxy adds this header.
pub(super) fn is_of_proxy(name: &str) -> bool {
    match name {
        "forwarded" | "via" | "x-real-ip" | "x-client-ip" | "x-cluster-client-ip" | "x-original-forwarded-for" => true,
        "x-envoy-external-address" | "x-azure-clientip" | "true-client-ip" | "cf-connecting-ip" => true,
        "fastly-client-ip" | "fly-client-ip" | "cdn-loop" => true,
        name => name.starts_with("x-forwarded-"),
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;

    use super::*;

    const ALL: [Rare; 6] = [
        Rare::TransferEncoding,
        Rare::ContentEncoding,
        Rare::IdempotencyKey,
        Rare::Origin,
        Rare::Secret,
        Rare::Forwarded,
    ];

    fn headers(pairs: &[(&str, &'static str)]) -> HeaderMap {
        let parse = |name: &str| name.parse::<HeaderName>().unwrap();
        pairs.iter().map(|(name, value)| (parse(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn each_rare_header_is_found_whatever_its_case() {
        for (name, rare) in [
            ("Transfer-Encoding", Rare::TransferEncoding),
            ("Content-Encoding", Rare::ContentEncoding),
            ("Idempotency-Key", Rare::IdempotencyKey),
            ("Origin", Rare::Origin),
            ("Authorization", Rare::Secret),
            ("X-Api-Key", Rare::Secret),
            ("Cookie", Rare::Secret),
            ("Forwarded", Rare::Forwarded),
            ("X-Forwarded-For", Rare::Forwarded),
            ("X-Forwarded-Anything", Rare::Forwarded),
            ("Via", Rare::Forwarded),
            ("CF-Connecting-IP", Rare::Forwarded),
        ] {
            let headers = headers(&[("host", "a"), (name, "x"), ("content-length", "1")]);
            let known = KnownHeaders::of(&headers);
            let found: Vec<_> = ALL.into_iter().filter(|&rare| known.may_have(rare)).collect();
            assert_eq!(found, [rare], "{name}");
        }
    }

    #[test]
    fn first_of_repeated_headers_is_kept_and_hosts_are_counted() {
        let headers = headers(&[
            ("accept", "*/*"),
            ("content-type", "text/plain"),
            ("host", "a"),
            ("Host", "b"),
            ("Content-Type", "application/json"),
            ("host", "c"),
        ]);
        let known = KnownHeaders::of(&headers);
        assert_eq!(
            (known.host.unwrap(), known.hosts, known.content_type.unwrap()),
            (&"a".parse().unwrap(), 3, &"text/plain".parse().unwrap())
        );
        assert!(!ALL.into_iter().any(|rare| known.may_have(rare)));
    }
}

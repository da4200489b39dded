//! The address of a request's client behind trusted proxies: `Forwarded` (RFC 7239) or `X-Forwarded-For`.
//!
//! **Contract.** Each proxy appends the address of its own client, therefore the lists are read from right to left. Addresses
//! of trusted proxies are passed over, and the first other address is the client. What is left of it may be forged. An element
//! without an address (`unknown`, an obfuscated name, a malformed one) hides its client: the proxy that added it counts as the
//! client then, and so does the last address of a list of trusted proxies only.
//!
//! A proxy that adds one of the two headers usually passes the other one on, with what the client wrote into it. Where
//! their clients differ, one of them may be forged, and the request is refused.

use std::net::SocketAddr;

use hyper::header::{FORWARDED, HeaderMap, HeaderName};

use crate::peer::{PeerAddress, TrustedProxy};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// `Forwarded` and `X-Forwarded-For` name different clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the headers Forwarded and X-Forwarded-For name different clients, {forwarded} and {x_forwarded_for}: the proxy must \
     remove the one that it does not set itself"
)]
pub(super) struct Contradiction {
    forwarded: PeerAddress,
    x_forwarded_for: PeerAddress,
}

/// Returns the address of the client whose request came from `peer`.
pub(super) fn client(
    peer: PeerAddress,
    headers: &HeaderMap,
    proxies: &[TrustedProxy],
) -> Result<PeerAddress, Contradiction> {
    let is_trusted = |address: PeerAddress| proxies.iter().any(|proxy| proxy.is_at(address));
    if !is_trusted(peer) {
        return Ok(peer);
    }
    let client_of = |name: &HeaderName, parse: fn(&str) -> Option<SocketAddr>| {
        // In bytes: other elements of a line need not be text.
        let lines = headers.get_all(name).iter().rev();
        let elements = lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','));
        let addresses = elements.map_while(|element| parse(std::str::from_utf8(element).ok()?.trim()));
        let mut client = peer;
        for address in addresses {
            client = address.into();
            if !is_trusted(client) {
                break;
            }
        }
        headers.contains_key(name).then_some(client)
    };
    match (client_of(&FORWARDED, forwarded_for), client_of(&X_FORWARDED_FOR, node)) {
        (Some(forwarded), Some(x_forwarded_for)) if forwarded.ip() != x_forwarded_for.ip() => {
            Err(Contradiction { forwarded, x_forwarded_for })
        }
        (one, other) => Ok(one.or(other).unwrap_or(peer)),
    }
}

/// Returns the address in the parameter `for` of an element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<SocketAddr> {
    let node = rfc7239::parse(element).next()?.ok()?.forwarded_for?;
    let ip = *node.ip()?;
    Some(SocketAddr::new(ip.to_canonical(), node.port.unwrap_or(0)))
}

/// Parses an address, with a port or without: `10.0.0.1`, `10.0.0.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn node(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let without_port = || bare.parse().ok().map(|ip| SocketAddr::new(ip, 0));
    let address: SocketAddr = text.parse().ok().or_else(without_port)?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// The client of a request from `peer`, if 10.0.0.0/8, 2001:db8::/32 and Unix peers are trusted.
    fn client_of<V: AsRef<[u8]>>(peer: &str, pairs: &[(&str, V)]) -> String {
        let proxies = ["10.0.0.0/8", "2001:db8::/32", "unix"].map(|proxy| proxy.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_ref()).unwrap());
        }
        let peer =
            if peer == "unix" { crate::peer::Peer::unix(7).address } else { PeerAddress::Ip(peer.parse().unwrap()) };
        client(peer, &headers, &proxies).map_or_else(|error| error.to_string(), |client| client.to_string())
    }

    #[test]
    fn headers_of_others_than_trusted_proxies_are_ignored() {
        for header in [("forwarded", "for=1.1.1.1"), ("x-forwarded-for", "1.1.1.1")] {
            assert_eq!(client_of("192.0.2.1:7", &[header]), "192.0.2.1:7");
            assert_eq!(client_of("[::ffff:192.0.2.1]:7", &[header]), "192.0.2.1:7");
            assert_eq!(client_of("10.0.0.1:7", &[header]), "1.1.1.1");
            assert_eq!(client_of("[::ffff:10.0.0.1]:7", &[header]), "1.1.1.1");
            assert_eq!(client_of("unix", &[header]), "1.1.1.1");
        }
        assert_eq!(client_of::<&str>("10.0.0.1:7", &[]), "10.0.0.1:7");
        assert_eq!(client_of::<&str>("unix", &[]), "unix:uid=7");
    }

    #[test]
    fn x_forwarded_for_is_read_from_right_to_left() {
        for (list, expected) in [
            ("1.1.1.1", "1.1.1.1"),
            ("6.6.6.6, 1.1.1.1", "1.1.1.1"),
            ("6.6.6.6, 1.1.1.1, 10.0.0.2", "1.1.1.1"),
            ("6.6.6.6,1.1.1.1 ,\t10.0.0.2,10.0.0.3", "1.1.1.1"),
            ("nonsense, 1.1.1.1, 10.0.0.2", "1.1.1.1"),
            ("1.1.1.1, nonsense, 10.0.0.2", "10.0.0.2"),
            ("1.1.1.1, unknown", "10.0.0.1:7"),
            ("1.1.1.1,", "10.0.0.1:7"),
            ("", "10.0.0.1:7"),
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("1.1.1.1:4711", "1.1.1.1:4711"),
            ("2001:db9::1", "2001:db9::1"),
            ("[2001:db9::1]", "2001:db9::1"),
            ("[2001:db9::1]:80", "[2001:db9::1]:80"),
            ("::ffff:1.1.1.1", "1.1.1.1"),
            ("1.1.1.1:99999", "10.0.0.1:7"),
            ("127.0.0.1", "127.0.0.1"),
        ] {
            assert_eq!(client_of("10.0.0.1:7", &[("x-forwarded-for", list)]), expected, "{list}");
        }
        let lines = [("x-forwarded-for", "6.6.6.6, 1.1.1.1"), ("x-forwarded-for", "10.0.0.2")];
        assert_eq!(client_of("10.0.0.1:7", &lines), "1.1.1.1");
    }

    #[test]
    fn forwarded_is_read_from_right_to_left() {
        for (list, expected) in [
            ("for=1.1.1.1", "1.1.1.1"),
            ("For=\"1.1.1.1:80\";proto=https;by=10.0.0.1", "1.1.1.1:80"),
            ("for=6.6.6.6, for=1.1.1.1;host=a, for=10.0.0.2", "1.1.1.1"),
            ("for=\"[2001:db9::1]:80\"", "[2001:db9::1]:80"),
            ("for=\"[2001:db9::1]\", for=\"[2001:db8::1]\"", "2001:db9::1"),
            ("for=\"[::ffff:1.1.1.1]\"", "1.1.1.1"),
            ("for=1.1.1.1, for=_hidden, for=10.0.0.2", "10.0.0.2"),
            ("for=1.1.1.1, for=unknown", "10.0.0.1:7"),
            ("for=1.1.1.1, proto=https", "10.0.0.1:7"),
            ("for=1.1.1.1, nonsense", "10.0.0.1:7"),
            // The client cannot hide what the proxy appends.
            ("host=\"a, for=1.1.1.1", "1.1.1.1"),
            ("for=\"6.6.6.6, for=1.1.1.1", "1.1.1.1"),
        ] {
            assert_eq!(client_of("10.0.0.1:7", &[("forwarded", list)]), expected, "{list}");
        }
    }

    proptest! {
        /// A proxy appends an element to the line that it received, or adds a line.
        #[test]
        fn a_client_cannot_hide_its_address(
            forged in vec(prop_oneof![32..=126u8, 128..=255u8, select(&b",\";= \t"[..])], 0..40),
            is_appended: bool,
        ) {
            for (name, element) in [("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=1.1.1.1")] {
                let separate = vec![(name, forged.clone()), (name, element.into())];
                let appended = vec![(name, [&forged[..], b", ", element.as_bytes()].concat())];
                let lines = if is_appended { appended } else { separate };
                prop_assert_eq!(client_of("10.0.0.1:7", &lines), "1.1.1.1");
            }
        }
    }

    #[test]
    fn headers_that_name_different_clients_are_refused() {
        let both = |forwarded, x_forwarded_for| {
            client_of("10.0.0.1:7", &[("forwarded", forwarded), ("x-forwarded-for", x_forwarded_for)])
        };
        assert_eq!(both("for=1.1.1.1", "6.6.6.6, 1.1.1.1"), "1.1.1.1");
        for (forwarded, client) in [("for=6.6.6.6", "6.6.6.6"), ("for=_hidden", "10.0.0.1:7"), ("", "10.0.0.1:7")] {
            let error = both(forwarded, "1.1.1.1");
            assert!(error.contains(&format!("name different clients, {client} and 1.1.1.1")), "{error}");
        }
    }
}

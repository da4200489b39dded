//! Proxies whose statement about a client's address is accepted.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::PeerAddress;

/// A proxy, or a network of proxies, in front of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustedProxy {
    /// Proxies with addresses of this network.
    Network(IpNet),
    /// Every peer on a Unix socket: the permissions of the socket's file decide which processes these are.
    Unix,
}

/// Not a [`TrustedProxy`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidProxy {
    /// Neither an address nor a network.
    #[error("expected an IP address, a network such as 10.0.0.0/8, or unix for peers on Unix sockets")]
    Syntax,
    /// The address of a network has bits after its prefix, and may be a typing error.
    #[error("the network has bits after its prefix: did you mean {0}?")]
    HostBits(IpNet),
}

impl TrustedProxy {
    /// Whether this is the proxy at `address`. An IPv4-mapped IPv6 address is an IPv4 address.
    pub(crate) fn is_at(&self, address: PeerAddress) -> bool {
        match (self, address) {
            (Self::Network(network), PeerAddress::Ip(address)) => network.contains(&address.ip().to_canonical()),
            (Self::Unix, PeerAddress::Unix { .. }) => true,
            _ => false,
        }
    }
}

impl FromStr for TrustedProxy {
    type Err = InvalidProxy;

    fn from_str(text: &str) -> Result<Self, InvalidProxy> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.to_canonical().into()));
        }
        let network: IpNet = text.parse().map_err(|_| InvalidProxy::Syntax)?;
        if network.addr() != network.network() {
            return Err(InvalidProxy::HostBits(network.trunc()));
        }
        Ok(Self::Network(network))
    }
}

impl fmt::Display for TrustedProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => network.addr().fmt(f),
            Self::Network(network) => network.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_address_a_network_or_unix() {
        for text in ["10.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32", "0.0.0.0/0", "unix"] {
            assert_eq!(text.parse::<TrustedProxy>().unwrap().to_string(), text);
        }
        assert_eq!("::ffff:10.0.0.1".parse::<TrustedProxy>().unwrap().to_string(), "10.0.0.1");
        for text in ["", "10.0.0", "10.0.0.0/33", "10.0.0.0/", "/8", "localhost", "10.0.0.1:80", "unix:/run/x", "*"] {
            assert_eq!(text.parse::<TrustedProxy>(), Err(InvalidProxy::Syntax), "{text}");
        }
        let error = "10.0.0.1/8".parse::<TrustedProxy>().unwrap_err();
        assert_eq!(error.to_string(), "the network has bits after its prefix: did you mean 10.0.0.0/8?");
    }

    #[test]
    fn a_network_has_the_addresses_with_its_prefix() {
        let ip = |text: &str| PeerAddress::Ip(text.parse().unwrap());
        let unix = PeerAddress::Unix { uid: 0 };
        for (proxy, address, expected) in [
            ("10.0.0.0/8", ip("10.1.2.3:1"), true),
            ("10.0.0.0/8", ip("[::ffff:10.1.2.3]:1"), true),
            ("10.0.0.0/8", ip("11.1.2.3:1"), false),
            ("10.0.0.1", ip("10.0.0.2:1"), false),
            ("2001:db8::/32", ip("[2001:db8:1::1]:1"), true),
            ("::/0", ip("10.0.0.1:1"), false),
            ("0.0.0.0/0", unix, false),
            ("unix", unix, true),
            ("unix", ip("127.0.0.1:1"), false),
        ] {
            assert_eq!(proxy.parse::<TrustedProxy>().unwrap().is_at(address), expected, "{proxy} {address}");
        }
    }
}

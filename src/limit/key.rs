//! The limit key: an IPv4 address, an IPv6 /64, or a user of this machine.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::peer::PeerAddress;

/// What the limits of an address count together. An IPv4-mapped IPv6 address counts as the IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LimitKey {
    V4(Ipv4Addr),
    /// The first half of the address.
    V6(u64),
    /// The user of a peer on a Unix socket.
    Uid(u32),
}

impl From<PeerAddress> for LimitKey {
    fn from(address: PeerAddress) -> Self {
        match address {
            PeerAddress::Ip(address) => address.ip().into(),
            PeerAddress::Unix { uid } => Self::Uid(uid),
        }
    }
}

impl From<IpAddr> for LimitKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6(network) => write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(*network) << 64)),
            Self::Uid(uid) => write!(f, "the user {uid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str) -> LimitKey {
        address.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn addresses_of_one_ipv6_64_are_the_same_key() {
        for (one, other, are_same) in [
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("::ffff:10.0.0.1", "::ffff:10.0.0.2", false),
            ("::1", "::ffff:127.0.0.1", false),
        ] {
            assert_eq!(key(one) == key(other), are_same, "{one} {other}");
        }
    }

    #[test]
    fn displays_as_an_address_or_a_network() {
        assert_eq!(key("::ffff:10.0.0.1").to_string(), "10.0.0.1");
        assert_eq!(key("2001:db8:1:2::7").to_string(), "2001:db8:1:2::/64");
    }
}

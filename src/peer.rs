//! The other end of a connection, as the server knows it.
//!
//! **Contract.** A [`Peer`] belongs to a connection from accept to its end. It holds facts that the connection's client cannot
//! choose: what the kernel says about the socket, and the listener that accepted it.

use std::fmt;
use std::net::SocketAddr;

/// The peer of a connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Peer {
    /// The address of the connection's other end.
    pub address: PeerAddress,
    /// The server's end of a TCP connection.
    pub local: Option<SocketAddr>,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerAddress {
    /// A TCP address. Port 0 is an unknown port.
    Ip(SocketAddr),
    /// A process of this machine that is connected through a Unix socket.
    #[non_exhaustive]
    Unix {
        /// The user that ran the process when it connected.
        uid: u32,
    },
}

impl Peer {
    /// The peer of a TCP connection between `remote` and the server's own address `local`.
    pub fn tcp(remote: SocketAddr, local: SocketAddr) -> Self {
        Self { address: PeerAddress::Ip(remote), local: Some(local) }
    }

    /// The peer of a connection through a Unix socket, a process of the user `uid`.
    pub fn unix(uid: u32) -> Self {
        Self { address: PeerAddress::Unix { uid }, local: None }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl fmt::Display for PeerAddress {
    /// `127.0.0.1:4711`, `[2001:db8::1]:4711`, `10.0.0.1` if the port is unknown, or `unix:uid=1000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => match (address.ip().to_canonical(), address.port()) {
                (ip, 0) => ip.fmt(f),
                (ip, port) => SocketAddr::new(ip, port).fmt(f),
            },
            Self::Unix { uid } => write!(f, "unix:uid={uid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_shown_with_its_port_or_its_user() {
        for (address, shown) in [
            ("127.0.0.1:4711", "127.0.0.1:4711"),
            ("[::ffff:10.0.0.1]:80", "10.0.0.1:80"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
            ("10.0.0.1:0", "10.0.0.1"),
        ] {
            assert_eq!(PeerAddress::Ip(address.parse().unwrap()).to_string(), shown);
        }
        assert_eq!(Peer::unix(1000).to_string(), "unix:uid=1000");
    }
}

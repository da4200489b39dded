//! The other end of a connection, as the server knows it.
//!
//! **Contract.** A [`Peer`] belongs to a connection from accept to its end. It holds facts that the connection's client cannot
//! choose: what the kernel says about the socket, and the listener that accepted it.

mod owner;
mod proxies;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;

pub use proxies::{InvalidProxy, TrustedProxy};

/// The peer of a connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Peer {
    /// The address of the connection's other end.
    pub address: PeerAddress,
    /// The server's end of a TCP connection with this address.
    pub local: Option<SocketAddr>,
    /// The result of [`Peer::owner`], which is looked up once.
    owner: OnceLock<Option<u32>>,
    /// The result of [`Peer::own_user`].
    own_user: OnceLock<u32>,
    /// Whether a proxy has named its client with the PROXY protocol, or said that it does not know it.
    pub is_proxied: bool,
    /// Whether the connection begins with a header of the PROXY protocol.
    pub(crate) awaits_proxy_header: bool,
    /// Whether the listener serves the admin endpoints and metrics.
    pub(crate) serves_operators: bool,
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
        Self::new(PeerAddress::Ip(remote), Some(local))
    }

    /// The peer of a connection through a Unix socket, a process of the user `uid`.
    pub fn unix(uid: u32) -> Self {
        Self::new(PeerAddress::Unix { uid }, None)
    }

    fn new(address: PeerAddress, local: Option<SocketAddr>) -> Self {
        let (owner, own_user) = (OnceLock::new(), OnceLock::new());
        Self { address, local, owner, own_user, is_proxied: false, awaits_proxy_header: false, serves_operators: true }
    }

    /// Replaces the address by that of the client of a proxy. If the proxy does not know it, the address stays that of the
    /// proxy.
    pub(crate) fn set_client(&mut self, client: Option<SocketAddr>) {
        self.address = client.map_or(self.address, PeerAddress::Ip);
        self.local = None;
        self.is_proxied = true;
    }

    /// Whether the other end is a process of this machine.
    pub(crate) fn is_on_this_machine(&self) -> bool {
        match self.address {
            _ if self.is_proxied => false,
            PeerAddress::Ip(address) => address.ip().to_canonical().is_loopback(),
            PeerAddress::Unix { .. } => true,
        }
    }

    /// Returns the user that owns the other end, if it is on this machine and the kernel says so.
    pub(crate) fn owner(&self) -> Option<u32> {
        match (self.address, self.local) {
            _ if self.is_proxied => None,
            (PeerAddress::Unix { uid }, _) => Some(uid),
            (PeerAddress::Ip(remote), Some(local)) if self.is_on_this_machine() => {
                *self.owner.get_or_init(|| owner::owner(remote, local))
            }
            _ => None,
        }
    }

    /// Returns the server's own user. The kernel is asked once for a connection: a server may give its privileges up later.
    pub(crate) fn own_user(&self) -> u32 {
        *self.own_user.get_or_init(|| rustix::process::geteuid().as_raw())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl PeerAddress {
    /// The IP address, if it has one.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.ip().to_canonical()),
            Self::Unix { .. } => None,
        }
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

//! Where a server listens, as an application describes it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::str::FromStr;

use socket2::Socket;

/// The longest path or name of a Unix socket, in bytes.
const MAX_UNIX_PATH: usize = 107;

/// An address to listen on.
///
/// ```
/// use fanline::server::ListenAddress;
///
/// for text in ["127.0.0.1:8000", "[::]:8000", "unix:/run/fanline.sock", "unix:@fanline"] {
///     let address: ListenAddress = text.parse().unwrap();
///     assert_eq!(address.to_string(), text);
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListenAddress {
    /// A TCP address. Port 0 is any free port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// The abstract name of a Unix socket, which exists in no directory (Linux).
    Abstract(String),
}

impl ListenAddress {
    /// Returns the TCP address, unless this is a Unix socket.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            _ => None,
        }
    }
}

/// Not an address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidListenAddress {
    /// Neither a TCP address nor a Unix socket.
    #[error(
        "each must be an IP address and a port, such as 127.0.0.1:8000, 0.0.0.0:80 or [::1]:8000, or a Unix socket, such as \
         unix:/run/fanline.sock; {0:?} is not"
    )]
    Form(String),
    /// The path of a Unix socket is relative or names no file.
    #[error(
        "the path of a Unix socket must be absolute, as in unix:/run/fanline.sock, or a name, as in unix:@fanline; {0:?} is not"
    )]
    Path(String),
    /// The path or name is longer than the system allows.
    #[error("the path or name of a Unix socket has at most {MAX_UNIX_PATH} bytes, and {0:?} has more")]
    TooLong(String),
}

impl FromStr for ListenAddress {
    type Err = InvalidListenAddress;

    fn from_str(text: &str) -> Result<Self, InvalidListenAddress> {
        let Some(path) = text.strip_prefix("unix:") else {
            let named = text.strip_prefix("localhost:").map(|port| format!("{}:{port}", Ipv4Addr::LOCALHOST));
            let address = named.as_deref().unwrap_or(text).parse();
            return address.map(Self::Tcp).map_err(|_| InvalidListenAddress::Form(text.to_owned()));
        };
        let (name, is_abstract) = path.strip_prefix('@').map_or((path, false), |name| (name, true));
        let is_valid = if is_abstract { !name.is_empty() } else { name.starts_with('/') && !name.ends_with('/') };
        if !is_valid || name.contains('\0') {
            return Err(InvalidListenAddress::Path(text.to_owned()));
        }
        if name.len() > MAX_UNIX_PATH {
            return Err(InvalidListenAddress::TooLong(text.to_owned()));
        }
        Ok(if is_abstract { Self::Abstract(name.to_owned()) } else { Self::Unix(name.into()) })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "unix:@{name}"),
        }
    }
}

/// A listener of a server: where it listens, and how it treats its connections.
///
/// ```
/// use fanline::server::Listener;
///
/// let clients = Listener::from(([0, 0, 0, 0], 8000));
/// let operators = Listener::from(([127, 0, 0, 1], 9000)).admin();
/// ```
#[derive(Debug)]
pub struct Listener {
    pub(super) place: Place,
    pub(super) is_admin: bool,
    pub(super) has_proxy_protocol: bool,
}

/// Where a listener listens.
#[derive(Debug)]
pub(super) enum Place {
    /// The server binds this address.
    Address(ListenAddress),
    /// The application has bound this socket, or has inherited it.
    Inherited(Socket),
}

impl Listener {
    fn at(place: Place) -> Self {
        Self { place, is_admin: false, has_proxy_protocol: false }
    }

    /// Makes this an admin listener. Once a server has one, the admin endpoints and metrics are served on its admin listeners
    /// only. They serve all other endpoints too.
    #[must_use]
    pub fn admin(self) -> Self {
        Self { is_admin: true, ..self }
    }

    /// Requires each connection to begin with a header of the PROXY protocol, version 1 or 2, and takes the client's address
    /// from it. Only the proxy may be able to connect: the header may name any address.
    #[must_use]
    pub fn proxy_protocol(self) -> Self {
        Self { has_proxy_protocol: true, ..self }
    }
}

impl From<ListenAddress> for Listener {
    fn from(address: ListenAddress) -> Self {
        Self::at(Place::Address(address))
    }
}

/// Converts what stands for a TCP address.
macro_rules! from_tcp_address {
    ($($address:ty),*) => {$(
        impl From<$address> for ListenAddress {
            fn from(address: $address) -> Self {
                Self::Tcp(address.into())
            }
        }

        impl From<$address> for Listener {
            fn from(address: $address) -> Self {
                ListenAddress::from(address).into()
            }
        }
    )*};
}

from_tcp_address!(SocketAddr, ([u8; 4], u16), (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));

impl From<TcpListener> for Listener {
    /// A socket that is listening already.
    fn from(socket: TcpListener) -> Self {
        Self::at(Place::Inherited(socket.into()))
    }
}

impl From<UnixListener> for Listener {
    /// A socket that is listening already. Its file is not removed.
    fn from(socket: UnixListener) -> Self {
        Self::at(Place::Inherited(socket.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_tcp_or_a_unix_socket() {
        let shown = |text: &str| text.parse::<ListenAddress>().map(|address| address.to_string()).unwrap();
        for text in ["127.0.0.1:8000", "[::1]:80", "unix:/run/fanline.sock", "unix:@fanline", "unix:@a b"] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(shown("localhost:8000"), "127.0.0.1:8000");
    }

    #[test]
    fn invalid_address_is_rejected_with_examples() {
        for text in ["", "8000", ":8000", "example.com:80", "127.0.0.1", "127.0.0.1:70000", "/run/fanline.sock"] {
            assert_eq!(text.parse::<ListenAddress>(), Err(InvalidListenAddress::Form(text.to_owned())));
        }
        for text in ["unix:", "unix:fanline.sock", "unix:/run/", "unix:@", "unix:/run/a\0b"] {
            assert_eq!(text.parse::<ListenAddress>(), Err(InvalidListenAddress::Path(text.to_owned())));
        }
        let longest = format!("unix:/{}", "x".repeat(MAX_UNIX_PATH - 1));
        assert!(longest.parse::<ListenAddress>().is_ok());
        let too_long = format!("{longest}x");
        assert_eq!(too_long.parse::<ListenAddress>(), Err(InvalidListenAddress::TooLong(too_long)));
    }
}

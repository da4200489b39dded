//! A bound socket, and the connections that it accepts.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::listen::{ListenAddress, Listener, Place};
use super::unix::{self, SocketFile, UnixSocketOptions};
use crate::conn::Unregistered;
use crate::peer::Peer;

/// The number of connections that the kernel queues until they are accepted. With tokio's 1024, many clients that reconnect
/// at once overflow the queue, and each dropped SYN delays its client by at least a second.
const BACKLOG: i32 = 4096;

/// The kernel closes a TCP connection whose peer acknowledges nothing for this many write timeouts. Streams turn that
/// [off](crate::conn) once they are blocked: the kernel would close those of slow clients that read.
#[cfg(target_os = "linux")]
const PEER_TIMEOUTS: u32 = 4;

/// What the sockets of all listeners have in common.
#[derive(Clone, Copy)]
pub(super) struct SocketOptions {
    pub(super) send_buffer: usize,
    pub(super) write_timeout: Duration,
    pub(super) unix: UnixSocketOptions,
}

/// A bound socket that accepts connections.
pub(super) struct Acceptor {
    socket: Bound,
    /// With the actual port.
    pub(super) address: ListenAddress,
    pub(super) is_admin: bool,
    has_proxy_protocol: bool,
    send_buffer: usize,
    _file: Option<SocketFile>,
}

enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Acceptor {
    /// Binds the listener's address, or takes over its socket. Clients can connect from now on.
    pub(super) fn bind(listener: Listener, options: &SocketOptions) -> io::Result<Self> {
        let Listener { place, is_admin, has_proxy_protocol } = listener;
        let name = match &place {
            Place::Address(address) => address.to_string(),
            Place::Inherited(_) => "an inherited socket".to_owned(),
        };
        let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {name}: {error}"));
        let (socket, file) = Bound::new(place, options).map_err(named)?;
        let address = socket.address()?;
        Ok(Self { socket, address, is_admin, has_proxy_protocol, send_buffer: options.send_buffer, _file: file })
    }

    /// Registers the socket with the reactor of this thread.
    pub(super) fn register(self, serves_operators: bool) -> io::Result<Accepting> {
        let Self { socket, has_proxy_protocol, send_buffer, _file, .. } = self;
        let socket = match socket {
            Bound::Tcp(socket) => Registered::Tcp(TcpListener::from_std(socket)?),
            Bound::Unix(socket) => Registered::Unix(UnixListener::from_std(socket)?),
        };
        Ok(Accepting { socket, send_buffer, serves_operators, has_proxy_protocol, _file })
    }
}

impl Bound {
    fn new(place: Place, options: &SocketOptions) -> io::Result<(Self, Option<SocketFile>)> {
        let (mut file, mut is_listening) = (None, false);
        let socket = match place {
            Place::Inherited(socket) => {
                check_listening(&socket)?;
                is_listening = true;
                socket
            }
            Place::Address(ListenAddress::Tcp(address)) => {
                let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
                socket.set_reuse_address(true)?;
                socket.bind(&address.into())?;
                socket
            }
            Place::Address(ListenAddress::Unix(path)) => {
                let (socket, bound) = unix::listen_at(&path, &options.unix, BACKLOG)?;
                (file, is_listening) = (Some(bound), true);
                socket
            }
            Place::Address(ListenAddress::Abstract(name)) => unix::bind_abstract(&name)?,
        };
        socket.set_nonblocking(true)?;
        let is_unix = socket.local_addr()?.is_unix();
        if !is_unix {
            // Accepted connections inherit these.
            socket.set_tcp_nodelay(true)?;
            socket.set_send_buffer_size(options.send_buffer)?;
            #[cfg(target_os = "linux")]
            socket.set_tcp_user_timeout(Some(options.write_timeout * PEER_TIMEOUTS))?;
        }
        if !is_listening {
            socket.listen(BACKLOG)?;
        }
        Ok((if is_unix { Self::Unix(socket.into()) } else { Self::Tcp(socket.into()) }, file))
    }

    fn address(&self) -> io::Result<ListenAddress> {
        Ok(match self {
            Self::Tcp(socket) => socket.local_addr()?.into(),
            Self::Unix(socket) => {
                let address = socket.local_addr()?;
                #[cfg(target_os = "linux")]
                if let Some(name) = std::os::linux::net::SocketAddrExt::as_abstract_name(&address) {
                    return Ok(ListenAddress::Abstract(String::from_utf8_lossy(name).into_owned()));
                }
                ListenAddress::Unix(address.as_pathname().unwrap_or(Path::new("")).to_owned())
            }
        })
    }
}

fn check_listening(socket: &Socket) -> io::Result<()> {
    if sockopt::socket_acceptconn(socket)? {
        return Ok(());
    }
    let reason = "the socket is not listening (a socket unit needs Accept=no)";
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}

/// A socket that accepts connections on the thread that registered it.
pub(super) struct Accepting {
    socket: Registered,
    send_buffer: usize,
    serves_operators: bool,
    has_proxy_protocol: bool,
    _file: Option<SocketFile>,
}

enum Registered {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Accepting {
    /// Accepts a connection. It is not registered with the reactor of this thread.
    pub(super) async fn accept(&self) -> io::Result<(Unregistered, Peer)> {
        let (socket, mut peer): (Unregistered, _) = match &self.socket {
            Registered::Tcp(listener) => {
                let (socket, remote) = listener.accept().await?;
                let peer = Peer::tcp(remote, socket.local_addr()?);
                (socket.try_into()?, peer)
            }
            Registered::Unix(listener) => {
                let (socket, _) = listener.accept().await?;
                // Unlike TCP, not inherited from the listening socket.
                SockRef::from(&socket).set_send_buffer_size(self.send_buffer)?;
                let peer = Peer::unix(socket.peer_cred()?.uid());
                (socket.try_into()?, peer)
            }
        };
        peer.serves_operators = self.serves_operators;
        peer.awaits_proxy_header = self.has_proxy_protocol;
        Ok((socket, peer))
    }
}

//! The user that owns the other end of a TCP connection within this machine.
//!
//! Loopback alone does not tell a client from a proxy that forwards the requests of clients elsewhere. Such a proxy usually
//! runs as a user of its own, and the kernel knows the user of each socket.

use std::net::SocketAddr;

/// Returns the user that owns the socket at `remote` of a connection with `local`. `None` if the kernel does not say, or has
/// no such socket: its process may have closed it.
#[cfg(not(target_os = "linux"))]
pub(super) fn owner(_remote: SocketAddr, _local: SocketAddr) -> Option<u32> {
    None
}

/// Returns the user that owns the socket at `remote` of a connection with `local`. `None` if the kernel does not say, or has
/// no such socket: its process may have closed it.
#[cfg(target_os = "linux")]
pub(super) fn owner(remote: SocketAddr, local: SocketAddr) -> Option<u32> {
    match sock_diag::owner(remote, local) {
        Ok(uid) => uid,
        Err(error) => {
            tracing::debug!(%error, "the kernel does not say which user owns a connection");
            None
        }
    }
}

/// `NETLINK_SOCK_DIAG`, see sock_diag(7). A query for one connection needs no privilege, and takes some microseconds.
#[cfg(target_os = "linux")]
mod sock_diag {
    use std::io;
    use std::net::SocketAddr;

    use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
    use netlink_packet_sock_diag::SockDiagMessage;
    use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, TCP_LISTEN};
    use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
    use netlink_sys::protocols::NETLINK_SOCK_DIAG;
    use netlink_sys::{Socket, SocketAddr as NetlinkAddress};

    /// Larger than any response about one socket without extensions.
    const MAX_RESPONSE: usize = 4096;
    const ANY_COOKIE: [u8; 8] = [0xff; 8];

    pub(super) fn owner(remote: SocketAddr, local: SocketAddr) -> io::Result<Option<u32>> {
        let id = SocketId {
            source_port: remote.port(),
            destination_port: local.port(),
            source_address: remote.ip().to_canonical(),
            destination_address: local.ip().to_canonical(),
            interface_id: 0,
            cookie: ANY_COOKIE,
        };
        let response = query(id.clone())?;
        let NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) = response.payload else {
            return Ok(None);
        };
        let (found, socket) = (&response.header, &response.header.socket_id);
        // Without such a connection, the kernel looks for a socket that listens at its address.
        let is_connection = found.state != TCP_LISTEN
            && (socket.source_address.to_canonical(), socket.source_port) == (id.source_address, id.source_port)
            && (socket.destination_address.to_canonical(), socket.destination_port)
                == (id.destination_address, id.destination_port);
        // A socket that its process has closed has no inode, and is reported as root's.
        Ok((is_connection && found.inode != 0).then_some(found.uid))
    }

    fn query(socket_id: SocketId) -> io::Result<NetlinkMessage<SockDiagMessage>> {
        let family = if socket_id.source_address.is_ipv4() { AF_INET } else { AF_INET6 };
        let (protocol, extensions, states) = (IPPROTO_TCP, ExtensionFlags::empty(), StateFlags::all());
        let request = InetRequest { family, protocol, extensions, states, socket_id };
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);

        let socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.connect(&NetlinkAddress::new(0, 0))?;
        // The kernel has queued its response when the request is sent.
        socket.set_non_blocking(true)?;
        socket.send(&bytes, 0)?;
        let mut response = Vec::with_capacity(MAX_RESPONSE);
        socket.recv(&mut response, 0)?;
        NetlinkMessage::deserialize(&response).map_err(io::Error::other)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn own_uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn each_end_of_a_connection_has_an_owner_until_it_is_closed() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                eprintln!("skipped: this machine has no {address}");
                continue;
            };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, remote) = listener.accept().unwrap();
            let local = server.local_addr().unwrap();
            assert_eq!(owner(remote, local), Some(own_uid()), "{address}");
            assert_eq!(owner(local, remote), Some(own_uid()), "{address}");
            drop(client);
            assert_eq!(owner(remote, local), None, "{address}");
        }
    }

    #[test]
    fn a_listening_socket_is_not_the_end_of_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(owner(address, ([127, 0, 0, 1], 1).into()), None);
    }
}

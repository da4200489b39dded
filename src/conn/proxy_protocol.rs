//! The PROXY protocol, versions 1 and 2: a header in front of a connection's bytes, in which a proxy names its client.
//!
//! **Contract.** A header is read whole or not at all, and the bytes after it stay in the socket. A connection without a valid
//! header is refused: its bytes are not interpreted as anything else.

use std::io;
use std::net::SocketAddr;

use ppp::{PartialResult, v1, v2};

use super::socket::Socket;

/// The longest accepted header, in bytes. Version 1 has at most 107; the additions of version 2 are usually below 500.
const MAX_HEADER: usize = 4096;

/// The longest header of version 1, in bytes.
const MAX_LINE: usize = 107;

/// What a header says about the proxy's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyHeader {
    /// The connection is the proxy's own, for example a health check.
    Local,
    /// The address of the client, if the proxy knows it.
    Client(Option<SocketAddr>),
}

/// A connection has no valid header.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidProxyHeader {
    #[error("{0}")]
    Version1(v1::BinaryParseError),
    #[error("{0}")]
    Version2(v2::ParseError),
    #[error("a line of version 1 has at most {MAX_LINE} bytes")]
    LineTooLong,
    #[error("the limit for a header is {MAX_HEADER} bytes")]
    TooLong,
    #[error("the connection ends within the header")]
    Truncated,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads the header. Returns `None` if the connection ends before its first byte.
pub(super) async fn read(socket: &Socket) -> Result<Option<ProxyHeader>, InvalidProxyHeader> {
    let found = socket.peek::<MAX_HEADER, _>(|bytes, is_all| match parse(bytes) {
        Ok(None) if is_all && bytes.is_empty() => Some(Ok(None)),
        Ok(None) if is_all => Some(Err(InvalidProxyHeader::Truncated)),
        Ok(None) if bytes.len() == MAX_HEADER => Some(Err(InvalidProxyHeader::TooLong)),
        found => found.transpose().map(|found| found.map(Some)),
    });
    let Some((header, length)) = found.await?? else { return Ok(None) };
    let mut left = length;
    while left > 0 {
        match socket.try_read(&mut [0; MAX_HEADER][..left])? {
            0 => return Err(InvalidProxyHeader::Truncated),
            read => left -= read,
        }
    }
    Ok(Some(header))
}

/// Parses the header that `bytes` begin with, and returns its length. `None` if more bytes are needed.
fn parse(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, InvalidProxyHeader> {
    let is_version_2 = v2::PROTOCOL_PREFIX.starts_with(bytes) || bytes.starts_with(v2::PROTOCOL_PREFIX);
    if is_version_2 { parse_version_2(bytes) } else { parse_version_1(bytes) }
}

fn parse_version_1(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, InvalidProxyHeader> {
    let line = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = memchr::memchr(b'\n', line) else {
        // The parser takes an incomplete number for an invalid one, so that only the prefix is checked here.
        let prefix = b"PROXY ";
        return if !prefix.starts_with(bytes) && !bytes.starts_with(prefix) {
            Err(InvalidProxyHeader::Version1(v1::ParseError::InvalidPrefix.into()))
        } else if bytes.len() >= MAX_LINE {
            Err(InvalidProxyHeader::LineTooLong)
        } else {
            Ok(None)
        };
    };
    let length = end + 1;
    let header = v1::Header::try_from(&line[..length]).map_err(InvalidProxyHeader::Version1)?;
    let source = match header.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(v1::IPv4 { source_address, source_port, .. }) => Some((source_address, source_port).into()),
        v1::Addresses::Tcp6(v1::IPv6 { source_address, source_port, .. }) => Some((source_address, source_port).into()),
    };
    Ok(Some((ProxyHeader::Client(source), length)))
}

fn parse_version_2(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, InvalidProxyHeader> {
    let header = match v2::Header::try_from(bytes) {
        Ok(header) => header,
        Err(error) if error.is_incomplete() => return Ok(None),
        Err(error) => return Err(InvalidProxyHeader::Version2(error)),
    };
    let source = match header.addresses {
        v2::Addresses::IPv4(v2::IPv4 { source_address, source_port, .. }) => Some((source_address, source_port).into()),
        v2::Addresses::IPv6(v2::IPv6 { source_address, source_port, .. }) => Some((source_address, source_port).into()),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    };
    let is_local = header.command == v2::Command::Local;
    Ok(Some((if is_local { ProxyHeader::Local } else { ProxyHeader::Client(source) }, header.len())))
}

/// Input: the first bytes of a connection.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(data: &[u8]) {
    let Ok(Some((header, length))) = parse(data) else { return };
    // No shorter input is a header, and the bytes after it do not change it.
    assert!((0..length).all(|length| matches!(parse(&data[..length]), Ok(None))), "{header:?} has {length} bytes");
    assert_eq!(parse(&data[..length]).ok().flatten(), Some((header, length)));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of version 2 with these bytes after the signature.
    fn version_2(rest: &[u8]) -> Vec<u8> {
        [v2::PROTOCOL_PREFIX, rest].concat()
    }

    #[test]
    fn client_is_the_source_of_the_header() {
        let client = |address: &str| ProxyHeader::Client(Some(address.parse().unwrap()));
        let v6 = [[0x20, 1, 0xd, 0xb8].as_slice(), &[0; 11], &[1], &[0; 16], &[0x12, 0x34, 0, 80]].concat();
        for (bytes, expected) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\r\n".to_vec(), client("192.0.2.1:4711")),
            (b"PROXY TCP6 2001:db8::1 ::1 4711 80\r\n".to_vec(), client("[2001:db8::1]:4711")),
            (b"PROXY UNKNOWN\r\n".to_vec(), ProxyHeader::Client(None)),
            (b"PROXY UNKNOWN ffff::1 ::1 1 2\r\n".to_vec(), ProxyHeader::Client(None)),
            (version_2(b"\x21\x11\x00\x0c\xc0\x00\x02\x01\x0a\x00\x00\x01\x12\x34\x00\x50"), client("192.0.2.1:4660")),
            (version_2(&[b"\x21\x21\x00\x24", &v6[..]].concat()), client("[2001:db8::1]:4660")),
            (version_2(b"\x21\x00\x00\x00"), ProxyHeader::Client(None)),
            (version_2(&[b"\x21\x31\x00\xd8".as_slice(), &[0; 216]].concat()), ProxyHeader::Client(None)),
            (version_2(b"\x20\x00\x00\x00"), ProxyHeader::Local),
            // Additions after the addresses.
            (version_2(b"\x20\x00\x00\x04\x04\x00\x01\x00"), ProxyHeader::Local),
        ] {
            let length = bytes.len();
            fuzz(&bytes);
            let found = parse(&[&bytes[..], b"GET / HTTP/1.1\r\n"].concat()).unwrap();
            assert_eq!(found, Some((expected, length)), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn malformed_header_is_refused() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"PROXX",
            b"proxy TCP4 192.0.2.1 10.0.0.1 4711 80\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4711\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 65536\r\n",
            b"PROXY TCP4 192.0.2.256 10.0.0.1 4711 80\r\n",
            b"PROXY TCP4 2001:db8::1 ::1 4711 80\r\n",
            b"PROXY UDP4 192.0.2.1 10.0.0.1 4711 80\r\n",
            b"PROXY\tTCP4 192.0.2.1 10.0.0.1 4711 80\r\n",
            &[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat(),
            &version_2(b"\x11\x11\x00\x0c"),
            &version_2(b"\x22\x11\x00\x0c"),
            &version_2(b"\x21\x41\x00\x0c"),
            &version_2(b"\x21\x13\x00\x0c"),
            // Too short for its addresses.
            &version_2(b"\x21\x11\x00\x0b"),
        ] {
            assert!(parse(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }
}

//! A minimal HTTP/1.1 client: an incremental response parser, and request and response on a blocking socket.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A response that arrives in pieces: its head, then a body that is chunked, of a known length, or ended by the connection.
#[derive(Debug, Default)]
pub struct Response {
    head: Vec<u8>,
    pub status: Option<u16>,
    /// The head has a `Retry-After`.
    pub has_retry_after: bool,
    body: Body,
    /// The start of an incomplete chunk size or trailer line.
    line: Vec<u8>,
    /// The whole response has arrived.
    pub is_complete: bool,
}

#[derive(Debug, Default)]
enum Body {
    #[default]
    Head,
    /// Bytes left of the body.
    Length(u64),
    /// Everything up to the end of the connection.
    UntilClose,
    ChunkSize,
    /// Bytes left of the chunk.
    Chunk(u64),
    /// Bytes left of the CRLF after a chunk.
    ChunkEnd(u8),
    Trailer,
}

impl Response {
    /// Parses bytes from the socket, and passes those of the body to `body`.
    ///
    /// # Errors
    /// When the bytes are not HTTP/1.1.
    pub fn feed(&mut self, mut bytes: &[u8], mut body: impl FnMut(&[u8])) -> Result<(), String> {
        while !bytes.is_empty() && !self.is_complete {
            match self.body {
                Body::Head => {
                    let before = self.head.len();
                    self.head.extend_from_slice(bytes);
                    let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else {
                        return Ok(());
                    };
                    self.head.truncate(end + 4);
                    bytes = &bytes[end + 4 - before..];
                    self.read_head()?;
                }
                Body::UntilClose => {
                    body(bytes);
                    return Ok(());
                }
                Body::Length(left) => {
                    let (taken, rest) = bytes.split_at(bytes.len().min(left as usize));
                    body(taken);
                    bytes = rest;
                    self.body = Body::Length(left - taken.len() as u64);
                    self.is_complete = left == taken.len() as u64;
                }
                Body::Chunk(left) => {
                    let (taken, rest) = bytes.split_at(bytes.len().min(left as usize));
                    body(taken);
                    bytes = rest;
                    let left = left - taken.len() as u64;
                    self.body = if left == 0 { Body::ChunkEnd(2) } else { Body::Chunk(left) };
                }
                Body::ChunkEnd(left) => {
                    let expected = if left == 2 { b'\r' } else { b'\n' };
                    if bytes[0] != expected {
                        return Err(format!("a chunk is followed by {:#04x}", bytes[0]));
                    }
                    bytes = &bytes[1..];
                    self.body = if left == 1 { Body::ChunkSize } else { Body::ChunkEnd(1) };
                }
                Body::ChunkSize | Body::Trailer => {
                    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
                        self.line.extend_from_slice(bytes);
                        return Ok(());
                    };
                    self.line.extend_from_slice(&bytes[..end]);
                    bytes = &bytes[end + 1..];
                    self.read_line()?;
                }
            }
        }
        Ok(())
    }

    /// Parses a chunk size or a line of the trailer.
    fn read_line(&mut self) -> Result<(), String> {
        let line = std::mem::take(&mut self.line);
        let line = str::from_utf8(&line).map_err(|_| "a line between chunks is not text")?.trim_end();
        if matches!(self.body, Body::Trailer) {
            self.is_complete = line.is_empty();
            return Ok(());
        }
        let size = line.split(';').next().unwrap_or("");
        let size = u64::from_str_radix(size, 16).map_err(|_| format!("a chunk has the size {line:?}"))?;
        self.body = if size == 0 { Body::Trailer } else { Body::Chunk(size) };
        Ok(())
    }

    fn read_head(&mut self) -> Result<(), String> {
        let head = String::from_utf8_lossy(&self.head).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        self.status = Some(status.ok_or_else(|| format!("the response begins with {head:?}"))?);
        self.body = Body::UntilClose;
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            match (name.to_ascii_lowercase().as_str(), value.trim()) {
                ("transfer-encoding", value) if value.eq_ignore_ascii_case("chunked") => self.body = Body::ChunkSize,
                ("retry-after", _) => self.has_retry_after = true,
                ("content-length", value) => {
                    let length = value.parse().map_err(|_| format!("the body has the length {value:?}"))?;
                    self.body = Body::Length(length);
                    self.is_complete = length == 0;
                }
                _ => {}
            }
        }
        self.head.clear();
        Ok(())
    }
}

pub struct Reply {
    pub status: u16,
    pub body: String,
    pub has_retry_after: bool,
}

/// Opens a connection whose reads and writes time out.
pub fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let socket = TcpStream::connect_timeout(&address, Duration::from_secs(2)).map_err(|error| error.to_string())?;
    socket
        .set_nodelay(true)
        .and_then(|()| socket.set_read_timeout(Some(Duration::from_millis(100))))
        .and_then(|()| socket.set_write_timeout(Some(Duration::from_secs(2))))
        .map_err(|error| error.to_string())?;
    Ok(socket)
}

/// Reads one response, for at most `timeout`.
pub fn receive(socket: &mut TcpStream, timeout: Duration) -> Result<Reply, String> {
    let deadline = Instant::now() + timeout;
    let (mut response, mut body, mut buffer) = (Response::default(), Vec::new(), [0; 16 << 10]);
    while !response.is_complete {
        match socket.read(&mut buffer) {
            Ok(0) => return Err("closed before the end of the response".to_owned()),
            Ok(length) => response.feed(&buffer[..length], |bytes| body.extend_from_slice(bytes))?,
            Err(error) if Instant::now() > deadline => return Err(error.to_string()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    let status = response.status.ok_or("no status")?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Reply { status, body, has_retry_after: response.has_retry_after })
}

/// Sends a request on a new connection and reads the response.
pub fn request(address: SocketAddr, request: &str, timeout: Duration) -> Result<Reply, String> {
    let mut socket = connect(address)?;
    socket.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    receive(&mut socket, timeout)
}

#[test]
fn chunked_body_is_decoded_at_any_split() {
    let response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0a;x\r\n0123456789\r\n0\r\n\r\n";
    for cut in 0..response.len() {
        let (mut decoder, mut body) = (Response::default(), Vec::new());
        for piece in [&response[..cut], &response[cut..]] {
            decoder.feed(piece, |bytes| body.extend_from_slice(bytes)).unwrap();
        }
        assert_eq!((decoder.status, &body[..], decoder.is_complete), (Some(200), &b"abc0123456789"[..], true), "{cut}");
    }
}

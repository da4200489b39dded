//! A request and its response on a blocking socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::response::Response;

/// Opens a connection on which reads do not wait for ever.
pub fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let socket = TcpStream::connect_timeout(&address, Duration::from_secs(2)).map_err(|error| error.to_string())?;
    socket
        .set_nodelay(true)
        .and_then(|()| socket.set_read_timeout(Some(Duration::from_millis(100))))
        .map_err(|error| error.to_string())?;
    socket.set_write_timeout(Some(Duration::from_secs(2))).map_err(|error| error.to_string())?;
    Ok(socket)
}

pub struct Reply {
    pub status: u16,
    pub body: String,
    pub has_retry_after: bool,
}

/// Reads one response.
pub fn receive(socket: &mut TcpStream, patience: Duration) -> Result<Reply, String> {
    let deadline = Instant::now() + patience;
    let (mut response, mut body, mut buffer) = (Response::default(), Vec::new(), [0; 16 << 10]);
    while !response.is_over {
        match socket.read(&mut buffer) {
            Ok(0) => return Err("closed before the end of the response".to_owned()),
            Ok(length) => response.feed(&buffer[..length], |bytes| body.extend_from_slice(bytes))?,
            Err(error) if Instant::now() > deadline => return Err(error.to_string()),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    let status = response.status.ok_or("no status")?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Reply { status, body, has_retry_after: response.has_retry_after })
}

/// The response to a request on a connection of its own.
pub fn once(address: SocketAddr, request: &str, patience: Duration) -> Result<Reply, String> {
    let mut socket = connect(address)?;
    socket.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    receive(&mut socket, patience)
}

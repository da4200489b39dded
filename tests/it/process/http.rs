//! HTTP/1.1 requests and responses on one connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use super::TIMEOUT;

/// A connection that is reused for several requests.
pub struct Http {
    socket: Box<dyn Socket + Send>,
    /// Bytes after the last response.
    rest: Vec<u8>,
}

trait Socket: Read + Write {}
impl<T: Read + Write> Socket for T {}

/// A response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Response {
    /// The value of a header. `name` is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let is_it = |line: &&str| line.split(':').next().is_some_and(|key| key.eq_ignore_ascii_case(name));
        Some(self.head.lines().find(is_it)?.split_once(':')?.1.trim())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("invalid JSON ({error}): {self:?}"))
    }
}

impl Http {
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("the server accepts")
    }

    /// Connects to a server that may have exited.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        socket.set_write_timeout(Some(TIMEOUT)).unwrap();
        Ok(Self { socket: Box::new(socket), rest: Vec::new() })
    }

    /// A connection on which a request was sent.
    pub fn on(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self { socket: Box::new(socket), rest: Vec::new() }
    }

    /// The response to a request that was sent.
    pub fn response(&mut self) -> Response {
        self.answer().expect("the server answers in time")
    }

    /// Sends requests on a connection to a Unix socket.
    pub fn on_unix(socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        socket.set_write_timeout(Some(TIMEOUT)).unwrap();
        Self { socket: Box::new(socket), rest: Vec::new() }
    }

    pub fn get(&mut self, path: &str) -> Response {
        self.request("GET", path, None, b"")
    }

    /// Sends a request to a server that may close the connection instead.
    pub fn try_get(&mut self, path: &str) -> io::Result<Response> {
        self.try_request("GET", path, None, b"")
    }

    pub fn post(&mut self, path: &str, content_type: &str, body: &[u8]) -> Response {
        self.request("POST", path, Some(content_type), body)
    }

    /// Posts to a server that may exit meanwhile.
    pub fn try_post(&mut self, path: &str, content_type: &str, body: &[u8]) -> io::Result<Response> {
        self.try_request("POST", path, Some(content_type), body)
    }

    /// Publishes `text` to `topic`, and returns its id.
    pub fn publish(&mut self, topic: &str, text: &str) -> String {
        let answer = self.post(&format!("/publish/{topic}"), "text/plain", text.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    fn request(&mut self, method: &str, path: &str, content_type: Option<&str>, body: &[u8]) -> Response {
        self.try_request(method, path, content_type, body).expect("the server answers in time")
    }

    fn try_request(
        &mut self,
        method: &str,
        path: &str,
        content_type: Option<&str>,
        body: &[u8],
    ) -> io::Result<Response> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n");
        if let Some(content_type) = content_type {
            request.push_str(&format!("content-type: {content_type}\r\ncontent-length: {}\r\n", body.len()));
        }
        let mut request = (request + "\r\n").into_bytes();
        request.extend_from_slice(body);
        self.socket.write_all(&request)?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<Response> {
        let end = loop {
            if let Some(end) = self.rest.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.more()?;
        };
        let head = String::from_utf8(self.rest[..end].to_vec()).expect("a head is text");
        let status = head.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let whole = end + length.unwrap_or(0);
        while self.rest.len() < whole {
            self.more()?;
        }
        let body = String::from_utf8(self.rest[end..whole].to_vec()).expect("a body is text");
        self.rest.drain(..whole);
        Ok(Response { status, head, body })
    }

    fn more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let length = self.socket.read(&mut buffer)?;
        if length == 0 {
            let read = String::from_utf8_lossy(&self.rest);
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the server closed the connection after {read:?}"),
            ));
        }
        self.rest.extend_from_slice(&buffer[..length]);
        Ok(())
    }
}

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::Stream;

/// Encodes a request. The host is `test` unless `headers` name another, and a POST or a body has a content-length.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    if headers.iter().all(|(name, _)| *name != "host") {
        head += "host: test\r\n";
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if method == "POST" || !body.is_empty() {
        head += &format!("content-length: {}\r\n", body.len());
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// A connection, and the received bytes that were not consumed yet.
pub struct Client {
    socket: TcpStream,
    received: BytesMut,
}

/// The head of a response. Names are in lower case.
#[derive(Debug, Clone)]
pub struct Head {
    pub version: String,
    pub status: u16,
    pub reason: String,
    pub headers: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub struct Response {
    pub head: Head,
    pub body: Bytes,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::on(TcpSocket::new_v4().unwrap(), address).await
    }

    pub async fn connect_v6(address: SocketAddr) -> Self {
        Self::on(TcpSocket::new_v6().unwrap(), address).await
    }

    /// Connects from another loopback address, such as 127.0.0.2.
    pub async fn connect_from(source: [u8; 4], address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        Self::on(socket, address).await
    }

    /// Connects with a small receive buffer.
    pub async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(2048).unwrap();
        Self::on(socket, address).await
    }

    async fn on(socket: TcpSocket, address: SocketAddr) -> Self {
        let socket = socket.connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, received: BytesMut::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.socket.write_all(bytes.as_ref()).await
    }

    /// Sends while it receives, for a peer that reads only while its own bytes are read.
    pub async fn exchange(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.received.reserve(16 << 10);
            let (mut reader, mut writer) = self.socket.split();
            tokio::select! {
                written = writer.write(bytes) => bytes = &bytes[written.unwrap()..],
                read = reader.read_buf(&mut self.received) => assert!(read.unwrap() > 0, "closed while receiving"),
            }
        }
    }

    /// Closes the sending half.
    pub async fn half_close(&mut self) {
        self.socket.shutdown().await.unwrap();
    }

    pub async fn get(&mut self, target: &str) -> Response {
        self.send(request("GET", target, &[], b"")).await;
        self.response().await
    }

    /// Reads once. Returns false if the peer has closed or reset the connection.
    pub async fn read(&mut self) -> bool {
        // Without spare capacity a read would return only a few bytes.
        self.received.reserve(16 << 10);
        match self.socket.read_buf(&mut self.received).await {
            Ok(bytes) => bytes > 0,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// The received bytes that were not consumed.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// Waits for the peer to close, and returns the remaining bytes.
    pub async fn rest(mut self) -> Bytes {
        while self.read().await {}
        self.received.freeze()
    }

    /// The next bytes, up to and including `end`.
    pub async fn through(&mut self, end: &[u8]) -> Bytes {
        let mut searched = 0;
        loop {
            if let Some(at) = self.received[searched..].windows(end.len()).position(|window| window == end) {
                return self.received.split_to(searched + at + end.len()).freeze();
            }
            searched = self.received.len().saturating_sub(end.len() - 1);
            assert!(self.read().await, "closed within {:?}", String::from_utf8_lossy(&self.received));
        }
    }

    pub async fn exactly(&mut self, length: usize) -> Bytes {
        while self.received.len() < length {
            assert!(self.read().await, "closed within {:?}", String::from_utf8_lossy(&self.received));
        }
        self.received.split_to(length).freeze()
    }

    pub async fn head(&mut self) -> Head {
        Head::parse(&self.through(b"\r\n\r\n").await)
    }

    pub async fn response(&mut self) -> Response {
        let head = self.head().await;
        let length = head.header("content-length").map_or(0, |length| length.parse().unwrap());
        assert_eq!(head.header("transfer-encoding"), None, "a response has a content-length");
        let body = self.exactly(length).await;
        Response { head, body }
    }

    /// The next chunk of a chunked body, or none at its end. The encoding must be exact.
    pub async fn chunk(&mut self) -> Option<Bytes> {
        let line = self.through(b"\r\n").await;
        let digits = std::str::from_utf8(&line[..line.len() - 2]).unwrap();
        let length =
            usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{digits:?} is not the length of a chunk"));
        // hyper has capital letters.
        assert_eq!(digits.to_ascii_lowercase(), format!("{length:x}"));
        let mut chunk = self.exactly(length + 2).await;
        assert_eq!(chunk.split_off(length), "\r\n");
        (length > 0).then_some(chunk)
    }

    /// Reads the head of a stream, which must have status 200.
    pub async fn into_stream(mut self) -> Stream {
        let head = self.head().await;
        assert_eq!(head.status, 200, "{head:?}");
        Stream::new(self, head)
    }

    /// The head of a response, or none if the peer closes instead.
    pub async fn try_head(&mut self) -> Option<Head> {
        while !self.received.windows(4).any(|window| window == b"\r\n\r\n") {
            if !self.read().await {
                return None;
            }
        }
        Some(self.head().await)
    }

    /// Consumes the received bytes.
    pub fn take(&mut self) -> Bytes {
        self.received.copy_to_bytes(self.received.len())
    }
}

impl Head {
    fn parse(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).unwrap().strip_suffix("\r\n\r\n").unwrap();
        let mut lines = text.split("\r\n");
        let mut status_line = lines.next().unwrap().splitn(3, ' ');
        let (version, status) = (status_line.next().unwrap().to_owned(), status_line.next().unwrap().parse().unwrap());
        let reason = status_line.next().unwrap().to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?} is not a field"));
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Self { version, status, reason, headers: lines.map(field).collect() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} is repeated");
        value
    }
}

impl Response {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The JSON body of a response, which must be a success.
    pub fn ok(&self) -> Value {
        assert_eq!(self.head.status, 200, "{self:?}");
        assert_eq!(self.head.header("content-type"), Some("application/json"));
        assert_eq!(self.head.header("cache-control"), Some("no-store"));
        self.json()
    }
}

//! A server that sends exactly the bytes a test gives it, and outputs that a test can wait for.

use std::io::{self, Write};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::target::ServerUrl;

pub struct ScriptedServer(TcpListener);

/// One connection whose request head has been read.
pub struct Peer {
    socket: TcpStream,
    pub head: String,
    /// The bytes after the head, as received.
    pub body: Vec<u8>,
}

impl ScriptedServer {
    pub async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn url(&self) -> ServerUrl {
        format!("http://{}", self.0.local_addr().unwrap()).parse().unwrap()
    }

    pub async fn accept(&self) -> Peer {
        let (socket, _) = self.0.accept().await.unwrap();
        let mut peer = Peer { socket, head: String::new(), body: Vec::new() };
        let end = peer.receive_until(b"\r\n\r\n").await;
        let body = peer.body.split_off(end);
        peer.head = String::from_utf8(std::mem::replace(&mut peer.body, body)).unwrap();
        peer
    }

    /// Accepts one connection and answers it with an open event stream.
    pub async fn accept_stream(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").await;
        peer
    }
}

impl Peer {
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Answers with a JSON body and closes.
    pub async fn answer(mut self, status: &str, content_type: &str, body: &str) {
        let length = body.len();
        self.send(format!(
            "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
    }

    /// Reads until `wanted` is in the body. Returns the place after it.
    pub async fn receive_until(&mut self, wanted: &[u8]) -> usize {
        loop {
            if let Some(at) = memchr::memmem::find(&self.body, wanted) {
                return at + wanted.len();
            }
            let read = self.socket.read_buf(&mut self.body).await.unwrap();
            assert_ne!(read, 0, "the client closed after {:?}", String::from_utf8_lossy(&self.body));
        }
    }

    /// Reads and drops `length` bytes of the body.
    pub async fn receive_bytes(&mut self, length: usize) {
        while self.body.len() < length {
            assert_ne!(self.socket.read_buf(&mut self.body).await.unwrap(), 0, "the client closed");
        }
        self.body.drain(..length);
    }

    /// The value of a request header, whose name is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The first line of the request, without the version.
    pub fn target(&self) -> &str {
        self.head.lines().next().unwrap().trim_end_matches(" HTTP/1.1")
    }

    /// The content of the complete chunks.
    pub fn unchunked(&self) -> String {
        let (mut rest, mut payload) = (&self.body[..], Vec::new());
        while let Some(end) = memchr::memmem::find(rest, b"\r\n") {
            let length = usize::from_str_radix(str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
            let Some(chunk) = rest.get(end + 2..end + 2 + length) else { break };
            payload.extend_from_slice(chunk);
            rest = rest.get(end + 4 + length..).unwrap_or_default();
        }
        String::from_utf8(payload).unwrap()
    }

    /// Waits until the client has closed the connection.
    pub async fn closed(mut self) {
        // A reset is a close, too.
        while !matches!(self.socket.read_buf(&mut self.body).await, Ok(0) | Err(_)) {}
    }
}

/// An output and what was written to it.
pub fn output() -> (Output, Written) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Output(sender), Written { receiver, text: String::new() })
}

pub struct Output(mpsc::UnboundedSender<Vec<u8>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Dropping it closes the pipe, as `head` does.
pub struct Written {
    receiver: mpsc::UnboundedReceiver<Vec<u8>>,
    text: String,
}

impl Written {
    /// Waits until `wanted` has been written.
    pub async fn until(&mut self, wanted: &str) {
        while !self.text.contains(wanted) {
            let bytes = self.receiver.recv().await;
            let bytes = bytes.unwrap_or_else(|| panic!("{wanted:?} was never written, only {:?}", self.text));
            self.text.push_str(&String::from_utf8(bytes).unwrap());
        }
    }

    /// All that was written so far.
    pub fn text(&mut self) -> &str {
        while let Ok(bytes) = self.receiver.try_recv() {
            self.text.push_str(&String::from_utf8(bytes).unwrap());
        }
        &self.text
    }
}

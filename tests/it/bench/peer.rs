//! A small event server other than fanline: `GET /sub/TOPIC` subscribes, `PUT /pub?channel=TOPIC` publishes the body.
//!
//! Its events have no ids, and it replays nothing. Its lines may end with CRLF and its body with the connection, or its
//! subscribers use WebSocket. It can make one mistake.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::websocket;

/// How streams are framed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Chunks,
    /// Lines end with CRLF, and the body ends with the connection. The response to a publish is chunked and closes the
    /// connection.
    Plain,
    /// Each event is a member of gzip, in a chunk.
    Gzip,
    /// Messages of WebSocket.
    Frames,
}

/// A mistake at the event with this number, from 0, on the stream of the first subscriber.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    Drop(usize),
    Repeat(usize),
    /// The event is sent after the next one.
    Swap(usize),
    /// One letter of the event is changed.
    Change(usize),
    /// The stream ends before the event.
    Close(usize),
    /// The event is published this much later, and delays all that follow.
    Stall(usize, Duration),
    /// Its publish gets this status.
    RefusePublish(usize, &'static str),
    /// All subscribers except the first get this status.
    RefuseOthers(&'static str),
    /// Subscribers get a page instead of a stream.
    Page,
}

pub struct Peer {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    framing: Framing,
    fault: Fault,
    subscribers: Vec<Subscriber>,
    published: usize,
    sources: Vec<IpAddr>,
}

struct Subscriber {
    topic: String,
    socket: TcpStream,
    received: usize,
    held: Option<Vec<u8>>,
}

impl Peer {
    /// Listens on a free port for the life of the test process.
    pub fn start(framing: Framing, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { framing, fault, subscribers: Vec::new(), published: 0, sources: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let shared = shared.clone();
                thread::spawn(move || serve(&socket, &shared));
            }
        });
        Self { address, state }
    }

    /// The addresses of the subscribers, in order of connection.
    pub fn sources(&self) -> Vec<IpAddr> {
        self.state.lock().unwrap().sources.clone()
    }

    pub fn published(&self) -> usize {
        self.state.lock().unwrap().published
    }
}

/// Answers the requests of one connection. The load generator may reset it, which is not an error.
fn serve(socket: &TcpStream, shared: &Mutex<State>) {
    socket.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(socket);
    loop {
        let (mut target, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if target.is_empty() {
                target = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
            } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            } else if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let mut state = shared.lock().unwrap();
        if let Some(topic) = target.strip_prefix("GET /sub/") {
            state.subscribe(topic, socket);
        } else if let Some(topic) = target.strip_prefix("PUT /pub?channel=") {
            let status = state.publish(topic, &body);
            if state.framing == Framing::Plain {
                let how = "Transfer-Encoding: chunked\r\nConnection: close";
                let _ = write!(&*socket, "HTTP/1.1 {status}\r\n{how}\r\n\r\n3\r\nok\n\r\n0\r\n\r\n");
                return;
            }
            let _ = write!(&*socket, "HTTP/1.1 {status}\r\nContent-Length: 3\r\n\r\nok\n");
        } else {
            let _ = write!(&*socket, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
    }
}

impl State {
    fn subscribe(&mut self, topic: &str, mut socket: &TcpStream) {
        let head = match (self.fault, self.framing) {
            (Fault::RefuseOthers(status), _) if !self.subscribers.is_empty() => {
                let _ = write!(socket, "HTTP/1.1 {status}\r\nContent-Length: 12\r\n\r\ncome later!\n");
                return;
            }
            (Fault::Page, _) => {
                let _ = write!(socket, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\n<p>");
                return;
            }
            (_, Framing::Chunks) => {
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
            }
            (_, Framing::Gzip) => {
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"
            }
            (_, Framing::Plain) => "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n",
            (_, Framing::Frames) => websocket::ACCEPTED,
        };
        self.sources.push(socket.peer_addr().unwrap().ip());
        let socket_of_stream = socket.try_clone().unwrap();
        let _ = write!(socket, "{head}\r\n");
        self.subscribers.push(Subscriber { topic: topic.into(), socket: socket_of_stream, received: 0, held: None });
    }

    fn publish(&mut self, topic: &str, body: &[u8]) -> &'static str {
        let number = self.published;
        self.published += 1;
        match self.fault {
            Fault::Stall(at, time) if at == number => thread::sleep(time),
            Fault::RefusePublish(at, status) if at == number => return status,
            _ => {}
        }
        let (fault, framing) = (self.fault, self.framing);
        for (index, subscriber) in self.subscribers.iter_mut().enumerate() {
            if subscriber.topic == topic {
                subscriber.send(if index == 0 { fault } else { Fault::None }, framing, body);
            }
        }
        "202 Accepted"
    }
}

impl Subscriber {
    fn send(&mut self, fault: Fault, framing: Framing, body: &[u8]) {
        let number = self.received;
        self.received += 1;
        let mut event = encode(framing, body);
        if let Some(held) = self.held.take() {
            event.extend(held);
        }
        match fault {
            Fault::Drop(at) if at == number => return,
            Fault::Repeat(at) if at == number => event = event.repeat(2),
            Fault::Swap(at) if at == number => {
                self.held = Some(event);
                return;
            }
            Fault::Change(at) if at == number => {
                let last = event.iter().rposition(|byte| *byte == b'x').expect("the payload has padding");
                event[last] = b'y';
            }
            Fault::Close(at) if at == number => {
                let _ = self.socket.shutdown(std::net::Shutdown::Both);
            }
            _ => {}
        }
        let _ = self.socket.write_all(&event);
    }
}

fn encode(framing: Framing, body: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(body);
    match framing {
        Framing::Plain => format!("data: {text}\r\n\r\n").into_bytes(),
        Framing::Chunks => {
            let event = format!("event: message\ndata: {text}\n\n");
            format!("{:X}\r\n{event}\r\n", event.len()).into_bytes()
        }
        Framing::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            write!(encoder, "event: message\ndata: {text}\n\n").unwrap();
            let member = encoder.finish().unwrap();
            [format!("{:X}\r\n", member.len()).as_bytes(), &member, b"\r\n"].concat()
        }
        Framing::Frames => websocket::text(&text),
    }
}

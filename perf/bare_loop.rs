//! The yardstick: a server that only calls `write()` for each event and subscriber, one after the other.
//!
//! It implements just enough HTTP for the same load generator: a `GET` becomes a subscriber, a `POST` with a
//! `content-length` body is an event. It has no topics, replay or queue, and drops a subscriber whose socket is full.
//! Its cost is the cost of the kernel.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{io, mem};

use clap::Parser;
use rustix::event::epoll;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// The size of a read: more than a publish request with the largest event.
const READ_BUFFER: usize = 128 * 1024;
/// The longest request. A longer one is a bug in the load generator.
const MAX_REQUEST: usize = 1024 * 1024;
const LISTENER: u64 = u64::MAX;

const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    cache-control: no-store, no-transform\r\nx-accel-buffering: no\r\ntransfer-encoding: chunked\r\n\r\n";

/// A bare write loop: the cost of the kernel alone.
#[derive(Parser)]
struct Options {
    /// The address to listen on. Port 0 selects a free port.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

/// A connection whose next request is incomplete.
struct Pending {
    socket: OwnedFd,
    received: Vec<u8>,
}

struct BareLoop {
    epoll: OwnedFd,
    listener: TcpListener,
    /// Indexed by epoll token.
    pending: Vec<Option<Pending>>,
    free: Vec<usize>,
    subscribers: Vec<OwnedFd>,
    epoch: u128,
    sequence: u64,
    event: Vec<u8>,
    chunk: Vec<u8>,
    reply: Vec<u8>,
    read_buffer: Vec<u8>,
    dropped: u64,
    left: u64,
}

/// The first request in a connection's bytes.
enum Request {
    Incomplete,
    Subscribe,
    Publish { body: std::ops::Range<usize> },
    Bad,
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&stop))?;
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stop))?;

    let mut server = BareLoop::bind(options.listen)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on {}", server.listener.local_addr()?)?;
    stdout.flush()?;

    server.run(&stop)?;
    writeln!(
        stdout,
        "{} events; {} subscribers at the end, {} left, {} dropped because their socket was full",
        server.sequence,
        server.subscribers.len(),
        server.left,
        server.dropped
    )
}

impl BareLoop {
    fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(4096)?;
        let listener = TcpListener::from(socket);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            pending: Vec::new(),
            free: Vec::new(),
            subscribers: Vec::new(),
            epoch: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis(),
            sequence: 0,
            event: Vec::new(),
            chunk: Vec::new(),
            reply: Vec::new(),
            read_buffer: vec![0; READ_BUFFER],
            dropped: 0,
            left: 0,
        })
    }

    fn run(&mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut ready = Vec::with_capacity(1024);
        while !stop.load(Ordering::Relaxed) {
            ready.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &ready {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    token => self.read(token as usize)?,
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let token = self.free.pop().unwrap_or_else(|| {
                self.pending.push(None);
                self.pending.len() - 1
            });
            epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(token as u64), epoll::EventFlags::IN)?;
            self.pending[token] = Some(Pending { socket: socket.into(), received: Vec::new() });
        }
    }

    fn read(&mut self, token: usize) -> io::Result<()> {
        let Some(connection) = self.pending[token].as_mut() else { return Ok(()) };
        match rustix::io::read(&connection.socket, &mut self.read_buffer[..]) {
            Ok(0) => return self.forget(token).map(drop),
            Ok(length) => connection.received.extend_from_slice(&self.read_buffer[..length]),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(_) => return self.forget(token).map(drop),
        }
        loop {
            let Some(connection) = self.pending[token].as_mut() else { return Ok(()) };
            match parse_request(&connection.received) {
                Request::Incomplete => return Ok(()),
                Request::Bad => return self.forget(token).map(drop),
                Request::Subscribe => {
                    let Some(connection) = self.forget(token)? else { return Ok(()) };
                    self.subscribe(connection.socket);
                }
                Request::Publish { body } => {
                    let end = body.end;
                    let received = mem::take(&mut connection.received);
                    self.publish(&received[body]);
                    let Some(connection) = self.pending[token].as_mut() else { return Ok(()) };
                    connection.received = received;
                    connection.received.drain(..end);
                    if !write_all(&connection.socket, &self.reply) {
                        return self.forget(token).map(drop);
                    }
                }
            }
        }
    }

    /// Removes a connection from the loop. Dropping it closes it.
    fn forget(&mut self, token: usize) -> io::Result<Option<Pending>> {
        let connection = self.pending[token].take();
        if let Some(connection) = &connection {
            epoll::delete(&self.epoll, &connection.socket)?;
            self.free.push(token);
        }
        Ok(connection)
    }

    fn subscribe(&mut self, socket: OwnedFd) {
        let mut hello = STREAM_HEAD.as_bytes().to_vec();
        self.event.clear();
        let written = write!(
            self.event,
            "id: {epoch}-{sequence}\nevent: system\nretry: 5000\ndata: {{\"message\":\"connected\",\
             \"position\":\"{epoch}-{sequence}\"}}\n\n",
            epoch = self.epoch,
            sequence = self.sequence
        );
        written.expect("a Vec takes all that is written");
        push_chunk(&mut hello, &self.event);
        if write_all(&socket, &hello) {
            self.subscribers.push(socket);
        }
    }

    fn publish(&mut self, body: &[u8]) {
        self.sequence += 1;
        self.event.clear();
        let written = write!(self.event, "id: {}-{}\ndata: ", self.epoch, self.sequence);
        written.expect("a Vec takes all that is written");
        self.event.extend_from_slice(payload(body));
        self.event.extend_from_slice(b"\n\n");
        self.chunk.clear();
        push_chunk(&mut self.chunk, &self.event);

        let mut index = 0;
        while index < self.subscribers.len() {
            match rustix::io::write(&self.subscribers[index], &self.chunk) {
                Ok(length) if length == self.chunk.len() => {
                    index += 1;
                    continue;
                }
                // Part of a chunk is sent, and the rest is not kept.
                Ok(_) | Err(Errno::AGAIN) => self.dropped += 1,
                Err(_) => self.left += 1,
            }
            drop(self.subscribers.swap_remove(index));
        }

        self.event.clear();
        let written = write!(self.event, "{{\"id\":\"{}-{}\",\"published\":1}}", self.epoch, self.sequence);
        written.expect("a Vec takes all that is written");
        self.reply.clear();
        let written = write!(
            self.reply,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.event.len()
        );
        written.expect("a Vec takes all that is written");
        self.reply.extend_from_slice(&self.event);
    }
}

fn parse_request(bytes: &[u8]) -> Request {
    if bytes.len() > MAX_REQUEST {
        return Request::Bad;
    }
    let Some(head) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Request::Incomplete };
    if bytes.starts_with(b"GET ") {
        return Request::Subscribe;
    }
    if !bytes.starts_with(b"POST ") {
        return Request::Bad;
    }
    let Some(length) = content_length(&bytes[..head]) else { return Request::Bad };
    let start = head + 4;
    if bytes.len() - start < length {
        return Request::Incomplete;
    }
    Request::Publish { body: start..start + length }
}

fn content_length(head: &[u8]) -> Option<usize> {
    let name = b"content-length:";
    head.split(|byte| *byte == b'\n')
        .find(|line| line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name))
        .and_then(|line| str::from_utf8(&line[name.len()..]).ok())
        .and_then(|value| value.trim().parse().ok())
        .filter(|length| *length <= MAX_REQUEST)
}

/// The value of `"data"`, the last member of the load generator's events: the bytes that fanline would send.
fn payload(body: &[u8]) -> &[u8] {
    let name = b"\"data\":";
    match memchr::memmem::find(body, name) {
        Some(at) if body.ends_with(b"}") => &body[at + name.len()..body.len() - 1],
        _ => body,
    }
}

fn push_chunk(out: &mut Vec<u8>, content: &[u8]) {
    write!(out, "{:x}\r\n", content.len()).expect("a Vec takes all that is written");
    out.extend_from_slice(content);
    out.extend_from_slice(b"\r\n");
}

/// Writes a response. Returns whether all of it was written: it is small, and the client waits for it.
fn write_all(socket: &OwnedFd, bytes: &[u8]) -> bool {
    rustix::io::write(socket, bytes) == Ok(bytes.len())
}

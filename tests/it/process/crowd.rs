//! Thousands of streams on one thread.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use super::{Decoder, End, Event, request_stream};

/// Streams of clients, numbered from 0.
pub struct Crowd {
    epoll: OwnedFd,
    /// None for a stream that has ended.
    clients: Vec<Option<Client>>,
    ready: Vec<epoll::Event>,
}

struct Client {
    socket: TcpStream,
    decoder: Decoder,
}

/// An event or the end of a stream.
#[derive(Debug)]
pub enum Update {
    Event(Event),
    End(End),
}

impl Crowd {
    pub fn new() -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a file descriptor");
        Self { epoll, clients: Vec::new(), ready: Vec::with_capacity(1024) }
    }

    /// Adds a client that requests `/stream?QUERY`, and returns its number. Its connection may still wait in the accept
    /// queue.
    pub fn connect(&mut self, address: SocketAddr, query: &str) -> usize {
        self.resume(address, query, None)
    }

    /// Adds a client that resumes after `last_id`.
    pub fn resume(&mut self, address: SocketAddr, query: &str, last_id: Option<&str>) -> usize {
        self.try_resume(address, query, last_id).expect("the kernel accepts")
    }

    /// Adds a client that resumes after `last_id`, unless the server is not there.
    pub fn try_resume(&mut self, address: SocketAddr, query: &str, last_id: Option<&str>) -> io::Result<usize> {
        let mut socket = TcpStream::connect(address)?;
        socket.write_all(request_stream(query, last_id).as_bytes())?;
        socket.set_nonblocking(true).unwrap();
        let number = self.clients.len();
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN).expect("room in the interest list");
        self.clients.push(Some(Client { socket, decoder: Decoder::default() }));
        Ok(number)
    }

    /// The number of open streams.
    pub fn open(&self) -> usize {
        self.clients.iter().flatten().count()
    }

    /// Disconnects a client.
    pub fn leave(&mut self, client: usize) {
        self.clients[client] = None;
    }

    /// Reads for at most `timeout`, until `is_enough` returns true for an update. Returns whether it did.
    pub fn read(&mut self, timeout: Duration, mut is_enough: impl FnMut(usize, Update) -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        let mut buffer = vec![0; 64 << 10];
        let mut is_over = false;
        while !is_over {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.wait(left);
            let ready = std::mem::take(&mut self.ready);
            for event in &ready {
                let number = event.data.u64() as usize;
                let Some(client) = &mut self.clients[number] else { continue };
                let outcome = client.socket.read(&mut buffer);
                if outcome.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock) {
                    continue;
                }
                let end = client.decoder.end(&outcome);
                let bytes = &buffer[..outcome.unwrap_or(0)];
                client.decoder.feed(bytes, |event| is_over |= is_enough(number, Update::Event(event)));
                if let Some(end) = end {
                    self.clients[number] = None;
                    is_over |= is_enough(number, Update::End(end));
                }
            }
            self.ready = ready;
        }
        true
    }

    fn wait(&mut self, timeout: Duration) {
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        self.ready.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.ready), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("epoll: {error}"),
        }
    }

    /// Reads until every open client has received one event that `is_it` accepts, and nothing else but heartbeats. No
    /// stream may end. Returns how long it took.
    pub fn all_receive(&mut self, timeout: Duration, what: &str, is_it: impl Fn(&Event) -> bool) -> Duration {
        let began = Instant::now();
        let mut left = self.open();
        let mut has = vec![false; self.clients.len()];
        let all = left == 0
            || self.read(timeout, |client, update| match update {
                Update::Event(event) if is_it(&event) => {
                    assert!(!std::mem::replace(&mut has[client], true), "client {client} got {what} twice");
                    left -= 1;
                    left == 0
                }
                Update::Event(event) if event.name == "heartbeat" => false,
                other => panic!("client {client} waits for {what}, but got {other:?}"),
            });
        assert!(all, "{left} clients did not get {what} in {timeout:?}");
        began.elapsed()
    }

    /// Reads until every open client has received its hello.
    pub fn wait_for_hellos(&mut self, timeout: Duration) -> Duration {
        self.all_receive(timeout, "a hello", |event| event.name == "system" && event.data.contains("connected"))
    }
}

//! All subscribers.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::engine::Shared;
use super::stream::{Checker, Context};
use super::subscriber::{End, Phase, Subscriber, connect};
use super::topics::{self, Group};

pub struct Crowd {
    subscribers: Vec<Subscriber>,
    pub groups: Vec<Group>,
    group_of_client: Vec<u32>,
    pub checker: Checker,
    /// Streams whose response head arrived.
    pub opened: usize,
    /// Responses that were not an event stream.
    pub refused: usize,
    /// Connections that ended before a response head.
    failed: usize,
    /// Streams that ended.
    pub closed: usize,
    pub bytes: u64,
    server: SocketAddr,
}

impl Crowd {
    pub fn new(shared: &Shared<'_>, server: SocketAddr, checker: Checker) -> Self {
        let (groups, group_of_client) = topics::subscribe(&shared.plan.args);
        Self {
            subscribers: Vec::with_capacity(group_of_client.len()),
            groups,
            group_of_client,
            checker,
            opened: 0,
            refused: 0,
            failed: 0,
            closed: 0,
            bytes: 0,
            server,
        }
    }

    /// Subscribers that were started.
    pub fn started(&self) -> usize {
        self.subscribers.len()
    }

    /// Subscribers that wait for a response head.
    pub fn pending(&self) -> usize {
        self.subscribers.len() - self.opened - self.refused - self.failed
    }

    pub fn open(&self) -> usize {
        self.opened - self.closed
    }

    fn send_request(&mut self, index: usize, shared: &Shared<'_>) -> io::Result<bool> {
        let subscriber = &mut self.subscribers[index];
        let topics = &self.groups[subscriber.group as usize].topics;
        subscriber.send_request(&shared.plan.subscribe_request(index, topics))
    }

    /// Starts the next subscriber. Fails when the system has no socket or port left, for this one or any other.
    pub fn start(&mut self, shared: &mut Shared<'_>) -> io::Result<()> {
        let index = self.subscribers.len();
        let group = self.group_of_client[index];
        let socket = match connect(self.server, shared.plan.source(index, self.server.ip())) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.subscribers.push(Subscriber::new(None, group));
                self.failed += 1;
                shared.problems.note(format!("a subscriber was not connected: {error}"));
                return Ok(());
            }
            socket => socket?,
        };
        self.subscribers.push(Subscriber::new(Some(socket), group));
        // On loopback the handshake is usually complete, which saves an event. A failure shows when reading.
        let is_sent = self.send_request(index, shared).unwrap_or(true);
        let flags = if is_sent { EventFlags::IN } else { EventFlags::OUT };
        if let Some(socket) = &self.subscribers[index].socket {
            epoll::add(&shared.epoll, socket, EventData::new_u64(index as u64), flags)?;
        }
        Ok(())
    }

    /// Serves a subscriber whose socket is ready.
    pub fn ready(&mut self, index: usize, shared: &mut Shared<'_>) -> io::Result<()> {
        let phase = self.subscribers[index].phase;
        if phase == Phase::Connecting {
            match self.send_request(index, shared) {
                Ok(false) => {}
                Ok(true) => {
                    if let Some(socket) = &self.subscribers[index].socket {
                        epoll::modify(&shared.epoll, socket.as_fd(), EventData::new_u64(index as u64), EventFlags::IN)?;
                    }
                }
                Err(error) => self.end(index, End::Closed(error.to_string()), shared),
            }
            return Ok(());
        }
        let subscriber = &mut self.subscribers[index];
        let Some(socket) = &subscriber.socket else { return Ok(()) };
        let group = &mut self.groups[subscriber.group as usize];
        let received = match rustix::io::read(socket, &mut shared.buffer[..]) {
            Ok(0) => Err(subscriber.end("the server closed the connection".into())),
            Ok(length) => {
                self.bytes += length as u64;
                let lines = group.topics.len() * self.checker.publishers;
                let mut cx = Context { now: shared.now(), group, checker: &mut self.checker };
                subscriber.receive(&shared.buffer[..length], lines, &mut cx)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(error) => Err(subscriber.end(io::Error::from(error).to_string())),
        };
        self.opened += usize::from(phase != Phase::Streaming && subscriber.phase == Phase::Streaming);
        if let Err(end) = received {
            self.end(index, end, shared);
        }
        Ok(())
    }

    fn end(&mut self, index: usize, end: End, shared: &mut Shared<'_>) {
        let subscriber = &mut self.subscribers[index];
        let (count, problem) = match end {
            End::Refused(why) => (&mut self.refused, format!("a subscriber was refused: {why}")),
            End::Closed(why) if subscriber.phase == Phase::Streaming => {
                (&mut self.closed, format!("a stream ended: {why}"))
            }
            End::Closed(why) => (&mut self.failed, format!("a subscriber was not connected: {why}")),
        };
        *count += 1;
        shared.problems.note(problem);
        subscriber.phase = Phase::Closed;
        subscriber.socket = None;
        let group = &mut self.groups[subscriber.group as usize];
        group.members = group.members.saturating_sub(1);
    }

    /// Whether each open stream received all published events. `issued` has the next number of each topic's publishers.
    pub fn has_all(&self, issued: &[u32]) -> bool {
        self.subscribers.iter().filter(|subscriber| subscriber.phase == Phase::Streaming).all(|subscriber| {
            let lines = self.lines(&self.groups[subscriber.group as usize].topics, issued);
            subscriber.stream.as_ref().is_none_or(|stream| stream.ledger().has_all(lines))
        })
    }

    /// Events that open streams did not receive, and closed ones not before their last event. Events whose publication
    /// is uncertain are `excused`, given topic, publisher and number.
    pub fn lost(&self, issued: &[u32], excused: impl Fn(u32, usize, u32) -> bool) -> u64 {
        let publishers = self.checker.publishers;
        let of_subscriber = |subscriber: &Subscriber| {
            let Some(stream) = &subscriber.stream else { return 0 };
            let topics = &self.groups[subscriber.group as usize].topics;
            let issued: Vec<u32> = self.lines(topics, issued).collect();
            let expected = (subscriber.phase == Phase::Streaming).then_some(&issued[..]);
            let excused = |line: usize, number| excused(topics[line / publishers], line % publishers, number);
            stream.ledger().missing(expected, excused)
        };
        self.subscribers.iter().map(of_subscriber).sum()
    }

    fn lines<'a>(&self, topics: &'a [u32], issued: &'a [u32]) -> impl Iterator<Item = u32> + use<'a> {
        let publishers = self.checker.publishers;
        topics.iter().flat_map(move |topic| issued[*topic as usize * publishers..][..publishers].iter().copied())
    }
}

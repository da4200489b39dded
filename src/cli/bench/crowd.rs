//! All subscribers.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::client::{self, Client, News, Phase};
use super::journal::Journal;
use super::plan::Plan;
use super::problems::Problems;
use super::stream::{Checker, GroupState};

pub struct Crowd {
    clients: Vec<Client>,
    groups: Vec<GroupState>,
    pub checker: Checker,
    /// Streams whose head has arrived.
    pub opened: usize,
    /// Connections that came to nothing: refused, or ended before a head.
    pub refused: usize,
    pub failed: usize,
    /// Streams that have ended.
    pub closed: usize,
    pub bytes: u64,
    server: SocketAddr,
}

impl Crowd {
    pub fn new(plan: &Plan, server: SocketAddr, checker: Checker) -> Self {
        let shared = plan.groups.iter().filter(|group| group.members > 1).count();
        let groups = plan.groups.iter().map(|group| GroupState {
            topics: group.topics.clone(),
            members: group.members as u32,
            journal: (group.members > 1).then(|| Journal::new(shared)),
        });
        Self {
            clients: Vec::with_capacity(plan.args.clients),
            groups: groups.collect(),
            checker,
            opened: 0,
            refused: 0,
            failed: 0,
            closed: 0,
            bytes: 0,
            server,
        }
    }

    /// How many have been started.
    pub fn started(&self) -> usize {
        self.clients.len()
    }

    /// Handshakes under way.
    pub fn under_way(&self) -> usize {
        self.clients.len() - self.opened - self.refused - self.failed
    }

    pub fn open(&self) -> usize {
        self.opened - self.closed
    }

    /// Starts the next subscriber.
    ///
    /// # Errors
    /// When the system gives no socket or no port: the others would fare no better.
    pub fn start(&mut self, plan: &Plan, epoll: &OwnedFd) -> io::Result<Option<String>> {
        let index = self.clients.len();
        let group = &self.groups[plan.group_of_client[index] as usize];
        let lines = group.topics.len() * self.checker.publishers;
        let socket = match client::connect(self.server, plan.source(index, self.server.ip())) {
            Ok(socket) => socket,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.clients.push(Client::stillborn());
                self.failed += 1;
                return Ok(Some(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        let mut client = Client::new(socket, lines);
        // Over loopback the handshake is mostly done by now, and waiting for it would be a system call more.
        // Of a failure its reading will tell.
        let sent = client.send_request(&plan.subscribe_request(index)).unwrap_or(true);
        let wanted = if sent { EventFlags::IN } else { EventFlags::OUT };
        if let Some(socket) = &client.socket {
            epoll::add(epoll, socket, EventData::new_u64(index as u64), wanted)?;
        }
        self.clients.push(client);
        Ok(None)
    }

    /// Goes on with a subscriber whose socket is ready.
    pub fn ready(
        &mut self,
        index: usize,
        plan: &Plan,
        epoll: &OwnedFd,
        buffer: &mut [u8],
        clock: impl Fn() -> u64,
        problems: &mut Problems,
    ) -> io::Result<()> {
        let client = &mut self.clients[index];
        let Some(socket) = &client.socket else { return Ok(()) };
        if client.phase == Phase::Connecting {
            let data = EventData::new_u64(index as u64);
            match client.send_request(&plan.subscribe_request(index)) {
                Ok(false) => return Ok(()),
                Ok(true) => {
                    let Some(socket) = &client.socket else { return Ok(()) };
                    return Ok(epoll::modify(epoll, socket.as_fd(), data, EventFlags::IN)?);
                }
                Err(error) => {
                    let news = client.end(error.to_string());
                    self.take(index, plan, news, problems);
                    return Ok(());
                }
            }
        }
        let group = &mut self.groups[plan.group_of_client[index] as usize];
        let pending = client.stream.restore(buffer);
        let news = match rustix::io::read(socket, &mut buffer[pending..]) {
            Ok(0) => client.end("the server closed the connection".into()),
            Ok(length) => {
                self.bytes += length as u64;
                client.receive(&buffer[..pending + length], clock(), group, &mut self.checker)
            }
            Err(Errno::AGAIN | Errno::INTR) => {
                client.stream.keep(&buffer[..pending]);
                News::None
            }
            Err(error) => client.end(io::Error::from(error).to_string()),
        };
        if news != News::None {
            self.take(index, plan, news, problems);
        }
        Ok(())
    }

    fn take(&mut self, index: usize, plan: &Plan, news: News, problems: &mut Problems) {
        let client = &mut self.clients[index];
        let was = client.phase;
        match news {
            News::None => return,
            News::Opened => {
                self.opened += 1;
                if !client.stream.ended {
                    return;
                }
                self.closed += 1;
                problems.note("a stream ended: the server ended the stream");
            }
            News::Refused(why) => {
                self.refused += 1;
                problems.note(format!("a subscriber was refused: {why}"));
            }
            News::Ended(why) if was == Phase::Streaming => {
                self.closed += 1;
                problems.note(format!("a stream ended: {why}"));
            }
            News::Ended(why) => {
                self.failed += 1;
                problems.note(format!("a subscriber was not connected: {why}"));
            }
        }
        client.phase = Phase::Closed;
        client.socket = None;
        let group = &mut self.groups[plan.group_of_client[index] as usize];
        group.members = group.members.saturating_sub(1);
    }

    /// Whether each open stream has all that was published; `issued` has the next number of each topic's publishers.
    pub fn has_all(&self, plan: &Plan, issued: &[u32]) -> bool {
        self.clients.iter().zip(&plan.group_of_client).all(|(client, group)| {
            let topics = &self.groups[*group as usize].topics;
            client.phase != Phase::Streaming || client.stream.ledger.has_all(self.lines(topics, issued))
        })
    }

    /// Events that open streams did not get, and that closed ones did not get before their last. Of some nobody knows
    /// whether they were published: `excused` says so by topic, publisher and number.
    pub fn lost(&self, plan: &Plan, issued: &[u32], excused: impl Fn(u32, usize, u32) -> bool) -> u64 {
        let publishers = self.checker.publishers;
        let of_client = |(client, group): (&Client, &u32)| {
            let topics = &self.groups[*group as usize].topics;
            let issued: Vec<u32> = self.lines(topics, issued).collect();
            let expected = (client.phase == Phase::Streaming).then_some(&issued[..]);
            let excused = |line: usize, number| excused(topics[line / publishers], line % publishers, number);
            client.stream.ledger.missing(expected, excused)
        };
        self.clients.iter().zip(&plan.group_of_client).map(of_client).sum()
    }

    fn lines<'a>(&self, topics: &'a [u32], issued: &'a [u32]) -> impl Iterator<Item = u32> + use<'a> {
        let publishers = self.checker.publishers;
        topics.iter().flat_map(move |topic| issued[*topic as usize * publishers..][..publishers].iter().copied())
    }
}

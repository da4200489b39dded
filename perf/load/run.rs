//! One run: connect, publish and check, wait for what is under way.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::client::{Client, Phase};
use crate::latency::Latency;
use crate::options::Options;
use crate::probe::{self, Listener};
use crate::publisher::{Answer, Publisher, Template};
use crate::stream::Checker;
use crate::stuck::Stuck;

/// As much as a client's socket may hold after a burst.
const READ_BUFFER: usize = 256 * 1024;
/// Few enough that a phase's end is noticed within a millisecond.
const READY: usize = 256;
/// One of so many deliveries has its latency recorded when the server is saturated.
const SATURATED_SAMPLE: u32 = 16;
const PUBLISHER: u64 = 1 << 32;
const NEVER: u64 = u64::MAX;

/// The counters at one end of the measured window.
#[derive(Clone, Copy, Default)]
pub struct Snapshot {
    pub at: u64,
    pub deliveries: u64,
    pub published: u64,
    pub server_cpu: Option<u64>,
    pub own_cpu: u64,
    pub all_cpu: u64,
}

/// VmRSS of the server in kilobytes.
#[derive(Default)]
pub struct Memory {
    pub before: Option<u64>,
    pub connected: Option<u64>,
    pub end: Option<u64>,
}

pub struct Run {
    pub options: Options,
    epoll: OwnedFd,
    clock: Instant,
    buffer: Vec<u8>,
    pub clients: Vec<Client>,
    pub stuck: Stuck,
    connected: usize,
    greeted: usize,
    pub closed: u64,
    publishers: Vec<Option<Publisher>>,
    template: Template,
    idle: VecDeque<usize>,
    /// Due times of events that wait for an idle publisher.
    queue: VecDeque<u64>,
    /// Which publisher sent which event, by number.
    pub senders: Vec<usize>,
    pub published: u64,
    pub refused: u64,
    pub first_refusal: Option<String>,
    start: u64,
    scheduled: u64,
    next_due: u64,
    publishing_ends: u64,
    pub checker: Checker,
    pub lateness: Latency,
    listener: Listener,
    pub memory: Memory,
    pub heads_time: Duration,
    pub hello_time: Duration,
    pub window: (Snapshot, Snapshot),
}

impl Run {
    pub fn new(options: Options) -> io::Result<Self> {
        let before = options.pid.map(probe::resident).transpose()?;
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            clock: Instant::now(),
            buffer: vec![0; READ_BUFFER],
            clients: Vec::with_capacity(options.clients),
            stuck: Stuck::default(),
            connected: 0,
            greeted: 0,
            closed: 0,
            publishers: Vec::with_capacity(options.publishers),
            template: Template::new(&options),
            idle: VecDeque::new(),
            queue: VecDeque::new(),
            senders: Vec::new(),
            published: 0,
            refused: 0,
            first_refusal: None,
            start: 0,
            scheduled: 0,
            next_due: NEVER,
            publishing_ends: 0,
            checker: Checker::default(),
            lateness: Latency::default(),
            listener: Listener::now()?,
            memory: Memory { before, ..Memory::default() },
            heads_time: Duration::ZERO,
            hello_time: Duration::ZERO,
            window: Default::default(),
            options,
        })
    }

    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// What a full backlog turned away since the start, of the whole machine.
    pub fn turned_away(&self) -> io::Result<Listener> {
        let now = Listener::now()?;
        Ok(Listener { overflows: now.overflows - self.listener.overflows, drops: now.drops - self.listener.drops })
    }

    fn resident(&self) -> io::Result<Option<u64>> {
        self.options.pid.map(probe::resident).transpose()
    }

    /// Connects all clients, the stuck ones last, and waits for every hello.
    pub fn connect(&mut self) -> io::Result<()> {
        let began = self.now();
        let patience = self.options.patience.as_nanos() as u64;
        let (all, window) = (self.options.clients, self.options.connect_window);
        while self.connected < all || self.greeted < all {
            while self.clients.len() < all && self.clients.len() - self.connected < window {
                self.start_client()?;
            }
            self.turn(10_000_000)?;
            if self.closed > 0 {
                return Err(io::Error::other("the server closed a stream before all clients were connected"));
            }
            let now = self.now();
            if self.connected == all && self.heads_time.is_zero() {
                self.heads_time = Duration::from_nanos(now - began);
            }
            if now - began > patience {
                let (heads, hellos) = (self.connected, self.greeted);
                return Err(io::Error::other(format!("only {heads} heads and {hellos} hellos of {all} in time")));
            }
        }
        self.hello_time = Duration::from_nanos(self.now() - began);
        self.stuck = Stuck::connect(&self.options)?;
        self.memory.connected = self.resident()?;
        Ok(())
    }

    fn start_client(&mut self) -> io::Result<()> {
        let index = self.clients.len();
        let sources = &self.options.sources;
        let source = (!sources.is_empty()).then(|| sources[index % sources.len()]);
        let mut client = Client::connect(self.options.target, source, None)?;
        let path = self.options.path.replace("{n}", &index.to_string());
        // Over loopback the handshake is mostly done by now, and waiting for it would be a system call more.
        let sent = client.send_request(&path, &self.options)?;
        let wanted = if sent { epoll::EventFlags::IN } else { epoll::EventFlags::OUT };
        if let Some(socket) = &client.socket {
            epoll::add(&self.epoll, socket, epoll::EventData::new_u64(index as u64), wanted)?;
        }
        self.clients.push(client);
        Ok(())
    }

    /// Publishes until the server cannot write to stuck clients any more: a client whose socket still takes all is none.
    pub fn fill_stuck(&mut self) -> io::Result<()> {
        const FILLER: usize = 32 * 1024;
        const UNTIL_SAID_TO_BE_FULL: u32 = 8;
        const MOST: usize = 1024;
        let Some(topic) = self.options.fill_topic.clone() else { return Ok(()) };
        let mut publisher = Publisher::connect(&self.options)?;
        let (mut unsent, mut unchanged) = (0, 0);
        for _ in 0..MOST {
            publisher.publish_filler(&mut self.template, &topic, FILLER)?;
            loop {
                self.turn(100_000)?;
                publisher.flush()?;
                match publisher.receive(&mut self.buffer)? {
                    None => {}
                    Some(Answer::Published { .. }) => break,
                    Some(Answer::Refused { status, body }) => {
                        return Err(io::Error::other(format!("a filler got status {status}: {body}")));
                    }
                }
            }
            let (now_unsent, closed) = self.stuck.unsent(self.options.target)?;
            if closed == self.stuck.len() {
                // Said in the verdict, and for its reader to judge.
                return Ok(());
            }
            let before = std::mem::replace(&mut unsent, now_unsent);
            unchanged = if unsent > 0 && unsent == before { unchanged + 1 } else { 0 };
            if unchanged == UNTIL_SAID_TO_BE_FULL {
                return Ok(());
            }
        }
        Err(io::Error::other("the sockets of stuck clients never filled"))
    }

    /// Keeps the clients connected, and goes on checking what they receive.
    pub fn hold(&mut self) -> io::Result<()> {
        let end = self.now() + self.options.hold.as_nanos() as u64;
        while self.now() < end {
            self.turn(10_000_000)?;
        }
        self.memory.end = self.resident()?;
        Ok(())
    }

    /// Publishes for the warm-up and the measured window.
    pub fn publish(&mut self) -> io::Result<()> {
        for index in 0..self.options.publishers {
            let publisher = Publisher::connect(&self.options)?;
            let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            let data = epoll::EventData::new_u64(PUBLISHER | index as u64);
            epoll::add(&self.epoll, &publisher.socket, data, flags)?;
            self.publishers.push(Some(publisher));
            self.idle.push_back(index);
        }
        self.start = self.now();
        let measured_from = self.start + self.options.warmup.as_nanos() as u64;
        self.publishing_ends = measured_from + self.options.duration.as_nanos() as u64;
        let sample = if self.options.closed_loop { SATURATED_SAMPLE } else { 1 };
        self.checker.latency.start((measured_from, self.publishing_ends), sample);
        self.lateness.start((measured_from, self.publishing_ends), 1);
        if self.options.closed_loop {
            self.queue.extend(std::iter::repeat_n(self.start, self.options.publishers));
            self.send(self.start)?;
        } else {
            self.next_due = self.start;
        }

        let mut started = false;
        loop {
            let now = self.now();
            if !started && now >= measured_from {
                started = true;
                self.window.0 = self.snapshot()?;
            }
            if now >= self.publishing_ends {
                break;
            }
            self.send_due(now)?;
            let until = self.next_due.min(if started { self.publishing_ends } else { measured_from });
            self.turn(until.saturating_sub(self.now()))?;
        }
        self.window.1 = self.snapshot()?;
        self.next_due = NEVER;
        Ok(())
    }

    fn snapshot(&self) -> io::Result<Snapshot> {
        Ok(Snapshot {
            at: self.now(),
            deliveries: self.checker.tally.deliveries,
            published: self.published,
            server_cpu: self.options.pid.map(probe::cpu_time).transpose()?,
            own_cpu: probe::cpu_time(std::process::id())?,
            all_cpu: probe::busy_time()?,
        })
    }

    /// Waits until every publish is answered and every open stream has all of them, or patience ends.
    pub fn drain(&mut self) -> io::Result<()> {
        let deadline = self.now() + self.options.patience.as_nanos() as u64;
        while !self.is_complete() && self.now() < deadline {
            let look_again = self.now() + 50_000_000;
            while self.now() < look_again {
                self.turn(10_000_000)?;
            }
        }
        self.memory.end = self.resident()?;
        Ok(())
    }

    fn is_complete(&self) -> bool {
        let newest = self.checker.journal.newest();
        let open = |publisher: &&Option<Publisher>| publisher.is_some();
        self.queue.is_empty()
            && self.idle.len() == self.publishers.iter().filter(open).count()
            && self.clients.iter().all(|client| client.phase == Phase::Closed || client.stream.is_at(newest))
    }

    /// Handles what is ready, or waits up to `nanoseconds` for something.
    fn turn(&mut self, nanoseconds: u64) -> io::Result<()> {
        let timeout =
            Timespec { tv_sec: (nanoseconds / 1_000_000_000) as i64, tv_nsec: (nanoseconds % 1_000_000_000) as i64 };
        let mut ready = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; READY];
        let count = match epoll::wait(&self.epoll, &mut ready[..], Some(&timeout)) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &ready[..count] {
            let token = event.data.u64();
            if token & PUBLISHER != 0 {
                self.answer((token ^ PUBLISHER) as usize)?;
            } else {
                self.read(token as usize)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> io::Result<()> {
        let client = &mut self.clients[index];
        let Some(socket) = &client.socket else { return Ok(()) };
        if client.phase == Phase::Connecting {
            let path = self.options.path.replace("{n}", &index.to_string());
            if client.send_request(&path, &self.options)?
                && let Some(socket) = &client.socket
            {
                let data = epoll::EventData::new_u64(index as u64);
                epoll::modify(&self.epoll, socket.as_fd(), data, epoll::EventFlags::IN)?;
            }
            return Ok(());
        }
        let length = match rustix::io::read(socket, &mut self.buffer[..]) {
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(_) => 0,
        };
        let now = self.clock.elapsed().as_nanos() as u64;
        let greeted = client.stream.greeted;
        let bytes = &self.buffer[..length];
        if client.phase == Phase::Streaming {
            client.stream.receive(bytes, now, &mut self.checker);
        } else if client.receive_head(bytes, now, &mut self.checker)? {
            self.connected += 1;
        }
        self.greeted += usize::from(client.stream.greeted && !greeted);
        if length == 0 || client.stream.ended {
            client.phase = Phase::Closed;
            client.socket = None;
            self.closed += 1;
        }
        if now >= self.next_due {
            self.send_due(now)?;
        }
        Ok(())
    }

    fn answer(&mut self, index: usize) -> io::Result<()> {
        let Some(publisher) = &mut self.publishers[index] else { return Ok(()) };
        let answer = publisher.flush().and_then(|()| publisher.receive(&mut self.buffer));
        match answer {
            Ok(None) => return Ok(()),
            Ok(Some(Answer::Published { number, position })) => {
                self.published += 1;
                let journal = &mut self.checker.journal;
                if *journal.epoch.get_or_insert(position.epoch) == position.epoch {
                    journal.learn(position.sequence, number);
                } else {
                    journal.contradictions += 1;
                }
            }
            Ok(Some(Answer::Refused { status, body })) => self.refuse(format!("status {status}: {body}")),
            Err(error) => {
                self.refuse(error.to_string());
                self.publishers[index] = None;
                return Ok(());
            }
        }
        self.idle.push_back(index);
        let now = self.now();
        if self.options.closed_loop && now < self.publishing_ends {
            self.queue.push_back(now);
        }
        self.send(now)
    }

    fn refuse(&mut self, reason: String) {
        self.refused += 1;
        self.first_refusal.get_or_insert(reason);
    }

    /// Queues what is due, and sends it.
    fn send_due(&mut self, now: u64) -> io::Result<()> {
        while self.next_due <= now {
            self.queue.push_back(self.next_due);
            self.scheduled += 1;
            self.next_due = self.start + (self.scheduled as f64 * 1e9 / self.options.rate) as u64;
            if self.next_due >= self.publishing_ends {
                self.next_due = NEVER;
            }
        }
        self.send(now)
    }

    fn send(&mut self, now: u64) -> io::Result<()> {
        while !self.queue.is_empty()
            && let Some(index) = self.idle.pop_front()
        {
            let Some(publisher) = &mut self.publishers[index] else { continue };
            let Some(due) = self.queue.pop_front() else { break };
            let number = self.senders.len() as u64;
            self.senders.push(index);
            self.lateness.record(due, now);
            if let Err(error) = publisher.publish(&mut self.template, number, due) {
                self.refuse(error.to_string());
                self.publishers[index] = None;
            }
        }
        if self.publishers.iter().all(Option::is_none) {
            return Err(io::Error::other(format!(
                "no publisher is left: {}",
                self.first_refusal.as_deref().unwrap_or_default()
            )));
        }
        Ok(())
    }
}

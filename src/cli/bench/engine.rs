//! One run, on one thread: connect, publish and check, wait for what is under way.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::args::Rate;
use super::crowd::Crowd;
use super::latency::Latency;
use super::marker::Marker;
use super::plan::Plan;
use super::press::{PUBLISHER, Press};
use super::probe::{self, TurnedAway};
use super::problems::Problems;
use super::progress::Progress;
use super::schedule::{NEVER, Schedule};
use super::stream::{Checker, Tally};
use super::timeline::{Snapshot, Timeline};

/// As much as a socket may hold after a burst, and what was pending.
const READ_BUFFER: usize = 512 * 1024;
/// Few enough that a phase's end is noticed within a millisecond.
const READY: usize = 256;
/// One of so many deliveries has its latency recorded when the rate is what the server can take.
const SATURATED_SAMPLE: u32 = 16;
/// How long nothing else is looked at but sockets: signals, progress, the end of a phase.
const LOOK_AROUND: u64 = 20_000_000;
/// How long a run that was interrupted waits for what is under way.
const INTERRUPTED_PATIENCE: Duration = Duration::from_secs(2);
/// With events of which nobody knows whether they were published, silence is the only sign that nothing more comes.
const SILENCE: u64 = 1_000_000_000;

/// VmRSS of the server, and the machine's slab, in kilobytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub rss_before: Option<u64>,
    pub rss_connected: Option<u64>,
    pub rss_end: Option<u64>,
    pub slab_before: Option<u64>,
    pub slab_connected: Option<u64>,
}

/// The run, and afterwards what it showed.
pub struct Engine<'a> {
    pub plan: &'a Plan,
    pub crowd: Crowd,
    pub press: Press,
    pub problems: Problems,
    pub timeline: Timeline,
    pub memory: Memory,
    turned_away: Option<TurnedAway>,
    pub connect_time: Duration,
    /// From the first connect until everybody had the prefilled events, and how many deliveries those were.
    pub replay: Option<(Duration, u64)>,
    pub was_interrupted: bool,
    /// When the last event had become due.
    ends: u64,
    epoll: OwnedFd,
    clock: Instant,
    buffer: Vec<u8>,
    next_due: u64,
    interrupted: &'a mut dyn FnMut() -> bool,
    progress: &'a mut Progress,
}

impl<'a> Engine<'a> {
    /// Prepares a run whose subscribers connect to `sse`, and its publishers to `publish`.
    ///
    /// # Errors
    /// When the system has no epoll left, or the server's process cannot be looked at.
    pub fn new(
        plan: &'a Plan,
        (sse, publish): (SocketAddr, SocketAddr),
        interrupted: &'a mut dyn FnMut() -> bool,
        progress: &'a mut Progress,
    ) -> io::Result<Self> {
        let run = fastrand::u32(..);
        let sample = if plan.args.rate == Rate::Max { SATURATED_SAMPLE } else { 1 };
        let checker = Checker {
            marker: Marker::new(run, plan.args.payload),
            tally: Tally::default(),
            latency: Latency::new(sample),
            last_client: Latency::new(1),
            publishers: plan.args.publishers,
        };
        let rss_before = plan.args.pid.map(probe::resident).transpose()?;
        Ok(Self {
            plan,
            crowd: Crowd::new(plan, sse, checker),
            press: Press::new(plan, publish, Marker::new(run, plan.args.payload)),
            problems: Problems::default(),
            timeline: Timeline::default(),
            memory: Memory { rss_before, slab_before: probe::slab(), ..Memory::default() },
            turned_away: TurnedAway::now(),
            connect_time: Duration::ZERO,
            replay: None,
            was_interrupted: false,
            ends: 0,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            clock: Instant::now(),
            buffer: vec![0; READ_BUFFER],
            next_due: NEVER,
            interrupted,
            progress,
        })
    }

    /// Runs to the end, or until it is interrupted. Afterwards the parts have what there is to report.
    ///
    /// # Errors
    /// When the system gives no sockets. What the server does wrong is no error but a result.
    pub fn run(&mut self) -> io::Result<()> {
        let args = &self.plan.args;
        if args.prefill > 0 {
            self.prefill(args.prefill)?;
        }
        self.connect()?;
        if args.clients > 0 && self.crowd.opened == 0 {
            return Ok(());
        }
        self.wait(args.settle)?;
        self.publish()?;
        self.drain()?;
        self.memory.rss_end = args.pid.and_then(|pid| probe::resident(pid).ok());
        self.progress.finish();
        Ok(())
    }

    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    fn after(&self, time: Duration) -> u64 {
        self.now() + time.as_nanos() as u64
    }

    /// What a full backlog turned away since the start, of the whole machine.
    pub fn turned_away(&self) -> Option<TurnedAway> {
        let (now, before) = (TurnedAway::now()?, self.turned_away?);
        Some(TurnedAway { overflows: now.overflows - before.overflows, drops: now.drops - before.drops })
    }

    /// Events that nobody sent though they were due.
    pub fn unsent(&self) -> u64 {
        self.press.schedule.behind(self.ends)
    }

    /// Deliveries that did not happen.
    pub fn lost(&self) -> u64 {
        let press = &self.press;
        self.crowd
            .lost(self.plan, &press.issued, |topic, publisher, number| press.is_uncertain(topic, publisher, number))
    }

    fn prefill(&mut self, events: u64) -> io::Result<()> {
        self.press.connect(&self.epoll)?;
        self.press.schedule = Schedule::at_once(events);
        let deadline = self.after(self.plan.args.patience);
        self.send_due(self.now());
        while !self.press.is_done(self.now()) && self.now() < deadline && !self.is_interrupted() {
            self.progress.prefill(self.press.published, events);
            self.turn(LOOK_AROUND)?;
        }
        self.ends = self.now();
        Ok(())
    }

    /// Connects all subscribers.
    fn connect(&mut self) -> io::Result<()> {
        let (all, window) = (self.plan.args.clients, self.plan.args.connect_window);
        let began = self.now();
        let deadline = self.after(self.plan.args.patience);
        loop {
            while self.crowd.started() < all && self.crowd.under_way() < window {
                if let Some(why) = self.crowd.start(self.plan, &self.epoll)? {
                    self.problems.note(format!("a subscriber was not connected: {why}"));
                }
            }
            self.connect_time = Duration::from_nanos(self.now() - began);
            let is_done = self.crowd.started() == all && self.crowd.under_way() == 0;
            if is_done || self.now() > deadline || self.is_interrupted() {
                break;
            }
            self.progress.connect(self.crowd.opened, all);
            self.turn(LOOK_AROUND)?;
        }
        if self.plan.args.prefill > 0 {
            self.wait_for_replay(began, deadline)?;
        }
        self.memory.rss_connected = self.plan.args.pid.and_then(|pid| probe::resident(pid).ok());
        self.memory.slab_connected = probe::slab();
        Ok(())
    }

    fn wait_for_replay(&mut self, began: u64, deadline: u64) -> io::Result<()> {
        let mut is_whole = self.has_all();
        while !is_whole && self.now() < deadline && !self.is_interrupted() {
            self.turn(LOOK_AROUND)?;
            is_whole = self.has_all();
        }
        let time = Duration::from_nanos(self.now() - began);
        self.replay = is_whole.then_some((time, self.crowd.checker.tally.deliveries));
        Ok(())
    }

    fn wait(&mut self, time: Duration) -> io::Result<()> {
        let end = self.after(time);
        while self.now() < end && !self.is_interrupted() {
            self.turn(LOOK_AROUND.min(end.saturating_sub(self.now())))?;
        }
        Ok(())
    }

    /// Publishes for the warm-up and the measured window.
    fn publish(&mut self) -> io::Result<()> {
        let args = &self.plan.args;
        if args.rate != Rate::PerSecond(0.0) {
            self.press.connect(&self.epoll)?;
        }
        let start = self.now();
        let from = start + args.warmup.as_nanos() as u64;
        let to = from + args.duration.as_nanos() as u64;
        self.ends = to;
        self.press.schedule = Schedule::between(args.rate, start, to);
        for latency in [&mut self.crowd.checker.latency, &mut self.crowd.checker.last_client, &mut self.press.late] {
            latency.measure(from, to);
        }
        self.send_due(start);
        let mut is_measured = false;
        loop {
            let now = self.now();
            if !is_measured && now >= from {
                is_measured = true;
                let snapshot = self.snapshot(now).with_all();
                self.timeline.begin(snapshot, to - from);
            }
            if is_measured && now >= self.timeline.next().min(to) {
                self.end_interval(now);
            }
            let is_over = now >= to || self.is_interrupted() || self.is_hopeless();
            if is_over {
                break;
            }
            self.progress.publish(now - start, to - start, &self.crowd, &self.timeline);
            let until = if is_measured { self.timeline.next().min(to) } else { from };
            self.turn(until.saturating_sub(self.now()).min(LOOK_AROUND))?;
        }
        let now = self.now();
        if is_measured && now < to {
            self.end_interval(now);
        }
        self.timeline.last = self.timeline.last.with_all();
        self.press.schedule.stop(now);
        self.ends = self.ends.min(now);
        Ok(())
    }

    /// Nobody is left to publish, or to receive.
    fn is_hopeless(&self) -> bool {
        let rate = self.plan.args.rate;
        (rate != Rate::PerSecond(0.0) && self.press.is_gone()) || (self.plan.args.clients > 0 && self.crowd.open() == 0)
    }

    fn snapshot(&self, now: u64) -> Snapshot {
        Snapshot::take(now, self.crowd.checker.tally.deliveries, self.press.published, self.plan.args.pid)
    }

    fn end_interval(&mut self, now: u64) {
        let snapshot = self.snapshot(now);
        self.timeline.end_interval(snapshot, &mut self.crowd.checker.latency, self.plan.args.pid);
    }

    /// Waits until every publish is answered and every open stream has all of them, or patience ends.
    fn drain(&mut self) -> io::Result<()> {
        let patience = self.plan.args.patience;
        let mut deadline = self.after(if self.was_interrupted { patience.min(INTERRUPTED_PATIENCE) } else { patience });
        let (mut bytes, mut since) = (self.crowd.bytes, self.now());
        while self.now() < deadline {
            let now = self.now();
            if std::mem::replace(&mut bytes, self.crowd.bytes) != self.crowd.bytes {
                since = now;
            }
            let is_silent = self.press.failures > 0 && now - since > SILENCE;
            if self.press.is_done(self.ends) && (is_silent || self.has_all()) {
                break;
            }
            if !self.was_interrupted && self.is_interrupted() {
                deadline = deadline.min(self.after(INTERRUPTED_PATIENCE));
            }
            self.progress.drain();
            let look_again = self.now() + LOOK_AROUND;
            while self.now() < look_again {
                self.turn(LOOK_AROUND)?;
            }
        }
        Ok(())
    }

    fn has_all(&self) -> bool {
        self.crowd.has_all(self.plan, &self.press.issued)
    }

    fn is_interrupted(&mut self) -> bool {
        self.was_interrupted = self.was_interrupted || (self.interrupted)();
        self.was_interrupted
    }

    /// Handles what is ready, or waits up to `nanoseconds` for something.
    fn turn(&mut self, nanoseconds: u64) -> io::Result<()> {
        let now = self.now();
        let nanoseconds = nanoseconds.min(self.next_due.saturating_sub(now));
        let timeout =
            Timespec { tv_sec: (nanoseconds / 1_000_000_000) as i64, tv_nsec: (nanoseconds % 1_000_000_000) as i64 };
        let mut ready = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; READY];
        let count = match epoll::wait(&self.epoll, &mut ready[..], Some(&timeout)) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let clock = self.clock;
        let now = || clock.elapsed().as_nanos() as u64;
        for event in &ready[..count] {
            let token = event.data.u64();
            if token & PUBLISHER != 0 {
                self.press.ready((token ^ PUBLISHER) as u32, &mut self.buffer, &mut self.problems);
                self.send_due(now());
            } else {
                let buffer = &mut self.buffer;
                self.crowd.ready(token as usize, self.plan, &self.epoll, buffer, now, &mut self.problems)?;
                if self.next_due != NEVER && now() >= self.next_due {
                    self.send_due(now());
                }
            }
        }
        if count == 0 {
            self.send_due(now());
        }
        Ok(())
    }

    fn send_due(&mut self, now: u64) {
        self.press.send_due(now, self.plan, &self.epoll, &mut self.problems);
        self.next_due = self.press.next(now);
    }
}

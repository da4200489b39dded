//! One run, on one thread: connect, publish and check, wait for events in flight.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::args::{Mode, Rate};
use super::latency::Latency;
use super::marker::Marker;
use super::plan::Plan;
use super::probe::Sample;
use super::problems::Problems;
use super::progress::Progress;
use super::publishers::{PUBLISHER, Publishers};
use super::schedule::{NEVER, Schedule};
use super::stream::{Checker, Tally};
use super::subscribers::Subscribers;
use super::timeline::{Snapshot, Timeline};
use crate::cli::signal;

/// As much as a socket may hold after a burst.
const READ_BUFFER: usize = 512 * 1024;
/// Few enough that the end of a phase is noticed within a millisecond.
const READY: usize = 256;
/// Subscribers that may wait for their response head at once.
const CONNECT_WINDOW: usize = 512;
/// At the maximum rate, one of this many deliveries has its latency recorded.
const SATURATED_SAMPLE: u32 = 16;
/// How often signals and progress are checked.
const CHECK_INTERVAL: u64 = 20_000_000;
/// How long an interrupted run waits for events in flight.
const INTERRUPTED_PATIENCE: Duration = Duration::from_secs(2);
/// When it is uncertain which events were published, this much silence means that no more will come.
const SILENCE: u64 = 1_000_000_000;

/// What subscribers and publishers share.
pub struct Shared<'a> {
    pub plan: &'a Plan,
    pub epoll: OwnedFd,
    pub buffer: Vec<u8>,
    pub problems: Problems,
    clock: Instant,
}

impl Shared<'_> {
    /// Nanoseconds since the start of the run.
    pub fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }
}

/// A run, and afterwards its results.
pub struct Engine<'a> {
    pub shared: Shared<'a>,
    pub subscribers: Subscribers,
    pub publishers: Publishers,
    pub timeline: Timeline,
    pub before: Sample,
    /// When the subscribers are connected.
    pub connected: Sample,
    pub end: Sample,
    pub connect_time: Duration,
    /// How long it took from the first connect until every stream had the prefilled events, and the deliveries.
    pub replay: Option<(Duration, u64)>,
    pub was_interrupted: bool,
    next_due: u64,
    interrupted: Pin<Box<dyn Future<Output = ()>>>,
    progress: Progress,
}

impl<'a> Engine<'a> {
    /// Prepares a run whose subscribers connect to `sse`, and its publishers to `publish`.
    pub fn new(plan: &'a Plan, sse: SocketAddr, publish: SocketAddr) -> io::Result<Self> {
        let run = fastrand::u32(..);
        let sample = if plan.args.rate == Rate::Max { SATURATED_SAMPLE } else { 1 };
        let checker = Checker {
            marker: Marker::new(run, plan.args.payload),
            tally: Tally::default(),
            latency: Latency::new(sample),
            last_client: Latency::new(1),
            decoded_bytes: 0,
            plain: Vec::new(),
            lanes_per_place: plan.args.lanes_per_place(),
            is_conflated: plan.args.mode == Mode::Latest,
        };
        let before = Sample::take(plan.args.pid);
        let shared = Shared {
            plan,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            buffer: vec![0; READ_BUFFER],
            problems: Problems::default(),
            clock: Instant::now(),
        };
        Ok(Self {
            subscribers: Subscribers::new(&shared, sse, checker),
            publishers: Publishers::new(plan, publish, Marker::new(run, plan.args.payload)),
            shared,
            timeline: Timeline::default(),
            before,
            connected: before,
            end: before,
            connect_time: Duration::ZERO,
            replay: None,
            was_interrupted: false,
            next_due: NEVER,
            interrupted: Box::pin(signal::interrupted()),
            progress: Progress::new(!plan.args.quiet),
        })
    }

    /// Runs to the end, or until it is interrupted. Fails when the system gives no sockets; faults of the server are
    /// results.
    pub fn run(&mut self) -> io::Result<()> {
        for phase in [Self::prefill, Self::connect, Self::settle, Self::publish] {
            if !self.was_interrupted {
                phase(self)?;
            }
        }
        self.drain()?;
        self.end = self.sample();
        self.progress.finish();
        Ok(())
    }

    fn now(&self) -> u64 {
        self.shared.now()
    }

    fn after(&self, time: Duration) -> u64 {
        self.now() + time.as_nanos() as u64
    }

    fn sample(&self) -> Sample {
        Sample::take(self.shared.plan.args.pid)
    }

    fn prefill(&mut self) -> io::Result<()> {
        let events = self.shared.plan.args.prefill;
        if events > 0 {
            self.publishers.connect(&self.shared)?;
            self.publishers.schedule = Schedule::at_once(events);
            self.send_due(self.now());
            self.serve_until(self.after(self.shared.plan.args.patience), |run| {
                let published = run.publishers.published;
                run.progress.show("prefill", published, events, || format!("{published} of {events} events"));
                Ok(run.publishers.is_done())
            })?;
        }
        Ok(())
    }

    /// Connects all subscribers.
    fn connect(&mut self) -> io::Result<()> {
        let args = &self.shared.plan.args;
        let began = self.now();
        let deadline = self.after(args.patience);
        let are_connected = self.serve_until(deadline, |run| {
            let subscribers = &mut run.subscribers;
            while subscribers.started() < args.clients && subscribers.pending < CONNECT_WINDOW {
                subscribers.start(&mut run.shared)?;
            }
            run.connect_time = Duration::from_nanos(run.shared.now() - began);
            let (opened, clients) = (subscribers.opened, args.clients);
            run.progress.show("connect", opened as u64, clients as u64, || format!("{opened} of {clients} streams"));
            Ok(subscribers.started() == clients && subscribers.pending == 0)
        })?;
        if !are_connected {
            self.subscribers.note_limit(&mut self.shared);
        }
        if args.prefill > 0 && !self.was_interrupted && self.serve_until(deadline, |run| Ok(run.has_all()))? {
            let time = Duration::from_nanos(self.now() - began);
            self.replay = Some((time, self.subscribers.checker.tally.deliveries));
        }
        self.connected = self.sample();
        Ok(())
    }

    fn settle(&mut self) -> io::Result<()> {
        self.serve_until(self.after(self.shared.plan.args.settle), |run| Ok(run.is_abandoned())).map(drop)
    }

    /// Publishes for the warm-up and the measured window.
    fn publish(&mut self) -> io::Result<()> {
        let args = &self.shared.plan.args;
        if self.is_abandoned() {
            return Ok(());
        }
        if args.rate != Rate::PerSecond(0.0) {
            self.publishers.connect(&self.shared)?;
        }
        let start = self.now();
        let from = start + args.warmup.as_nanos() as u64;
        let to = from + args.duration.as_nanos() as u64;
        self.publishers.schedule = Schedule::between(args.rate, start, to);
        for latency in [
            &mut self.subscribers.checker.latency,
            &mut self.subscribers.checker.last_client,
            &mut self.publishers.late,
        ] {
            latency.measure(from, to);
        }
        self.send_due(start);
        self.serve_until(from, |run| {
            run.show_publish("warm up", start, to);
            Ok(run.is_abandoned())
        })?;
        if !self.was_interrupted && self.now() >= from {
            self.timeline.begin(self.snapshot(), to - from);
            self.serve_until(to, |run| {
                // The last interval ends with the window.
                let next = run.timeline.next();
                if next < to && run.now() >= next {
                    run.end_interval();
                }
                run.show_publish("measure", start, to);
                Ok(run.is_abandoned())
            })?;
            self.end_interval();
        }
        Ok(())
    }

    fn show_publish(&self, phase: &'static str, start: u64, end: u64) {
        let at = self.now() - start;
        self.progress.show(phase, at, end - start, || {
            let Subscribers { checker, closed, .. } = &self.subscribers;
            let tally = &checker.tally;
            let seconds = Duration::from_nanos(at).as_secs_f64();
            let faults = tally.duplicated + tally.out_of_order + tally.gaps + tally.corrupted + tally.malformed;
            let point = self.timeline.points.last();
            let latency = point.map_or(String::new(), |point| format!(", p99 {} µs", point.latency.p99_us));
            let rate = tally.deliveries as f64 / seconds.max(0.001);
            format!("{seconds:.0} s, {rate:.0} deliveries/s{latency}, {faults} faults, {closed} closed")
        });
    }

    /// Whether no publisher or no subscriber is left.
    fn is_abandoned(&self) -> bool {
        let args = &self.shared.plan.args;
        (args.rate != Rate::PerSecond(0.0) && self.publishers.is_gone())
            || (args.clients > 0 && self.subscribers.open() == 0)
    }

    fn snapshot(&self) -> Snapshot {
        let (deliveries, published) = (self.subscribers.checker.tally.deliveries, self.publishers.published);
        Snapshot { at: self.now(), deliveries, published, sample: self.sample() }
    }

    fn end_interval(&mut self) {
        self.timeline.end_interval(self.snapshot(), &mut self.subscribers.checker.latency, &mut self.publishers.late);
    }

    /// Waits until every publish is answered and every open stream received all events, or patience ends.
    fn drain(&mut self) -> io::Result<()> {
        let patience = self.shared.plan.args.patience;
        let patience = if self.was_interrupted { patience.min(INTERRUPTED_PATIENCE) } else { patience };
        self.publishers.schedule.stop(self.now());
        let (mut next_check, mut bytes, mut since) = (0, self.subscribers.bytes, self.now());
        self.serve_until(self.after(patience), |run| {
            let now = run.now();
            if now < next_check {
                return Ok(false);
            }
            next_check = now + CHECK_INTERVAL;
            run.progress.show("drain", 1, 1, || "events in flight".into());
            if std::mem::replace(&mut bytes, run.subscribers.bytes) != run.subscribers.bytes {
                since = now;
            }
            let is_silent = run.publishers.sent > run.publishers.published && now - since > SILENCE;
            Ok(run.publishers.is_done() && (is_silent || run.has_all()))
        })?;
        Ok(())
    }

    fn has_all(&self) -> bool {
        self.subscribers.has_all(&self.publishers.issued)
    }

    fn is_interrupted(&mut self) -> bool {
        self.interrupted.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// Serves the sockets until `is_done`, the deadline or the first interrupt. Returns whether it is done.
    fn serve_until(
        &mut self,
        deadline: u64,
        mut is_done: impl FnMut(&mut Self) -> io::Result<bool>,
    ) -> io::Result<bool> {
        loop {
            if is_done(self)? {
                return Ok(true);
            }
            let left = deadline.saturating_sub(self.now());
            if left == 0 {
                return Ok(false);
            }
            if !self.was_interrupted && self.is_interrupted() {
                self.was_interrupted = true;
                return Ok(false);
            }
            self.serve(left.min(CHECK_INTERVAL))?;
        }
    }

    /// Serves the sockets that are ready, or waits up to `nanoseconds` for one.
    fn serve(&mut self, nanoseconds: u64) -> io::Result<()> {
        let nanoseconds = nanoseconds.min(self.next_due.saturating_sub(self.now()));
        let timeout =
            Timespec { tv_sec: (nanoseconds / 1_000_000_000) as i64, tv_nsec: (nanoseconds % 1_000_000_000) as i64 };
        let mut ready = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; READY];
        let count = match epoll::wait(&self.shared.epoll, &mut ready[..], Some(&timeout)) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &ready[..count] {
            let token = event.data.u64();
            if token & PUBLISHER != 0 {
                self.publishers.ready((token ^ PUBLISHER) as u32, &mut self.shared);
                self.send_due(self.now());
            } else {
                self.subscribers.ready(token as usize, &mut self.shared)?;
                if self.next_due != NEVER && self.now() >= self.next_due {
                    self.send_due(self.now());
                }
            }
        }
        if count == 0 {
            self.send_due(self.now());
        }
        Ok(())
    }

    fn send_due(&mut self, now: u64) {
        self.publishers.send_due(now, &mut self.shared);
        self.next_due = self.publishers.next(now);
    }
}

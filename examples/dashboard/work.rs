//! The work of the program: jobs that count primes, and what is measured of it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// The number of threads that do jobs.
pub const WORKERS: u32 = 2;
/// The number of jobs that may wait.
const MAX_WAITING: usize = 10_000;
/// A job counts the primes below this number.
const LIMIT: u32 = 8000;

/// What happened since the metrics were taken before.
#[derive(Serialize)]
pub struct Metrics {
    /// Jobs that wait now.
    waiting: usize,
    /// Jobs done per second.
    rate: f64,
    /// The part of the time in which the workers had a job, in percent.
    busy: f64,
    /// The longest time from adding a job to its end, in milliseconds.
    slowest: f64,
}

/// A queue of jobs, and its counters.
pub struct Work {
    state: Mutex<State>,
    is_added: Condvar,
}

struct State {
    /// When each job was added.
    waiting: VecDeque<Instant>,
    since: Instant,
    done: u32,
    busy: Duration,
    slowest: Duration,
}

impl Default for Work {
    fn default() -> Self {
        let zero = Duration::ZERO;
        let state = State { waiting: VecDeque::new(), since: Instant::now(), done: 0, busy: zero, slowest: zero };
        Self { state: Mutex::new(state), is_added: Condvar::new() }
    }
}

impl Work {
    /// Adds jobs, all or none. Returns false if too many would wait.
    pub fn add(&self, jobs: usize) -> bool {
        let mut state = self.lock();
        if jobs > MAX_WAITING - state.waiting.len() {
            return false;
        }
        state.waiting.extend(std::iter::repeat_n(Instant::now(), jobs));
        self.is_added.notify_all();
        true
    }

    /// Does jobs for as long as the program runs.
    pub fn run(&self) {
        loop {
            let state = self.is_added.wait_while(self.lock(), |state| state.waiting.is_empty());
            let added = state.unwrap_or_else(PoisonError::into_inner).waiting.pop_front().expect("a job waits");
            let begin = Instant::now();
            std::hint::black_box((2..LIMIT).filter(|&n| is_prime(n)).count());
            let mut state = self.lock();
            state.done += 1;
            state.busy += begin.elapsed();
            state.slowest = state.slowest.max(added.elapsed());
        }
    }

    /// Returns the metrics since the last call.
    pub fn metrics(&self) -> Metrics {
        let mut state = self.lock();
        let seconds = std::mem::replace(&mut state.since, Instant::now()).elapsed().as_secs_f64();
        let busy = std::mem::take(&mut state.busy).as_secs_f64() / f64::from(WORKERS);
        Metrics {
            waiting: state.waiting.len(),
            rate: f64::from(std::mem::take(&mut state.done)) / seconds,
            busy: 100.0 * (busy / seconds).min(1.0),
            slowest: 1000.0 * std::mem::take(&mut state.slowest).as_secs_f64(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_prime(n: u32) -> bool {
    (2..n).take_while(|divisor| divisor * divisor <= n).all(|divisor| !n.is_multiple_of(divisor))
}

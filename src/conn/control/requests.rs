//! The requests that other threads raise on a stream, and how they wake it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::task::{Wake, Waker};

use crate::conn::Client;
use crate::conn::pacer::Interval;
use crate::conn::poller::Readiness;
use crate::hub::{Mode, SleeperKey, WakeGroup};

/// What another thread requests of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Request {
    /// End once everything published by now is written.
    Drain = 1,
    /// End now: an operator disconnects the client.
    Disconnect = 2,
    /// End now: the access rules were replaced and do not allow the stream.
    Revoke = 4,
}

/// The requests raised on one stream, its mode and interval, the readiness of its socket, and the waker of its task.
#[derive(Default)]
pub(crate) struct Control {
    requests: AtomicU8,
    /// If the [poller](crate::conn::poller) watches the socket.
    pub(in crate::conn) readiness: Readiness,
    /// Whether the stream has the latest values instead of events.
    is_latest: AtomicBool,
    /// In milliseconds; 0 if the stream has none.
    interval: AtomicU32,
    task: OnceLock<Task>,
}

/// What serves a stream.
enum Task {
    /// A task of a runtime.
    Runtime(Waker),
    /// The stream with this key, which is polled in the rounds of the group.
    Round(Arc<WakeGroup>, SleeperKey),
}

impl Control {
    /// Raises `request` and wakes the stream's task.
    pub(crate) fn raise(&self, request: Request) {
        self.requests.fetch_or(request as u8, Ordering::Release);
        // Pairs with the fence in `set_task`: either this finds the task, or the task finds the request.
        fence(Ordering::SeqCst);
        self.wake();
    }

    /// Wakes the stream's task to look at requests and deadlines.
    pub(in crate::conn) fn wake(&self) {
        match self.task.get() {
            Some(Task::Runtime(waker)) => waker.wake_by_ref(),
            Some(Task::Round(group, key)) => group.wake_stream(*key),
            None => {}
        }
    }

    /// Sets the stream's task, unless it is set: it never changes.
    pub(in crate::conn) fn attach(&self, task: &Waker) {
        self.set_task(|| Task::Runtime(task.clone()));
    }

    /// Has the stream polled in the rounds of `group` instead of a task.
    pub(in crate::conn) fn attach_to_rounds(&self, group: &Arc<WakeGroup>, key: SleeperKey) {
        self.set_task(|| Task::Round(group.clone(), key));
    }

    fn set_task(&self, task: impl FnOnce() -> Task) {
        self.task.get_or_init(task);
        fence(Ordering::SeqCst);
    }

    /// Sets the mode, which operators see.
    pub(crate) fn set_mode(&self, mode: Mode) {
        self.is_latest.store(mode == Mode::Latest, Ordering::Relaxed);
    }

    pub(crate) fn mode(&self) -> Mode {
        if self.is_latest.load(Ordering::Relaxed) { Mode::Latest } else { Mode::Events }
    }

    /// Sets the interval of the stream, which holds after its next write.
    pub(crate) fn set_interval(&self, interval: Interval) {
        self.interval.store(interval.as_millis(), Ordering::Relaxed);
    }

    /// The interval of the stream, if it has one.
    pub(crate) fn interval(&self) -> Option<Interval> {
        Interval::from_millis(self.interval.load(Ordering::Relaxed))
    }

    /// Whether nothing is requested, the stream has no interval, and its socket has nothing to read.
    pub(in crate::conn) fn is_quiet(&self) -> bool {
        self.requests().is_empty() && self.interval().is_none() && !self.readiness.is_readable()
    }

    pub(in crate::conn) fn requests(&self) -> Requests {
        Requests(self.requests.load(Ordering::Acquire))
    }
}

/// The waker of the client's stream.
impl Wake for Client {
    fn wake(self: Arc<Self>) {
        self.control.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.control.wake();
    }
}

/// A set of requests.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::conn) struct Requests(u8);

impl Requests {
    pub(in crate::conn) fn contains(self, request: Request) -> bool {
        self.0 & request as u8 != 0
    }

    pub(in crate::conn) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_wakes_the_attached_task() {
        struct Flag(std::sync::atomic::AtomicBool);
        impl std::task::Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let (control, flag) = (Control::default(), Arc::new(Flag(false.into())));
        control.raise(Request::Drain);
        control.attach(&flag.clone().into());
        assert!(!control.requests().is_empty(), "a request before the first poll is not lost");
        control.raise(Request::Disconnect);
        assert!(flag.0.load(Ordering::Relaxed));
    }
}

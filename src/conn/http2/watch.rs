//! Times out an HTTP/2 connection: one without requests, one whose client does not answer pings, and one that is being closed.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep_until};

/// What a connection has run into.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// It had no request for the head timeout.
    Idle,
    /// A ping was not answered for the write timeout, or the last frames could not be written.
    Unresponsive,
}

/// The two timers of a connection, in one.
pub(super) struct Watch {
    timer: Pin<Box<Sleep>>,
    pings: PingPong,
    ping_interval: Duration,
    next_ping: Instant,
    awaits_pong: bool,
    head_timeout: Duration,
    /// When the connection without requests is closed; `None` while it has some.
    idle_until: Option<Instant>,
    is_closing: bool,
}

/// The longest time to write the last frames of a connection.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl Watch {
    /// A connection whose first request must arrive before `deadline`.
    pub(super) fn new(pings: PingPong, ping_interval: Duration, head_timeout: Duration, deadline: Instant) -> Self {
        let next_ping = Instant::now() + ping_interval;
        Self {
            timer: Box::pin(sleep_until(deadline.min(next_ping))),
            pings,
            ping_interval,
            next_ping,
            awaits_pong: false,
            head_timeout,
            idle_until: Some(deadline),
            is_closing: false,
        }
    }

    /// Notes that the connection is being closed: only the time to write the last frames is left.
    pub(super) fn close(&mut self) {
        self.is_closing = true;
        self.timer.as_mut().reset(Instant::now() + CLOSE_TIMEOUT);
    }

    /// Completes when one of the times is over. The clock is read only when the connection becomes idle or busy, and when the
    /// timer has run out.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, is_idle: bool) -> Poll<Expired> {
        if self.is_closing {
            return self.timer.as_mut().poll(cx).map(|()| Expired::Unresponsive);
        }
        if self.awaits_pong && self.pings.poll_pong(cx).is_ready() {
            self.awaits_pong = false;
        }
        if is_idle != self.idle_until.is_some() {
            self.idle_until = is_idle.then(|| Instant::now() + self.head_timeout);
            self.reset();
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if self.idle_until.is_some_and(|until| until <= now) {
                return Poll::Ready(Expired::Idle);
            }
            if self.next_ping <= now {
                if self.awaits_pong {
                    return Poll::Ready(Expired::Unresponsive);
                }
                self.awaits_pong = self.pings.send_ping(Ping::opaque()).is_ok();
                self.next_ping = now + self.ping_interval;
                // Registers the task, which is woken by the answer.
                let _ = self.pings.poll_pong(cx);
            }
            self.reset();
        }
        Poll::Pending
    }

    fn reset(&mut self) {
        let due = self.idle_until.map_or(self.next_ping, |until| until.min(self.next_ping));
        self.timer.as_mut().reset(due);
    }
}

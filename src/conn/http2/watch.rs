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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Bytes;

    use super::*;

    const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
    const PING_INTERVAL: Duration = Duration::from_secs(30);

    /// A connection and its watch. Nothing drives the connection, so that no ping is answered.
    async fn watch() -> (Watch, impl Sized) {
        let (ours, theirs) = tokio::io::duplex(4096);
        let (server, client) = tokio::join!(h2::server::handshake(ours), h2::client::handshake(theirs));
        let mut server: h2::server::Connection<_, Bytes> = server.unwrap();
        let pings = server.ping_pong().unwrap();
        let watch = Watch::new(pings, PING_INTERVAL, HEAD_TIMEOUT, Instant::now() + HEAD_TIMEOUT);
        (watch, (server, client))
    }

    /// How the watch ends, and the seconds until then.
    async fn end(watch: &mut Watch, is_idle: bool) -> (Expired, u64) {
        let began = Instant::now();
        let expired = poll_fn(|cx| watch.poll(cx, is_idle)).await;
        (expired, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn connection_without_requests_expires_after_the_head_timeout() {
        assert_eq!(end(&mut watch().await.0, true).await, (Expired::Idle, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn head_timeout_begins_again_with_the_end_of_the_last_request() {
        let (mut watch, _connection) = watch().await;
        let busy = tokio::time::timeout(HEAD_TIMEOUT * 2, poll_fn(|cx| watch.poll(cx, false))).await;
        assert!(busy.is_err(), "a connection with a request is not idle");
        assert_eq!(end(&mut watch, true).await, (Expired::Idle, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn ping_that_is_not_answered_before_the_next_one_expires() {
        let (mut watch, _connection) = watch().await;
        assert_eq!(end(&mut watch, false).await, (Expired::Unresponsive, 60));
    }

    #[tokio::test(start_paused = true)]
    async fn connection_that_is_being_closed_expires_whether_it_is_idle_or_not() {
        for is_idle in [true, false] {
            let (mut watch, _connection) = watch().await;
            watch.close();
            assert_eq!(end(&mut watch, is_idle).await, (Expired::Unresponsive, 5));
        }
    }
}

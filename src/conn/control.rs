//! Everything that ends or interrupts a stream, and the state machine that decides what follows.
//!
//! Any thread raises a [`Request`] on a stream's [`Control`], which wakes the stream's task. The task calls its
//! [`Lifecycle`] before each write, when no event is ready, when the subscription has a gap, and when the socket is blocked,
//! and carries out the returned [`Step`]. The lifecycle does no I/O, and is independent of the transport.
//!
//! | cause | before a write | no event is ready | the socket is blocked |
//! |---|---|---|---|
//! | disconnect, revocation, expired token | farewell, end of body | | ends at once |
//! | the server drains | announced once, after any gap | | waits |
//! | request to drain this stream | events come first | end of body | waits |
//! | token about to expire | warned once | | waits |
//! | nothing written for the keep-alive time | | keep-alive | |
//! | lag, unless the client skips | ends at once | | ends at once |
//! | no bytes accepted for the write timeout | | | ends at once |
//!
//! A disconnect takes precedence over a revocation, a revocation over an expiry, and each of them over everything else.

mod requests;

use super::control_events::ControlEvent;
use super::end::EndReason;
use super::wheel::{NEVER, Second};
use crate::hub::{Gap, GapReason, Notice};
use crate::position::StreamPosition;
pub(super) use requests::Requests;
pub(crate) use requests::{Control, Request};

/// The number of seconds between the warning and the expiry of a token.
const WARNING: Second = 30;

/// What happens to a stream that lagged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnLag {
    /// It ends. The client may resume with its last id.
    #[default]
    Close,
    /// The client gets a gap, and the stream continues with the oldest retained event.
    Skip,
}

/// The state of the server and of the requests when a stream's task calls its lifecycle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    pub(super) now: Second,
    pub(super) requests: Requests,
    /// While the server drains, the position up to which the client has everything. `None` while a gap is pending, because
    /// the client's last id must not pass a gap that it has not received.
    pub(super) restarts_at: Option<StreamPosition>,
}

impl Situation {
    /// Whether this stream is to end behind its events.
    pub(super) fn is_draining(&self) -> bool {
        self.requests.contains(Request::Drain)
    }
}

/// What a stream's task does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Write this control event.
    Write(ControlEvent),
    /// Write the farewell, if this reason has one, and what ends the stream.
    Finish(EndReason),
    /// Close the socket.
    End(EndReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The restart was announced. Events are still written.
    RestartAnnounced,
    /// What ends the stream is being written.
    Finishing(EndReason),
}

/// The state of one stream, kept by its task.
pub(super) struct Lifecycle {
    phase: Phase,
    on_lag: OnLag,
    has_warned: bool,
    /// Seconds without a write after which the client gets a keep-alive.
    keep_alive: u16,
    last_write: Second,
    /// When the socket stopped accepting bytes; [`NEVER`] while it accepts them.
    blocked_since: Second,
    /// When the token expires; [`Second::MAX`] for never.
    expires: Second,
}

impl Lifecycle {
    pub(super) fn new(now: Second, on_lag: OnLag, keep_alive: u16, expires: Option<Second>) -> Self {
        Self {
            phase: Phase::Open,
            on_lag,
            has_warned: false,
            keep_alive,
            last_write: now,
            blocked_since: NEVER,
            expires: expires.unwrap_or(Second::MAX),
        }
    }

    /// Whether nothing precedes the next events before the deadline, unless it is requested.
    pub(super) fn is_undisturbed(&self) -> bool {
        self.phase == Phase::Open && self.blocked_since == NEVER
    }

    /// Returns what precedes the next events. `None` when they may be written.
    pub(super) fn before_events(&mut self, situation: &Situation) -> Option<Step> {
        if let Phase::Finishing(reason) = self.phase {
            return Some(Step::End(reason));
        }
        if let Some(reason) = self.immediate_end(situation) {
            self.phase = Phase::Finishing(reason);
            return Some(Step::Finish(reason));
        }
        let seconds = self.expires - situation.now;
        if seconds <= WARNING && !self.has_warned {
            self.has_warned = true;
            return Some(Step::Write(ControlEvent::Expires { seconds }));
        }
        if self.phase == Phase::Open
            && let Some(position) = situation.restarts_at
        {
            self.phase = Phase::RestartAnnounced;
            return Some(Step::Write(ControlEvent::Restarting { position }));
        }
        None
    }

    /// Returns the step when no event is ready. `None` when the task waits for the next event.
    pub(super) fn without_events(&mut self, situation: &Situation) -> Option<Step> {
        if situation.is_draining() {
            self.phase = Phase::Finishing(EndReason::Drained);
            return Some(Step::Finish(EndReason::Drained));
        }
        let is_quiet = situation.now - self.last_write >= Second::from(self.keep_alive);
        is_quiet.then_some(Step::Write(ControlEvent::KeepAlive))
    }

    /// Returns what follows a notice of the subscription.
    pub(super) fn on_notice(&self, notice: Notice) -> Step {
        match (notice, self.on_lag) {
            (Notice::Gap(Gap { reason: GapReason::Lagged, .. }), OnLag::Close) => Step::End(EndReason::Lagged),
            (Notice::Gap(gap), _) => Step::Write(ControlEvent::Gap(gap)),
            (Notice::Snapshot(snapshot), _) => Step::Write(ControlEvent::Snapshot(snapshot)),
        }
    }

    /// Returns why a stream ends whose socket accepts no bytes, if it ends.
    ///
    /// A disconnect, a revocation, an expired token, and lag unless the client skips end it at once, without a farewell,
    /// which could not be written. A warning and a drain wait until the socket accepts bytes again, at most for the write
    /// timeout.
    pub(super) fn blocked(
        &mut self,
        situation: &Situation,
        write_timeout: Second,
        has_lagged: impl FnOnce() -> bool,
    ) -> Option<EndReason> {
        if let Some(reason) = self.immediate_end(situation) {
            return Some(reason);
        }
        if self.blocked_since == NEVER {
            self.blocked_since = situation.now;
        }
        // The clock has whole seconds: a difference of one may be a millisecond.
        if situation.now - self.blocked_since > write_timeout {
            return Some(EndReason::Stalled);
        }
        (self.on_lag == OnLag::Close && has_lagged()).then_some(EndReason::Lagged)
    }

    /// Ends the stream after what is being written now: the client closed it, or broke the protocol.
    pub(super) fn finish(&mut self, reason: EndReason) {
        self.phase = Phase::Finishing(reason);
    }

    /// Records that the socket accepted bytes.
    pub(super) fn wrote(&mut self, now: Second) {
        self.last_write = now;
        self.blocked_since = NEVER;
    }

    /// The second in which the task must call again, if nothing else wakes it.
    pub(super) fn deadline(&self, now: Second, write_timeout: Second) -> Second {
        let due = match self.blocked_since {
            NEVER => self.last_write + Second::from(self.keep_alive),
            since => since + write_timeout + 1,
        };
        let warning = self.expires.saturating_sub(WARNING);
        due.min(if now < warning { warning } else { self.expires })
    }

    fn immediate_end(&self, situation: &Situation) -> Option<EndReason> {
        let requests = situation.requests;
        if requests.contains(Request::Disconnect) {
            Some(EndReason::Disconnected)
        } else if requests.contains(Request::Revoke) {
            Some(EndReason::Revoked)
        } else {
            (situation.now >= self.expires).then_some(EndReason::TokenExpired)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Epoch;

    const WRITE_TIMEOUT: Second = 5;
    const KEEP_ALIVE: u16 = 20;

    fn lifecycle(expires: Option<Second>) -> Lifecycle {
        Lifecycle::new(100, OnLag::Close, KEEP_ALIVE, expires)
    }

    fn at(now: Second, requests: &[Request]) -> Situation {
        let control = Control::default();
        requests.iter().for_each(|&request| control.raise(request));
        Situation { now, requests: control.requests(), restarts_at: None }
    }

    fn draining(now: Second, requests: &[Request]) -> Situation {
        Situation { restarts_at: Some(StreamPosition::new(Epoch(7), 3)), ..at(now, requests) }
    }

    fn ended(reason: EndReason) -> Option<Step> {
        Some(Step::Finish(reason))
    }

    fn gap(reason: GapReason) -> Gap {
        let at = StreamPosition::new(Epoch(7), 3);
        Gap { reason, from: None, to: at, missed: None, topics: None, resume: at }
    }

    #[test]
    fn stream_without_requests_writes_its_events() {
        let mut lifecycle = lifecycle(None);
        assert_eq!(lifecycle.before_events(&at(100, &[])), None);
        assert_eq!(lifecycle.without_events(&at(100, &[])), None);
        assert_eq!(lifecycle.blocked(&at(100, &[]), WRITE_TIMEOUT, || false), None);
    }

    #[test]
    fn immediate_end_writes_a_farewell_and_closes() {
        for (expires, requests, reason) in [
            (None, &[Request::Disconnect][..], EndReason::Disconnected),
            (None, &[Request::Revoke], EndReason::Revoked),
            (Some(110), &[], EndReason::TokenExpired),
        ] {
            let mut lifecycle = lifecycle(expires);
            assert_eq!(lifecycle.before_events(&at(110, requests)), ended(reason));
            assert_eq!(lifecycle.before_events(&at(110, requests)), Some(Step::End(reason)));
        }
    }

    #[test]
    fn disconnect_precedes_revocation_precedes_expiry_precedes_drain() {
        let all = [Request::Drain, Request::Revoke, Request::Disconnect];
        for (requests, reason) in
            [(&all[..], EndReason::Disconnected), (&all[..2], EndReason::Revoked), (&all[..1], EndReason::TokenExpired)]
        {
            assert_eq!(lifecycle(Some(110)).before_events(&draining(110, requests)), ended(reason));
            assert_eq!(lifecycle(Some(110)).blocked(&draining(110, requests), WRITE_TIMEOUT, || true), Some(reason));
        }
    }

    #[test]
    fn client_is_warned_once_before_its_token_expires() {
        let mut lifecycle = lifecycle(Some(140));
        assert_eq!(lifecycle.before_events(&at(109, &[])), None);
        let warning = ControlEvent::Expires { seconds: 30 };
        assert_eq!(lifecycle.before_events(&at(110, &[])), Some(Step::Write(warning)));
        assert_eq!(lifecycle.before_events(&at(111, &[])), None);
        assert_eq!(lifecycle.before_events(&at(140, &[])), ended(EndReason::TokenExpired));
    }

    #[test]
    fn warning_states_the_time_left_when_it_is_written() {
        let mut lifecycle = lifecycle(Some(140));
        assert_eq!(lifecycle.blocked(&at(112, &[]), WRITE_TIMEOUT, || false), None);
        let warning = ControlEvent::Expires { seconds: 25 };
        assert_eq!(lifecycle.before_events(&at(115, &[])), Some(Step::Write(warning)));
    }

    #[test]
    fn expired_token_ends_blocked_stream_at_once() {
        let mut lifecycle = lifecycle(Some(102));
        assert_eq!(lifecycle.blocked(&at(101, &[]), WRITE_TIMEOUT, || false), None);
        assert_eq!(lifecycle.blocked(&at(102, &[]), WRITE_TIMEOUT, || false), Some(EndReason::TokenExpired));
    }

    #[test]
    fn immediate_end_does_not_wait_for_a_blocked_farewell() {
        let mut lifecycle = lifecycle(None);
        assert_eq!(lifecycle.without_events(&at(100, &[Request::Drain])), Some(Step::Finish(EndReason::Drained)));
        assert_eq!(lifecycle.blocked(&at(100, &[Request::Drain]), WRITE_TIMEOUT, || false), None);
        let requests = [Request::Drain, Request::Disconnect];
        assert_eq!(lifecycle.blocked(&at(100, &requests), WRITE_TIMEOUT, || false), Some(EndReason::Disconnected));
    }

    #[test]
    fn restart_is_announced_once_and_events_continue() {
        let mut lifecycle = lifecycle(None);
        assert_eq!(lifecycle.before_events(&at(100, &[])), None, "a pending gap comes first");
        let position = StreamPosition::new(Epoch(7), 3);
        let restarting = Step::Write(ControlEvent::Restarting { position });
        assert_eq!(lifecycle.before_events(&draining(100, &[])), Some(restarting));
        assert_eq!(lifecycle.before_events(&draining(100, &[])), None);
    }

    #[test]
    fn drained_stream_writes_its_events_then_ends() {
        let mut lifecycle = lifecycle(None);
        lifecycle.before_events(&draining(100, &[]));
        let drained = draining(100, &[Request::Drain]);
        assert_eq!(lifecycle.before_events(&drained), None);
        assert_eq!(lifecycle.without_events(&drained), Some(Step::Finish(EndReason::Drained)));
        assert_eq!(lifecycle.before_events(&drained), Some(Step::End(EndReason::Drained)));
    }

    #[test]
    fn drained_stream_that_is_blocked_waits_for_the_write_timeout() {
        let mut lifecycle = lifecycle(None);
        let drained = |now| draining(now, &[Request::Drain]);
        assert_eq!(lifecycle.blocked(&drained(100), WRITE_TIMEOUT, || false), None);
        assert_eq!(lifecycle.blocked(&drained(105), WRITE_TIMEOUT, || false), None);
        assert_eq!(lifecycle.blocked(&drained(106), WRITE_TIMEOUT, || false), Some(EndReason::Stalled));
    }

    #[test]
    fn write_restarts_the_write_timeout() {
        let mut lifecycle = lifecycle(None);
        assert_eq!(lifecycle.blocked(&at(100, &[]), WRITE_TIMEOUT, || false), None);
        lifecycle.wrote(104);
        assert_eq!(lifecycle.blocked(&at(106, &[]), WRITE_TIMEOUT, || false), None);
        assert_eq!(lifecycle.blocked(&at(111, &[]), WRITE_TIMEOUT, || false), None);
        assert_eq!(lifecycle.blocked(&at(112, &[]), WRITE_TIMEOUT, || false), Some(EndReason::Stalled));
    }

    #[test]
    fn lag_ends_a_stream_unless_it_skips() {
        let mut skipping = Lifecycle::new(100, OnLag::Skip, KEEP_ALIVE, None);
        let lagged = gap(GapReason::Lagged);
        assert_eq!(skipping.on_notice(lagged.clone().into()), Step::Write(ControlEvent::Gap(lagged.clone())));
        assert_eq!(skipping.blocked(&at(100, &[]), WRITE_TIMEOUT, || true), None);
        let mut closing = lifecycle(None);
        assert_eq!(closing.on_notice(lagged.into()), Step::End(EndReason::Lagged));
        assert_eq!(closing.blocked(&at(100, &[]), WRITE_TIMEOUT, || true), Some(EndReason::Lagged));
        let evicted = gap(GapReason::Evicted);
        assert_eq!(closing.on_notice(evicted.clone().into()), Step::Write(ControlEvent::Gap(evicted)));
    }

    #[test]
    fn quiet_stream_is_kept_alive() {
        let mut lifecycle = lifecycle(None);
        assert_eq!(lifecycle.without_events(&at(119, &[])), None);
        assert_eq!(lifecycle.without_events(&at(120, &[])), Some(Step::Write(ControlEvent::KeepAlive)));
        lifecycle.wrote(120);
        assert_eq!(lifecycle.without_events(&at(120, &[])), None);
    }

    #[test]
    fn deadline_is_the_earliest_timer() {
        assert_eq!(lifecycle(None).deadline(100, WRITE_TIMEOUT), 120, "keep-alive");
        assert_eq!(lifecycle(Some(145)).deadline(100, WRITE_TIMEOUT), 115, "warning");
        assert_eq!(lifecycle(Some(118)).deadline(100, WRITE_TIMEOUT), 118, "expiry");
        assert_eq!(Lifecycle::new(1, OnLag::Close, KEEP_ALIVE, Some(8)).deadline(1, WRITE_TIMEOUT), 8, "expiry");
        let mut blocked = lifecycle(None);
        blocked.blocked(&at(101, &[]), WRITE_TIMEOUT, || false);
        assert_eq!(blocked.deadline(101, WRITE_TIMEOUT), 107, "write timeout");
    }
}

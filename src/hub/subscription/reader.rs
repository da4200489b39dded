//! What reads a subscription, and is woken by its events.

use std::task::Waker;

use super::Subscription;
use crate::hub::wake::SleeperKey;

/// What the next event wakes.
pub(super) enum Reader {
    /// A task. A no-op waker before it waits for the first time.
    Task(Waker),
    /// A stream that is polled in the rounds of the group.
    Stream { awaits_events: bool },
}

impl Default for Reader {
    fn default() -> Self {
        Self::Task(Waker::noop().clone())
    }
}

impl Subscription {
    /// Registers `waker`: the next publish to a channel of this subscription wakes it. Returns whether that changed the waker. A
    /// stream that is polled in rounds has no waker, and awaits events afterwards.
    pub(crate) fn wake(&mut self, waker: &Waker) -> bool {
        match &mut self.reader {
            Reader::Task(known) if known.will_wake(waker) => return false,
            Reader::Task(known) => {
                self.group.set_waker(self.key, waker);
                *known = waker.clone();
            }
            Reader::Stream { awaits_events: true } => return false,
            Reader::Stream { awaits_events } => {
                self.group.set_stream(self.key, true);
                *awaits_events = true;
            }
        }
        true
    }

    /// Has no event wake its reader until [`Subscription::wake`].
    pub(crate) fn sleep(&mut self) {
        match &mut self.reader {
            Reader::Task(_) => _ = self.wake(Waker::noop()),
            Reader::Stream { awaits_events } => {
                self.group.set_stream(self.key, false);
                *awaits_events = false;
            }
        }
    }

    /// Has the stream that reads this polled in the rounds of its group. Returns the stream's key.
    pub(crate) fn read_in_rounds(&mut self) -> SleeperKey {
        self.group.set_stream(self.key, true);
        self.reader = Reader::Stream { awaits_events: true };
        self.key
    }

    /// The waker of the task.
    pub(in crate::hub) fn waker(&self) -> Option<&Waker> {
        match &self.reader {
            Reader::Task(waker) => Some(waker),
            Reader::Stream { .. } => None,
        }
    }
}

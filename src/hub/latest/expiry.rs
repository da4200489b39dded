//! Deletes keys that are no longer updated.
//!
//! **Contract.** A value that is as old as [`HubOptions::latest_ttl`](crate::hub::HubOptions::latest_ttl) and has a key is deleted, by
//! an event like any other. The hub deletes it only if it is still the newest of its key. A [relayed](Hub::relayed) hub leaves
//! that to its backbone, which asks for such values.
//!
//! **How.** This is one more reader of the latest values, which stays the time to live behind the others: marks say what the newest
//! sequence was at a time, and a value that is found up to an old mark has had no successor since. It reads the lists of the
//! firehoses, which exist from the start for it.

use std::collections::VecDeque;
// No part of the loom models.
use std::sync::Mutex;

use crate::event::Event;
use crate::hub::frame::Frame;
use crate::hub::history::History;
use crate::hub::{Hub, HubOptions};
use crate::position::Sequence;

/// The marks of one time to live, about: a value is deleted up to this part of it later.
const MARKS: u32 = 1000;

/// How many values are looked at while publishers wait.
const AT_ONCE: usize = 64;

pub(crate) struct Expiry {
    ttl_ticks: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Times, and what the newest sequence was then. The oldest first.
    marks: VecDeque<(u32, Sequence)>,
    /// The newest sequence that is old enough.
    until: Sequence,
    /// The values up to here are deleted, or have no key.
    passed: Sequence,
    /// The number of keys that were deleted.
    expired: u64,
}

/// A value that is old enough to be deleted.
#[cfg(feature = "redis")]
pub(crate) struct Expired {
    pub(crate) topic: crate::topic::Topic,
    pub(crate) key: crate::event::Key,
    /// `None` if it is of an earlier epoch.
    pub(crate) position: Option<crate::position::StreamPosition>,
    sequence: Sequence,
}

impl Expiry {
    /// `None` if keys last until they are deleted.
    pub(super) fn new(options: &HubOptions) -> Option<Self> {
        let ttl = options.latest_ttl?;
        Some(Self { ttl_ticks: u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX), state: Mutex::default() })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Notes that `head` is the newest sequence at second `now`.
    pub(crate) fn tick(&self, now: u32, head: Sequence) {
        let mut state = self.state();
        let is_due = |&(tick, newest): &(u32, Sequence)| newest < head && now - tick >= self.ttl_ticks / MARKS;
        if state.marks.back().is_none_or(is_due) {
            state.marks.push_back((now, head));
        }
        while let Some((_, newest)) = state.marks.pop_front_if(|(tick, _)| now - *tick >= self.ttl_ticks) {
            state.until = newest;
        }
    }

    /// The number of keys that this server has deleted.
    pub(crate) fn expired(&self) -> u64 {
        self.state().expired
    }

    fn passed(&self, passed: Sequence, expired: usize) {
        let mut state = self.state();
        state.passed = passed;
        state.expired += expired as u64;
    }
}

impl History {
    /// The next values that are old enough to be deleted, in order, and the sequence up to which there are no others.
    fn expired(&self, expiry: &Expiry) -> (Vec<Frame>, Sequence) {
        let State { passed, until, .. } = *expiry.state();
        let lists = self.firehoses().into_iter().filter_map(|firehose| firehose.latest.get());
        let is_key = |frame: &Frame| frame.key().is_some() && !frame.is_deletion();
        let values = lists.map(|list| list.values_between(passed, until, AT_ONCE, is_key));
        let mut frames: Vec<_> = values.flatten().collect();
        frames.sort_unstable_by_key(Frame::sequence);
        frames.truncate(AT_ONCE);
        let passed = if frames.len() == AT_ONCE { frames[AT_ONCE - 1].sequence() } else { until };
        (frames, passed)
    }

    /// Whether `value` is still the newest of its key. For the sequencer.
    pub(crate) fn is_newest(&self, value: &Frame) -> bool {
        let firehose = if value.topic().is_reserved() { &self.reserved } else { &self.firehose };
        firehose.latest.get().is_some_and(|list| list.newest(value) == Some(value.sequence()))
    }
}

/// The event that deletes a value.
pub(crate) fn deletion_of(value: &Frame) -> Event {
    Event::deletion(value.topic().clone(), value.key().cloned())
}

impl Hub {
    /// Deletes the keys that have outlived [`HubOptions::latest_ttl`]. Publishers and other tasks proceed in between.
    pub(in crate::hub) async fn delete_expired(&self) {
        let (history, sequencer) = (&self.0.history, &self.0.sequencer);
        let Some(expiry) = history.latest.expiry.as_ref().filter(|_| history.upstream().is_none()) else { return };
        loop {
            let (values, passed) = history.expired(expiry);
            let deleted = if values.is_empty() { 0 } else { sequencer.delete(history, &values) };
            expiry.passed(passed, deleted);
            if values.len() < AT_ONCE {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// The next values that the backbone has to delete, unless they were updated.
    #[cfg(feature = "redis")]
    pub(crate) fn expired(&self) -> Vec<Expired> {
        let history = &self.0.history;
        let Some(expiry) = &history.latest.expiry else { return Vec::new() };
        let (values, passed) = history.expired(expiry);
        if values.is_empty() {
            expiry.passed(passed, 0);
        }
        let (_, last, _) = history.now();
        let is_of_epoch = |value: &Frame| value.sequence() > last.numbering.offset;
        let expired = |value: Frame| {
            let position = is_of_epoch(&value).then(|| last.numbering.position(value.sequence()));
            Some(Expired {
                topic: value.topic().clone(),
                key: value.key()?.clone(),
                position,
                sequence: value.sequence(),
            })
        };
        values.into_iter().filter_map(expired).collect()
    }

    /// Notes that the backbone has looked at the values that were asked for last, and has deleted some.
    #[cfg(feature = "redis")]
    pub(crate) fn note_expired(&self, values: &[Expired], deleted: usize) {
        if let (Some(expiry), Some(last)) = (&self.0.history.latest.expiry, values.last()) {
            expiry.passed(last.sequence, deleted);
        }
    }
}

#[cfg(all(test, not(fanline_loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::{Key, Payload};
    use crate::topic::Topic;

    fn event(key: &str) -> Event {
        Event::new(Topic::new("t").unwrap(), Payload::text("1")).keyed(Key::new(key).unwrap())
    }

    fn hub_with(keys: usize) -> Hub {
        let hub = Hub::new(&HubOptions { latest_ttl: Some(Duration::from_secs(1)), ..HubOptions::default() });
        (0..keys).for_each(|key| hub.try_publish(event(&key.to_string())).unwrap());
        hub.0.history.tick();
        hub.0.history.tick();
        hub
    }

    #[test]
    fn value_that_was_updated_since_it_was_found_stays() {
        let hub = hub_with(2);
        let history = &hub.0.history;
        let (values, _) = history.expired(history.latest.expiry.as_ref().unwrap());
        assert_eq!(values.len(), 2);
        hub.try_publish(event("1")).unwrap();
        assert_eq!(hub.0.sequencer.delete(history, &values), 1);
        assert_eq!(hub.0.sequencer.delete(history, &values), 0, "each is deleted once");
        assert_eq!((hub.stats().latest_keys, hub.position().sequence), (1, 4));
    }

    #[tokio::test]
    async fn many_keys_are_deleted_in_several_steps() {
        let hub = hub_with(3 * AT_ONCE + 1);
        hub.delete_expired().await;
        assert_eq!((hub.stats().latest_keys, hub.stats().expired_keys), (0, 3 * AT_ONCE as u64 + 1));
    }

    #[test]
    fn marks_of_a_long_time_to_live_are_few() {
        let options = HubOptions { latest_ttl: Some(Duration::from_secs(100_000)), ..HubOptions::default() };
        let expiry = Expiry::new(&options).unwrap();
        for now in 1..300_000 {
            expiry.tick(now, now.into());
            let State { marks, until, .. } = &*expiry.state();
            assert!(marks.len() <= MARKS as usize + 1, "{}", marks.len());
            assert!(*until <= now.saturating_sub(100_000).into(), "not before its time");
            assert!(*until + 200 >= now.saturating_sub(100_000).into(), "soon after it");
        }
    }
}

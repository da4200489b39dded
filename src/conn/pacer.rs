//! Streams with an interval: they write at most once in it, without a timer for each.
//!
//! **Contract.** A stream that has written events waits for its next turn, one interval later. Events that are published
//! meanwhile do not wake its task. When its turn finds nothing to write, the next event is written at once.
//!
//! **Shared timers.** A shard has one timer, for the earliest turn. Each client has a [place](Interval::place) in its interval, one
//! of [`PLACES`], and its turns move there by at most [`SHIFT`] of the interval each time. Clients that one event has woken
//! together are thus spread over the interval after a few turns, and those with the same place are woken together.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::hub::Moment;
use crate::presence::{ClientId, ClientKey};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// Milliseconds since the shard's start.
pub(super) type Millis = u64;

/// The number of places in an interval.
const PLACES: u64 = 16;

/// The part of an interval, as a divisor, by which a turn may come later than one interval after the turn before.
const SHIFT: u64 = 8;

/// The longest time from one moment to the next, and the least number of moments in an interval.
const MAX_MOMENT: Millis = 25;
const MIN_MOMENTS: u64 = 4;

/// How late a task may run to read at the moment of its turn.
const MAX_LATE: Millis = 2 * MAX_MOMENT;

/// The time from one moment to the next for streams that begin with all values.
const MOMENT_OF_SNAPSHOTS: Millis = 200;

/// The least time between two writes of events to one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval(NonZeroU32);

impl Interval {
    /// `None` if `time` is shorter than a millisecond, or longer than 49 days.
    pub(crate) fn new(time: Duration) -> Option<Self> {
        u32::try_from(time.as_millis()).ok().and_then(Self::from_millis)
    }

    pub(super) fn from_millis(millis: u32) -> Option<Self> {
        NonZeroU32::new(millis).map(Self)
    }

    pub(crate) fn as_millis(self) -> u32 {
        self.0.get()
    }

    /// The part of the interval in which the turns of `client` are.
    fn place(self, client: ClientId) -> Millis {
        let place = (client.spread() * PLACES as f64) as u64;
        place * Millis::from(self.as_millis()) / PLACES
    }

    fn moments(self) -> u64 {
        u64::from(self.as_millis()).div_ceil(MAX_MOMENT).max(MIN_MOMENTS)
    }

    /// The number of the moment of `turn`. A turn one interval later has the one that is [`Interval::moments`] later.
    fn moment(self, turn: Millis) -> u64 {
        let interval = u64::from(self.as_millis());
        turn / interval * self.moments() + turn % interval * self.moments() / interval
    }

    /// The turn that follows `turn`.
    fn after(self, turn: Millis, client: ClientId) -> Millis {
        let interval = Millis::from(self.as_millis());
        let next = turn + interval;
        let to_place = (self.place(client) + interval - next % interval) % interval;
        next + to_place.min(interval / SHIFT)
    }
}

/// The turns of one stream, in four bytes: there are very many streams.
///
/// The lowest bit is set if events were written since the turn came. Above it are the low bits of the time before which the stream
/// writes no events; 0 once that has come.
#[derive(Default)]
pub(super) struct Pace(u32);

impl Pace {
    const HAS_WRITTEN: u32 = 1;

    pub(super) fn note_write(&mut self) {
        self.0 |= Self::HAS_WRITTEN;
    }

    /// Begins to look for what is written in the next turn. Returns whether events were written in this one, whose time is then
    /// known until the next is scheduled.
    pub(super) fn end(&mut self) -> bool {
        let has_written = self.0 & Self::HAS_WRITTEN != 0;
        self.0 = if has_written { self.0 & !Self::HAS_WRITTEN } else { 0 };
        has_written
    }

    /// Sets the time of the next turn, or one millisecond later if that is 0 in its low bits.
    fn set(&mut self, turn: Millis) -> Millis {
        let low = |turn: Millis| (turn as u32) << 1;
        let turn = turn + Millis::from(low(turn) == 0);
        self.0 = low(turn);
        turn
    }

    /// Whether a turn is scheduled, or has come.
    pub(super) fn has_turn(&self) -> bool {
        self.0 & !Self::HAS_WRITTEN != 0
    }

    fn moment(&self, number: u64, interval: Interval) -> Moment {
        let is_first_write = self.0 & Self::HAS_WRITTEN == 0;
        Moment { number, interval: interval.as_millis(), is_first_write }
    }

    /// The milliseconds from the turn until `now`, which are negative before it. `None` if none is scheduled.
    fn age(&self, now: Millis) -> Option<i32> {
        let turn = self.0 & !Self::HAS_WRITTEN;
        self.has_turn().then(|| ((now as u32) << 1).wrapping_sub(turn) as i32 >> 1)
    }
}

/// The turns of all streams of a shard.
pub(super) struct Pacer {
    began: Instant,
    /// The time of the last turn that has come.
    now: AtomicU64,
    turns: Mutex<BTreeMap<Millis, Vec<ClientKey>>>,
    /// Notified of a turn that is earlier than all others.
    earlier: Notify,
}

impl Pacer {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), now: AtomicU64::new(0), turns: Mutex::default(), earlier: Notify::new() }
    }

    /// Whether the turn of `pace` has not come yet.
    pub(super) fn is_waiting(&self, pace: &Pace) -> bool {
        pace.age(self.now.load(Ordering::Relaxed)).is_some_and(|age| age < 0)
    }

    /// The moment of a stream whose turn has come. Streams with the same moment share what they write, which is therefore at most
    /// that old. It depends on the time of the turn, and not on how late the task runs, so that streams that share once
    /// share again. A stream that was blocked at its turn reads at the present moment.
    pub(super) fn moment(&self, pace: &Pace, interval: Interval) -> Option<Moment> {
        let now = self.elapsed();
        let late = u64::try_from(pace.age(now).unwrap_or(0)).ok()?;
        let turn = if late <= MAX_LATE { now.saturating_sub(late) } else { now };
        Some(pace.moment(interval.moment(turn), interval))
    }

    /// The moment of a stream that begins with all values. These need not be new: their changes follow at once.
    pub(super) fn moment_of_snapshot(&self, pace: &Pace, interval: Interval) -> Moment {
        pace.moment(self.elapsed() / MOMENT_OF_SNAPSHOTS, interval)
    }

    /// Schedules the turn that follows the one of `pace`, in which events were written.
    pub(super) fn schedule(&self, pace: &mut Pace, interval: Interval, id: ClientId, key: ClientKey) {
        let now = self.elapsed();
        // The next turn is at the same place, also when the task ran a little late.
        let tolerance = u64::from(interval.as_millis()) / SHIFT;
        let late = pace.age(now).and_then(|age| u64::try_from(age).ok()).filter(|&late| late < tolerance);
        let turn = pace.set(interval.after(now - late.unwrap_or(0), id));
        let mut turns = lock(&self.turns);
        let is_first = turns.first_key_value().is_none_or(|(&first, _)| turn < first);
        turns.entry(turn).or_default().push(key);
        drop(turns);
        if is_first {
            self.earlier.notify_one();
        }
    }

    /// Calls `wake` with each client whose turn has come. Does not return.
    pub(super) async fn run(&self, wake: impl Fn(ClientKey)) {
        loop {
            let first = lock(&self.turns).first_key_value().map(|(&turn, _)| turn);
            let Some(first) = first else {
                self.earlier.notified().await;
                continue;
            };
            let first = self.began + Duration::from_millis(first);
            if timeout_at(first, self.earlier.notified()).await.is_ok() {
                continue;
            }
            let now = self.elapsed();
            self.now.store(now, Ordering::Relaxed);
            self.take_until(now).into_iter().for_each(&wake);
        }
    }

    /// Removes the turns that have come.
    fn take_until(&self, now: Millis) -> Vec<ClientKey> {
        let mut turns = lock(&self.turns);
        let mut clients = Vec::new();
        while let Some(first) = turns.first_entry().filter(|first| *first.key() <= now) {
            clients.append(&mut first.remove());
        }
        clients
    }

    fn elapsed(&self) -> Millis {
        Millis::try_from(self.began.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::*;
    use crate::presence::ClientIds;

    const INTERVAL: Millis = 160;

    fn interval() -> Interval {
        Interval::new(Duration::from_millis(INTERVAL)).unwrap()
    }

    #[test]
    fn turns_of_clients_spread_over_the_interval_and_stay_there() {
        let (ids, mut last) = (ClientIds::new(), BTreeSet::new());
        for _ in 0..200 {
            let id = ids.next();
            let mut turn = 1000;
            for _ in 0..20 {
                let next = interval().after(turn, id);
                assert!((INTERVAL..=INTERVAL * 9 / 8).contains(&(next - turn)), "{turn} {next}");
                turn = next;
            }
            assert_eq!(interval().after(turn, id), turn + INTERVAL);
            last.insert(turn % INTERVAL);
        }
        assert_eq!(last.len(), PLACES as usize, "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_client_is_woken_at_its_turn() {
        let (pacer, ids) = (Pacer::new(), ClientIds::new());
        let mut paces: Vec<_> = (0..100).map(|_| (ids.next(), Pace::default(), 0)).collect();
        let woken = RefCell::new(Vec::new());
        let run = async { pacer.run(|client| woken.borrow_mut().push(client)).await };
        let turns = async {
            for (key, (id, pace, _)) in (0..).zip(&mut paces) {
                pacer.schedule(pace, interval(), *id, key);
                assert!(pacer.is_waiting(pace));
            }
            while pacer.elapsed() < 10 * INTERVAL {
                tokio::time::sleep(Duration::from_millis(1)).await;
                for client in woken.take() {
                    let (id, pace, count) = &mut paces[client as usize];
                    assert!(!pacer.is_waiting(pace));
                    *count += 1;
                    pacer.schedule(pace, interval(), *id, client);
                }
            }
        };
        tokio::select! { () = run => {}, () = turns => {} }
        assert!(paces.iter().all(|(_, _, count)| (8..=10).contains(count)), "the first turns are later");
        assert!(lock(&pacer.turns).len() <= PLACES as usize, "clients share their turns");
    }

    #[tokio::test(start_paused = true)]
    async fn streams_that_share_a_moment_share_the_next_also_if_they_are_late() {
        let (pacer, ids) = (Pacer::new(), ClientIds::new());
        let mut paces: Vec<_> = (0..50).map(|_| (ids.next(), Pace::default(), 0)).collect();
        let mut due: BTreeSet<(Millis, usize)> = (0..50).map(|number| (1, number)).collect();
        while let Some((time, number)) = due.pop_first().filter(|(time, _)| *time < 30 * INTERVAL) {
            tokio::time::sleep_until(pacer.began + Duration::from_millis(time)).await;
            let (id, pace, before) = &mut paces[number];
            let moment = pacer.moment(pace, interval()).unwrap().number;
            assert!(time < 15 * INTERVAL || moment == *before + interval().moments(), "{number} at {time}");
            *before = moment;
            pacer.schedule(pace, interval(), *id, 0);
            let turn = pacer.elapsed() as i64 - i64::from(pace.age(pacer.elapsed()).unwrap());
            due.insert((turn as Millis + time % 10, number));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn stream_that_was_blocked_at_its_turn_reads_at_the_present_moment() {
        let (pacer, id, mut pace) = (Pacer::new(), ClientIds::new().next(), Pace::default());
        pacer.schedule(&mut pace, interval(), id, 0);
        assert_eq!(pacer.moment(&pace, interval()), None, "before its turn");
        tokio::time::advance(Duration::from_millis(2 * INTERVAL)).await;
        let moment = || pacer.moment(&pace, interval()).unwrap().number;
        let turn = moment();
        tokio::time::advance(Duration::from_millis(10 * INTERVAL)).await;
        assert_eq!(moment(), turn + 10 * interval().moments());
    }

    #[test]
    fn turn_is_known_across_the_end_of_its_bits() {
        let end = 1 << 31;
        let mut pace = Pace::default();
        assert_eq!(pace.age(7), None);
        assert_eq!(pace.set(end), end + 1, "0 is no turn");
        assert_eq!([end - 1, end + 1, end + 7].map(|now| pace.age(now)), [-2, 0, 6].map(Some));
        pace.note_write();
        assert!(pace.end());
        assert_eq!(pace.age(end), Some(-1));
        assert!(!pace.end());
        assert_eq!(pace.age(end), None, "a turn in which nothing was written is forgotten");
    }
}

//! Keyed GCRA rate limiting with bounded memory.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::sync::{Mutex, lock};

/// The number of keys that a rate tracks. An evicted key starts over with its whole burst, therefore only keys that have it
/// anyway are evicted.
pub(super) const MAX_KEYS: usize = 1 << 16;

/// A sustained rate a second, and a burst. Written `100`, or `100:500` with a burst of 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_second: NonZeroU32,
    burst: NonZeroU32,
}

impl Rate {
    /// Returns `None` if one of them is 0.
    pub const fn new(per_second: u32, burst: u32) -> Option<Self> {
        match (NonZeroU32::new(per_second), NonZeroU32::new(burst)) {
            (Some(per_second), Some(burst)) => Some(Self { per_second, burst }),
            _ => None,
        }
    }

    /// The sustained rate a second.
    pub const fn per_second(self) -> u32 {
        self.per_second.get()
    }

    /// The number that may come at once after an idle time.
    pub const fn burst(self) -> u32 {
        self.burst.get()
    }

    fn limiter<C: Clock>(self, clock: C) -> Limiter<C> {
        let quota = Quota::per_second(self.per_second).allow_burst(self.burst);
        RateLimiter::direct_with_clock(quota, clock)
    }
}

/// The text is not a [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a rate a second such as 100, or a rate and a burst such as 100:500, both from 1 to 1000000000")]
#[non_exhaustive]
pub struct InvalidRate;

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        // governor counts in nanoseconds: at a higher rate, each event would take none.
        let number = |text: &str| text.trim().parse().ok().filter(|&number: &u32| number <= 1_000_000_000);
        let (per_second, burst) = text.split_once(':').unwrap_or((text, text));
        number(per_second).zip(number(burst)).and_then(|(rate, burst)| Self::new(rate, burst)).ok_or(InvalidRate)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.per_second == self.burst {
            write!(f, "{}", self.burst)
        } else {
            write!(f, "{}:{}", self.per_second, self.burst)
        }
    }
}

/// Why a charge was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// It succeeds after this time, unless another charge comes first.
    NotYet(Duration),
    /// It exceeds the burst.
    Never,
}

type Limiter<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// A rate limiter with one allowance for each key.
pub(super) struct Meter<K, C: Clock = DefaultClock> {
    rate: Rate,
    clock: C,
    max_keys: usize,
    tracked: Mutex<HashMap<K, Limiter<C>>>,
    /// The allowance that untracked keys share.
    untracked: Limiter<C>,
}

impl<K: Hash + Eq + Clone> Meter<K> {
    pub(super) fn new(rate: Rate) -> Self {
        Self::with(rate, DefaultClock::default(), MAX_KEYS)
    }
}

impl<K: Hash + Eq + Clone, C: Clock + Clone> Meter<K, C> {
    fn with(rate: Rate, clock: C, max_keys: usize) -> Self {
        let untracked = rate.limiter(clock.clone());
        Self { rate, clock, max_keys, tracked: Mutex::default(), untracked }
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// Charges `count` to `key`, all or none.
    pub(super) fn charge(&self, key: &K, count: usize) -> Result<(), Denied> {
        let Some(count) = NonZeroU32::new(u32::try_from(count).unwrap_or(u32::MAX)) else { return Ok(()) };
        let mut tracked = lock(&self.tracked);
        if tracked.len() < self.max_keys && !tracked.contains_key(key) {
            tracked.insert(key.clone(), self.rate.limiter(self.clock.clone()));
        }
        match tracked.get(key).unwrap_or(&self.untracked).check_n(count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => Err(Denied::NotYet(not_until.wait_time_from(self.clock.now()))),
            Err(_) => Err(Denied::Never),
        }
    }

    /// Charges `count` to `key` once it is available, and returns whether that took time. A `count` above the burst is not
    /// charged.
    pub(super) async fn charge_when_available(&self, key: &K, count: usize) -> bool {
        let mut has_waited = false;
        while let Err(Denied::NotYet(wait)) = self.charge(key, count) {
            has_waited = true;
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        }
        has_waited
    }

    /// Evicts the keys that have their whole burst available.
    pub(super) fn evict_idle(&self) {
        let mut tracked = lock(&self.tracked);
        tracked.retain(|_, limiter| !matches!(limiter.check_n(self.rate.burst), Ok(Ok(()))));
        if tracked.capacity() > 4 * tracked.len() + 1024 {
            tracked.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn meter(rate: &str, max_keys: usize) -> (Meter<u32, FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Meter::with(rate.parse().unwrap(), clock.clone(), max_keys), clock)
    }

    #[test]
    fn a_rate_is_one_number_or_a_rate_and_a_burst() {
        for (text, expected) in [
            ("100", Rate::new(100, 100)),
            (" 100:500 ", Rate::new(100, 500)),
            ("7:7", Rate::new(7, 7)),
            ("0", None),
            ("1:0", None),
            ("", None),
            ("1:", None),
            ("-1", None),
            ("1.5", None),
            ("1000000001", None),
            ("1:2:3", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text:?}");
        }
        let written = |text: &str| text.parse::<Rate>().unwrap().to_string();
        assert_eq!((written("100:500"), written("7:7")), ("100:500".to_owned(), "7".to_owned()));
    }

    #[test]
    fn key_over_its_burst_is_denied_with_the_time_to_wait() {
        let (meter, clock) = meter("10:30", 8);
        assert_eq!(meter.charge(&1, 30), Ok(()));
        assert_eq!(meter.charge(&1, 1), Err(Denied::NotYet(Duration::from_millis(100))));
        assert_eq!(meter.charge(&1, 5), Err(Denied::NotYet(Duration::from_millis(500))));
        assert_eq!(meter.charge(&1, 31), Err(Denied::Never));
        assert_eq!(meter.charge(&2, 30), Ok(()), "each key has its own allowance");
        clock.advance(Duration::from_millis(500));
        assert_eq!(meter.charge(&1, 5), Ok(()));
        assert_eq!(meter.charge(&1, 1), Err(Denied::NotYet(Duration::from_millis(100))));
        assert_eq!(meter.charge(&1, 0), Ok(()));
    }

    #[test]
    fn untracked_keys_share_one_allowance_and_tracked_keys_keep_theirs() {
        let (meter, clock) = meter("10:30", 3);
        for key in 0..3 {
            assert_eq!(meter.charge(&key, 1), Ok(()));
        }
        assert_eq!(meter.charge(&3, 30), Ok(()));
        assert!(matches!(meter.charge(&4, 1), Err(Denied::NotYet(_))), "untracked keys share one allowance");
        assert_eq!(meter.charge(&0, 29), Ok(()), "a tracked key has its own");
        assert_eq!(lock(&meter.tracked).len(), 3);
        clock.advance(Duration::from_secs(4));
        meter.evict_idle();
        assert_eq!(lock(&meter.tracked).len(), 0, "a key with its whole burst is evicted");
        assert_eq!(meter.charge(&4, 30), Ok(()));
    }

    #[test]
    fn a_key_is_not_evicted_before_it_has_its_whole_burst_again() {
        let (meter, clock) = meter("10:30", 8);
        assert_eq!(meter.charge(&1, 30), Ok(()));
        clock.advance(Duration::from_secs(1));
        meter.evict_idle();
        assert!(matches!(meter.charge(&1, 11), Err(Denied::NotYet(_))));
        assert_eq!(meter.charge(&1, 10), Ok(()));
    }
}

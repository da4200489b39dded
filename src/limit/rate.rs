//! So many a second, for each of very many.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::{Quota, RateLimiter};

/// How many keys a rate tells apart. One that is forgotten begins anew with its whole allowance, so only those are
/// forgotten who would have it anyway.
pub(super) const MAX_KEYS: usize = 1 << 16;

/// So many a second, and so many at once. Written `100`, or `100:500` where the second number is how many may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_second: NonZeroU32,
    burst: NonZeroU32,
}

impl Rate {
    /// None when one of them is 0.
    pub const fn new(per_second: u32, burst: u32) -> Option<Self> {
        match (NonZeroU32::new(per_second), NonZeroU32::new(burst)) {
            (Some(per_second), Some(burst)) => Some(Self { per_second, burst }),
            _ => None,
        }
    }

    /// How many a second there may be in the long run.
    pub const fn per_second(self) -> u32 {
        self.per_second.get()
    }

    /// How many may come at once, after a while without any.
    pub const fn burst(self) -> u32 {
        self.burst.get()
    }
}

/// A text is no [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a number a second, such as 100, or with how many may come at once, such as 100:500; both from 1 to 1000000000"
)]
pub struct InvalidRate;

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        // Governor counts in nanoseconds: of more a second each would come to nothing.
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

/// Why something does not go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It will go after this time, if nobody else takes it.
    NotYet(Duration),
    /// It is more than may ever come at once.
    Never,
}

/// A rate that each key has for itself.
pub(super) struct Meter<K: Hash + Eq + Clone, C: Clock = DefaultClock> {
    rate: Rate,
    limiter: RateLimiter<K, Store<K>, C, NoOpMiddleware<C::Instant>>,
}

impl<K: Hash + Eq + Clone> Meter<K> {
    pub(super) fn new(rate: Rate) -> Self {
        Self::with(rate, DefaultClock::default(), MAX_KEYS)
    }
}

impl<K: Hash + Eq + Clone, C: Clock> Meter<K, C> {
    fn with(rate: Rate, clock: C, max_keys: usize) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        let store = Store { max_keys, states: Mutex::new(States { of_key: HashMap::new(), of_the_others: None }) };
        Self { rate, limiter: RateLimiter::new(quota, store, clock) }
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes `count` of what `key` has left, or none.
    pub(super) fn take(&self, key: &K, count: usize) -> Result<(), Denied> {
        let Some(count) = NonZeroU32::new(u32::try_from(count).unwrap_or(u32::MAX)) else { return Ok(()) };
        match self.limiter.check_key_n(key, count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => Err(Denied::NotYet(not_until.wait_time_from(self.limiter.clock().now()))),
            Err(_) => Err(Denied::Never),
        }
    }

    /// Forgets those who have all their allowance again.
    pub(super) fn forget_the_quiet(&self) {
        self.limiter.retain_recent();
    }
}

/// When each key will have its whole allowance again, for a bounded number of keys.
struct Store<K> {
    max_keys: usize,
    states: Mutex<States<K>>,
}

struct States<K> {
    of_key: HashMap<K, Nanos>,
    /// What keys share for which there is no room.
    of_the_others: Option<Nanos>,
}

impl<K> Store<K> {
    fn states(&self) -> MutexGuard<'_, States<K>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> StateStore for Store<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let States { of_key, of_the_others } = &mut *self.states();
        if let Some(state) = of_key.get_mut(key) {
            let (outcome, next) = decide(Some(*state))?;
            *state = next;
            return Ok(outcome);
        }
        if of_key.len() < self.max_keys {
            let (outcome, next) = decide(None)?;
            of_key.insert(key.clone(), next);
            return Ok(outcome);
        }
        let (outcome, next) = decide(*of_the_others)?;
        *of_the_others = Some(next);
        Ok(outcome)
    }
}

impl<K: Hash + Eq + Clone> ShrinkableKeyedStateStore<K> for Store<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        let States { of_key, .. } = &mut *self.states();
        of_key.retain(|_, state| *state > drop_below);
        if of_key.capacity() > 4 * of_key.len() + 1024 {
            of_key.shrink_to_fit();
        }
    }

    fn shrink_to_fit(&self) {
        self.states().of_key.shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.states().of_key.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
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
    fn a_rate_is_written_as_one_number_or_two() {
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
    fn after_the_burst_each_key_gets_its_rate_and_is_told_how_long_to_wait() {
        let (meter, clock) = meter("10:30", 8);
        assert_eq!(meter.take(&1, 30), Ok(()));
        assert_eq!(meter.take(&1, 1), Err(Denied::NotYet(Duration::from_millis(100))));
        assert_eq!(meter.take(&1, 5), Err(Denied::NotYet(Duration::from_millis(500))));
        assert_eq!(meter.take(&1, 31), Err(Denied::Never));
        assert_eq!(meter.take(&2, 30), Ok(()), "the others have theirs");
        clock.advance(Duration::from_millis(500));
        assert_eq!(meter.take(&1, 5), Ok(()));
        assert_eq!(meter.take(&1, 1), Err(Denied::NotYet(Duration::from_millis(100))));
        assert_eq!(meter.take(&1, 0), Ok(()));
    }

    #[test]
    fn over_very_many_keys_the_new_ones_share_and_the_known_keep_their_own() {
        let (meter, clock) = meter("10:30", 3);
        for key in 0..3 {
            assert_eq!(meter.take(&key, 1), Ok(()));
        }
        assert_eq!(meter.take(&3, 30), Ok(()));
        assert!(matches!(meter.take(&4, 1), Err(Denied::NotYet(_))), "they share one allowance");
        assert_eq!(meter.take(&0, 29), Ok(()), "who is known has its own");
        assert_eq!(meter.limiter.len(), 3);
        clock.advance(Duration::from_secs(4));
        meter.forget_the_quiet();
        assert_eq!(meter.limiter.len(), 0, "whoever has its whole allowance need not be known");
        assert_eq!(meter.take(&4, 30), Ok(()));
    }

    #[test]
    fn nobody_is_forgotten_while_it_would_gain_by_it() {
        let (meter, clock) = meter("10:30", 8);
        assert_eq!(meter.take(&1, 30), Ok(()));
        clock.advance(Duration::from_secs(1));
        meter.forget_the_quiet();
        assert!(matches!(meter.take(&1, 11), Err(Denied::NotYet(_))));
        assert_eq!(meter.take(&1, 10), Ok(()));
    }
}

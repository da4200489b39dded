//! When events are due.

use super::args::Rate;

/// The due time of no event.
pub const NEVER: u64 = u64::MAX;

/// The due times of events, in nanoseconds of the run's clock.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    rate: Rate,
    start: u64,
    end: u64,
    taken: u64,
    /// How many events there are.
    count: u64,
}

impl Schedule {
    /// `count` events, each due at once.
    pub const fn at_once(count: u64) -> Self {
        Self { rate: Rate::Max, start: 0, end: NEVER, taken: 0, count }
    }

    /// Events from `start` to before `end`.
    pub fn between(rate: Rate, start: u64, end: u64) -> Self {
        let count = match rate {
            Rate::Max => u64::MAX,
            Rate::PerSecond(rate) => ((end - start) as f64 * rate / 1e9).ceil() as u64,
        };
        Self { rate, start, end, taken: 0, count }
    }

    /// When the next event is due; at the maximum rate that is `now`.
    pub fn next(&self, now: u64) -> u64 {
        match self.rate {
            _ if self.taken >= self.count => NEVER,
            Rate::Max if now >= self.end => NEVER,
            Rate::Max => now.max(self.start),
            Rate::PerSecond(rate) => self.start + (self.taken as f64 * 1e9 / rate) as u64,
        }
    }

    /// Takes the next event, if it is due by `now`.
    pub fn take(&mut self, now: u64) -> Option<u64> {
        let due = self.next(now);
        (due <= now).then(|| {
            self.taken += 1;
            due
        })
    }

    /// Makes no more events due from `now` on.
    pub fn stop(&mut self, now: u64) {
        let due = match self.rate {
            Rate::Max => self.taken,
            rate => Self::between(rate, self.start, now).count.max(self.taken),
        };
        self.count = self.count.min(due);
    }

    /// Events that were not taken. At the maximum rate they end only with [`Self::stop`].
    pub fn left(&self) -> u64 {
        self.count - self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn events_are_due_at_their_time_however_late_they_are_taken() {
        let mut schedule = Schedule::between(Rate::PerSecond(4.0), SECOND, 2 * SECOND);
        assert_eq!((schedule.next(0), schedule.take(SECOND - 1)), (SECOND, None));
        let taken: Vec<u64> = std::iter::from_fn(|| schedule.take(5 * SECOND)).collect();
        assert_eq!(taken, [4, 5, 6, 7].map(|quarter| quarter * SECOND / 4));
        assert_eq!(schedule.next(5 * SECOND), NEVER);
    }

    #[test]
    fn stopped_schedule_has_only_the_events_due_before() {
        let mut schedule = Schedule::between(Rate::PerSecond(4.0), 0, SECOND);
        assert_eq!((schedule.take(0), schedule.left()), (Some(0), 3));
        schedule.stop(SECOND / 2);
        assert_eq!((schedule.left(), schedule.take(9 * SECOND)), (1, Some(SECOND / 4)));
        assert_eq!((schedule.left(), schedule.take(9 * SECOND)), (0, None));
    }

    #[test]
    fn all_events_can_be_taken_by_the_end() {
        for rate in [0.3, 1.0, 3.0, 30.0, 33.3, 70.0, 99.9, 1e5] {
            for end in [SECOND / 10, SECOND, SECOND + 1] {
                let mut schedule = Schedule::between(Rate::PerSecond(rate), 7, end);
                let all = schedule.left();
                let taken = std::iter::from_fn(|| schedule.take(end)).count() as u64;
                assert_eq!((taken, schedule.left()), (all, 0), "{rate} for {end}");
            }
        }
    }

    #[test]
    fn at_once_is_due_now() {
        let mut schedule = Schedule::at_once(2);
        assert_eq!([7, 8, 9].map(|now| schedule.take(now)), [Some(7), Some(8), None]);
        let mut endless = Schedule::between(Rate::Max, 5, 10);
        assert_eq!([4, 5, 9, 10].map(|now| endless.take(now)), [None, Some(5), Some(9), None]);
        endless.stop(10);
        assert_eq!(endless.left(), 0);
        assert_eq!(Schedule::between(Rate::PerSecond(0.0), 0, 10).take(5), None);
    }
}

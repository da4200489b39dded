//! The events that one subscriber received, by the numbers of each publisher for each topic.

/// Ranges of missing numbers that one stream keeps. Older ones are lost for good: a late event of those counts as a
/// duplicate.
const MAX_HOLES: usize = 1024;

/// How an event relates to those received before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The next one, or a later one, which leaves some missing.
    Forward,
    /// A missing one.
    Late,
    /// A duplicate.
    Again,
}

/// The numbers received by one stream. A lane is the events of one publisher for one of its topics.
#[derive(Default)]
pub struct Ledger {
    /// The number that comes next on each lane.
    next: Box<[u32]>,
    holes: Vec<Hole>,
    given_up: u64,
    /// Whether only the newest event of a lane must arrive.
    is_conflated: bool,
}

#[derive(Clone, Copy)]
struct Hole {
    lane: u32,
    from: u32,
    to: u32,
}

impl Ledger {
    pub fn new(lanes: usize) -> Self {
        Self { next: vec![0; lanes].into(), ..Self::default() }
    }

    /// The ledger of a stream that may skip all but the newest event of a lane.
    pub fn conflated(lanes: usize) -> Self {
        Self { is_conflated: true, ..Self::new(lanes) }
    }

    /// Notes an event.
    #[inline]
    pub fn receive(&mut self, lane: usize, number: u32) -> Arrival {
        let next = self.next[lane];
        if number == next {
            self.next[lane] = next + 1;
            return Arrival::Forward;
        }
        self.receive_out_of_turn(lane, number)
    }

    #[cold]
    fn receive_out_of_turn(&mut self, lane: usize, number: u32) -> Arrival {
        let next = self.next[lane];
        if self.is_conflated {
            return self.receive_conflated(lane, number);
        }
        if number > next {
            if self.holes.len() == MAX_HOLES {
                let oldest = self.holes.remove(0);
                self.given_up += u64::from(oldest.to - oldest.from);
            }
            self.holes.push(Hole { lane: lane as u32, from: next, to: number });
            self.next[lane] = number + 1;
            return Arrival::Forward;
        }
        let is_in = |hole: &Hole| hole.lane as usize == lane && (hole.from..hole.to).contains(&number);
        let Some(index) = self.holes.iter().position(is_in) else { return Arrival::Again };
        let hole = self.holes[index];
        let parts = [Hole { to: number, ..hole }, Hole { from: number + 1, ..hole }];
        self.holes.splice(index..=index, parts.into_iter().filter(|part| part.from < part.to));
        Arrival::Late
    }

    fn receive_conflated(&mut self, lane: usize, number: u32) -> Arrival {
        let next = &mut self.next[lane];
        match number + 1 {
            following if following > *next => {
                *next = following;
                Arrival::Forward
            }
            following if following == *next => Arrival::Again,
            _ => Arrival::Late,
        }
    }

    /// Whether each lane reached the number in `issued`.
    pub fn has_all(&self, issued: impl Iterator<Item = u32>) -> bool {
        self.next.iter().zip(issued).all(|(next, issued)| *next >= issued)
    }

    /// How many events are missing between received ones, and with `issued`, after the last one; of a conflated lane only the newest.
    /// Events that may not
    /// have been published are `excused`, given lane and number.
    pub fn missing(&self, issued: Option<&[u32]>, excused: impl Fn(usize, u32) -> bool) -> u64 {
        let count =
            |lane: usize, from: u32, to: u32| (from..to).filter(|number| !excused(lane, *number)).count() as u64;
        let holes: u64 = self.holes.iter().map(|hole| count(hole.lane as usize, hole.from, hole.to)).sum();
        let tail: u64 = issued.map_or(0, |issued| {
            let lanes = self.next.iter().zip(issued).enumerate();
            lanes
                .map(|(lane, (next, issued))| {
                    let oldest = if self.is_conflated { issued.saturating_sub(1) } else { 0 };
                    count(lane, oldest.max(*next), *issued)
                })
                .sum()
        });
        self.given_up + holes + tail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(numbers: &[u32]) -> (Ledger, Vec<Arrival>) {
        let mut ledger = Ledger::new(2);
        let arrivals = numbers.iter().map(|number| ledger.receive(1, *number)).collect();
        (ledger, arrivals)
    }

    fn missing(ledger: &Ledger, issued: u32) -> u64 {
        ledger.missing(Some(&[0, issued]), |_, _| false)
    }

    use Arrival::{Again, Forward, Late};

    #[test]
    fn complete_stream_misses_nothing() {
        let (ledger, arrivals) = received(&[0, 1, 2]);
        assert_eq!((arrivals, missing(&ledger, 3)), (vec![Forward; 3], 0));
        assert!(ledger.has_all([0, 3].into_iter()) && !ledger.has_all([0, 4].into_iter()));
    }

    #[test]
    fn skipped_event_is_missing_until_it_arrives_late() {
        let (mut ledger, arrivals) = received(&[0, 5]);
        assert_eq!((arrivals, missing(&ledger, 6)), (vec![Forward; 2], 4));
        assert_eq!((ledger.receive(1, 3), ledger.receive(1, 3), missing(&ledger, 6)), (Late, Again, 3));
        assert_eq!([1, 2, 4].map(|number| ledger.receive(1, number)), [Late; 3]);
        assert_eq!(missing(&ledger, 6), 0);
        assert_eq!(ledger.receive(1, 0), Again);
    }

    #[test]
    fn open_stream_misses_events_after_its_last() {
        let (ledger, _) = received(&[0, 2]);
        assert_eq!((missing(&ledger, 10), ledger.missing(None, |_, _| false)), (8, 1));
    }

    #[test]
    fn conflated_stream_misses_only_the_newest_and_never_goes_back() {
        let mut ledger = Ledger::conflated(1);
        assert_eq!([3, 4, 9].map(|number| ledger.receive(0, number)), [Forward; 3]);
        let missing = |ledger: &Ledger, issued| ledger.missing(Some(&[issued]), |_, _| false);
        assert_eq!([missing(&ledger, 10), missing(&ledger, 11), missing(&ledger, 20)], [0, 1, 1]);
        assert_eq!([9, 5].map(|number| ledger.receive(0, number)), [Again, Late]);
    }

    #[test]
    fn possibly_unpublished_event_is_excused() {
        let (ledger, _) = received(&[0, 2]);
        assert_eq!(ledger.missing(Some(&[0, 5]), |lane, number| lane == 1 && [1, 4].contains(&number)), 1);
    }

    #[test]
    fn memory_is_bounded_and_old_holes_stay_missing() {
        let every_second: Vec<u32> = (0..5000).map(|number| number * 2 + 1).collect();
        let (mut ledger, _) = received(&every_second);
        assert_eq!((ledger.holes.len(), missing(&ledger, 10_000)), (MAX_HOLES, 5000));
        assert_eq!((ledger.receive(1, 0), ledger.receive(1, 9998)), (Again, Late));
    }
}

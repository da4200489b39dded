//! The measured window: its counters at both ends, and its intervals.

use serde::Serialize;

use super::latency::{Interval, Latency};
use super::probe;

/// Intervals of a window: enough for a plot, too few to disturb the measurement.
const INTERVALS: u64 = 60;
const MIN_INTERVAL: u64 = 200_000_000;

/// The counters at one moment; processor times in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Snapshot {
    pub at: u64,
    pub deliveries: u64,
    pub published: u64,
    pub server_cpu: Option<u64>,
    pub own_cpu: u64,
    pub all_cpu: Option<u64>,
}

impl Snapshot {
    pub fn take(at: u64, deliveries: u64, published: u64, server: Option<u32>) -> Self {
        Self {
            at,
            deliveries,
            published,
            // A server that has ended shows in its streams.
            server_cpu: server.and_then(|pid| probe::cpu_time(pid).ok()),
            own_cpu: probe::cpu_time(std::process::id()).unwrap_or(0),
            all_cpu: None,
        }
    }

    /// Adds the time of all processors, which is slow to read.
    pub fn with_all(self) -> Self {
        Self { all_cpu: probe::busy_time(), ..self }
    }
}

/// One interval.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Seconds from the start of the window to the end of the interval.
    pub at: f64,
    pub events: u64,
    pub deliveries: u64,
    #[serde(flatten)]
    pub latency: Interval,
    pub server_cpu_percent: Option<f64>,
    pub load_cpu_percent: f64,
    pub rss_kb: Option<u64>,
}

/// The window so far.
#[derive(Default)]
pub struct Timeline {
    pub points: Vec<Point>,
    pub first: Snapshot,
    pub last: Snapshot,
    interval: u64,
}

impl Timeline {
    /// Begins a window of `duration` nanoseconds.
    pub fn begin(&mut self, now: Snapshot, duration: u64) {
        self.first = now;
        self.last = now;
        self.interval = (duration / INTERVALS).max(MIN_INTERVAL);
    }

    /// When the current interval ends.
    pub fn next(&self) -> u64 {
        // Relative to the start of the window, so that a late end does not move the later intervals.
        let ended = (self.last.at - self.first.at + self.interval / 2) / self.interval;
        self.first.at + (ended + 1) * self.interval
    }

    /// Ends the current interval.
    pub fn end_interval(&mut self, now: Snapshot, latency: &mut Latency, rss_kb: Option<u64>) {
        let nanoseconds = (now.at - self.last.at).max(1) as f64;
        let percent = |cpu: u64| cpu as f64 * 100.0 / nanoseconds;
        let server_cpu = now.server_cpu.zip(self.last.server_cpu);
        self.points.push(Point {
            at: (now.at - self.first.at) as f64 / 1e9,
            events: now.published - self.last.published,
            deliveries: now.deliveries - self.last.deliveries,
            latency: latency.end_interval(),
            server_cpu_percent: server_cpu.map(|(now, before)| percent(now.saturating_sub(before))),
            load_cpu_percent: percent(now.own_cpu.saturating_sub(self.last.own_cpu)),
            rss_kb,
        });
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64, deliveries: u64, server_cpu: Option<u64>) -> Snapshot {
        Snapshot { at: (seconds * 1e9) as u64, deliveries, server_cpu, ..Snapshot::default() }
    }

    #[test]
    fn late_end_of_an_interval_does_not_move_the_next() {
        let mut timeline = Timeline::default();
        let mut latency = Latency::new(1);
        timeline.begin(at(5.0, 100, Some(0)), 60_000_000_000);
        assert_eq!(timeline.next(), 6_000_000_000);
        timeline.end_interval(at(6.25, 160, Some(250_000_000)), &mut latency, None);
        assert_eq!(timeline.next(), 7_000_000_000);
        timeline.end_interval(at(7.0, 260, None), &mut latency, None);
        assert_eq!(timeline.next(), 8_000_000_000);
        let points = &timeline.points;
        assert_eq!((points[0].deliveries, points[0].server_cpu_percent), (60, Some(20.0)));
        assert_eq!((points[1].at, points[1].deliveries, points[1].server_cpu_percent), (2.0, 100, None));
    }

    #[test]
    fn short_window_has_fewer_intervals() {
        let mut timeline = Timeline::default();
        timeline.begin(Snapshot::default(), 1_000_000_000);
        assert_eq!(timeline.next(), MIN_INTERVAL);
    }
}

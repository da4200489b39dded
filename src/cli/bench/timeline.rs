//! The measured window and its intervals.

use serde::Serialize;

use super::latency::{Interval, Latency};
use super::probe::Sample;

/// Intervals of a window: enough for a plot, too few to disturb the measurement.
const INTERVALS: u64 = 60;
const MIN_INTERVAL: u64 = 200_000_000;

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Snapshot {
    pub at: u64,
    pub deliveries: u64,
    pub published: u64,
    pub sample: Sample,
}

/// The use of processors, in percent of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cpu {
    pub server_cpu_percent: Option<f64>,
    pub load_cpu_percent: f64,
    /// What neither the server nor the load generator used. It makes the other results worse.
    pub other_cpu_percent: Option<f64>,
    /// Percent of all processors.
    pub machine_cpu_percent: Option<f64>,
}

impl Cpu {
    fn between(first: &Snapshot, last: &Snapshot) -> Self {
        let nanoseconds = (last.at - first.at).max(1) as f64;
        let percent = |used: f64| used * 100.0 / nanoseconds;
        let used = |last: u64, first: u64| last.saturating_sub(first) as f64;
        let (first, last) = (&first.sample, &last.sample);
        let server = last.server_cpu.zip(first.server_cpu).map(|(last, first)| used(last, first));
        let load = used(last.load_cpu, first.load_cpu);
        let machine = last.machine.zip(first.machine);
        let machine = machine.map(|(last, first)| (used(last.busy, first.busy), used(last.total, first.total)));
        Self {
            server_cpu_percent: server.map(percent),
            load_cpu_percent: percent(load),
            other_cpu_percent: machine.zip(server).map(|((busy, _), server)| percent((busy - load - server).max(0.0))),
            machine_cpu_percent: machine.and_then(|(busy, total)| ratio(busy * 100.0, total)),
        }
    }
}

/// The measured window.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Window {
    pub window_seconds: f64,
    pub window_events: u64,
    pub window_deliveries: u64,
    pub events_per_second: f64,
    pub deliveries_per_second: f64,
    pub server_cpu_us_per_delivery: Option<f64>,
    pub deliveries_per_cpu_second: Option<f64>,
    #[serde(flatten)]
    pub cpu: Cpu,
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
    /// From when events were due until they were sent.
    pub late_send_p99_us: u64,
    #[serde(flatten)]
    pub cpu: Cpu,
    pub rss_kb: Option<u64>,
}

/// The window so far.
#[derive(Default)]
pub struct Timeline {
    pub points: Vec<Point>,
    first: Snapshot,
    last: Snapshot,
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
    pub fn end_interval(&mut self, now: Snapshot, latency: &mut Latency, late: &mut Latency) {
        self.points.push(Point {
            at: (now.at - self.first.at) as f64 / 1e9,
            events: now.published - self.last.published,
            deliveries: now.deliveries - self.last.deliveries,
            latency: latency.end_interval(),
            late_send_p99_us: late.end_interval().p99_us,
            cpu: Cpu::between(&self.last, &now),
            rss_kb: now.sample.rss_kb,
        });
        self.last = now;
    }

    pub fn window(&self) -> Window {
        let Self { first, last, .. } = self;
        let window_seconds = (last.at - first.at) as f64 / 1e9;
        let (events, deliveries) = (last.published - first.published, last.deliveries - first.deliveries);
        let cpu = Cpu::between(first, last);
        let server_seconds = cpu.server_cpu_percent.map(|percent| percent / 100.0 * window_seconds);
        Window {
            window_seconds,
            window_events: events,
            window_deliveries: deliveries,
            events_per_second: ratio(events as f64, window_seconds).unwrap_or(0.0),
            deliveries_per_second: ratio(deliveries as f64, window_seconds).unwrap_or(0.0),
            server_cpu_us_per_delivery: server_seconds.and_then(|seconds| ratio(seconds * 1e6, deliveries as f64)),
            deliveries_per_cpu_second: server_seconds.and_then(|seconds| ratio(deliveries as f64, seconds)),
            cpu,
        }
    }
}

pub fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

#[cfg(test)]
mod tests {
    use super::super::probe::MachineTime;
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: f64, deliveries: u64, server_cpu: Option<u64>) -> Snapshot {
        let sample = Sample { server_cpu, ..Sample::default() };
        Snapshot { at: (seconds * 1e9) as u64, deliveries, published: 0, sample }
    }

    fn end_interval(timeline: &mut Timeline, now: Snapshot) {
        timeline.end_interval(now, &mut Latency::new(1), &mut Latency::new(1));
    }

    #[test]
    fn late_end_of_an_interval_does_not_move_the_next() {
        let mut timeline = Timeline::default();
        timeline.begin(at(5.0, 100, Some(0)), 60 * SECOND);
        assert_eq!(timeline.next(), 6 * SECOND);
        end_interval(&mut timeline, at(6.25, 160, Some(SECOND / 4)));
        assert_eq!(timeline.next(), 7 * SECOND);
        end_interval(&mut timeline, at(7.0, 260, None));
        assert_eq!(timeline.next(), 8 * SECOND);
        let points = &timeline.points;
        assert_eq!((points[0].deliveries, points[0].cpu.server_cpu_percent), (60, Some(20.0)));
        assert_eq!((points[1].at, points[1].deliveries, points[1].cpu.server_cpu_percent), (2.0, 100, None));
    }

    #[test]
    fn short_window_has_fewer_intervals() {
        let mut timeline = Timeline::default();
        timeline.begin(Snapshot::default(), SECOND);
        assert_eq!(timeline.next(), MIN_INTERVAL);
    }

    #[test]
    fn others_use_what_server_and_generator_do_not() {
        let mut timeline = Timeline::default();
        let with_machine = |mut snapshot: Snapshot, load, busy, total| {
            snapshot.sample.load_cpu = load * SECOND;
            snapshot.sample.machine = Some(MachineTime { busy: busy * SECOND, total: total * SECOND });
            snapshot
        };
        timeline.begin(with_machine(at(0.0, 0, Some(0)), 0, 100, 200), 10 * SECOND);
        end_interval(&mut timeline, with_machine(at(10.0, 4000, Some(2 * SECOND)), 3, 115, 220));
        let window = timeline.window();
        assert_eq!(
            window.cpu,
            Cpu {
                server_cpu_percent: Some(20.0),
                load_cpu_percent: 30.0,
                other_cpu_percent: Some(100.0),
                machine_cpu_percent: Some(75.0)
            }
        );
        assert_eq!((window.server_cpu_us_per_delivery, window.deliveries_per_cpu_second), (Some(500.0), Some(2000.0)));
    }
}

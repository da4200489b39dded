//! Latency: from when an event was due until it arrived.

use std::fmt;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

/// Ten minutes; longer latencies count as this.
const MAX_MICROSECONDS: u64 = 600_000_000;

/// Latencies of the measured window and of its current interval, in microseconds.
///
/// Memory is bounded: an HDR histogram of three digits (about 200 KB), and one of two digits for the interval, which is
/// small enough to be summed up during the run.
pub struct Latency {
    all: Histogram<u64>,
    interval: Histogram<u64>,
    /// Events that were due from the first to before the second are measured, in nanoseconds of the run's clock.
    window: (u64, u64),
    /// One of this many deliveries is recorded.
    sample: u32,
    skipped: u32,
}

/// The latencies of one interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Interval {
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
    /// Deliveries recorded by latency: bucket `i` has those from `2^(i/2)` to before `2^((i+1)/2)` microseconds.
    pub counts: Vec<u64>,
}

/// A point of the distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentile {
    pub percent: f64,
    pub us: u64,
}

/// Some quantiles of a latency, named in JSON as in `latency_p99_us`.
#[derive(Clone, Debug)]
pub struct Quantiles {
    name: &'static str,
    microseconds: Vec<(&'static str, Option<u64>)>,
}

impl Quantiles {
    /// The quantiles, which are unknown without a latency or a delivery.
    pub fn new(name: &'static str, latency: Option<&Latency>, wanted: &[(&'static str, f64)]) -> Self {
        let quantile = |quantile| latency.and_then(|latency| latency.quantile(quantile));
        Self { name, microseconds: wanted.iter().map(|(label, share)| (*label, quantile(*share))).collect() }
    }

    pub fn is_known(&self) -> bool {
        self.microseconds.iter().any(|(_, us)| us.is_some())
    }
}

impl Serialize for Quantiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let key = |label: &str| format!("{}_{}_us", self.name, label.replace('.', ""));
        serializer.collect_map(self.microseconds.iter().map(|(label, us)| (key(label), us)))
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.microseconds.iter().filter_map(|(label, us)| us.map(|us| format!("{label} {}", time(us))));
        f.write_str(&known.collect::<Vec<_>>().join("  "))
    }
}

/// Microseconds with the unit that needs the fewest digits.
pub fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.2} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

impl Latency {
    pub fn new(sample: u32) -> Self {
        let histogram = |digits| Histogram::new_with_bounds(1, MAX_MICROSECONDS, digits).expect("these are valid");
        Self { all: histogram(3), interval: histogram(2), window: (0, 0), sample, skipped: 0 }
    }

    /// Measures events that are due from `from` to before `to`.
    pub fn measure(&mut self, from: u64, to: u64) {
        self.window = (from, to);
    }

    #[inline]
    pub fn record(&mut self, due: u64, now: u64) {
        if due < self.window.0 || due >= self.window.1 {
            return;
        }
        self.skipped += 1;
        if self.skipped >= self.sample {
            self.skipped = 0;
            let microseconds = now.saturating_sub(due) / 1000;
            self.all.saturating_record(microseconds);
            self.interval.saturating_record(microseconds);
        }
    }

    /// Ends the current interval.
    pub fn end_interval(&mut self) -> Interval {
        let quantile = |quantile| if self.interval.is_empty() { 0 } else { self.interval.value_at_quantile(quantile) };
        let mut ended = Interval {
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            max_us: self.interval.max(),
            counts: Vec::new(),
        };
        for value in self.interval.iter_recorded() {
            let bucket = bucket(value.value_iterated_to());
            if bucket >= ended.counts.len() {
                ended.counts.resize(bucket + 1, 0);
            }
            ended.counts[bucket] += value.count_since_last_iteration();
        }
        self.interval.reset();
        ended
    }

    /// A quantile in microseconds, unless there were no deliveries.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        (!self.all.is_empty()).then(|| self.all.value_at_quantile(quantile))
    }

    pub fn mean(&self) -> Option<f64> {
        (!self.all.is_empty()).then(|| self.all.mean())
    }

    /// The distribution, in steps that get finer towards the maximum.
    pub fn percentiles(&self) -> Vec<Percentile> {
        let tail = (1..=6).flat_map(|nines| [0.0, 0.5, 0.75].map(|part| 1.0 - (1.0 - part) * 10f64.powi(-nines)));
        let body = [0.01, 0.1, 0.25, 0.5, 0.75];
        let recorded = self.all.len() as f64;
        let quantiles = body.into_iter().chain(tail).filter(|quantile| recorded * (1.0 - quantile) >= 1.0);
        let at = |quantile: f64| Percentile { percent: quantile * 100.0, us: self.all.value_at_quantile(quantile) };
        let last = self.quantile(1.0).map(|us| Percentile { percent: 100.0, us });
        quantiles.map(at).chain(last).collect()
    }
}

fn bucket(microseconds: u64) -> usize {
    (2.0 * (microseconds.max(1) as f64).log2()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_due_in_the_window_are_measured() {
        let mut latency = Latency::new(1);
        latency.record(0, 9_000);
        latency.measure(1_000, 2_000);
        for due in [999, 2_000, 3_000] {
            latency.record(due, 9_000);
        }
        assert_eq!(latency.end_interval().counts, [0u64; 0]);
        assert_eq!(latency.quantile(0.5), None);
        latency.record(1_000, 9_000_000);
        latency.record(1_999, 4_001_999);
        let interval = latency.end_interval();
        assert_eq!((latency.quantile(0.5), latency.quantile(1.0)), (Some(4_001), Some(8_999)));
        // Of two digits, the upper end.
        assert_eq!((interval.p50_us, interval.max_us), (4_015, 9_023));
        assert_eq!(interval.counts.iter().sum::<u64>(), 2);
    }

    #[test]
    fn intervals_add_up_to_the_whole() {
        let mut latency = Latency::new(1);
        latency.measure(0, 1);
        for us in 1..=1000 {
            latency.record(0, us * 1000);
            if us % 100 == 0 {
                latency.end_interval();
            }
        }
        assert_eq!((latency.quantile(0.5), latency.quantile(0.99)), (Some(500), Some(990)));
        let percentiles = latency.percentiles();
        assert_eq!(percentiles.last(), Some(&Percentile { percent: 100.0, us: 1000 }));
        assert!(percentiles.is_sorted_by(|a, b| a.percent < b.percent && a.us <= b.us), "{percentiles:?}");
    }

    #[test]
    fn quantiles_have_names_and_units() {
        let mut latency = Latency::new(1);
        latency.measure(0, 1);
        latency.record(0, 2_000_000);
        let wanted = [("p99.9", 0.999), ("max", 1.0)];
        let quantiles = Quantiles::new("late", Some(&latency), &wanted);
        assert_eq!(serde_json::to_string(&quantiles).unwrap(), r#"{"late_p999_us":2000,"late_max_us":2000}"#);
        assert_eq!(quantiles.to_string(), "p99.9 2.00 ms  max 2.00 ms");
        assert!(!Quantiles::new("late", None, &wanted).is_known());
        assert_eq!([0, 999, 1_500, 2_500_000].map(time), ["0 µs", "999 µs", "1.50 ms", "2.50 s"]);
    }

    #[test]
    fn bucket_is_half_an_octave() {
        let buckets = [0, 1, 2, 3, 4, 5, 6, 8, 1 << 20, MAX_MICROSECONDS].map(bucket);
        assert_eq!(buckets, [0, 0, 2, 3, 4, 4, 5, 6, 40, 58]);
    }
}

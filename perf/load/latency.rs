//! How long after it was due an event arrived.

use hdrhistogram::Histogram;

const HIGHEST_MICROSECONDS: u64 = 600_000_000;

pub struct Latency {
    histogram: Histogram<u64>,
    /// Events that were due from the first to before the second are measured, in nanoseconds of the run's clock.
    window: (u64, u64),
    /// One of so many deliveries is recorded.
    sample: u32,
    skipped: u32,
}

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, HIGHEST_MICROSECONDS, 3).expect("these bounds are valid");
        Self { histogram, window: (0, 0), sample: 1, skipped: 0 }
    }
}

impl Latency {
    pub fn start(&mut self, window: (u64, u64), sample: u32) {
        self.window = window;
        self.sample = sample;
    }

    pub fn record(&mut self, due: u64, now: u64) {
        if due < self.window.0 || due >= self.window.1 {
            return;
        }
        self.skipped += 1;
        if self.skipped >= self.sample {
            self.skipped = 0;
            self.histogram.saturating_record(now.saturating_sub(due) / 1000);
        }
    }

    /// Microseconds; 0 when nothing was recorded.
    pub fn quantile(&self, quantile: f64) -> u64 {
        self.histogram.value_at_quantile(quantile)
    }

    pub fn highest(&self) -> u64 {
        self.histogram.max()
    }
}

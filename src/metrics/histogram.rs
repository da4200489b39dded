//! Latency histograms.

use std::time::Duration;

use super::Count;

/// The upper bounds of the buckets, in microseconds.
const BOUNDS: [u64; 18] = [
    50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];

/// A histogram that one thread writes and any thread reads.
#[derive(Default)]
pub(crate) struct Latencies {
    /// The counts by bucket. The last bucket is for what exceeds all bounds.
    buckets: [Count; BOUNDS.len() + 1],
    nanoseconds: Count,
}

impl Latencies {
    pub(crate) fn observe(&self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|&bound| bound * 1000 < nanoseconds);
        self.buckets[bucket].add(1);
        self.nanoseconds.add(nanoseconds);
    }
}

/// The latencies of all shards together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LatencyDistribution {
    /// The upper bound of each bucket in seconds, and its count. The last bound is infinite.
    pub(crate) buckets: Vec<(f64, u64)>,
    pub(crate) seconds: f64,
    pub(crate) count: u64,
}

impl LatencyDistribution {
    pub(crate) fn of<'a>(parts: impl Iterator<Item = &'a Latencies> + Clone) -> Self {
        let bounds = BOUNDS.iter().map(|&bound| bound as f64 / 1e6).chain([f64::INFINITY]);
        let count = |bucket: usize| parts.clone().map(|part| part.buckets[bucket].get()).sum();
        let buckets: Vec<(f64, u64)> = bounds.enumerate().map(|(bucket, bound)| (bound, count(bucket))).collect();
        Self {
            count: buckets.iter().map(|(_, count)| count).sum(),
            seconds: parts.clone().map(|part| part.nanoseconds.get()).sum::<u64>() as f64 / 1e9,
            buckets,
        }
    }

    /// The upper bound of the bucket with this quantile. None when nothing was counted, or when it exceeds all bounds.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bucket = self.buckets.iter().find(|(_, count)| {
            seen += count;
            seen >= wanted
        });
        bucket.map(|&(bound, _)| bound).filter(|bound| bound.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_counted_in_the_first_bucket_that_holds_it() {
        let (one, other) = (Latencies::default(), Latencies::default());
        one.observe(Duration::from_micros(50));
        one.observe(Duration::from_micros(51));
        other.observe(Duration::from_secs(31));
        let all = LatencyDistribution::of([&one, &other].into_iter());
        let counted: Vec<_> = all.buckets.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(counted, [(0.000_05, 1), (0.0001, 1), (f64::INFINITY, 1)]);
        assert_eq!((all.count, all.seconds), (3, 31.000_101));
        assert_eq!((all.quantile(0.3), all.quantile(0.5), all.quantile(0.99)), (Some(0.000_05), Some(0.0001), None));
        assert_eq!(LatencyDistribution::of(std::iter::empty::<&Latencies>()).quantile(0.5), None);
    }
}

//! A sample of this server: what it holds, and what it did since the previous sample.

use fanline::{Hub, ServerStats, Stats};
use tokio::time::Instant;

use super::metric::Metric;

/// The counters at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    pub at: Instant,
    pub published: u64,
    pub server: ServerStats,
}

impl Counters {
    pub fn read(hub: &Hub, stats: &Stats) -> Self {
        Self { at: Instant::now(), published: hub.stats().published, server: stats.read() }
    }

    /// The connections and streams that are open, and the activity since the `earlier` moment.
    pub fn metrics(&self, earlier: &Self) -> [Metric; 7] {
        let seconds = (self.at - earlier.at).as_secs_f64();
        let since = |of: fn(&Self) -> u64| of(self).saturating_sub(of(earlier));
        let cut_off = since(|counters| counters.server.cut_off_lagged + counters.server.cut_off_stalled);
        [
            Metric::whole("connections", self.server.connections, "connections"),
            Metric::whole("streams", self.server.streams, "streams"),
            Metric::rate("events_per_second", since(|counters| counters.published), seconds, "events/s"),
            Metric::rate("deliveries_per_second", since(|counters| counters.server.delivered), seconds, "events/s"),
            Metric::rate(
                "delivered_bytes_per_second",
                since(|counters| counters.server.delivered_bytes),
                seconds,
                "bytes/s",
            ),
            Metric::whole("subscribers_cut_off", cut_off, "subscribers"),
            Metric::whole("accept_pauses", since(|counters| counters.server.accept_pauses), "pauses"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn activity_is_the_difference_of_two_moments() {
        let begin = Instant::now();
        let counters = |seconds, published, delivered, cut_off_lagged, cut_off_stalled| {
            let mut server = ServerStats::default();
            server.connections = 7;
            server.delivered = delivered;
            (server.cut_off_lagged, server.cut_off_stalled) = (cut_off_lagged, cut_off_stalled);
            Counters { at: begin + Duration::from_secs(seconds), published, server }
        };
        let metrics = counters(2, 30, 400, 3, 2).metrics(&counters(0, 10, 100, 1, 1));
        let value = |name| metrics.iter().find(|metric| metric.name == name).unwrap().value.as_f64().unwrap();
        let names =
            ["connections", "events_per_second", "deliveries_per_second", "subscribers_cut_off", "accept_pauses"];
        assert_eq!(names.map(value), [7.0, 10.0, 150.0, 3.0, 0.0]);
    }

    #[test]
    fn rates_without_elapsed_time_are_zero() {
        let now = Counters { at: Instant::now(), published: 0, server: ServerStats::default() };
        assert_eq!(now.metrics(&now)[2].value, 0.into());
    }
}

//! A sample of this server: what it holds, and what it did since the sample before.

use std::time::Duration;

use fanline::hub::HubStats;
use fanline::{Hub, ServerStats, Stats};

use super::metric::Metric;

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Events published.
    pub published: u64,
    /// The server's.
    pub server: ServerStats,
}

impl Counters {
    /// Reads them.
    pub fn read(hub: &Hub, stats: &Stats) -> Self {
        let HubStats { published, .. } = hub.stats();
        Self { published, server: stats.read() }
    }

    /// What happened between the `earlier` moment and this one.
    pub fn since(&self, earlier: &Self, elapsed: Duration) -> Activity {
        let cut_off = |server: &ServerStats| server.cut_off_lagged + server.cut_off_stalled;
        Activity {
            connections: self.server.connections,
            streams: self.server.streams,
            events_per_second: rate(self.published, earlier.published, elapsed),
            deliveries_per_second: rate(self.server.delivered, earlier.server.delivered, elapsed),
            bytes_per_second: rate(self.server.delivered_bytes, earlier.server.delivered_bytes, elapsed),
            cut_off: cut_off(&self.server).saturating_sub(cut_off(&earlier.server)),
            accept_pauses: self.server.accept_pauses.saturating_sub(earlier.server.accept_pauses),
        }
    }
}

/// What the server did in a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Activity {
    /// Connections that are open.
    pub connections: u64,
    /// Streams that are open.
    pub streams: u64,
    /// Events published.
    pub events_per_second: f64,
    /// Events delivered, each to one subscriber.
    pub deliveries_per_second: f64,
    /// Bytes of these.
    pub bytes_per_second: f64,
    /// Subscribers cut off for being slow.
    pub cut_off: u64,
    /// Times that no connection was accepted for want of descriptors.
    pub accept_pauses: u64,
}

impl Activity {
    /// The same as metrics.
    pub fn metrics(&self) -> [Metric; 7] {
        [
            Metric::whole("connections", self.connections, "connections"),
            Metric::whole("streams", self.streams, "streams"),
            Metric::real("events_per_second", self.events_per_second, "events/s"),
            Metric::real("deliveries_per_second", self.deliveries_per_second, "events/s"),
            Metric::real("delivered_bytes_per_second", self.bytes_per_second, "bytes/s"),
            Metric::whole("subscribers_cut_off", self.cut_off, "subscribers"),
            Metric::whole("accept_pauses", self.accept_pauses, "pauses"),
        ]
    }
}

#[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
fn rate(now: u64, before: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 { now.saturating_sub(before) as f64 / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activity_is_the_difference_of_two_moments() {
        let counters = |published, delivered, cut_off_lagged, cut_off_stalled| Counters {
            published,
            server: ServerStats {
                connections: 7,
                delivered,
                cut_off_lagged,
                cut_off_stalled,
                ..ServerStats::default()
            },
        };
        let activity = counters(30, 400, 3, 2).since(&counters(10, 100, 1, 1), Duration::from_secs(2));
        assert_eq!(activity.connections, 7);
        assert_eq!((activity.events_per_second, activity.deliveries_per_second), (10.0, 150.0));
        assert_eq!((activity.cut_off, activity.accept_pauses), (3, 0));
    }

    #[test]
    fn no_time_has_no_rate() {
        assert_eq!(Counters::default().since(&Counters::default(), Duration::ZERO).events_per_second, 0.0);
    }
}

//! `--demo`: samples the machine and the server each second, and publishes metrics and alerts.

use std::time::Duration;

use fanline::hub::{Outcome, PublishError};
use fanline::server::Producer;
use fanline::topic::Topic;
use fanline::{Hub, Stats};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{info, warn};

use super::activity::Counters;
use super::alert::{self, Alerts};
use super::machine::{self, Machine};
use super::metric;
use super::outage::Outage;
use super::payload::{Timestamp, json_event};

const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// How often a log line sums up the activity, so that the topic `log` of a quiet server has something to show.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(10);

/// The producer of the topics `metric` and `alert`.
#[derive(Debug)]
pub struct Demo {
    hub: Hub,
    stats: Stats,
}

/// The producer as a part of the server.
pub fn producer() -> Producer {
    Producer::new("event_producer", async |server| Ok(Demo::new(server.hub(), server.stats()).produce().await?))
}

impl Demo {
    fn new(hub: &Hub, stats: &Stats) -> Self {
        Self { hub: hub.clone(), stats: stats.clone() }
    }

    /// Samples and publishes until the hub is closed, or until sampling panics. The samples are taken on the runtime's blocking
    /// threads.
    async fn produce(&self) -> Result<(), JoinError> {
        let [metrics, alerts] =
            [metric::TOPIC, alert::TOPIC].map(|topic| Topic::new(topic).expect("a plain word is a topic"));
        let mut machine = spawn_blocking(Machine::new)
            .await?
            .inspect_err(|error| warn!(%error, "cannot read the machine's metrics"))
            .ok();
        let mut raised = Alerts::default();
        let mut outage = Outage::default();
        let mut last_sample = Counters::read(&self.hub, &self.stats);
        let mut last_summary = last_sample;
        let mut ticks = interval_at(Instant::now() + machine::WARM_UP, SAMPLE_INTERVAL);
        // After a pause of the whole machine one sample is due, not one for each second of the pause.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut sample = Vec::new();
            if let Some(mut busy) = machine.take() {
                (machine, sample) = spawn_blocking(move || {
                    let sample = busy.sample();
                    (Some(busy), sample)
                })
                .await?;
            }
            let counters = Counters::read(&self.hub, &self.stats);
            sample.extend(counters.metrics(&last_sample));
            last_sample = counters;
            let now = Timestamp::now();
            let events = sample.iter().map(|metric| metric.event(&metrics, now));
            let alerts = raised.observe(&sample, now).into_iter().map(|alert| json_event(&alerts, &alert));
            match self.hub.publish_all(events.chain(alerts).collect()).await {
                Err(PublishError::Closed) => return Ok(()),
                // Not retried: the next sample replaces it.
                Err(error) if !matches!(error.outcome(), Outcome::Published(_)) => {
                    if outage.begin() {
                        warn!(%error, "the machine's metrics are dropped until they can be published");
                    }
                }
                _ => {
                    if outage.end() {
                        info!("the machine's metrics are published again");
                    }
                }
            }
            if last_summary.at.elapsed() >= SUMMARY_INTERVAL {
                log_summary(&counters, &last_summary);
                last_summary = counters;
            }
        }
    }
}

fn log_summary(now: &Counters, before: &Counters) {
    let per_second = |count: u64| (count as f64 / (now.at - before.at).as_secs_f64()).round();
    info!(
        connections = now.server.connections,
        streams = now.server.streams,
        events_per_second = per_second(now.published - before.published),
        deliveries_per_second = per_second(now.server.delivered - before.server.delivered),
        "the last {} s",
        SUMMARY_INTERVAL.as_secs()
    );
}

#[cfg(test)]
mod tests {
    use fanline::hub::PublishError;

    use super::super::tests::backbone::{Backbone, Log};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn unpublished_samples_are_dropped_and_sampling_continues() {
        let (log, _guard) = Log::begin();
        let (hub, mut backbone) = Backbone::new();
        let demo = Demo::new(&hub, &Stats::default());
        let task = tokio::spawn(async move { demo.produce().await });
        let mut samples = Vec::new();
        for error in [PublishError::Unavailable, PublishError::Unknown, PublishError::OutOfMemory] {
            backbone.fails(error).await;
            samples.push(Instant::now());
            assert!(!task.is_finished());
        }
        assert_eq!((log.count("are dropped"), log.count("published again")), (1, 0));
        backbone.publishes_without_replica().await;
        samples.push(Instant::now());
        backbone.publishes().await;
        samples.push(Instant::now());
        assert_eq!((log.count("are dropped"), log.count("published again")), (1, 1));
        assert!(
            samples.is_sorted_by(|earlier, later| later.duration_since(*earlier) > SAMPLE_INTERVAL / 2),
            "{samples:?}"
        );
        hub.close();
        task.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn first_sample_comes_within_half_a_second_then_one_each_second() {
        let hub = Hub::default();
        let demo = Demo::new(&hub, &Stats::default());
        let started = Instant::now();
        let task = tokio::spawn(async move { demo.produce().await });
        let mut published = 0;
        for latest in [500, 1500, 2500] {
            while hub.stats().published == published {
                // Paused time moves on only while nothing else can: it waits for the sampling thread.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            published = hub.stats().published;
            assert!(started.elapsed() < Duration::from_millis(latest), "{:?}", started.elapsed());
        }
        assert!(!task.is_finished());
    }
}

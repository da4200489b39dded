//! The loop of `--demo`: samples the machine and the server, and publishes what was measured and what is alarming.

use std::time::Duration;

use fanline::topic::Topic;
use fanline::{Hub, Stats};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{error, info, warn};

use super::activity::{Activity, Counters};
use super::alert::{self, Alerts};
use super::attempt::{Attempt, Outage};
use super::machine::{self, Machine};
use super::metric;
use super::shutdown::Shutdown;
use super::status::Status;
use super::timestamp::Timestamp;

/// How often the machine is sampled.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// How often a log line says what the server does, so that the topic `log` of a quiet server has something to show.
const SUMMARY_EVERY: Duration = Duration::from_secs(10);

/// The producer of the topics `metric` and `alert`.
#[derive(Debug)]
pub struct Demo {
    /// Where to publish.
    pub hub: Hub,
    /// The counters of the server.
    pub stats: Stats,
    /// Whether it runs, for `/health`.
    pub status: Status,
}

impl Demo {
    /// Samples and publishes until `shutdown` is due. The samples are taken on the runtime's blocking threads.
    pub async fn run(self, mut shutdown: Shutdown) {
        let _running = self.status.running();
        tokio::select! {
            () = shutdown.wait() => {}
            ended = self.produce() => {
                if let Err(panic) = ended {
                    error!(%panic, "the machine's metrics have stopped");
                }
            }
        }
    }

    /// Runs until the hub is closed, or until sampling panics.
    async fn produce(&self) -> Result<(), JoinError> {
        let [metrics, alerts] =
            [metric::TOPIC, alert::TOPIC].map(|topic| Topic::new(topic).expect("a plain word is a topic"));
        let mut machine =
            spawn_blocking(Machine::new).await?.inspect_err(|error| warn!(%error, "the machine has no metrics")).ok();
        let mut raised = Alerts::default();
        let mut activity = Since::now(self);
        let mut summary = Since::now(self);
        let mut outage = Outage::default();
        let mut ticks = interval_at(Instant::now() + machine::WARM_UP, SAMPLE_EVERY);
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
            sample.extend(activity.next(self).metrics());
            let now = Timestamp::now();
            let news = raised.observe(&sample);
            let events = sample.iter().map(|metric| metric.event(&metrics, now));
            let events = events.chain(news.iter().map(|alert| alert.event(&alerts, now))).collect();
            match Attempt::publish(&self.hub, events).await {
                Attempt::Closed => return Ok(()),
                Attempt::Published | Attempt::NotReplicated(_) => {
                    if outage.ends() {
                        info!("the machine's metrics are published again");
                    }
                }
                // The next sample says more than this one sent late.
                Attempt::NotPublished(error) | Attempt::Unknown(error) => {
                    if outage.begins() {
                        warn!(%error, "the machine's metrics are dropped until they can be published");
                    }
                }
            }
            if summary.at.elapsed() >= SUMMARY_EVERY {
                summarise(&summary.next(self));
            }
        }
    }
}

fn summarise(activity: &Activity) {
    info!(
        connections = activity.connections,
        streams = activity.streams,
        events_per_second = activity.events_per_second.round(),
        deliveries_per_second = activity.deliveries_per_second.round(),
        "the last {} s",
        SUMMARY_EVERY.as_secs()
    );
}

/// The moment that activity is counted from.
struct Since {
    at: Instant,
    counters: Counters,
}

impl Since {
    fn now(demo: &Demo) -> Self {
        Self { at: Instant::now(), counters: Counters::read(&demo.hub, &demo.stats) }
    }

    /// What happened since; counting begins anew.
    fn next(&mut self, demo: &Demo) -> Activity {
        let before = std::mem::replace(self, Self::now(demo));
        self.counters.since(&before.counters, self.at - before.at)
    }
}

#[cfg(test)]
mod tests {
    use fanline::hub::PublishError;
    use tokio::sync::watch;

    use super::super::played::{Backbone, Log};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn samples_that_cannot_be_published_are_dropped_and_the_next_ones_come() {
        let (log, _guard) = Log::begin();
        let (hub, mut backbone) = Backbone::new();
        let demo = Demo { hub: hub.clone(), stats: Stats::default(), status: Status::default() };
        let status = demo.status.clone();
        let (_stop, signal) = watch::channel(false);
        let task = tokio::spawn(demo.run(Shutdown::new(signal)));
        let mut samples = Vec::new();
        for error in [PublishError::Unavailable, PublishError::Unknown, PublishError::OutOfMemory] {
            backbone.fails(error).await;
            samples.push(Instant::now());
            assert_eq!(status.as_str(), "running");
        }
        assert_eq!((log.count("are dropped"), log.count("published again")), (1, 0));
        backbone.publishes_without_replica().await;
        samples.push(Instant::now());
        backbone.publishes().await;
        samples.push(Instant::now());
        assert_eq!((log.count("are dropped"), log.count("published again")), (1, 1));
        assert!(
            samples.is_sorted_by(|earlier, later| later.duration_since(*earlier) > SAMPLE_EVERY / 2),
            "{samples:?}"
        );
        hub.close();
        task.await.unwrap();
        assert_eq!(status.as_str(), "stopped");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_sample_comes_within_half_a_second_and_then_one_each_second() {
        let demo = Demo { hub: Hub::default(), stats: Stats::default(), status: Status::default() };
        let (hub, status) = (demo.hub.clone(), demo.status.clone());
        let (stop, signal) = watch::channel(false);
        let started = Instant::now();
        let task = tokio::spawn(demo.run(Shutdown::new(signal)));
        let mut published = 0;
        for latest in [500, 1500, 2500] {
            while hub.stats().published == published {
                // Paused time moves on only while nothing else can: it waits for the sampling thread.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            published = hub.stats().published;
            assert!(started.elapsed() < Duration::from_millis(latest), "{:?}", started.elapsed());
        }
        assert_eq!(status.as_str(), "running");
        stop.send(true).unwrap();
        task.await.unwrap();
        assert_eq!(status.as_str(), "stopped");
    }
}

//! Publishes standard input: each line one event, in order.
//!
//! A dedicated thread reads it, because a blocking read cannot be cancelled: the thread ends with the input or with the
//! process. The lines of one read are published at once, in batches, so a slow input is not delayed and a fast one has
//! little cost per line. While publishing waits, reading waits too.
//!
//! **Outages.** Lines that were certainly not published are retried until they are. Lines that may have been published
//! are not retried but logged. So no line is published twice, and the log has every line that may be missing.

use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::thread;
use std::time::Duration;

use fanline::Hub;
use fanline::event::Event;
use fanline::hub::{Outcome, PublishError};
use fanline::server::Producer;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::feed::{Fate, Feed, Totals};
use super::outage::Outage;

pub use super::feed::Format;

/// The pause after the first failed attempt. It doubles with each, up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The lines of an input.
#[derive(Debug)]
pub struct Stdin {
    pub format: Format,
    pub max_event_bytes: usize,
}

impl Stdin {
    /// The producer as a part of the server.
    pub fn producer(self, input: impl Read + Send + 'static) -> Producer {
        Producer::new("stdin_producer", async move |server| {
            let shutdown = CancellationToken::new();
            let ended = self.start(server.hub().clone(), input, Handle::current(), shutdown.clone())?;
            // Dropped with this task, when the server ends.
            let _stop = shutdown.drop_guard();
            ended.await.map_err(|_| "the thread that reads standard input panicked".into())
        })
    }

    /// Reads `input` to its end on a new thread and publishes through `runtime`. Publishes nothing after `shutdown`. The
    /// receiver completes when the thread ends.
    fn start(
        self,
        hub: Hub,
        input: impl Read + Send + 'static,
        runtime: Handle,
        shutdown: CancellationToken,
    ) -> io::Result<oneshot::Receiver<()>> {
        let (ended, has_ended) = oneshot::channel();
        thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            let mut publisher = Publisher::new(hub, shutdown);
            let publish = |events, lines| runtime.block_on(publisher.publish(events, lines));
            let warn = |line, fault| warn!(line, "standard input: {fault}");
            let totals = Feed::new(&self.format, self.max_event_bytes, publish, warn).run(input);
            log_totals(&totals, publisher.shutdown.is_cancelled());
            let _ = ended.send(());
        })?;
        Ok(has_ended)
    }
}

fn log_totals(totals: &Totals, is_shutdown: bool) {
    let &Totals { published, refused, unknown, replaced, unpublished_from } = totals;
    match unpublished_from {
        Some(line) => warn!(
            line,
            published,
            refused,
            unknown,
            replaced,
            "standard input was not published from this line on because the server shuts down"
        ),
        None if is_shutdown => info!(published, refused, unknown, replaced, "standard input has ended"),
        None => info!(published, refused, unknown, replaced, "standard input has ended; the server continues"),
    }
}

/// Publishes one batch after another and waits out outages of the backbone.
struct Publisher {
    hub: Hub,
    shutdown: CancellationToken,
    /// No event can be published.
    unavailable: Outage,
    /// Events are published without enough replicas.
    unreplicated: Outage,
}

impl Publisher {
    fn new(hub: Hub, shutdown: CancellationToken) -> Self {
        Self { hub, shutdown, unavailable: Outage::default(), unreplicated: Outage::default() }
    }

    /// Publishes the events of `lines`, retrying while they are certainly not published.
    async fn publish(&mut self, events: Vec<Event>, lines: RangeInclusive<u64>) -> Fate {
        let line = *lines.start();
        let mut pause = FIRST_PAUSE;
        loop {
            if self.shutdown.is_cancelled() {
                return Fate::Ended;
            }
            // Timers panic when the runtime has ended: `biased` avoids polling them after the shutdown.
            let published = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => {
                    warn!(line, "standard input: {} may not have been published; the server ends", numbered(&lines));
                    return Fate::Unknown;
                }
                published = self.hub.publish_all(events.clone()) => published,
            };
            match published.map_err(|error| (error, error.outcome())) {
                Ok(_) => {
                    self.unreplicated.end();
                    return self.published(line);
                }
                Err((PublishError::Closed, _)) => return Fate::Ended,
                Err((error, Outcome::Unknown)) => {
                    warn!(line, %error, "standard input: {} may not have been published", numbered(&lines));
                    return Fate::Unknown;
                }
                Err((error, Outcome::Published(_))) => {
                    if self.unreplicated.begin() {
                        warn!(line, %error, "standard input is published without enough replicas");
                    }
                    return self.published(line);
                }
                Err((error, Outcome::NotPublished)) => {
                    if self.unavailable.begin() {
                        warn!(line, %error, "standard input waits until it can be published");
                    }
                }
            }
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Fate::Ended,
                () = sleep(pause) => pause = MAX_PAUSE.min(pause * 2),
            }
        }
    }

    fn published(&mut self, line: u64) -> Fate {
        if self.unavailable.end() {
            info!(line, "standard input is published again");
        }
        Fate::Published
    }
}

/// `line 3` or `lines 3 to 5`.
fn numbered(lines: &RangeInclusive<u64>) -> String {
    match (lines.start(), lines.end()) {
        (first, last) if first == last => format!("line {first}"),
        (first, last) => format!("lines {first} to {last}"),
    }
}

#[cfg(test)]
mod tests {
    use fanline::event::Payload;
    use fanline::hub::PublishError;
    use fanline::topic::Topic;
    use tokio::time::Instant;

    use super::super::tests::backbone::{Backbone, Log};
    use super::*;

    fn stdin() -> Stdin {
        Stdin { format: Format::Lines { topic: Topic::new("log").unwrap() }, max_event_bytes: 100 }
    }

    #[tokio::test]
    async fn thread_publishes_in_order_and_ends_with_the_input() {
        let hub = Hub::default();
        let ended =
            stdin().start(hub.clone(), &b"one\ntwo\n"[..], Handle::current(), CancellationToken::new()).unwrap();
        ended.await.unwrap();
        assert_eq!(hub.stats().published, 2);
    }

    #[tokio::test]
    async fn nothing_is_published_after_shutdown() {
        let hub = Hub::default();
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        let ended = stdin().start(hub.clone(), &b"one\n"[..], Handle::current(), shutdown).unwrap();
        ended.await.unwrap();
        assert_eq!(hub.stats().published, 0);
    }

    fn publisher() -> (Publisher, Backbone) {
        let (hub, backbone) = Backbone::new();
        (Publisher::new(hub, CancellationToken::new()), backbone)
    }

    fn events(payloads: &[&str]) -> Vec<Event> {
        payloads.iter().map(|text| Event::new(Topic::new("t").unwrap(), Payload::text(*text))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn unpublished_lines_are_retried_with_growing_pauses() {
        let (log, _guard) = Log::begin();
        let (mut publisher, mut backbone) = publisher();
        let outage = async {
            let mut attempts = Vec::new();
            for _ in 0..3 {
                for error in [PublishError::Unavailable, PublishError::OutOfMemory, PublishError::Refused] {
                    assert_eq!(backbone.fails(error).await, ["one", "two"]);
                    attempts.push(Instant::now());
                }
            }
            assert_eq!((log.count("waits until"), log.count("published again")), (1, 0));
            assert_eq!(backbone.publishes().await, ["one", "two"]);
            assert_eq!(backbone.publishes().await, ["three"]);
            attempts.windows(2).map(|pair| (pair[1] - pair[0]).as_millis() / 10 * 10).collect::<Vec<_>>()
        };
        let publishing = async {
            assert_eq!(publisher.publish(events(&["one", "two"]), 1..=2).await, Fate::Published);
            assert_eq!(publisher.publish(events(&["three"]), 3..=3).await, Fate::Published);
        };
        let ((), pauses) = tokio::join!(publishing, outage);
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000, 1000]);
        assert_eq!((log.count("waits until"), log.count("published again")), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn lines_with_unknown_outcome_are_logged_and_not_retried() {
        let (log, _guard) = Log::begin();
        let (mut publisher, mut backbone) = publisher();
        let outage = async {
            assert_eq!(backbone.fails(PublishError::Unknown).await, ["one", "two"]);
            assert_eq!(backbone.fails(PublishError::Unavailable).await, ["three"]);
            assert_eq!(backbone.fails(PublishError::Unknown).await, ["three"]);
            assert_eq!(backbone.fails(PublishError::Unavailable).await, ["four"]);
            assert_eq!(backbone.publishes().await, ["four"]);
        };
        let publishing = async {
            assert_eq!(publisher.publish(events(&["one", "two"]), 1..=2).await, Fate::Unknown);
            assert_eq!(publisher.publish(events(&["three"]), 3..=3).await, Fate::Unknown);
            assert_eq!(publisher.publish(events(&["four"]), 4..=4).await, Fate::Published);
        };
        tokio::join!(publishing, outage);
        for line in ["lines 1 to 2 may not have been published", "line 3 may not have been published"] {
            assert_eq!(log.count(line), 1, "{line}");
        }
        assert_eq!((log.count("waits until"), log.count("published again")), (1, 1), "it was one outage");
    }

    #[tokio::test(start_paused = true)]
    async fn lines_without_enough_replicas_are_not_retried_and_logged_once_an_outage() {
        let (log, _guard) = Log::begin();
        let (mut publisher, mut backbone) = publisher();
        let outage = async {
            for text in ["1", "2", "3"] {
                assert_eq!(backbone.publishes_without_replica().await, [text]);
            }
            assert_eq!(log.count("without enough replicas"), 1);
            assert_eq!(backbone.publishes().await, ["4"]);
            assert_eq!(backbone.publishes_without_replica().await, ["5"]);
        };
        let publishing = async {
            for (line, text) in (1..).zip(["1", "2", "3", "4", "5"]) {
                assert_eq!(publisher.publish(events(&[text]), line..=line).await, Fate::Published);
            }
        };
        tokio::join!(publishing, outage);
        assert_eq!(log.count("without enough replicas"), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn retries_end_when_the_hub_is_closed() {
        let (mut publisher, mut backbone) = publisher();
        let hub = publisher.hub.clone();
        let publishing = publisher.publish(events(&["one"]), 1..=1);
        let closing = async {
            backbone.fails(PublishError::Unavailable).await;
            hub.close();
        };
        assert_eq!(tokio::join!(publishing, closing).0, Fate::Ended);
    }

    #[tokio::test(start_paused = true)]
    async fn retries_end_at_once_on_shutdown() {
        let (mut publisher, mut backbone) = publisher();
        let shutdown = publisher.shutdown.clone();
        let publishing = publisher.publish(events(&["one"]), 1..=1);
        let stopping = async {
            backbone.fails(PublishError::Unavailable).await;
            // Paused time moves on only while the publisher waits.
            sleep(FIRST_PAUSE / 2).await;
            shutdown.cancel();
            Instant::now()
        };
        let (fate, stopped) = tokio::join!(publishing, stopping);
        assert_eq!((fate, stopped.elapsed()), (Fate::Ended, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn lines_in_flight_at_shutdown_are_logged() {
        let (log, _guard) = Log::begin();
        let (mut publisher, mut backbone) = publisher();
        let shutdown = publisher.shutdown.clone();
        let publishing = publisher.publish(events(&["one", "two"]), 1..=2);
        let stopping = async {
            let publication = backbone.receive().await;
            shutdown.cancel();
            publication
        };
        assert_eq!(tokio::join!(publishing, stopping).0, Fate::Unknown);
        assert_eq!(log.count("lines 1 to 2 may not have been published; the server ends"), 1);
    }

    #[tokio::test]
    async fn input_waits_for_the_backbone_while_the_producer_is_running() {
        let (hub, mut backbone) = Backbone::new();
        let input = b"one\n".chain(&b"two\n"[..]);
        let mut ended = stdin().start(hub.clone(), input, Handle::current(), CancellationToken::new()).unwrap();
        for _ in 0..3 {
            assert_eq!(backbone.fails(PublishError::Unavailable).await, ["one"]);
            assert!(ended.try_recv().is_err(), "the thread has ended");
        }
        assert_eq!(backbone.publishes().await, ["one"]);
        assert_eq!(backbone.publishes().await, ["two"]);
        ended.await.unwrap();
        assert_eq!(hub.stats().published, 2);
    }
}

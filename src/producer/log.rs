//! The events of topic `log`: the server's own log lines of level INFO and above.
//!
//! The [`tracing_subscriber::Layer`] from [`layer`] copies each line into a bounded queue, [`LogLines`] publishes them.
//! The layer never waits: a line that finds the queue full is counted and dropped. The next published line says how
//! many lines are missing before it, including those that were not, or perhaps not, published.
//!
//! Publishing may itself log. Lines logged by the publishing call are ignored, or each would cause the next. Lines that
//! other threads log because of it cannot run away either: at most one batch is published in each [`PAUSE`].

use std::cell::Cell;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fanline::Hub;
use fanline::event::Event;
use fanline::hub::{Outcome, PublishError};
use fanline::server::Producer;
use fanline::topic::Topic;
use tokio::sync::mpsc;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::log_line::LogLine;
use super::payload::json_event;

pub const TOPIC: &str = "log";

const QUEUE: usize = 1024;
const BATCH: usize = 256;
/// The least time between two batches.
const PAUSE: Duration = Duration::from_millis(50);

thread_local! {
    static PUBLISHING: Cell<bool> = const { Cell::new(false) };
}

/// Returns a layer for the subscriber, and the lines that it collects.
pub fn layer<S>() -> (impl Layer<S>, LogLines)
where
    S: Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    let (send, receive) = mpsc::channel(QUEUE);
    let layer = LogLayer { lines: send, dropped: AtomicU64::new(0) };
    (layer.with_filter(LevelFilter::INFO), LogLines { queue: receive, missing: 0 })
}

struct LogLayer {
    lines: mpsc::Sender<LogLine>,
    dropped: AtomicU64,
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if PUBLISHING.get() {
            return;
        }
        // Relaxed: the count travels with the line, in the queue.
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        let line = LogLine::new(event, dropped);
        if let Err(mpsc::error::TrySendError::Full(_)) = self.lines.try_send(line) {
            self.dropped.fetch_add(dropped + 1, Ordering::Relaxed);
        }
    }
}

/// The lines that the layer has collected.
#[derive(Debug)]
pub struct LogLines {
    queue: mpsc::Receiver<LogLine>,
    /// Lines before the next one that were not published.
    missing: u64,
}

impl LogLines {
    /// The producer as a part of the server.
    pub fn producer(self) -> Producer {
        Producer::new("log_producer", async move |server| {
            self.run(server.hub()).await;
            Ok(())
        })
    }

    /// Publishes lines until the hub is closed.
    async fn run(mut self, hub: &Hub) {
        let topic = Topic::new(TOPIC).expect("a plain word is a topic");
        loop {
            let (events, count) = self.batch(&topic).await;
            if events.is_empty() {
                return;
            }
            match unlogged(hub.publish_all(events)).await {
                Err(PublishError::Closed) => return,
                Err(error) if !matches!(error.outcome(), Outcome::Published(_)) => self.missing = count,
                _ => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits for lines and returns them as events, with their number including the lines dropped before them. Returns no
    /// events when the layer is gone.
    async fn batch(&mut self, topic: &Topic) -> (Vec<Event>, u64) {
        let mut lines = Vec::new();
        self.queue.recv_many(&mut lines, BATCH).await;
        if let Some(first) = lines.first_mut() {
            first.dropped += std::mem::take(&mut self.missing);
        }
        let count = lines.iter().map(|line| line.dropped + 1).sum();
        (lines.iter().map(|line| json_event(topic, line)).collect(), count)
    }
}

/// Runs `future` without making events of the lines that it logs.
async fn unlogged<F: Future>(future: F) -> F::Output {
    struct Guard;
    impl Drop for Guard {
        fn drop(&mut self) {
            PUBLISHING.set(false);
        }
    }
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        PUBLISHING.set(true);
        let _guard = Guard;
        future.as_mut().poll(context)
    })
    .await
}

#[cfg(test)]
mod tests {
    use fanline::hub::PublishError;
    use serde_json::{Value, json};
    use tracing::{debug, info, subscriber::with_default, warn};
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::registry;

    use super::super::log_line::MAX_TEXT;
    use super::super::tests::backbone::Backbone;
    use super::*;

    /// The events for the lines that `work` logs, without their times.
    async fn logged(work: impl FnOnce()) -> Vec<Value> {
        let (layer, mut lines) = layer();
        with_default(registry().with(layer), work);
        let topic = Topic::new(TOPIC).unwrap();
        let mut all = Vec::new();
        loop {
            let (events, _) = lines.batch(&topic).await;
            if events.is_empty() {
                return all;
            }
            all.extend(events.iter().map(|event| {
                let mut line: Value = serde_json::from_slice(event.payload().as_bytes()).unwrap();
                assert!(line.as_object_mut().unwrap().remove("timestamp").unwrap().is_string());
                line
            }));
        }
    }

    #[tokio::test]
    async fn line_of_level_info_or_above_is_an_event() {
        let lines = logged(|| {
            debug!("not this one");
            info!(target: "fanline::server", port = 8000, tls = false, name = "a", "listening on {}", 8000);
            warn!(ratio = 0.5, error = ?Some(1));
        })
        .await;
        assert_eq!(
            lines,
            [
                json!({"type": "log", "level": "info", "target": "fanline::server", "message": "listening on 8000",
                    "fields": {"port": 8000, "tls": false, "name": "a"}}),
                json!({"type": "log", "level": "warn", "target": "fanline::producer::log::tests", "message": "",
                    "fields": {"ratio": 0.5, "error": "Some(1)"}}),
            ]
        );
    }

    #[tokio::test]
    async fn line_break_in_a_message_stays_in_one_event() {
        let lines = logged(|| info!("a\n\ndata: {{\"forged\":true}}\u{2028}\0\"")).await;
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["message"], "a\n\ndata: {\"forged\":true}\u{2028}\0\"");
        let json = json_event(&Topic::new(TOPIC).unwrap(), &lines[0]);
        assert!(!json.payload().as_bytes().contains(&b'\n'));
    }

    #[tokio::test]
    async fn long_line_is_clipped_at_a_character() {
        let lines = logged(|| info!(rest = "gone", "{}", format_args!("x{}", "ü".repeat(MAX_TEXT)))).await;
        assert_eq!(lines[0]["message"].as_str().unwrap().len(), MAX_TEXT - 1);
        assert!(lines[0]["fields"]["rest"].as_str().unwrap().len() <= 1);
    }

    #[tokio::test]
    async fn lines_dropped_at_full_queue_are_counted_in_the_next_line() {
        let (layer, mut lines) = layer();
        let topic = Topic::new(TOPIC).unwrap();
        let subscriber = tracing::Dispatch::new(registry().with(layer));
        tracing::dispatcher::with_default(&subscriber, || (0..QUEUE + 3).for_each(|n| info!(n)));
        let (first, _) = lines.batch(&topic).await;
        assert!(!std::str::from_utf8(first[0].payload().as_bytes()).unwrap().contains("dropped"));
        tracing::dispatcher::with_default(&subscriber, || info!("room again"));
        drop(subscriber);
        let mut last = first;
        while let events @ [_, ..] = &*lines.batch(&topic).await.0 {
            last = events.to_vec();
        }
        let last: Value = serde_json::from_slice(last.last().unwrap().payload().as_bytes()).unwrap();
        assert_eq!((&last["message"], &last["dropped"]), (&json!("room again"), &json!(3)));
    }

    #[tokio::test]
    async fn lines_logged_by_publishing_are_no_events() {
        let (layer, mut lines) = layer();
        let subscriber = registry().with(layer);
        let guard = tracing::subscriber::set_default(subscriber);
        info!("before");
        unlogged(async {
            info!("while publishing");
            tokio::task::yield_now().await;
            info!("while publishing, later");
        })
        .await;
        info!("after");
        drop(guard);
        let (events, _) = lines.batch(&Topic::new(TOPIC).unwrap()).await;
        assert_eq!(events.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn unpublished_lines_are_counted_in_the_next_published_line() {
        let (layer, lines) = layer();
        let (hub, mut backbone) = Backbone::new();
        let _guard = tracing::subscriber::set_default(registry().with(layer));
        let relayed = hub.clone();
        let task = tokio::spawn(async move { lines.run(&relayed).await });
        info!("one");
        info!("two");
        assert_eq!(backbone.fails(PublishError::Unavailable).await.len(), 2);
        info!("three");
        assert_eq!(backbone.fails(PublishError::Unknown).await.len(), 1);
        info!("four");
        info!("five");
        let published = backbone.publishes_without_replica().await;
        info!("six");
        let published = [published, backbone.publishes().await].concat();
        let dropped = |line: &String| serde_json::from_str::<Value>(line).unwrap()["dropped"].as_u64();
        assert_eq!(published.iter().map(dropped).collect::<Vec<_>>(), [Some(3), None, None]);
        hub.close();
        info!("seven");
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn lines_are_published_until_the_hub_is_closed() {
        let (layer, lines) = layer();
        let hub = Hub::default();
        let _guard = tracing::subscriber::set_default(registry().with(layer));
        let own = hub.clone();
        let task = tokio::spawn(async move { lines.run(&own).await });
        info!("one");
        while hub.stats().published == 0 {
            tokio::task::yield_now().await;
        }
        hub.close();
        info!("two");
        task.await.unwrap();
        assert_eq!(hub.stats().published, 1);
    }
}

//! Producers: named tasks that publish while the server runs.
//!
//! The tasks run on the runtime that runs the server, beside the accepting of connections. They end with the drain, before
//! the hub is closed: streams that the drain has not closed yet get their events.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use tokio::task::JoinSet;

use super::handle::ServerHandle;
use crate::http::producers::{ProducerRecord, Producers};

/// The task of a producer. Any error can become its error with `?`.
type Task = Pin<Box<dyn Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send>>;

/// A named task that starts and ends with a [`Server`](super::Server), and that `GET /health` shows.
///
/// The task starts when the server runs. It is dropped when the drain is over, so that streams get its events as long as they
/// are open. A task that returns earlier is `stopped`. One that returns an error or panics is `failed`: the server logs
/// the reason, continues without it, and is `degraded`.
///
/// `/health` is readable without credentials: the text of the error must hold no secrets.
///
/// The task runs on the runtime that calls [`Server::run`](super::Server::run), which also accepts connections. Code that
/// blocks belongs into `tokio::task::spawn_blocking`.
///
/// ```
/// use std::time::Duration;
///
/// use fanline::event::{Event, Payload};
/// use fanline::hub::Start;
/// use fanline::server::Producer;
/// use fanline::topic::Topic;
/// use fanline::{Hub, Server};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = Producer::new("clock", async |server| {
///     let topic = Topic::new("clock")?;
///     let mut seconds = tokio::time::interval(Duration::from_secs(1));
///     loop {
///         seconds.tick().await;
///         let streams = server.stats().read().streams;
///         let text = Payload::text(format!("{streams} streams are open"));
///         server.hub().publish(Event::new(topic.clone(), text)).await?;
///     }
/// });
/// let hub = Hub::default();
/// let (mut events, _) = hub.subscribe("clock".parse()?, Start::Live);
/// let server = Server::builder(hub).listen(([127, 0, 0, 1], 0)).producer(clock).bind()?;
/// // Until the first event.
/// server.run(async { drop(events.next().await) }).await?;
/// # Ok(())
/// # }
/// ```
pub struct Producer {
    name: String,
    /// In a mutex, which is never locked, to be `Sync`: only then is the future of [`Server::run`](super::Server::run) `Send`.
    start: Mutex<Box<dyn FnOnce(ServerHandle) -> Task + Send>>,
}

impl Producer {
    /// A producer with this name, which no other producer of the server has. `start` gets a handle of the server and returns
    /// the task.
    pub fn new<F, T>(name: impl Into<String>, start: F) -> Self
    where
        F: FnOnce(ServerHandle) -> T + Send + 'static,
        T: Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        // In the task, so that its panics are those of the task.
        let start = |server| -> Task { Box::pin(async move { start(server).await }) };
        Self { name: name.into(), start: Mutex::new(Box::new(start)) }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs the task to its end.
    async fn run(self, server: ServerHandle, record: &ProducerRecord) {
        let (running, name) = (record.running(), self.name);
        let start = self.start.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Unwind safe: nothing uses the task after a panic.
        let outcome = match AssertUnwindSafe(start(server)).catch_unwind().await {
            Ok(outcome) => outcome.map_err(|error| describe(&*error)),
            Err(panic) => Err(format!("panicked: {}", message(&*panic))),
        };
        match outcome {
            Ok(()) => tracing::info!(producer = name, "a producer has ended"),
            Err(reason) => {
                tracing::error!(producer = name, reason, "a producer failed; the server continues without it");
                running.failed(reason);
            }
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The error with its sources.
fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        // Some errors repeat their source.
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

/// The message of a panic.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

/// Returns the records of `producers`.
pub(super) fn records(producers: &[Producer]) -> io::Result<Producers> {
    Producers::new(producers.iter().map(|producer| producer.name.as_str())).map_err(|name| {
        let detail = format!("there are two producers {name:?}: each needs a name of its own");
        io::Error::new(io::ErrorKind::InvalidInput, detail)
    })
}

/// The tasks of a server's producers, which end when this is dropped.
pub(super) struct ProducerTasks(JoinSet<()>);

impl ProducerTasks {
    /// Starts the tasks.
    pub(super) fn start(producers: Vec<Producer>, server: &ServerHandle) -> Self {
        let mut tasks = JoinSet::new();
        for (number, producer) in producers.into_iter().enumerate() {
            let server = server.clone();
            let records = server.producers.clone();
            tasks.spawn(async move { producer.run(server, records.record(number)).await });
        }
        Self(tasks)
    }

    /// Drops the tasks that still run.
    pub(super) async fn stop(mut self) {
        self.0.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Failure {
        #[error("cannot read the queue")]
        Silent(#[source] io::Error),
        #[error("cannot read the queue: {0}")]
        Repeating(#[source] io::Error),
    }

    #[test]
    fn a_reason_has_each_source_once() {
        let gone = || io::Error::other("the connection is gone");
        for failure in [Failure::Silent(gone()), Failure::Repeating(gone())] {
            assert_eq!(describe(&failure), "cannot read the queue: the connection is gone");
        }
        assert_eq!(describe(&gone()), "the connection is gone");
    }

    #[test]
    fn a_panic_without_text_has_a_reason() {
        assert_eq!(message(&"a"), "a");
        assert_eq!(message(&"b".to_owned()), "b");
        assert_eq!(message(&7), "without a message");
    }
}

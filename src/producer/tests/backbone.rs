//! A backbone whose answers a test decides, and the log lines of a test.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use fanline::Hub;
use fanline::hub::relay::{PublishRequest, Relay};
use fanline::hub::{GapReason, HubOptions, PublishError, Published};
use tokio::sync::mpsc;
use tracing::Dispatch;
use tracing::subscriber::DefaultGuard;

/// The other end of a relayed hub.
pub struct Backbone {
    relay: Relay,
    requests: mpsc::Receiver<PublishRequest>,
}

impl Backbone {
    /// A hub with its backbone.
    pub fn new() -> (Hub, Self) {
        let (hub, relay, requests) = Hub::relayed(&HubOptions::default(), Duration::from_secs(1), None);
        relay.begin_after("1-0".parse().unwrap(), GapReason::Epoch);
        (hub, Self { relay, requests })
    }

    /// Rejects the next request with `error` and returns its payloads.
    pub async fn fails(&mut self, error: PublishError) -> Vec<String> {
        let (publication, payloads) = self.receive().await;
        publication.answer(Err(error));
        payloads
    }

    /// Publishes the next request and returns its payloads.
    pub async fn publishes(&mut self) -> Vec<String> {
        let (publication, payloads) = self.receive().await;
        let published = self.append(&publication);
        publication.answer(Ok(published));
        payloads
    }

    /// Publishes the next request without the one replica wanted, and returns its payloads.
    pub async fn publishes_without_replica(&mut self) -> Vec<String> {
        let (publication, payloads) = self.receive().await;
        let published = self.append(&publication);
        publication.answer(Err(PublishError::NotReplicated { published, acknowledged: 0, wanted: 1 }));
        payloads
    }

    /// Returns the next request and its payloads.
    pub async fn receive(&mut self) -> (PublishRequest, Vec<String>) {
        let publication = self.requests.recv().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let payloads = publication.events.iter().map(|event| text(event.payload().as_bytes())).collect();
        (publication, payloads)
    }

    fn append(&self, publication: &PublishRequest) -> Published {
        self.relay.append(&publication.events);
        let position = self.relay.position();
        Published { first: position, last: position }
    }
}

/// The log of this thread while the guard lives.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn begin() -> (Self, DefaultGuard) {
        // While there is a single subscriber, tracing turns a log line off for good that a thread without one is the first to reach.
        static OTHER: OnceLock<Dispatch> = OnceLock::new();
        OTHER.get_or_init(|| Dispatch::new(tracing_subscriber::registry()));
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// How many lines contain `text`.
    pub fn count(&self, text: &str) -> usize {
        let log = self.0.lock().unwrap();
        std::str::from_utf8(&log).unwrap().lines().filter(|line| line.contains(text)).count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

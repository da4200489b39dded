//! Standard input as events: each line one event, in order.
//!
//! A thread of its own reads it, since a read cannot be taken back: it ends with the input or with the process. What one
//! read call brings is published at once, in batches, so that a slow input is not delayed and a fast one costs little
//! for each line. While the hub makes publishers wait, the input waits as well.

use std::io::{self, Read};
use std::thread::{self, JoinHandle};

use fanline::Hub;
use tokio::runtime::Handle;
use tracing::{info, warn};

use super::feed::{Feed, Totals, Warning};
use super::shutdown::Shutdown;
use super::status::Status;

pub use super::feed::Format;

/// The producer of what comes in.
#[derive(Debug)]
pub struct Stdin {
    /// Where to publish.
    pub hub: Hub,
    /// What a line is.
    pub format: Format,
    /// The largest payload, in bytes.
    pub max_event_bytes: usize,
    /// Whether it runs, for `/health`.
    pub status: Status,
}

impl Stdin {
    /// Reads `input` to its end on a new thread and publishes through `runtime`. After `shutdown` is due nothing more is
    /// published.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(
        self,
        input: impl Read + Send + 'static,
        runtime: Handle,
        shutdown: Shutdown,
    ) -> io::Result<JoinHandle<()>> {
        let running = self.status.running();
        thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            let _running = running;
            let publish = |events| {
                if shutdown.is_due() {
                    return false;
                }
                runtime.block_on(self.hub.publish_all(events)).is_ok()
            };
            let warn = |warning: &Warning| warn!(line = warning.line, "standard input: {}", warning.reason);
            let feed = Feed::new(&self.format, self.max_event_bytes, publish, warn);
            let Totals { published, refused, replaced } = feed.run(input);
            if !shutdown.is_due() {
                info!(published, refused, replaced, "standard input has ended; the server goes on");
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use fanline::topic::Topic;

    use super::*;

    fn lines() -> Format {
        Format::Lines { topic: Topic::new("log").unwrap() }
    }

    #[tokio::test]
    async fn the_thread_publishes_in_order_and_ends_with_the_input() {
        let stdin = Stdin { hub: Hub::default(), format: lines(), max_event_bytes: 100, status: Status::default() };
        let (hub, status) = (stdin.hub.clone(), stdin.status.clone());
        let (_stop, signal) = tokio::sync::watch::channel(false);
        let thread = stdin.start(&b"one\ntwo\n"[..], Handle::current(), Shutdown::new(signal)).unwrap();
        tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
        assert_eq!(hub.stats().published, 2);
        assert_eq!(status.as_str(), "stopped");
    }

    #[tokio::test]
    async fn nothing_is_published_after_the_signal_to_stop() {
        let stdin = Stdin { hub: Hub::default(), format: lines(), max_event_bytes: 100, status: Status::default() };
        let hub = stdin.hub.clone();
        let (_stop, signal) = tokio::sync::watch::channel(true);
        let thread = stdin.start(&b"one\n"[..], Handle::current(), Shutdown::new(signal)).unwrap();
        tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
        assert_eq!(hub.stats().published, 0);
    }
}

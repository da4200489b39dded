//! Whether the Redis of a session is still the master.
//!
//! A master that the Sentinels have replaced takes writes for up to ten more seconds, until it learns of the failover, and
//! then loses them. The server therefore asks the Sentinels every second during a session. The session ends when they name
//! another master. Publishing pauses when they have not confirmed this one for [`FRESH`].

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::connection::Error;
use super::endpoint::Endpoint;
use super::sentinel::{Master, Sentinels};

/// How often to ask the Sentinels.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a confirmation is valid.
const FRESH: Duration = Duration::from_secs(3);

/// Ten years.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Asks the Sentinels about the master of one session.
pub(super) struct Confirmation {
    /// `None` without Sentinels: nothing can replace the master.
    master: Option<Master>,
    confirmed: watch::Sender<Instant>,
}

/// The time of the last confirmation.
#[derive(Clone)]
pub(super) struct Confirmed(watch::Receiver<Instant>);

impl Confirmation {
    /// Begins with a `master` that the Sentinels have just named.
    pub(super) fn new(master: Option<Master>) -> Self {
        // Far in the future without Sentinels: such a confirmation never expires.
        let confirmed = Instant::now() + if master.is_some() { Duration::ZERO } else { FOREVER };
        Self { master, confirmed: watch::Sender::new(confirmed) }
    }

    pub(super) fn confirmed(&self) -> Confirmed {
        Confirmed(self.confirmed.subscribe())
    }

    /// Asks the Sentinels until they name another master, or no majority answers within `limit`.
    pub(super) async fn watch(&self, endpoint: &Endpoint, limit: Duration) -> Result<Infallible, Error> {
        let (Some(master), Endpoint::Sentinels(sentinels)) = (&self.master, endpoint) else {
            return std::future::pending().await;
        };
        loop {
            sleep(INTERVAL).await;
            let asked = Instant::now();
            let named = match timeout(limit, Self::named(sentinels, limit)).await {
                Ok(named) => named,
                Err(_) => return Err(Error::unavailable("no majority of the Sentinels names a master")),
            };
            if !named.is_at(master) {
                return Err(Error::unavailable("the Sentinels name another master"));
            }
            // The answer confirms nothing that was published after the question: the master may have been replaced since.
            self.confirmed.send_replace(asked);
        }
    }

    /// Repeats the question until a majority names a master.
    async fn named(sentinels: &Sentinels, limit: Duration) -> Master {
        loop {
            match sentinels.master(limit).await {
                Ok(master) => return master,
                Err(error) => {
                    tracing::debug!(%error, "the Sentinels did not confirm the master");
                    sleep(INTERVAL / 4).await;
                }
            }
        }
    }
}

impl Confirmed {
    /// Whether a question asked after `moment` has confirmed the master.
    pub(super) fn is_later_than(&self, moment: Instant) -> bool {
        *self.0.borrow() > moment
    }

    /// Waits for the next confirmation. The sender lives as long as the session.
    pub(super) async fn next(&mut self) {
        let _ = self.0.changed().await;
    }

    /// Returns as soon as the last confirmation is valid, which is usually at once.
    pub(super) async fn fresh(&self) {
        let _ = self.0.clone().wait_for(|confirmed| confirmed.elapsed() < FRESH).await;
    }
}

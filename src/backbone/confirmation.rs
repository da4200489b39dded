//! Whether the Redis of a session is still the master.
//!
//! A master that Sentinels have replaced keeps taking writes until it hears of it, up to ten seconds later, and loses them.
//! So the Sentinels are asked every second for as long as a session lasts. The session ends when they name another master,
//! and publishing pauses when they have not confirmed this one for [`FRESH`].

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::Lost;
use super::link::Endpoint;
use super::sentinel::Master;

/// How often the Sentinels are asked.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a confirmation holds.
const FRESH: Duration = Duration::from_secs(3);

/// Confirms the master of one session.
pub(super) struct Confirmation {
    /// None without Sentinels: nothing replaces the only Redis there is.
    master: Option<Master>,
    confirmed: watch::Sender<Instant>,
}

/// When the master was confirmed last.
pub(super) struct Confirmed {
    needs_confirmation: bool,
    confirmed: watch::Receiver<Instant>,
}

impl Confirmation {
    /// The Sentinels have just named `master`.
    pub(super) fn new(master: Option<Master>) -> Self {
        Self { master, confirmed: watch::Sender::new(Instant::now()) }
    }

    pub(super) fn confirmed(&self) -> Confirmed {
        Confirmed { needs_confirmation: self.master.is_some(), confirmed: self.confirmed.subscribe() }
    }

    /// Asks the Sentinels, until they name another master or cannot be asked for `limit`.
    pub(super) async fn watch(&self, endpoint: &Endpoint, limit: Duration) -> Result<Infallible, Lost> {
        let (Some(master), Endpoint::Sentinels(sentinels)) = (&self.master, endpoint) else {
            return std::future::pending().await;
        };
        loop {
            sleep(INTERVAL).await;
            let asked = Instant::now();
            let named = match timeout(limit, Self::named(sentinels, limit)).await {
                Ok(named) => named,
                Err(_) => return Err(Lost::Again("no majority of the Sentinels names a master".to_owned())),
            };
            if !named.is_at(master) {
                return Err(Lost::Again("the Sentinels name another master".to_owned()));
            }
            // What was published after the question may have gone to a master that was replaced meanwhile.
            self.confirmed.send_replace(asked);
        }
    }

    /// Asks again after each failure.
    async fn named(sentinels: &super::sentinel::Sentinels, limit: Duration) -> Master {
        loop {
            match sentinels.master(limit).await {
                Ok(master) => return master,
                Err(error) => {
                    tracing::debug!(%error, "the master is not confirmed");
                    sleep(INTERVAL / 4).await;
                }
            }
        }
    }
}

impl Confirmed {
    /// Whether the master was confirmed by a question that was asked after `moment`.
    pub(super) fn is_later_than(&self, moment: Instant) -> bool {
        !self.needs_confirmation || *self.confirmed.borrow() > moment
    }

    /// Waits for the next confirmation.
    pub(super) async fn next(&mut self) {
        // The sender lives as long as the session that this belongs to.
        let _ = self.confirmed.changed().await;
    }

    /// Waits until the master is confirmed, which it is most of the time.
    pub(super) async fn is_fresh(&self) {
        if self.needs_confirmation && self.confirmed.borrow().elapsed() >= FRESH {
            // The sender lives as long as the session that this belongs to.
            let _ = self.confirmed.clone().wait_for(|confirmed| confirmed.elapsed() < FRESH).await;
        }
    }
}

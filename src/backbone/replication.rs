//! Publications that stand in the stream, until replicas have them (setting `redis_wait`).
//!
//! Waiting has a connection of its own, so that the next batches are published meanwhile. Each round waits once for all
//! publications that have come since the round before: a publisher waits for two rounds at most.
//!
//! While fewer replicas confirm than wanted, the server says so in its readiness, and asks once a second.

use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::Lost;
use super::keys::Keys;
use super::script;
use super::status::Status;
use crate::hub::relay::PublishRequest;
use crate::hub::{PublishError, Published};

/// How often replicas are asked for while there are too few.
const PROBE: Duration = Duration::from_secs(1);

/// How much longer than Redis itself its answer is waited for.
const MARGIN: Duration = Duration::from_secs(1);

/// Publications that are published and not confirmed.
#[derive(Clone, Default)]
pub(super) struct Unconfirmed(Arc<Shared>);

#[derive(Default)]
struct Shared {
    publications: Mutex<Vec<(PublishRequest, Published)>>,
    added: Notify,
}

impl Unconfirmed {
    pub(super) fn add(&self, publication: PublishRequest, published: Published) {
        self.0.publications.lock().unwrap_or_else(PoisonError::into_inner).push((publication, published));
        self.0.added.notify_one();
    }

    fn take(&self) -> Vec<(PublishRequest, Published)> {
        take(&mut *self.0.publications.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) struct Replication {
    pub(super) unconfirmed: Unconfirmed,
    pub(super) keys: Keys,
    pub(super) status: Arc<Status>,
    /// How many replicas are wanted.
    pub(super) wanted: u32,
    pub(super) timeout: Duration,
}

impl Replication {
    /// Confirms publications for as long as the connection lasts.
    pub(super) async fn serve(&self, redis: &mut MultiplexedConnection) -> Result<std::convert::Infallible, Lost> {
        if self.wanted == 0 {
            return std::future::pending().await;
        }
        // Whether there are enough replicas is not known before the first round.
        let mut probe = Some(Instant::now());
        loop {
            tokio::select! {
                () = self.unconfirmed.0.added.notified() => {}
                () = async { sleep_until(probe.expect("it is checked")).await }, if probe.is_some() => {}
            }
            let round = Round { publications: self.unconfirmed.take(), wanted: self.wanted, confirmed: 0 };
            let confirmed = self.round(round, redis).await?;
            self.status.replicas(confirmed, self.wanted);
            probe = (confirmed < self.wanted).then(|| Instant::now() + PROBE);
        }
    }

    /// Waits until the replicas have all that was published before.
    async fn round(&self, mut round: Round, redis: &mut MultiplexedConnection) -> Result<u32, Lost> {
        let milliseconds = self.timeout.as_millis() as u64;
        let wait = script::wait(redis, &self.keys.replication, self.wanted, milliseconds);
        let confirmed = timeout(self.timeout + MARGIN, wait).await.map_err(|_| Lost::no_answer(self.timeout))??;
        round.confirmed = confirmed;
        Ok(confirmed)
    }

    /// Answers the publications of a session that has ended: nothing is known of the replicas any more.
    pub(super) fn give_up(&self) {
        drop(Round { publications: self.unconfirmed.take(), wanted: self.wanted, confirmed: 0 });
    }
}

/// The publications of one round. They are answered when it is dropped, also when the connection is lost meanwhile.
struct Round {
    publications: Vec<(PublishRequest, Published)>,
    wanted: u32,
    confirmed: u32,
}

impl Drop for Round {
    fn drop(&mut self) {
        let (wanted, acknowledged) = (self.wanted, self.confirmed);
        for (publication, published) in self.publications.drain(..) {
            publication.answer(if acknowledged >= wanted {
                Ok(published)
            } else {
                Err(PublishError::NotReplicated { published, acknowledged, wanted })
            });
        }
    }
}

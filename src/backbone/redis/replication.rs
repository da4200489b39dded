//! Publications that are in the stream and wait for replicas (setting `redis_wait`).
//!
//! Waiting has its own connection, so that the next batches are published meanwhile. Each round waits once for all
//! publications that have arrived since the previous round: a publisher waits for two rounds at most.
//!
//! While fewer replicas confirm than wanted, the server reports it in its readiness and tries again every second.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use redis::pipe;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Context;
use super::connection::{Connection, Error};
use super::wait_until;
use crate::hub::relay::PublishRequest;
use crate::hub::{PublishError, PublishedOnce};

/// How often to count the replicas while there are too few.
const PROBE: Duration = Duration::from_secs(1);

/// How much longer than `WAIT` itself its answer may take.
const MARGIN: Duration = Duration::from_secs(1);

/// A publication in the stream that replicas have not confirmed.
pub(super) type Unconfirmed = (PublishRequest, PublishedOnce);

pub(super) struct Replication {
    context: Arc<Context>,
    unconfirmed: mpsc::UnboundedReceiver<Unconfirmed>,
}

impl Replication {
    pub(super) fn new(context: Arc<Context>, unconfirmed: mpsc::UnboundedReceiver<Unconfirmed>) -> Self {
        Self { context, unconfirmed }
    }

    /// Confirms publications until the connection is lost.
    pub(super) async fn serve(&mut self, redis: &mut Connection) -> Result<Infallible, Error> {
        let wanted = self.context.options.wait;
        if wanted == 0 {
            return std::future::pending().await;
        }
        // The first round finds out whether there are enough replicas.
        let mut probe = Some(Instant::now());
        loop {
            let mut round = Round { publications: Vec::new(), wanted, confirmed: 0 };
            tokio::select! {
                _ = self.unconfirmed.recv_many(&mut round.publications, usize::MAX) => {}
                () = wait_until(probe) => {}
            }
            round.confirmed = self.wait(redis).await?;
            self.context.status.set_replicas(round.confirmed, wanted);
            probe = (round.confirmed < wanted).then(|| Instant::now() + PROBE);
        }
    }

    /// Returns how many replicas have all earlier writes: waits until there are enough of them or the time is over.
    async fn wait(&self, redis: &mut Connection) -> Result<u32, Error> {
        let limit = self.context.options.timeout;
        let mut wait = pipe();
        // `WAIT` counts from the last write of its own connection, so there must be one.
        wait.cmd("SET").arg(&self.context.keys.replication).arg("").arg("PX").arg(60_000).ignore();
        wait.cmd("WAIT").arg(self.context.options.wait).arg(limit.as_millis() as u64);
        let (confirmed,): (u32,) = redis.pipeline(&wait, MARGIN).await?;
        Ok(confirmed)
    }

    /// Answers the remaining publications of a session that has ended: nothing is known of the replicas any more.
    pub(super) fn give_up(&mut self) {
        let mut round = Round { publications: Vec::new(), wanted: self.context.options.wait, confirmed: 0 };
        while let Ok(unconfirmed) = self.unconfirmed.try_recv() {
            round.publications.push(unconfirmed);
        }
    }
}

/// The publications of one round. Dropping it answers them, so that they are also answered if the connection is lost.
struct Round {
    publications: Vec<Unconfirmed>,
    wanted: u32,
    confirmed: u32,
}

impl Drop for Round {
    fn drop(&mut self) {
        let (wanted, acknowledged) = (self.wanted, self.confirmed);
        for (publication, once) in self.publications.drain(..) {
            publication.answer_once(if acknowledged >= wanted {
                Ok(once)
            } else {
                Err(PublishError::NotReplicated { published: once.published, acknowledged, wanted })
            });
        }
    }
}

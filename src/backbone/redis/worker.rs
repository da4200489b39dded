//! The backbone's thread: one session with Redis after another, with pauses in between.
//!
//! Each part of a session has its own connection, so that none waits for another: the tail and the replication block
//! theirs, and pages are large. When one connection fails the session ends. The next session begins with a check that the
//! stream is still the one that this server knows.

use std::convert::Infallible;
use std::mem::{replace, take};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::Context;
use super::archive::{self, ArchiveReader};
use super::confirmation::Confirmation;
use super::connection::{Connection, Error};
use super::endpoint::Endpoint;
use super::expiry::Expiry;
use super::leases::Leases;
use super::outbox::Outbox;
use super::replication::Replication;
use super::roster::Roster;
use super::script::Publisher;
use super::tail::Tail;
use crate::backbone::status::{State, Status};
use crate::hub::relay::{PublishRequest, Relay};
use crate::position::StreamPosition;

/// The pause after a first failed attempt.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause between two attempts, jitter aside.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a session that publishes nothing must last before the pauses are short again.
const STABLE: Duration = Duration::from_secs(5);

pub(super) struct Worker {
    context: Arc<Context>,
    endpoint: Endpoint,
    tail: Tail,
    outbox: Outbox,
    replication: Replication,
    archive: ArchiveReader,
    roster: Roster,
    leases: Leases,
    expiry: Expiry,
}

/// The connections of one session.
struct Session {
    confirmation: Confirmation,
    publisher: Publisher,
    tail: Connection,
    control: Connection,
    replication: Connection,
    archive: Connection,
    roster: Connection,
    leases: Connection,
    expiry: Connection,
}

impl Worker {
    /// A worker for a hub behind `relay`, whose rings hold about `warm` events.
    pub(super) fn new(
        context: &Arc<Context>,
        relay: &Relay,
        warm: usize,
        requests: mpsc::Receiver<PublishRequest>,
        archive_requests: archive::Requests,
        roster: Roster,
        leases: Leases,
    ) -> Result<Self, Error> {
        let (published, unconfirmed) = mpsc::unbounded_channel();
        Ok(Self {
            endpoint: Endpoint::new(&context.options.url, &context.keys.stream)?,
            tail: Tail::new(context.clone(), relay.clone(), warm),
            outbox: Outbox::new(context.clone(), requests, published),
            replication: Replication::new(context.clone(), unconfirmed),
            archive: ArchiveReader::new(context.clone(), archive_requests, relay.clone()),
            roster,
            leases,
            expiry: Expiry::new(context.clone(), relay.clone()),
            context: context.clone(),
        })
    }

    /// Runs sessions forever. `first` gets the outcome of the first attempt.
    pub(super) async fn run(mut self, first: oneshot::Sender<Result<(), Error>>) -> Infallible {
        let mut first = Some(first);
        let (mut pause, mut log) = (SHORTEST_PAUSE, Log::default());
        let context = self.context.clone();
        loop {
            let acknowledged = self.outbox.acknowledged;
            let session = tokio::select! {
                session = Session::begin(&self.endpoint, context.options.timeout, &mut self.tail, acknowledged) => session,
                never = self.outbox.wait_for_session() => match never {},
            };
            let was_up = session.is_ok();
            self.outbox.is_away = !was_up;
            let error = match session {
                Ok(session) => {
                    log.up(&context.status);
                    if let Some(first) = first.take() {
                        let _ = first.send(Ok(()));
                    }
                    let (began, batches) = (Instant::now(), self.batches());
                    let Err(error) = self.serve(session).await;
                    self.replication.give_up();
                    // After a session that was of no use the next attempt must not come at once.
                    if began.elapsed() >= STABLE || self.batches() > batches {
                        pause = SHORTEST_PAUSE;
                    }
                    error
                }
                Err(error) => error,
            };
            log.away(&context.status, &error);
            // After the state, because a server that has counted a loss must not look ready in the lost session.
            context.status.counts.losses.add(u64::from(was_up));
            if let Some(first) = first.take() {
                let _ = first.send(Err(error));
            }
            // Up to a half longer, so that many servers do not come back at once.
            let jittered = pause.mul_f64(1.0 + fastrand::f64() / 2.0);
            pause = (pause * 2).min(LONGEST_PAUSE);
            tokio::select! {
                () = sleep(jittered) => {}
                never = self.outbox.wait_for_session() => match never {},
            }
        }
    }

    fn batches(&self) -> u64 {
        self.context.status.counts.batches.get()
    }

    /// Serves until one of the connections is lost.
    async fn serve(&mut self, mut session: Session) -> Result<Infallible, Error> {
        let (epoch, confirmed) = (self.tail.epoch(), session.confirmation.confirmed());
        let mut archive_confirmed = confirmed.clone();
        let Session { confirmation, publisher, tail, control, replication, archive, roster, leases, expiry } =
            &mut session;
        tokio::select! {
            lost = confirmation.watch(&self.endpoint, self.context.options.timeout) => lost,
            lost = self.tail.follow(tail, control) => lost,
            lost = self.outbox.publish(publisher, epoch.clone(), &confirmed) => lost,
            lost = self.replication.serve(replication) => lost,
            lost = self.archive.serve(archive, &mut archive_confirmed) => lost,
            lost = self.roster.serve(roster) => lost,
            lost = self.leases.serve(leases, &epoch) => lost,
            lost = self.expiry.serve(expiry, &epoch) => lost,
        }
    }
}

impl Session {
    async fn begin(
        endpoint: &Endpoint,
        limit: Duration,
        tail: &mut Tail,
        acknowledged: Option<StreamPosition>,
    ) -> Result<Self, Error> {
        let (client, master) = endpoint.client(limit).await?;
        let confirmation = Confirmation::new(master);
        let mut control = Connection::open("Redis", &client, limit).await?;
        let process = control.check().await?;
        tail.catch_up(&mut control, acknowledged).await?;
        let another = async || {
            let mut connection = Connection::open("Redis", &client, limit).await?;
            // The tail has checked the stream of one process. Other processes may be behind the same address.
            let is_same = connection.check().await? == process;
            is_same
                .then_some(connection)
                .ok_or_else(|| Error::unavailable("the address leads to several Redis servers"))
        };
        Ok(Self {
            confirmation,
            publisher: Publisher::load(another().await?).await?,
            tail: another().await?,
            control,
            replication: another().await?,
            archive: another().await?,
            roster: another().await?,
            leases: another().await?,
            expiry: another().await?,
        })
    }
}

/// Sets the state and logs its changes, at most one outage in [`STABLE`].
#[derive(Default)]
struct Log {
    has_been_up: bool,
    /// When Redis was lost, until it is back.
    lost_at: Option<Instant>,
    /// When the log last said that Redis is away.
    warned_at: Option<Instant>,
    /// Whether the present outage is in the log.
    has_warned: bool,
}

impl Log {
    fn up(&mut self, status: &Status) {
        status.set_state(State::Up, None);
        let outage = self.lost_at.take().map_or(0, |lost_at| lost_at.elapsed().as_secs());
        let has_warned = take(&mut self.has_warned);
        if !replace(&mut self.has_been_up, true) {
            tracing::info!(node = status.node(), "connected to Redis");
        } else if has_warned {
            tracing::info!(node = status.node(), "Redis is back after {outage} s");
        } else {
            tracing::debug!("Redis is back");
        }
    }

    fn away(&mut self, status: &Status, error: &Error) {
        let state = if self.has_been_up { State::Away } else { State::Connecting };
        status.set_state(state, Some(error.to_string()));
        self.lost_at.get_or_insert_with(Instant::now);
        if !self.has_warned && self.warned_at.is_none_or(|warned_at| warned_at.elapsed() >= STABLE) {
            (self.warned_at, self.has_warned) = (Some(Instant::now()), true);
            tracing::warn!(node = status.node(), reason = %error, "Redis is away");
        } else {
            tracing::debug!(reason = %error, "Redis is still away");
        }
    }
}

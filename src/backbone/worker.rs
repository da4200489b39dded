//! The backbone's own thread: one session with Redis after the other.
//!
//! A session has a connection for each of its parts, so that none waits for another: the tail's blocks, the outbox has one
//! batch on its way, the archive reads pages. When one of them fails the session ends, and the next one begins with a look
//! at whether the stream is still the one that this server knows.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::Client;
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep, timeout};

use super::Lost;
use super::archive::Archive;
use super::confirmation::Confirmation;
use super::link::{self, Endpoint, LinkError};
use super::outbox::Outbox;
use super::replication::Replication;
use super::roster::Roster;
use super::script::Publisher;
use super::status::{State, Status, add};
use super::tail::Tail;

/// How long it takes at most until Redis is tried again, jitter aside.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a session that publishes nothing has to last before the pauses are short again.
const STABLE: Duration = Duration::from_secs(5);

pub(super) struct Worker {
    pub(super) endpoint: Endpoint,
    pub(super) timeout: Duration,
    pub(super) status: Arc<Status>,
    pub(super) tail: Tail,
    pub(super) outbox: Outbox,
    pub(super) replication: Replication,
    pub(super) archive: Archive,
    pub(super) roster: Roster,
}

/// The connections of one session.
struct Session {
    confirmation: Confirmation,
    tail: MultiplexedConnection,
    control: MultiplexedConnection,
    outbox: MultiplexedConnection,
    replication: MultiplexedConnection,
    archive: MultiplexedConnection,
    roster: MultiplexedConnection,
    publisher: Publisher,
}

impl Worker {
    /// Keeps in touch with Redis, for ever. `on_first` gets the outcome of the first attempt.
    pub(super) async fn run(&mut self, on_first: impl FnOnce(Result<(), LinkError>)) -> Infallible {
        let mut on_first = Some(on_first);
        let (mut pause, mut log) = (Pause::new(), Log::default());
        loop {
            let acknowledged = self.outbox.acknowledged();
            let session = tokio::select! {
                session = Session::begin(&self.endpoint, self.timeout, &mut self.tail, acknowledged) => session,
                () = self.outbox.wait_for_redis() => unreachable!("it never returns"),
            };
            let error = match session {
                Ok(session) => {
                    if let Some(on_first) = on_first.take() {
                        on_first(Ok(()));
                    }
                    log.is_up(&self.status);
                    self.outbox.set_away(false);
                    let (began, batches) = (Instant::now(), self.batches());
                    let Err(error) = self.serve(session).await;
                    self.replication.give_up();
                    add(&self.status.counts.losses, 1);
                    // A session that was of no use must not be begun again at once.
                    if began.elapsed() >= STABLE || self.batches() > batches {
                        pause = Pause::new();
                    }
                    error
                }
                Err(error) => {
                    self.outbox.set_away(true);
                    error
                }
            };
            log.is_away(&self.status, &error);
            if let (Some(on_first), Lost::Link(error)) = (on_first.take(), error) {
                on_first(Err(error));
            }
            let pause = pause.next();
            tokio::select! {
                () = sleep(pause) => {}
                () = self.outbox.wait_for_redis() => unreachable!("it never returns"),
            }
        }
    }

    /// How many batches were published.
    fn batches(&self) -> u64 {
        self.status.counts.batches.load(Ordering::Relaxed)
    }

    /// Serves until a connection is lost.
    async fn serve(&mut self, mut session: Session) -> Result<Infallible, Lost> {
        let (followed, confirmed) = (self.tail.followed(), session.confirmation.confirmed());
        let mut confirmed_archive = session.confirmation.confirmed();
        let Session { confirmation, tail, control, outbox, replication, archive, roster, publisher } = &mut session;
        tokio::select! {
            lost = confirmation.watch(&self.endpoint, self.timeout) => lost,
            Err(lost) = self.tail.follow(tail, control) => Err(lost),
            lost = self.outbox.publish(outbox, publisher, &followed, &confirmed) => lost,
            lost = self.replication.serve(replication) => lost,
            lost = self.archive.serve(archive, &mut confirmed_archive) => lost,
            Err(lost) = self.roster.serve(roster) => Err(lost),
        }
    }
}

impl Session {
    async fn begin(
        endpoint: &Endpoint,
        limit: Duration,
        tail: &mut Tail,
        acknowledged: Option<crate::position::StreamPosition>,
    ) -> Result<Self, Lost> {
        let (client, master) = match timeout(limit, endpoint.client(limit)).await {
            Ok(client) => client?,
            Err(_) => return Err(Lost::no_answer(limit)),
        };
        let confirmation = Confirmation::new(master);
        let (mut control, run) = connect(&client, limit).await?;
        tail.catch_up(&mut control, acknowledged).await?;
        let another = async || {
            let (connection, other) = connect(&client, limit).await?;
            // The look at the stream holds for one process. Others may be behind the same address.
            let is_same = other == run;
            is_same.then_some(connection).ok_or_else(|| Lost::Again("the address leads to several servers".to_owned()))
        };
        let mut outbox = another().await?;
        let publisher = match timeout(limit, Publisher::load(&mut outbox)).await {
            Ok(publisher) => publisher?,
            Err(_) => return Err(Lost::no_answer(limit)),
        };
        let (tail, replication) = (another().await?, another().await?);
        let (archive, roster) = (another().await?, another().await?);
        Ok(Self { confirmation, tail, control, outbox, replication, archive, roster, publisher })
    }
}

/// A connection, and the identity of the process that it leads to.
async fn connect(client: &Client, limit: Duration) -> Result<(MultiplexedConnection, String), Lost> {
    let mut connection = link::connect(client, limit).await?;
    match timeout(limit, link::check(&mut connection)).await {
        Ok(run) => Ok((connection, run?)),
        Err(_) => Err(Lost::no_answer(limit)),
    }
}

/// Sets the state, and logs when it changes: a Redis that comes and goes all the time gets a line now and then.
#[derive(Default)]
struct Log {
    /// When Redis was lost, until it is back.
    lost_at: Option<Instant>,
    /// When the log last said that Redis is away.
    warned_at: Option<Instant>,
    /// Whether that is the log's last word.
    has_warned: bool,
    has_been_up: bool,
}

impl Log {
    fn is_up(&mut self, status: &Status) {
        status.become_(State::Up, None);
        let lost_at = self.lost_at.take();
        let is_first = !std::mem::replace(&mut self.has_been_up, true);
        match lost_at {
            _ if !is_first && !std::mem::take(&mut self.has_warned) => tracing::debug!("Redis is back"),
            Some(lost_at) if !is_first => {
                let after = lost_at.elapsed().as_secs();
                tracing::info!(node = status.node(), "Redis is back after {after} s");
            }
            _ => tracing::info!(node = status.node(), "Redis is there"),
        }
    }

    fn is_away(&mut self, status: &Status, error: &Lost) {
        let state = if self.has_been_up { State::Away } else { State::Connecting };
        status.become_(state, Some(error.to_string()));
        self.lost_at.get_or_insert_with(Instant::now);
        let is_new = !self.has_warned && self.warned_at.is_none_or(|warned_at| warned_at.elapsed() >= STABLE);
        if is_new {
            (self.warned_at, self.has_warned) = (Some(Instant::now()), true);
            tracing::warn!(node = status.node(), reason = %error, "Redis is away");
        } else {
            tracing::debug!(reason = %error, "Redis is still away");
        }
    }
}

/// Pauses that grow, each up to a half longer than it has to be, so that many servers do not come at once.
struct Pause(Duration);

impl Pause {
    fn new() -> Self {
        Self(Duration::from_millis(50))
    }

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        pause.mul_f64(1.0 + fastrand::f64() / 2.0)
    }
}

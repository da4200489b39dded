//! The backbone's own thread: one session with Redis after the other.
//!
//! A session has a connection for each of its parts, so that none waits for another: the tail's blocks, the outbox has one
//! batch on its way, the archive reads pages. When one of them fails the session ends, and the next one begins with a look
//! at whether the stream is still the one that this server knows.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep, timeout};

use super::Lost;
use super::archive::Archive;
use super::link::{self, Endpoint, LinkError};
use super::outbox::Outbox;
use super::roster::Roster;
use super::script::Publisher;
use super::status::{State, Status, add};
use super::tail::Tail;

/// How long it takes at most until Redis is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(super) struct Worker {
    pub(super) endpoint: Endpoint,
    pub(super) timeout: Duration,
    pub(super) status: Arc<Status>,
    pub(super) tail: Tail,
    pub(super) outbox: Outbox,
    pub(super) archive: Archive,
    pub(super) roster: Roster,
}

/// The connections of one session.
struct Session {
    tail: MultiplexedConnection,
    control: MultiplexedConnection,
    outbox: MultiplexedConnection,
    archive: MultiplexedConnection,
    roster: MultiplexedConnection,
    publisher: Publisher,
}

impl Worker {
    /// Keeps in touch with Redis, for ever. `on_first` is told how the first attempt went.
    pub(super) async fn run(&mut self, on_first: impl FnOnce(Result<(), LinkError>)) -> Infallible {
        let mut on_first = Some(on_first);
        let (mut pause, mut lost_at) = (Pause::new(), None);
        loop {
            let lost = tokio::select! {
                session = Self::begin(&self.endpoint, self.timeout, &mut self.tail, self.outbox.acknowledged()) => session,
                () = self.outbox.endure() => unreachable!("it endures for ever"),
            };
            let error = match lost {
                Ok(session) => {
                    if let Some(on_first) = on_first.take() {
                        on_first(Ok(()));
                    }
                    self.is_up(lost_at.take());
                    pause = Pause::new();
                    let Err(error) = self.serve(session).await;
                    add(&self.status.counts.losses, 1);
                    error
                }
                Err(error) => error,
            };
            lost_at.get_or_insert_with(Instant::now);
            self.is_away(&error);
            if let (Some(on_first), Lost::Link(error)) = (on_first.take(), error) {
                on_first(Err(error));
            }
            let pause = pause.next();
            tokio::select! {
                () = sleep(pause) => {}
                () = self.outbox.endure() => unreachable!("it endures for ever"),
            }
        }
    }

    async fn begin(
        endpoint: &Endpoint,
        limit: Duration,
        tail: &mut Tail,
        acknowledged: Option<crate::position::StreamPosition>,
    ) -> Result<Session, Lost> {
        let client = match timeout(limit, endpoint.client()).await {
            Ok(client) => client?,
            Err(_) => return Err(Lost::no_answer(limit)),
        };
        let connect = || link::connect(&client, limit);
        let mut control = connect().await?;
        let run = match timeout(limit, link::check(&mut control)).await {
            Ok(run) => run?,
            Err(_) => return Err(Lost::no_answer(limit)),
        };
        tail.catch_up(&mut control, run.as_ref(), acknowledged).await?;
        let mut outbox = connect().await?;
        let publisher = match timeout(limit, Publisher::load(&mut outbox)).await {
            Ok(publisher) => publisher?,
            Err(_) => return Err(Lost::no_answer(limit)),
        };
        let (tail, archive, roster) = (connect().await?, connect().await?, connect().await?);
        Ok(Session { tail, control, outbox, archive, roster, publisher })
    }

    /// Serves until a connection is lost.
    async fn serve(&mut self, mut session: Session) -> Result<Infallible, Lost> {
        let followed = self.tail.followed();
        let Session { tail, control, outbox, archive, roster, publisher } = &mut session;
        tokio::select! {
            Err(lost) = self.tail.follow(tail, control) => Err(lost),
            Err(lost) = self.outbox.publish(outbox, publisher, &followed) => Err(lost),
            Err(lost) = self.archive.serve(archive) => Err(lost),
            Err(lost) = self.roster.serve(roster) => Err(lost),
        }
    }

    fn is_up(&self, lost_at: Option<Instant>) {
        let before = self.status.become_(State::Up, None);
        match lost_at {
            Some(lost_at) if before == State::Away => {
                let after = lost_at.elapsed().as_secs();
                tracing::info!(node = self.status.node(), "Redis is back after {after} s");
            }
            _ => tracing::info!(node = self.status.node(), "Redis is there"),
        }
    }

    fn is_away(&self, error: &Lost) {
        let has_been = self.status.state() != State::Connecting;
        let state = if has_been { State::Away } else { State::Connecting };
        let is_first = self.status.reason().is_none_or(|reason| reason == super::status::NOT_YET);
        let before = self.status.become_(state, Some(error.to_string()));
        // One line each time it goes, and not one for each attempt.
        if before == State::Up || is_first {
            tracing::warn!(node = self.status.node(), reason = %error, "Redis is away");
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

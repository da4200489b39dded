//! The backbone: one stream over many servers, by a Redis that they share.
//!
//! **What a server promises with it** is what it promises alone: each subscriber gets every event of its topics in the one
//! order, or is told. Positions are Redis's: a publish becomes `XADD <key> <epoch>-*`, which numbers densely within the
//! epoch, and every server appends the stream's entries to its own rings under their ids. So an id is good on any server,
//! and a gap is exact.
//!
//! ```text
//! publishers ─► Hub ─► outbox ─(one script a batch)─► Redis stream ─(XREAD)─► tail ─► hub::relay ─► rings ─► subscribers
//!                                                         │
//!                                    subscribers who come late ◄─ pages ◄─ archive
//! ```
//!
//! | part | what it does |
//! |---|---|
//! | `worker` | one session with Redis after the other, with pauses in between |
//! | `tail` | reads the stream; notices when it went back |
//! | `outbox` | publishes in batches, each once; says what became of them |
//! | `replication` | waits until replicas have what was published |
//! | `archive` | reads again what has left the rings; says how far the stream reaches |
//! | `roster` | the clients and topics of the other servers |
//! | `script` | what Redis does in one step |
//! | `entry`, `keys` | how events and names are spelled in Redis |
//! | `link` | how to get there: a server, TLS, a Unix socket, a cluster |
//! | `sentinel`, `confirmation` | which Redis is the master, and whether it still is |
//! | `status` | the backbone's state, for health and metrics |
//!
//! **While Redis is away** streams stay open and get their signs of life, publishers are told or wait
//! ([`RedisOptions::publish_timeout`]), and the server is not ready. When it is back the server reads on where it was.

pub(crate) mod status;

#[cfg(feature = "redis")]
mod archive;
#[cfg(feature = "redis")]
mod confirmation;
#[cfg(feature = "redis")]
mod entry;
#[cfg(all(feature = "redis", any(test, fuzzing)))]
pub(crate) mod fuzz;
#[cfg(feature = "redis")]
mod keys;
#[cfg(feature = "redis")]
mod link;
#[cfg(feature = "redis")]
mod outbox;
#[cfg(feature = "redis")]
mod redis_options;
#[cfg(feature = "redis")]
mod replication;
#[cfg(feature = "redis")]
mod roster;
#[cfg(feature = "redis")]
mod script;
#[cfg(feature = "redis")]
mod sentinel;
#[cfg(feature = "redis")]
mod tail;
#[cfg(feature = "redis")]
mod worker;

use std::fmt;
use std::sync::{Arc, OnceLock};
#[cfg(feature = "redis")]
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

pub use status::{State, Status};

#[cfg(feature = "redis")]
pub use {link::LinkError, redis_options::RedisOptions};

/// A hub's connection to its backbone. Cheap to clone; the backbone is left when the last clone is dropped.
#[derive(Clone)]
pub struct Backbone(Arc<Inner>);

struct Inner {
    status: Arc<Status>,
    roll_call: Arc<OnceLock<RollCall>>,
    questions: mpsc::UnboundedSender<Question>,
    /// Dropped to end the thread.
    _stop: oneshot::Sender<()>,
}

/// What a server tells the others of itself: its clients and topics, as `GET /clients` and `GET /topics` describe them.
pub(crate) struct Here {
    pub(crate) clients: Vec<Value>,
    pub(crate) topics: Vec<Value>,
}

/// Says what is here now.
pub(crate) type RollCall = Box<dyn Fn() -> Here + Send + Sync>;

/// What other servers told, by their names.
pub(crate) type Others = Vec<(String, Vec<Value>)>;

/// What is asked of the other servers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Clients,
    Topics,
}

impl Part {
    #[cfg(feature = "redis")]
    fn as_str(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Topics => "topics",
        }
    }
}

struct Question {
    part: Part,
    reply: oneshot::Sender<Others>,
}

impl Question {
    #[cfg(feature = "redis")]
    fn answer(self, others: Others) {
        // Whoever asked may be gone.
        let _ = self.reply.send(others);
    }
}

impl Backbone {
    /// How it is.
    pub fn status(&self) -> &Arc<Status> {
        &self.0.status
    }

    /// What the other servers have; none while they cannot be asked.
    pub(crate) async fn others(&self, part: Part) -> Option<Others> {
        if self.status().state() != State::Up {
            return None;
        }
        let (reply, others) = oneshot::channel();
        self.0.questions.send(Question { part, reply }).ok()?;
        others.await.ok()
    }

    /// Says who is to be asked what this server has.
    pub(crate) fn tell_with(&self, roll_call: RollCall) {
        // A hub has one server; a second one would tell of the same hub.
        let _ = self.0.roll_call.set(roll_call);
    }
}

impl fmt::Debug for Backbone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Backbone").field(self.status()).finish()
    }
}

/// Why a session with Redis ended.
#[cfg(feature = "redis")]
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The connection is well, and the stream has to be looked at again.
    #[error("{0}")]
    Again(String),
}

#[cfg(feature = "redis")]
impl Lost {
    fn no_answer(within: Duration) -> Self {
        let within = humantime::format_duration(within);
        Self::Link(LinkError::Unreachable(format!("Redis did not answer within {within}")))
    }
}

#[cfg(feature = "redis")]
impl From<redis::RedisError> for Lost {
    fn from(error: redis::RedisError) -> Self {
        Self::Link(LinkError::of(&error))
    }
}

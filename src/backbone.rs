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
//! | `archive` | reads again what has left the rings |
//! | `script` | what Redis does in one step |
//! | `entry`, `keys` | how events and names are spelled in Redis |
//! | `link` | how to get there: a server, TLS, a Unix socket, Sentinels |
//! | `status` | how it is, for health and metrics |
//!
//! **While Redis is away** streams stay open and get their signs of life, publishers are told or wait
//! ([`RedisOptions::publish_timeout`]), and the server is not ready. When it is back the server reads on where it was.

pub(crate) mod status;

#[cfg(feature = "redis")]
mod archive;
#[cfg(feature = "redis")]
mod entry;
#[cfg(feature = "redis")]
mod keys;
#[cfg(feature = "redis")]
mod link;
#[cfg(feature = "redis")]
mod outbox;
#[cfg(feature = "redis")]
mod redis_options;
#[cfg(feature = "redis")]
mod script;
#[cfg(feature = "redis")]
mod tail;
#[cfg(feature = "redis")]
mod worker;

use std::sync::Arc;
#[cfg(feature = "redis")]
use std::time::Duration;

pub use status::{State, Status};

#[cfg(feature = "redis")]
pub use {link::LinkError, redis_options::RedisOptions};

/// A hub's connection to its backbone. When it is dropped the backbone is left.
pub struct Backbone {
    status: Arc<Status>,
    /// Dropped to end the thread.
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Backbone {
    /// How it is.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
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

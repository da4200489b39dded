//! The backbone: several servers share one stream through Redis.
//!
//! **Contract.** A server with a backbone promises what a server alone promises: each subscriber gets every event of its
//! topics in one order, or a gap. Positions come from Redis: a publish is an `XADD <key> <epoch>-*`, which numbers densely
//! within the epoch, and every server appends the stream's entries to its own rings under their ids. An id is therefore
//! valid on each server, and gaps are exact.
//!
//! ```text
//! publishers ─► Hub ─► outbox ─(one script a batch)─► Redis stream ─(XREAD)─► tail ─► hub::relay ─► rings ─► subscribers
//!                                                         │
//!                            subscribers behind the rings ◄─ pages ◄─ archive
//! ```
//!
//! **While Redis is away** streams stay open and get heartbeats, publishers get an error or wait
//! ([`RedisOptions::publish_timeout`]), and the server is not ready. When Redis is back the server continues where it was.
//!
//! This module has the state of a backbone and requests the lists of the other servers. `redis` is the only kind of
//! backbone.

#[cfg(any(feature = "cli", feature = "redis"))]
mod options;
#[cfg(feature = "redis")]
mod redis;
mod status;

use std::fmt;
use std::sync::{Arc, OnceLock};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

#[cfg(feature = "redis")]
pub use self::redis::Error;
use crate::presence::Members;
#[cfg(any(feature = "cli", feature = "redis"))]
pub use options::RedisOptions;
pub use status::{State, Status};

#[cfg(all(feature = "redis", any(test, fuzzing)))]
pub(crate) use self::redis::fuzz;

/// A hub's connection to its backbone. Cheap to clone. Dropping the last clone ends the connection.
#[derive(Clone)]
pub struct Backbone(Arc<Inner>);

struct Inner {
    status: Arc<Status>,
    local_lists: Arc<OnceLock<LocalLists>>,
    members: watch::Sender<Option<Arc<Members>>>,
    requests: mpsc::UnboundedSender<ListRequest>,
    /// Dropped to end the thread.
    _stop: oneshot::Sender<()>,
}

/// A list of a server that the other servers can show.
#[derive(Clone, Copy, Debug)]
pub(crate) enum List {
    /// As in `GET /clients`.
    Clients,
    /// As in `GET /topics`.
    Topics,
}

/// Returns this server's list.
pub(crate) type LocalLists = Box<dyn Fn(List) -> Vec<Value> + Send + Sync>;

/// The lists of the other servers by server name.
pub(crate) type RemoteLists = Vec<(String, Vec<Value>)>;

struct ListRequest {
    list: List,
    reply: oneshot::Sender<RemoteLists>,
}

impl Backbone {
    /// The backbone's state.
    pub fn status(&self) -> &Arc<Status> {
        &self.0.status
    }

    /// Returns the other servers' lists, or `None` while the backbone is not up.
    pub(crate) async fn remote_lists(&self, list: List) -> Option<RemoteLists> {
        if self.status().state() != State::Up {
            return None;
        }
        let (reply, lists) = oneshot::channel();
        self.0.requests.send(ListRequest { list, reply }).ok()?;
        lists.await.ok()
    }

    /// Sets the members of topics on this server, whose joins and leaves the servers publish together.
    pub(crate) fn share_members(&self, members: Arc<Members>) {
        self.0.members.send_replace(Some(members));
    }

    /// Sets the source of the lists that the other servers see of this one. The first call counts: a hub has one server.
    pub(crate) fn share_lists(&self, local_lists: LocalLists) {
        let _ = self.0.local_lists.set(local_lists);
    }
}

impl fmt::Debug for Backbone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Backbone").field(self.status()).finish()
    }
}

//! A backbone over one Redis stream.
//!
//! | part | what it does |
//! |---|---|
//! | `worker` | runs one session with Redis after another |
//! | `tail` | reads the stream, and detects that Redis lost writes |
//! | `outbox` | publishes in batches, each once, and answers publishers |
//! | `replication` | waits until replicas have what was published |
//! | `archive` | reads again what has left the rings, and how far the stream reaches |
//! | `leases` | publishes the joins and leaves of presence, each once |
//! | `roster` | exchanges the lists of clients and topics with the other servers |
//! | `script` | the Lua scripts, each one atomic step |
//! | `entry` | how an event is stored |
//! | `values` | the latest values, for servers that start |
//! | `expiry` | deletes keys that are no longer updated, each once |
//! | `endpoint`, `sentinel`, `confirmation` | which Redis to use: a server, a cluster's, or the Sentinels' master while it is confirmed |
//! | `connection` | a connection with a time limit on each command |

mod archive;
mod confirmation;
mod connection;
mod endpoint;
mod entry;
mod expiry;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod leases;
mod outbox;
mod replication;
mod roster;
mod script;
mod sentinel;
mod tail;
mod values;
mod worker;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{io, thread};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

pub use connection::Error;

use super::{Backbone, Inner, RedisOptions, Status};
use crate::hub::{Hub, HubOptions, IdempotencyKey};
use archive::RedisArchive;
use leases::Leases;
use roster::Roster;
use worker::Worker;

impl Backbone {
    /// Creates a hub that shares its events through Redis with all servers of the same URL and key. Returns after the first
    /// attempt to connect. Further attempts follow in the background, on a thread of the backbone's own.
    ///
    /// # Errors
    /// [`Error::InvalidUrl`] and [`Error::Unusable`] when another attempt cannot help. A Redis that cannot be reached is
    /// not an error: the [state](super::State) shows it.
    ///
    /// ```no_run
    /// use fanline::Server;
    /// use fanline::backbone::{Backbone, RedisOptions};
    /// use fanline::hub::HubOptions;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut redis = RedisOptions::default();
    /// redis.url = "redis://127.0.0.1".into();
    /// let (hub, backbone) = Backbone::redis(redis, &HubOptions::default()).await?;
    /// let server = Server::builder(hub).backbone(backbone).bind()?;
    /// server.run(std::future::pending()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn redis(options: RedisOptions, hub: &HubOptions) -> Result<(Hub, Self), Error> {
        // The process may have chosen its cryptography already, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let patience = options.publish_timeout.max(options.timeout);
        let context = Arc::new(Context::new(options, hub.idempotency_window));
        let warm = hub.firehose_history;
        let (archive, archive_requests) = RedisArchive::new();
        let (hub, relay, requests) = Hub::relayed(hub, patience, Some(Arc::new(archive)));
        let local_lists = Arc::new(OnceLock::new());
        let (list_requests, asked) = mpsc::unbounded_channel();
        let roster = Roster::new(context.clone(), asked, local_lists.clone());
        let (members, shared_members) = watch::channel(None);
        let leases = Leases::new(context.clone(), shared_members);
        let worker = Worker::new(&context, &relay, warm, requests, archive_requests, roster, leases)?;
        let (first, outcome) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        start(worker, first, stopped)
            .map_err(|error| Error::Unusable(format!("the backbone's thread does not start: {error}")))?;
        let status = context.status.clone();
        let backbone = Self(Arc::new(Inner { status, local_lists, members, requests: list_requests, _stop: stop }));
        match outcome.await {
            Ok(Err(error @ (Error::InvalidUrl(_) | Error::Unusable(_)))) => Err(error),
            _ => Ok((hub, backbone)),
        }
    }
}

/// What the parts of the backbone share.
struct Context {
    options: RedisOptions,
    status: Arc<Status>,
    keys: Keys,
    /// How long an idempotency key is remembered.
    idempotency_window: Duration,
    /// The unique name of this run of the server: batches are numbered within it.
    instance: String,
}

impl Context {
    fn new(options: RedisOptions, idempotency_window: Duration) -> Self {
        let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let instance = format!("{}:{:x}", options.node, nanoseconds ^ u64::from(std::process::id()) << 40);
        let status = Arc::new(Status::new("redis", options.node.clone()));
        Self { status, keys: Keys::new(&options.key, &instance), idempotency_window, instance, options }
    }
}

/// The names of the keys. All have one hash tag, so that one script may use them in a Redis Cluster.
struct Keys {
    stream: String,
    /// A hash with the stream's owner.
    metadata: String,
    /// Written before each wait for the replicas.
    replication: String,
    /// The number and the position of this server's last batch.
    last_batch: String,
    /// A hash with the latest values.
    values: String,
    /// The expiry of each lease, by the member's key.
    leases: String,
    /// The topic and the data of each lease, by the member's key.
    members: String,
    /// The servers, sorted by the time of their last report.
    nodes: String,
    prefix: String,
}

impl Keys {
    fn new(key: &str, instance: &str) -> Self {
        let prefix = format!("{{{key}}}");
        Self {
            stream: format!("{prefix}:events"),
            metadata: format!("{prefix}:meta"),
            replication: format!("{prefix}:wait:{instance}"),
            last_batch: format!("{prefix}:batch:{instance}"),
            values: format!("{prefix}:values"),
            leases: format!("{prefix}:presence"),
            members: format!("{prefix}:presence:members"),
            nodes: format!("{prefix}:nodes"),
            prefix,
        }
    }

    /// What an idempotency key was used for. It expires with its window.
    fn once(&self, key: &IdempotencyKey) -> String {
        format!("{}:once:{}", self.prefix, hex(&key.id))
    }

    /// The report of `instance` on its `clients` or its `topics`.
    fn report(&self, list: &str, instance: &str) -> String {
        format!("{}:{list}:{instance}", self.prefix)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs the worker on a thread until `stopped` or its sender is dropped.
fn start(
    worker: Worker,
    first: oneshot::Sender<Result<(), Error>>,
    stopped: oneshot::Receiver<()>,
) -> io::Result<thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("fanline-redis".to_owned()).spawn(move || {
        runtime.block_on(async move {
            tokio::select! {
                never = worker.run(first) => match never {},
                _ = stopped => {}
            }
        });
    })
}

/// Waits until `moment`, or forever without one.
async fn wait_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

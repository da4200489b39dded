//! What a backbone over Redis is made of, and its start.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};

use super::archive::Archive;
use super::keys::Keys;
use super::link::{Endpoint, LinkError};
use super::outbox::{Outbox, Terms};
use super::replication::{Replication, Unconfirmed};
use super::roster::Roster;
use super::status::Status;
use super::tail::Tail;
use super::worker::Worker;
use super::{Backbone, Inner};
use crate::hub::{Hub, HubOptions};

/// Where Redis is, and how it is used.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// `redis://[user:password@]host:port/db`, `rediss://` for TLS, `unix:///path`, or
    /// `redis+sentinel://[user:password@]host:port,host:port/master` (with the credentials of the servers), or
    /// `redis+cluster://[user:password@]host:port,host:port`.
    pub url: String,
    /// What the names of the keys begin with. Servers with the same one are one stream.
    pub key: String,
    /// How many events the stream retains, about.
    pub history: usize,
    /// How many replicas are to have an event before its publisher is told its position.
    pub wait: u32,
    /// Whether Redis keeps every write that it has answered, over restarts and failovers: `appendfsync always` without
    /// asynchronous replicas. Otherwise a new epoch begins whenever another Redis process serves the stream, and
    /// each subscriber gets a gap of unknown size.
    pub is_lossless: bool,
    /// How long Redis may take to answer before it is taken for away.
    pub timeout: Duration,
    /// How long a publisher waits for a Redis that is away before it is told so.
    pub publish_timeout: Duration,
    /// This server's name among those that share the backbone.
    pub node: String,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379/".to_owned(),
            key: "fanline".to_owned(),
            history: 100_000,
            wait: 0,
            is_lossless: false,
            timeout: Duration::from_secs(5),
            publish_timeout: Duration::ZERO,
            node: "fanline".to_owned(),
        }
    }
}

impl Backbone {
    /// A hub whose events go over Redis, together with all other servers that do so with the same URL and key. Answers when
    /// the first attempt to get there has ended; later ones go on in the background, on a thread of their own.
    ///
    /// # Errors
    /// [`LinkError::Url`] and [`LinkError::Unusable`] when it is of no use to try again. A Redis that cannot be reached is
    /// no error here: the [state](super::State) says so.
    pub async fn redis(options: RedisOptions, hub: &HubOptions) -> Result<(Hub, Self), LinkError> {
        // Somebody else may have chosen the cryptography of this process already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Two lives of one server are two: each numbers its own batches.
        let instance =
            format!("{}:{:x}", options.node, since_1970.as_nanos() as u64 ^ u64::from(std::process::id()) << 40);
        let keys = Keys::new(&options.key, &instance);
        let endpoint = Endpoint::new(&options.url, &keys.stream)?;
        let status = Arc::new(Status::new("redis", options.node.clone()));
        let patience = options.publish_timeout.max(options.timeout);
        let (relayed, relay, requests) = Hub::relayed(hub, patience);
        let (limit, warm) = (options.timeout, hub.firehose_history);
        let terms = Terms {
            retained: options.history,
            patience: options.publish_timeout,
            timeout: limit,
            replicas: options.wait,
        };
        let (questions, asked) = mpsc::unbounded_channel();
        let roll_call = Arc::new(OnceLock::new());
        let unconfirmed = Unconfirmed::default();
        let mut worker = Worker {
            endpoint,
            timeout: limit,
            status: status.clone(),
            roster: Roster {
                questions: asked,
                roll_call: roll_call.clone(),
                keys: keys.clone(),
                instance: instance.clone(),
                node: options.node,
                timeout: limit,
            },
            tail: Tail::new(relay.clone(), keys.clone(), status.clone(), instance, limit, warm, options.is_lossless),
            outbox: Outbox::new(requests.publications, terms, keys.clone(), status.clone(), unconfirmed.clone()),
            replication: Replication {
                unconfirmed,
                keys: keys.clone(),
                status: status.clone(),
                wanted: options.wait,
                timeout: limit,
            },
            archive: Archive::new(requests.replays, requests.extents, relay, keys, status.clone(), limit),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, first) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_thread)?;
        let work = move || {
            runtime.block_on(async move {
                tokio::select! {
                    never = worker.run(|first| { let _ = tell.send(first); }) => match never {},
                    _ = stopped => {}
                }
            });
        };
        std::thread::Builder::new().name("fanline-redis".to_owned()).spawn(work).map_err(no_thread)?;
        let backbone = Self(Arc::new(Inner { status, roll_call, questions, _stop: stop }));
        match first.await {
            Ok(Err(error @ (LinkError::Url(_) | LinkError::Unusable(_)))) => Err(error),
            _ => Ok((relayed, backbone)),
        }
    }
}

fn no_thread(error: io::Error) -> LinkError {
    LinkError::Unusable(format!("the backbone's thread does not start: {error}"))
}

//! The Redis master, as a majority of the Sentinels names it.
//!
//! Sentinels learn of a failover one after the other, and a Sentinel that is cut off from the others does not learn of it.
//! The server therefore asks all of them and takes the answer with the highest configuration epoch, which belongs to the
//! latest failover. If no majority answers there is no master: the answers may all predate a failover.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{Client, ConnectionAddr, RedisConnectionInfo, cmd};
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{Connection, Error};
use super::endpoint::client;
use crate::sync::{Mutex, lock};

/// How long to wait for the other Sentinels once a majority has answered.
const GRACE: Duration = Duration::from_millis(200);

pub(super) struct Sentinels {
    sentinels: Vec<Sentinel>,
    /// The master's name in the Sentinels' configuration.
    name: String,
    /// Credentials and database of the Redis servers.
    node: RedisConnectionInfo,
    is_tls: bool,
}

struct Sentinel {
    client: Client,
    /// The connection of the last query, unless that failed.
    connection: Mutex<Option<Connection>>,
}

/// The Redis that takes writes, according to the Sentinels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Master {
    host: String,
    port: u16,
    /// The configuration epoch: the number of the failover that made it the master.
    configuration: u64,
}

impl Master {
    /// Whether `other` is at the same address.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }
}

impl Sentinels {
    /// Parses `[user:password@]host:port,host:port/master[/db]`. The credentials are those of the Redis servers.
    pub(super) fn new(rest: &str, is_tls: bool) -> Result<Self, Error> {
        let invalid = |text: &str| Error::InvalidUrl(text.to_owned());
        let (credentials, rest) =
            rest.rsplit_once('@').map_or((None, rest), |(credentials, rest)| (Some(credentials), rest));
        let (hosts, path) = rest.split_once('/').ok_or_else(|| invalid("the name of the master is missing"))?;
        let (name, db) = path.split_once('/').unwrap_or((path, "0"));
        if name.is_empty() || hosts.split(',').any(str::is_empty) {
            return Err(invalid("the hosts of the Sentinels or the name of the master are missing"));
        }
        // The client parses user, password and database as for any URL.
        let node = format!("redis://{}localhost/{db}", credentials.map_or(String::new(), |text| format!("{text}@")));
        let node = client(node)?.get_connection_info().redis_settings().clone();
        let scheme = if is_tls { "rediss" } else { "redis" };
        let sentinel =
            |host| Ok(Sentinel { client: client(format!("{scheme}://{host}"))?, connection: Mutex::default() });
        let sentinels = hosts.split(',').map(sentinel).collect::<Result<_, _>>()?;
        Ok(Self { sentinels, name: name.to_owned(), node, is_tls })
    }

    /// Asks all Sentinels for the master.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no majority names one within `limit`.
    pub(super) async fn master(&self, limit: Duration) -> Result<Master, Error> {
        let majority = self.sentinels.len() / 2 + 1;
        // Each Sentinel has answered or failed before this.
        let mut deadline = Instant::now() + limit + GRACE;
        let mut asked: FuturesUnordered<_> =
            self.sentinels.iter().map(|sentinel| sentinel.ask_within(limit, &self.name)).collect();
        let mut named: Vec<Master> = Vec::with_capacity(self.sentinels.len());
        let mut failures = Vec::new();
        while let Ok(Some(answer)) = timeout_at(deadline, asked.next()).await {
            match answer {
                Ok(master) => named.push(master),
                Err(error) => failures.push(error.to_string()),
            }
            if named.len() >= majority {
                deadline = deadline.min(Instant::now() + GRACE);
            }
        }
        let (count, all) = (named.len(), self.sentinels.len());
        match named.into_iter().max_by_key(|master| master.configuration) {
            Some(master) if count >= majority => Ok(master),
            _ => Err(Error::Unavailable(format!(
                "{count} of {all} Sentinels name a master for '{}', and {majority} are needed: {}",
                self.name,
                failures.join("; ")
            ))),
        }
    }

    /// Returns a client of `master`.
    pub(super) fn client(&self, master: &Master) -> Result<Client, Error> {
        let (host, port) = (master.host.clone(), master.port);
        let address = if self.is_tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let asked = self.sentinels[0].client.get_connection_info().clone();
        let info = asked.set_addr(address).set_redis_settings(self.node.clone());
        client(info)
    }
}

impl Sentinel {
    async fn ask_within(&self, limit: Duration, name: &str) -> Result<Master, Error> {
        match timeout(limit, self.ask(name, limit)).await {
            Ok(answer) => answer,
            Err(_) => {
                let peer = format!("the Sentinel at {}", self.client.get_connection_info().addr());
                Err(Error::no_answer(&peer, limit))
            }
        }
    }

    async fn ask(&self, name: &str, limit: Duration) -> Result<Master, Error> {
        let known = lock(&self.connection).take();
        let mut connection = match known {
            Some(connection) => connection,
            None => Connection::open("the Sentinel", &self.client, limit).await?,
        };
        // This command names a new master as soon as it is promoted. The other one names it later, but has the epoch.
        let (host, port) = connection.query(cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name)).await?;
        let fields: HashMap<String, String> = connection.query(cmd("SENTINEL").arg("MASTER").arg(name)).await?;
        let configuration = fields.get("config-epoch").and_then(|number| number.parse().ok()).unwrap_or(0);
        *lock(&self.connection) = Some(connection);
        Ok(Master { host, port, configuration })
    }
}

//! Which Redis is the master, as a majority of the Sentinels says.
//!
//! Sentinels learn of a failover one after the other, and one that is cut off from the others does not learn of it. So all
//! of them are asked, and the answer with the highest configuration epoch counts: it belongs to the latest failover. When
//! fewer than half of them answer, a failover may have happened that the others do not know: there is no master then.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{Client, ConnectionAddr, RedisConnectionInfo, RedisError, cmd};
use tokio::time::{Instant, timeout_at};

use super::link::{self, LinkError};

/// How long the other Sentinels are waited for once a majority has answered.
const GRACE: Duration = Duration::from_millis(200);

pub(super) struct Sentinels {
    sentinels: Vec<Sentinel>,
    /// The name that the Sentinels have for the master.
    name: String,
    /// Credentials and database of the Redis servers.
    node: RedisConnectionInfo,
    is_tls: bool,
}

struct Sentinel {
    host: String,
    client: Client,
    /// The connection of the question before, if it went well.
    connection: Mutex<Option<MultiplexedConnection>>,
}

/// A Redis that takes writes, as the Sentinels say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Master {
    host: String,
    port: u16,
    /// The number of the failover that made it the master.
    configuration: u64,
}

impl Master {
    /// Whether `other` is at the same address.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }
}

impl Sentinels {
    /// Reads `[user:password@]host:port,host:port/master[/db]`; the credentials are those of the Redis servers.
    pub(super) fn new(rest: &str, is_tls: bool) -> Result<Self, LinkError> {
        let invalid = |text: &str| LinkError::Url(text.to_owned());
        let (credentials, rest) =
            rest.rsplit_once('@').map_or((None, rest), |(credentials, rest)| (Some(credentials), rest));
        let (hosts, path) = rest.split_once('/').ok_or_else(|| invalid("the name of the master is missing"))?;
        let (name, db) = path.split_once('/').unwrap_or((path, "0"));
        if name.is_empty() || hosts.split(',').any(str::is_empty) {
            return Err(invalid("the hosts of the sentinels or the name of the master are missing"));
        }
        // The client reads user, password and database as of any URL.
        let node = format!("redis://{}localhost/{db}", credentials.map_or(String::new(), |text| format!("{text}@")));
        let node = Client::open(node).map_err(|error| LinkError::Url(error.to_string()))?;
        let node = node.get_connection_info().redis_settings().clone();
        let scheme = if is_tls { "rediss" } else { "redis" };
        let sentinel = |host: &str| {
            let client =
                Client::open(format!("{scheme}://{host}")).map_err(|error| LinkError::Url(error.to_string()))?;
            Ok(Sentinel { host: host.to_owned(), client, connection: Mutex::default() })
        };
        let sentinels = hosts.split(',').map(sentinel).collect::<Result<_, _>>()?;
        Ok(Self { sentinels, name: name.to_owned(), node, is_tls })
    }

    /// Asks all Sentinels for the master.
    ///
    /// # Errors
    /// [`LinkError::Unreachable`] when no majority of them names one within `limit`.
    pub(super) async fn master(&self, limit: Duration) -> Result<Master, LinkError> {
        let majority = self.sentinels.len() / 2 + 1;
        let mut deadline = Instant::now() + limit;
        let mut asked: FuturesUnordered<_> =
            self.sentinels.iter().map(|sentinel| sentinel.ask(&self.name, limit)).collect();
        let mut named: Vec<Master> = Vec::with_capacity(self.sentinels.len());
        let mut failure = String::from("no answer in time");
        while let Ok(Some(answer)) = timeout_at(deadline, asked.next()).await {
            match answer {
                Ok(master) => named.push(master),
                Err(error) => failure = error.to_string(),
            }
            if named.len() >= majority {
                deadline = deadline.min(Instant::now() + GRACE);
            }
        }
        let (count, all) = (named.len(), self.sentinels.len());
        match named.into_iter().max_by_key(|master| master.configuration) {
            Some(master) if count >= majority => Ok(master),
            _ => Err(LinkError::Unreachable(format!(
                "{count} of {all} Sentinels name a master for '{}', and {majority} are needed: {failure}",
                self.name
            ))),
        }
    }

    /// A client of `master`.
    pub(super) fn client(&self, master: &Master) -> Result<Client, LinkError> {
        let (host, port) = (master.host.clone(), master.port);
        let address = if self.is_tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let asked = self.sentinels[0].client.get_connection_info().clone();
        let info = asked.set_addr(address).set_redis_settings(self.node.clone());
        Client::open(info).map_err(|error| LinkError::of(&error))
    }
}

impl Sentinel {
    async fn ask(&self, name: &str, limit: Duration) -> Result<Master, LinkError> {
        let known = self.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut connection = match known {
            Some(connection) => connection,
            None => link::connect(&self.client, limit).await?,
        };
        let master = query(&mut connection, name)
            .await
            .map_err(|error| LinkError::Unreachable(format!("the Sentinel at {}: {error}", self.host)))?;
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        Ok(master)
    }
}

async fn query(sentinel: &mut MultiplexedConnection, name: &str) -> Result<Master, RedisError> {
    // The address of this command is the new master's as soon as that one is promoted; the other command has the old one
    // for longer, and the number.
    let (host, port): (String, u16) =
        cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name).query_async(sentinel).await?;
    let fields: HashMap<String, String> = cmd("SENTINEL").arg("MASTER").arg(name).query_async(sentinel).await?;
    let configuration = fields.get("config-epoch").and_then(|number| number.parse().ok()).unwrap_or(0);
    Ok(Master { host, port, configuration })
}

//! Where Redis is: one server, the master that Sentinels name, or the server of a Redis Cluster that holds our keys.

use std::time::Duration;

use redis::{Client, ConnectionAddr, Value, cmd};

use super::connection::{Connection, Error};
use super::sentinel::{Master, Sentinels};

pub(super) enum Endpoint {
    Server(Client),
    Sentinels(Sentinels),
    /// Some servers of the cluster. All our keys are in one slot, and therefore on one server.
    Cluster {
        clients: Vec<Client>,
        key: String,
    },
}

impl Endpoint {
    /// Parses `url`. `key` is one of the keys that are used there.
    pub(super) fn new(url: &str, key: &str) -> Result<Self, Error> {
        match url.split_once("://") {
            Some(("redis+cluster", rest)) => Self::cluster(rest, "redis", key),
            Some(("rediss+cluster", rest)) => Self::cluster(rest, "rediss", key),
            Some(("redis+sentinel", rest)) => Ok(Self::Sentinels(Sentinels::new(rest, false)?)),
            Some(("rediss+sentinel", rest)) => Ok(Self::Sentinels(Sentinels::new(rest, true)?)),
            _ => Ok(Self::Server(client(url)?)),
        }
    }

    /// Parses `[user:password@]host:port,host:port`.
    fn cluster(rest: &str, scheme: &str, key: &str) -> Result<Self, Error> {
        let (credentials, hosts) = rest.split_at(rest.rfind('@').map_or(0, |at| at + 1));
        let hosts = hosts.trim_end_matches('/');
        if hosts.split(',').any(|host| host.is_empty() || host.contains('/')) {
            return Err(Error::InvalidUrl("a cluster URL lists host:port pairs and names no database".to_owned()));
        }
        let clients = hosts.split(',').map(|host| client(&format!("{scheme}://{credentials}{host}")));
        Ok(Self::Cluster { clients: clients.collect::<Result<_, _>>()?, key: key.to_owned() })
    }

    /// Returns the server that takes writes now, and the master as the Sentinels describe it, if there are any.
    pub(super) async fn client(&self, limit: Duration) -> Result<(Client, Option<Master>), Error> {
        match self {
            Self::Server(client) => Ok((client.clone(), None)),
            Self::Sentinels(sentinels) => {
                let master = sentinels.master(limit).await?;
                Ok((sentinels.client(&master)?, Some(master)))
            }
            Self::Cluster { clients, key } => {
                let mut failed = Error::unavailable("the cluster has no server");
                for client in clients {
                    // A server that is down leaves time for the others.
                    match slot_owner(client, key, limit / clients.len() as u32).await {
                        Ok(owner) => return Ok((owner, None)),
                        Err(error) => failed = error,
                    }
                }
                Err(failed)
            }
        }
    }
}

fn client(url: &str) -> Result<Client, Error> {
    Client::open(url).map_err(|error| Error::InvalidUrl(error.to_string()))
}

/// Asks the cluster's server `asked` which server has `key`.
async fn slot_owner(asked: &Client, key: &str, limit: Duration) -> Result<Client, Error> {
    let mut redis = Connection::open(asked, limit).await?;
    let slot: i64 = redis.query(cmd("CLUSTER").arg("KEYSLOT").arg(key)).await?;
    let ranges: Vec<Value> = redis.query(cmd("CLUSTER").arg("SLOTS")).await?;
    let (host, port) = ranges
        .iter()
        .find_map(|range| master_of(range, slot))
        .ok_or_else(|| Error::Unavailable(format!("no server of the cluster has slot {slot}")))?;
    // The host is empty if it is the one that was asked.
    let or = |asked: &str| if host.is_empty() { asked.to_owned() } else { host.clone() };
    let known = asked.get_connection_info();
    let address = match known.addr() {
        ConnectionAddr::Tcp(asked, _) => ConnectionAddr::Tcp(or(asked), port),
        ConnectionAddr::TcpTls { host: asked, insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host: or(asked), port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        other => other.clone(),
    };
    Client::open(known.clone().set_addr(address)).map_err(|error| Error::of(&error))
}

/// The host and port of the master in a range of `CLUSTER SLOTS`, if the range contains `slot`. A range is its first and
/// last slot, the master, and the replicas. A server is its host, its port, and more.
fn master_of(range: &Value, slot: i64) -> Option<(String, u16)> {
    let Value::Array(range) = range else { return None };
    match &range[..] {
        [Value::Int(first), Value::Int(last), Value::Array(master), ..] if (*first..=*last).contains(&slot) => {
            match &master[..] {
                [Value::BulkString(host), Value::Int(port), ..] => {
                    Some((String::from_utf8_lossy(host).into_owned(), u16::try_from(*port).ok()?))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

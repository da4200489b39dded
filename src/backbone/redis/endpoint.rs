//! Where Redis is: one server, the master that Sentinels name, or the server of a Redis Cluster that holds our keys.

use std::time::Duration;

use redis::{Client, ConnectionAddr, IntoConnectionInfo, cmd};

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
        let clients = hosts.split(',').map(|host| client(format!("{scheme}://{credentials}{host}")));
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
                let mut failures = Vec::new();
                for client in clients {
                    // A server that is down leaves time for the others.
                    match slot_owner(client, key, limit / clients.len() as u32).await {
                        Ok(owner) => return Ok((owner, None)),
                        Err(error) => failures.push(error),
                    }
                }
                if let Some(place) = failures.iter().position(|error| matches!(error, Error::Unusable(_))) {
                    return Err(failures.swap_remove(place));
                }
                let failures: Vec<_> = failures.iter().map(ToString::to_string).collect();
                Err(Error::Unavailable(failures.join("; ")))
            }
        }
    }
}

/// A client of the server at a URL, or at an address.
pub(super) fn client(server: impl IntoConnectionInfo) -> Result<Client, Error> {
    Client::open(server).map_err(|error| Error::InvalidUrl(error.to_string()))
}

/// Finds the cluster's server that has `key`: any server of the cluster redirects commands to it.
async fn slot_owner(asked: &Client, key: &str, limit: Duration) -> Result<Client, Error> {
    let mut redis = Connection::open("Redis", asked, limit).await?;
    let Err(error) = redis.try_query::<bool>(cmd("EXISTS").arg(key)).await? else { return Ok(asked.clone()) };
    let redirected = error.redirect_node().and_then(|(address, _)| address.rsplit_once(':'));
    let Some((new_host, Ok(port))) = redirected.map(|(host, port)| (host, port.parse())) else {
        return Err(redis.error(&error));
    };
    let known = asked.get_connection_info();
    let mut address = known.addr().clone();
    if let ConnectionAddr::Tcp(host, old_port) | ConnectionAddr::TcpTls { host, port: old_port, .. } = &mut address {
        *old_port = port;
        // The host is empty if it is the one that was asked.
        if !new_host.is_empty() {
            new_host.clone_into(host);
        }
    }
    client(known.clone().set_addr(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn connect(url: &str) -> Result<String, Error> {
        let limit = Duration::from_millis(300);
        let (client, _) = Endpoint::new(url, "key")?.client(limit).await?;
        Connection::open("Redis", &client, limit).await?.check().await
    }

    #[tokio::test]
    async fn errors_name_each_address_that_was_tried() {
        // Nothing listens on these ports.
        for (url, names) in [
            ("redis://127.0.0.1:1/", &["Redis at 127.0.0.1:1: Connection refused"][..]),
            ("unix:///nowhere/socket", &["Redis at /nowhere/socket: "]),
            ("redis+cluster://127.0.0.1:1,127.0.0.1:2", &["Redis at 127.0.0.1:1: ", "; Redis at 127.0.0.1:2: "]),
            (
                "redis+sentinel://127.0.0.1:1,127.0.0.1:2/m",
                &["the Sentinel at 127.0.0.1:1: ", "the Sentinel at 127.0.0.1:2: "],
            ),
        ] {
            let error = connect(url).await.unwrap_err().to_string();
            assert!(names.iter().all(|name| error.contains(name)), "{url}: {error}");
        }
    }

    #[tokio::test]
    async fn servers_that_do_not_answer_are_named() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        for (url, name) in [("redis://{}/", "Redis"), ("redis+sentinel://{}/m", "the Sentinel")] {
            let error = connect(&url.replace("{}", &address.to_string())).await.unwrap_err().to_string();
            assert!(error.ends_with(&format!("{name} at {address} did not answer within 300ms")), "{error}");
        }
    }
}

//! How to get to Redis: one server, the master that Sentinels name, or the server of a Redis Cluster that has our keys.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, RedisError, ServerErrorKind, Value, cmd};

use super::sentinel::{Master, Sentinels};

/// The oldest Redis that numbers entries within an epoch (`<ms>-*`).
const OLDEST: u32 = 7;

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LinkError {
    /// The URL is none that is understood.
    #[error(
        "{0}; it must be redis://[user:password@]host:port/db, rediss://…, unix:///path, \
         redis+sentinel://host:port,host:port/master, or redis+cluster://host:port,host:port"
    )]
    Url(String),
    /// Redis cannot be reached, or does not answer.
    #[error("{0}")]
    Unreachable(String),
    /// Redis answers, and cannot be used as it is: an operator has to see to it.
    #[error("{0}")]
    Unusable(String),
}

impl LinkError {
    /// Says what an error of the client means for the backbone.
    pub(super) fn of(error: &RedisError) -> Self {
        let text = error.to_string();
        if error.kind() == ErrorKind::AuthenticationFailed
            || ["NOAUTH", "WRONGPASS"].contains(&error.code().unwrap_or(""))
        {
            return Self::Unusable(format!("Redis refuses the password, or wants one: {text}"));
        }
        match (error.kind(), error.code()) {
            (ErrorKind::Server(ServerErrorKind::NoPerm), _) => {
                Self::Unusable(format!("the Redis user may not do what fanline needs: {text}"))
            }
            (_, Some("WRONGTYPE")) => {
                Self::Unusable(format!("the key is there and is no stream (choose another with redis_key): {text}"))
            }
            _ => Self::Unreachable(text),
        }
    }
}

/// Where Redis is.
pub(super) enum Endpoint {
    Server(Client),
    Sentinels(Sentinels),
    /// Any servers of the cluster, by their URLs. All our keys are in one slot, and so with one server.
    Cluster {
        urls: Vec<String>,
        key: String,
    },
}

impl Endpoint {
    /// Where `url` leads; `key` is one of the keys that are used there.
    pub(super) fn new(url: &str, key: &str) -> Result<Self, LinkError> {
        for (prefix, scheme) in [("redis+cluster://", "redis"), ("rediss+cluster://", "rediss")] {
            if let Some(rest) = url.strip_prefix(prefix) {
                return Self::cluster(rest, scheme, key);
            }
        }
        for (scheme, is_tls) in [("redis+sentinel://", false), ("rediss+sentinel://", true)] {
            if let Some(rest) = url.strip_prefix(scheme) {
                return Ok(Self::Sentinels(Sentinels::new(rest, is_tls)?));
            }
        }
        let client = Client::open(url).map_err(|error| LinkError::Url(error.to_string()))?;
        Ok(Self::Server(client))
    }

    /// `[user:password@]host:port,host:port`.
    fn cluster(rest: &str, scheme: &str, key: &str) -> Result<Self, LinkError> {
        let (credentials, hosts) = rest.split_at(rest.rfind('@').map_or(0, |at| at + 1));
        let hosts = hosts.trim_end_matches('/');
        if hosts.split(',').any(|host| host.is_empty() || host.contains('/')) {
            return Err(LinkError::Url("a cluster has servers and no database".to_owned()));
        }
        let urls: Vec<String> = hosts.split(',').map(|host| format!("{scheme}://{credentials}{host}")).collect();
        for url in &urls {
            Client::open(url.as_str()).map_err(|error| LinkError::Url(error.to_string()))?;
        }
        Ok(Self::Cluster { urls, key: key.to_owned() })
    }

    /// The server that takes writes now, and what the Sentinels call it, if there are any.
    pub(super) async fn client(&self, limit: Duration) -> Result<(Client, Option<Master>), LinkError> {
        match self {
            Self::Server(client) => Ok((client.clone(), None)),
            Self::Cluster { urls, key } => {
                let mut failed = LinkError::Unreachable("the cluster has no server".to_owned());
                for url in urls {
                    match owner(url, key).await {
                        Ok(client) => return Ok((client, None)),
                        Err(error) => failed = error,
                    }
                }
                Err(failed)
            }
            Self::Sentinels(sentinels) => {
                let master = sentinels.master(limit).await?;
                Ok((sentinels.client(&master)?, Some(master)))
            }
        }
    }
}

/// The server that has `key`, as the one at `url` knows it.
async fn owner(url: &str, key: &str) -> Result<Client, LinkError> {
    let lost = |error: RedisError| LinkError::of(&error);
    let client = Client::open(url).map_err(lost)?;
    let mut redis = client.get_multiplexed_async_connection().await.map_err(lost)?;
    let slot: i64 = cmd("CLUSTER").arg("KEYSLOT").arg(key).query_async(&mut redis).await.map_err(lost)?;
    let ranges: Vec<Value> = cmd("CLUSTER").arg("SLOTS").query_async(&mut redis).await.map_err(lost)?;
    let master = ranges.iter().find_map(|range| match range {
        // Begin and end, then the master, then its replicas; of each the address, the port, and more.
        Value::Array(range) => match &range[..] {
            [Value::Int(begin), Value::Int(end), Value::Array(master), ..] if (*begin..=*end).contains(&slot) => {
                Some(master)
            }
            _ => None,
        },
        _ => None,
    });
    let Some([Value::BulkString(host), Value::Int(port), ..]) = master.map(|master| &master[..]) else {
        return Err(LinkError::Unreachable(format!("no server of the cluster has slot {slot}")));
    };
    let (host, port) = (String::from_utf8_lossy(host).into_owned(), u16::try_from(*port).unwrap_or(0));
    // It leaves the host away when that is the one that was asked.
    let or = |asked: &str| if host.is_empty() { asked.to_owned() } else { host.clone() };
    let known = client.get_connection_info();
    let address = match known.addr() {
        ConnectionAddr::Tcp(asked, _) => ConnectionAddr::Tcp(or(asked), port),
        ConnectionAddr::TcpTls { host: asked, insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host: or(asked), port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        other => other.clone(),
    };
    Client::open(known.clone().set_addr(address)).map_err(lost)
}

/// A connection of its own. Commands on it may take as long as they like: whoever gives one sets its limit.
pub(super) async fn connect(client: &Client, timeout: Duration) -> Result<MultiplexedConnection, LinkError> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(timeout)).set_response_timeout(None);
    let connect = client.get_multiplexed_async_connection_with_config(&config);
    match tokio::time::timeout(timeout, connect).await {
        Ok(connection) => connection.map_err(|error| LinkError::of(&error)),
        Err(_) => Err(LinkError::Unreachable(format!("no answer within {}", humantime::format_duration(timeout)))),
    }
}

/// Checks that this Redis is new enough. Returns the identity of its process, which is another after each start.
pub(super) async fn check(redis: &mut MultiplexedConnection) -> Result<String, LinkError> {
    let info: String = cmd("INFO").arg("server").query_async(redis).await.map_err(|error| LinkError::of(&error))?;
    let field = |name: &str| info.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
    let version = field("redis_version:").unwrap_or("");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(major) if major < OLDEST => Err(LinkError::Unusable(format!(
            "this is Redis {version}, and fanline needs {OLDEST} or newer: earlier ones do not number entries within an epoch"
        ))),
        _ => Ok(field("run_id:").unwrap_or("").to_owned()),
    }
}

//! How to get to Redis: one server, or the master that Sentinels name.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::sentinel::{Sentinel, SentinelNodeConnectionInfo};
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisConnectionInfo, RedisError, ServerErrorKind, TlsMode, cmd};

/// The oldest Redis that numbers entries within an epoch (`<ms>-*`).
const OLDEST: u32 = 7;

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LinkError {
    /// The URL is none that is understood.
    #[error(
        "{0}; it must be redis://[user:password@]host:port/db, rediss://…, unix:///path, or redis+sentinel://host:port,host:port/master"
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
    Sentinels { urls: Vec<String>, master: String, node: RedisConnectionInfo, is_tls: bool },
}

impl Endpoint {
    pub(super) fn new(url: &str) -> Result<Self, LinkError> {
        for (scheme, is_tls) in [("redis+sentinel://", false), ("rediss+sentinel://", true)] {
            if let Some(rest) = url.strip_prefix(scheme) {
                return Self::sentinels(rest, is_tls);
            }
        }
        let client = Client::open(url).map_err(|error| LinkError::Url(error.to_string()))?;
        Ok(Self::Server(client))
    }

    /// `[user:password@]host:port,host:port/master[/db]`; the password is that of the servers.
    fn sentinels(rest: &str, is_tls: bool) -> Result<Self, LinkError> {
        let url = |text: &str| LinkError::Url(text.to_owned());
        let (credentials, rest) =
            rest.rsplit_once('@').map_or((None, rest), |(credentials, rest)| (Some(credentials), rest));
        let (hosts, path) = rest.split_once('/').ok_or_else(|| url("the name of the master is missing"))?;
        let (master, db) = path.split_once('/').unwrap_or((path, "0"));
        if master.is_empty() || hosts.split(',').any(str::is_empty) {
            return Err(url("the hosts of the sentinels or the name of the master are missing"));
        }
        // The client reads user, password and database as of any URL.
        let node = format!("redis://{}localhost/{db}", credentials.map_or(String::new(), |text| format!("{text}@")));
        let node = Client::open(node).map_err(|error| LinkError::Url(error.to_string()))?;
        let node = node.get_connection_info().redis_settings().clone();
        let scheme = if is_tls { "rediss" } else { "redis" };
        let urls = hosts.split(',').map(|host| format!("{scheme}://{host}")).collect();
        Ok(Self::Sentinels { urls, master: master.to_owned(), node, is_tls })
    }

    /// The server that takes writes now.
    pub(super) async fn client(&self) -> Result<Client, LinkError> {
        match self {
            Self::Server(client) => Ok(client.clone()),
            Self::Sentinels { urls, master, node, is_tls } => {
                let mut sentinel = Sentinel::build(urls.clone()).map_err(|error| LinkError::Url(error.to_string()))?;
                let mut info = SentinelNodeConnectionInfo::default().set_redis_connection_info(node.clone());
                if *is_tls {
                    info = info.set_tls_mode(TlsMode::Secure);
                }
                sentinel.async_master_for(master, Some(&info)).await.map_err(|error| LinkError::of(&error))
            }
        }
    }
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

/// Makes sure that it is a Redis that can be used. Answers which life of its process this is, where it says so.
pub(super) async fn check(redis: &mut MultiplexedConnection) -> Result<Option<String>, LinkError> {
    let info: String = match cmd("INFO").arg("server").query_async(redis).await {
        Ok(info) => info,
        // Somebody may have forbidden it; the scripts will show.
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => return Ok(None),
        Err(error) => return Err(LinkError::of(&error)),
    };
    let field = |name: &str| info.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
    let version = field("redis_version:").unwrap_or("");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(major) if major < OLDEST => Err(LinkError::Unusable(format!(
            "this is Redis {version}, and fanline needs {OLDEST} or newer: earlier ones do not number entries within an epoch"
        ))),
        _ => Ok(field("run_id:").map(str::to_owned)),
    }
}

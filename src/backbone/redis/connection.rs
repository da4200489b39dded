//! A connection to Redis that limits the time of each command, and its errors.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind,
    cmd,
};
use tokio::time::timeout;

/// The oldest Redis that numbers entries within an epoch (`<ms>-*`).
const OLDEST: u32 = 7;

pub(super) struct Connection {
    redis: MultiplexedConnection,
    limit: Duration,
    /// The other end as errors name it: `Redis at 127.0.0.1:6379`.
    peer: String,
}

impl Connection {
    /// Connects to a server. `limit` applies to connecting and to each command. Errors name the address, and call what is
    /// there `name`.
    pub(super) async fn open(name: &str, client: &Client, limit: Duration) -> Result<Self, Error> {
        let peer = format!("{name} at {}", client.get_connection_info().addr());
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let redis = within(&peer, limit, client.get_multiplexed_async_connection_with_config(&config)).await?;
        Ok(Self { redis, limit, peer })
    }

    /// Checks that Redis is new enough. Returns the identity of its process, which changes with each start.
    pub(super) async fn check(&mut self) -> Result<String, Error> {
        let info: String = self.query(cmd("INFO").arg("server")).await?;
        let field = |name: &str| info.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
        let version = field("redis_version:").unwrap_or("");
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        match major {
            Some(major) if major < OLDEST => Err(Error::Unusable(format!(
                "{} has version {version}, and fanline needs {OLDEST} or newer: \
                 earlier versions do not number entries within an epoch",
                self.peer
            ))),
            _ => Ok(field("run_id:").unwrap_or("").to_owned()),
        }
    }

    pub(super) async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, Error> {
        self.query_blocking(command, Duration::ZERO).await
    }

    /// Runs a command that Redis may hold for `blocking` before it answers.
    pub(super) async fn query_blocking<T: FromRedisValue>(
        &mut self,
        command: &Cmd,
        blocking: Duration,
    ) -> Result<T, Error> {
        within(&self.peer, self.limit + blocking, command.query_async(&mut self.redis)).await
    }

    /// Runs a command that Redis may reject. The inner error is Redis's own answer: the command had no effect. After the
    /// outer one that is not known.
    pub(super) async fn try_query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<RedisResult<T>, Error> {
        let is_answer = |error: &RedisError| matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension);
        let answer = async {
            match command.query_async(&mut self.redis).await {
                Err(error) if is_answer(&error) => Ok(Err(error)),
                answer => answer.map(Ok),
            }
        };
        within(&self.peer, self.limit, answer).await
    }

    /// Classifies an answer of Redis that is an error.
    pub(super) fn error(&self, error: &RedisError) -> Error {
        Error::of(&self.peer, error)
    }

    /// Runs several commands with one write. The last of them may block for up to `blocking`.
    pub(super) async fn pipeline<T: FromRedisValue>(
        &mut self,
        commands: &Pipeline,
        blocking: Duration,
    ) -> Result<T, Error> {
        within(&self.peer, self.limit + blocking, commands.query_async(&mut self.redis)).await
    }
}

async fn within<T>(peer: &str, limit: Duration, answer: impl Future<Output = RedisResult<T>>) -> Result<T, Error> {
    match timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|error| Error::of(peer, &error)),
        Err(_) => Err(Error::no_answer(peer, limit)),
    }
}

/// Why a server cannot use Redis, when it starts or later.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL is invalid.
    #[error(
        "{0}; use redis://[user:password@]host:port/db, rediss://… for TLS, unix:///path, \
         redis+sentinel://host:port,host:port/master, or redis+cluster://host:port,host:port"
    )]
    InvalidUrl(String),
    /// Redis cannot be reached, does not answer in time, or has changed since the session began. The server tries again.
    #[error("{0}")]
    Unavailable(String),
    /// Redis answers but cannot be used until an operator changes its configuration or that of the server.
    #[error("{0}")]
    Unusable(String),
}

impl Error {
    pub(super) fn unavailable(text: impl Into<String>) -> Self {
        Self::Unavailable(text.into())
    }

    pub(super) fn no_answer(peer: &str, limit: Duration) -> Self {
        Self::Unavailable(format!("{peer} did not answer within {}", humantime::format_duration(limit)))
    }

    /// Classifies an error of the Redis client.
    fn of(peer: &str, error: &RedisError) -> Self {
        let rule = match (error.kind(), error.code()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS")) => {
                "refuses the password or requires one"
            }
            (ErrorKind::Server(ServerErrorKind::NoPerm), _) => "denies the user a permission that fanline needs",
            (_, Some("WRONGTYPE")) => "has this key already, and not as a stream: choose another with redis_key",
            _ => return Self::Unavailable(format!("{peer}: {error}")),
        };
        Self::Unusable(format!("{peer} {rule}: {error}"))
    }
}

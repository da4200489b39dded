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
}

impl Connection {
    /// Connects to a server. `limit` applies to connecting and to each command.
    pub(super) async fn open(client: &Client, limit: Duration) -> Result<Self, Error> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(limit)).set_response_timeout(None);
        let redis = within(limit, client.get_multiplexed_async_connection_with_config(&config)).await?;
        Ok(Self { redis, limit })
    }

    /// Checks that Redis is new enough. Returns the identity of its process, which changes with each start.
    pub(super) async fn check(&mut self) -> Result<String, Error> {
        let info: String = self.query(cmd("INFO").arg("server")).await?;
        let field = |name: &str| info.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
        let version = field("redis_version:").unwrap_or("");
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        match major {
            Some(major) if major < OLDEST => Err(Error::Unusable(format!(
                "this is Redis {version}, and fanline needs {OLDEST} or newer: \
                 earlier versions do not number entries within an epoch"
            ))),
            _ => Ok(field("run_id:").unwrap_or("").to_owned()),
        }
    }

    pub(super) async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, Error> {
        within(self.limit, command.query_async(&mut self.redis)).await
    }

    /// Runs a command that Redis may hold for `blocking` before it answers.
    pub(super) async fn query_blocking<T: FromRedisValue>(
        &mut self,
        command: &Cmd,
        blocking: Duration,
    ) -> Result<T, Error> {
        within(self.limit + blocking, command.query_async(&mut self.redis)).await
    }

    /// Runs a command that Redis may reject. The inner error is Redis's own answer: the command had no effect. After the
    /// outer one that is not known.
    pub(super) async fn try_query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<RedisResult<T>, Error> {
        let is_answer = |error: &RedisError| matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension);
        match timeout(self.limit, command.query_async(&mut self.redis)).await {
            Ok(Err(error)) if !is_answer(&error) => Err(Error::of(&error)),
            Ok(answer) => Ok(answer),
            Err(_) => Err(Error::no_answer(self.limit)),
        }
    }

    /// Runs several commands with one write. The last of them may block for up to `blocking`.
    pub(super) async fn pipeline<T: FromRedisValue>(
        &mut self,
        commands: &Pipeline,
        blocking: Duration,
    ) -> Result<T, Error> {
        within(self.limit + blocking, commands.query_async(&mut self.redis)).await
    }
}

async fn within<T>(limit: Duration, answer: impl Future<Output = RedisResult<T>>) -> Result<T, Error> {
    match timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|error| Error::of(&error)),
        Err(_) => Err(Error::no_answer(limit)),
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

    pub(super) fn no_answer(within: Duration) -> Self {
        Self::Unavailable(format!("Redis did not answer within {}", humantime::format_duration(within)))
    }

    /// Classifies an error of the Redis client.
    pub(super) fn of(error: &RedisError) -> Self {
        let text = error.to_string();
        match (error.kind(), error.code()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS")) => {
                Self::Unusable(format!("Redis refuses the password or requires one: {text}"))
            }
            (ErrorKind::Server(ServerErrorKind::NoPerm), _) => {
                Self::Unusable(format!("the Redis user lacks a permission that fanline needs: {text}"))
            }
            (_, Some("WRONGTYPE")) => {
                Self::Unusable(format!("the key exists and is not a stream: choose another with redis_key: {text}"))
            }
            _ => Self::Unavailable(text),
        }
    }
}

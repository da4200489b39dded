//! The hub of a server that shares its events through Redis.

use std::fmt::Display;
use std::io;

use fanline::backbone::{Backbone, RedisOptions};
use fanline::hub::Hub;

use crate::config::{RedisStart, Settings};

/// Creates the hub of all servers that share the Redis at `url`.
///
/// # Errors
/// When the URL or this Redis cannot be used, or if it is unavailable and `redis_start` is `fail`.
pub async fn hub(url: &str, settings: &Settings) -> io::Result<(Hub, Backbone)> {
    let node = settings.node.clone().unwrap_or_else(|| {
        let machine = sysinfo::System::host_name().unwrap_or_else(|_| "fanline".to_owned());
        format!("{machine}-{}", std::process::id())
    });
    let failed = |error: &dyn Display| io::Error::other(format!("redis: {error}"));
    let options = RedisOptions { url: url.to_owned(), node, ..settings.redis.clone() };
    let (hub, backbone) = Backbone::redis(options, &settings.hub).await.map_err(|error| failed(&error))?;
    match backbone.status().reason() {
        Some(reason) if settings.redis_start == RedisStart::Fail => Err(failed(&reason)),
        _ => Ok((hub, backbone)),
    }
}

//! The settings of the backbone.

use std::time::Duration;

use super::definition::{About, Setting};
use super::duration::Span;
use super::kind::{Choice, Count, Kind, Optional, Switch};

const BACKBONE: &str = "Many servers";

/// What happens when Redis is not there at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisStart {
    /// The server starts, and is not ready before Redis is there.
    Wait,
    /// The server does not start.
    Fail,
}

/// Where Redis is. It may hold a password.
#[derive(Debug)]
pub struct RedisUrl;

impl Kind for RedisUrl {
    const SECRET: bool = true;
    type Value = String;

    fn parse(&self, text: &str) -> Result<String, String> {
        let schemes = [
            "redis://",
            "rediss://",
            "unix://",
            "redis+sentinel://",
            "rediss+sentinel://",
            "redis+cluster://",
            "rediss+cluster://",
        ];
        if schemes.iter().any(|scheme| text.starts_with(scheme)) {
            return Ok(text.to_owned());
        }
        // Not the text: it may hold a password.
        Err(format!("must begin with one of {}", schemes.join(", ")))
    }

    fn allowed(&self) -> String {
        "redis://[user:password@]host:port/db, unix:///path, redis+sentinel://host:port,host:port/master, redis+cluster://host:port,host:port; with TLS rediss://, rediss+sentinel://, rediss+cluster://"
            .to_owned()
    }

    fn write(&self, value: &String) -> Option<toml::Value> {
        Some(value.as_str().into())
    }
}

/// A name without spaces and braces.
#[derive(Debug)]
pub struct Name;

impl Kind for Name {
    type Value = String;

    fn parse(&self, text: &str) -> Result<String, String> {
        let is_name = |c: char| !c.is_whitespace() && !c.is_control() && !"{}".contains(c);
        if text.is_empty() || text.len() > 100 || !text.chars().all(is_name) {
            return Err("must be 1 to 100 characters without spaces and braces".to_owned());
        }
        Ok(text.to_owned())
    }

    fn allowed(&self) -> String {
        String::new()
    }

    fn write(&self, value: &String) -> Option<toml::Value> {
        Some(value.as_str().into())
    }
}

/// Redis that several servers share: what is published on one reaches the subscribers of all.
pub static REDIS: Setting<Optional<RedisUrl>> = Setting {
    about: About::new(
        "redis",
        BACKBONE,
        "URL",
        "",
        "Redis that several servers share: what is published on one reaches the subscribers of all",
    ),
    kind: Optional(RedisUrl),
};

/// What the names of the keys in Redis begin with; servers with the same one are one stream.
pub static REDIS_KEY: Setting<Name> = Setting {
    about: About::new(
        "redis_key",
        BACKBONE,
        "NAME",
        "fanline",
        "What the names of the keys in Redis begin with; servers with the same one are one stream",
    ),
    kind: Name,
};

/// Events kept in Redis, about, for clients that come back later than the servers' own history reaches.
pub static REDIS_HISTORY: Setting<Count> = Setting {
    about: About::new(
        "redis_history",
        BACKBONE,
        "EVENTS",
        "100000",
        "Events kept in Redis, about, for clients that come back later than the servers' own history reaches",
    ),
    kind: Count { min: 1000, max: 1_000_000_000, unit: "events" },
};

/// Replicas of Redis that are to have an event before its publisher is told its id.
pub static REDIS_WAIT: Setting<Count> = Setting {
    about: About::new(
        "redis_wait",
        BACKBONE,
        "REPLICAS",
        "0",
        "Replicas of Redis that are to have an event before its publisher is told its id",
    ),
    kind: Count { min: 0, max: 100, unit: "replicas" },
};

/// Whether Redis keeps every write over restarts and failovers. If not, a new epoch begins then, and each subscriber gets a gap.
pub static REDIS_LOSSLESS: Setting<Switch> = Setting {
    about: About::new(
        "redis_lossless",
        BACKBONE,
        "",
        "false",
        "Redis keeps every write over restarts and failovers; without this, a new epoch begins then, and each subscriber gets a gap",
    ),
    kind: Switch,
};

/// How long a client waits that comes with an id which this server does not have yet, and Redis has.
pub static RESUME_WAIT: Setting<Span> = Setting {
    about: About::new(
        "resume_wait",
        BACKBONE,
        "TIME",
        "2s",
        "How long a client waits that comes with an id which this server does not have yet, and Redis has",
    ),
    kind: Span { min: Duration::ZERO, max: Duration::from_secs(60) },
};

/// How long Redis may take to answer before it is taken for away.
pub static REDIS_TIMEOUT: Setting<Span> = Setting {
    about: About::new(
        "redis_timeout",
        BACKBONE,
        "TIME",
        "5s",
        "How long Redis may take to answer before it is taken for away",
    ),
    kind: Span { min: Duration::from_millis(100), max: Duration::from_secs(300) },
};

/// Whether a server that finds no Redis at its start waits for it, not ready, or fails.
pub static REDIS_START: Setting<Choice<RedisStart>> = Setting {
    about: About::new(
        "redis_start",
        BACKBONE,
        "WORD",
        "wait",
        "Whether a server that finds no Redis at its start waits for it, not ready, or fails",
    ),
    kind: Choice(&[("wait", RedisStart::Wait), ("fail", RedisStart::Fail)]),
};

/// How long a publisher waits for a Redis that is away before it gets 503.
pub static PUBLISH_TIMEOUT: Setting<Span> = Setting {
    about: About::new(
        "publish_timeout",
        BACKBONE,
        "TIME",
        "0s",
        "How long a publisher waits for a Redis that is away before it gets 503",
    ),
    kind: Span { min: Duration::ZERO, max: Duration::from_secs(300) },
};

/// This server's name among those that share Redis; without it the machine's name and the process.
pub static NODE: Setting<Optional<Name>> = Setting {
    about: About::new(
        "node",
        BACKBONE,
        "NAME",
        "",
        "This server's name among those that share Redis; without it the machine's name and the process",
    ),
    kind: Optional(Name),
};

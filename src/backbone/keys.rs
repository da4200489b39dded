//! The keys in Redis. All have one hash tag, so that a script may use them together.

/// The names that begin with the setting `redis_key`.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// The stream.
    pub(super) stream: String,
    /// What is stored about the stream: its owner.
    pub(super) metadata: String,
    /// Written before the replicas are waited for.
    pub(super) replication: String,
    /// The number of the last batch that this server published.
    pub(super) last_batch: String,
    /// The names of the servers, by the time at which they wrote last.
    pub(super) nodes: String,
    prefix: String,
}

impl Keys {
    /// The keys below `key`, for the server whose unique name is `instance`.
    pub(super) fn new(key: &str, instance: &str) -> Self {
        let prefix = format!("{{{key}}}");
        Self {
            stream: format!("{prefix}:events"),
            metadata: format!("{prefix}:meta"),
            replication: format!("{prefix}:wait:{instance}"),
            last_batch: format!("{prefix}:batch:{instance}"),
            nodes: format!("{prefix}:nodes"),
            prefix,
        }
    }

    /// What a server has written of itself: its `clients` or its `topics`.
    pub(super) fn of(&self, part: &str, instance: &str) -> String {
        format!("{}:{part}:{instance}", self.prefix)
    }
}

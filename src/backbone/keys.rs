//! The keys in Redis. All have one hash tag, so that a script may use them together.

/// The names that begin with the setting `redis_key`.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// The stream.
    pub(super) stream: String,
    /// The number of the last batch that this server published.
    pub(super) last_batch: String,
    /// The names of the servers, by the time until which they are taken for alive.
    pub(super) nodes: String,
    prefix: String,
}

impl Keys {
    /// The keys below `key`, for the server that calls itself `instance`, as no other does.
    pub(super) fn new(key: &str, instance: &str) -> Self {
        let prefix = format!("{{{key}}}");
        Self {
            stream: format!("{prefix}:events"),
            last_batch: format!("{prefix}:batch:{instance}"),
            nodes: format!("{prefix}:nodes"),
            prefix,
        }
    }

    /// Who is connected to a server.
    pub(super) fn clients_of(&self, node: &str) -> String {
        format!("{}:clients:{node}", self.prefix)
    }

    /// Which topics a server has.
    pub(super) fn topics_of(&self, node: &str) -> String {
        format!("{}:topics:{node}", self.prefix)
    }
}

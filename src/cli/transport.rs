//! How a client command receives events.

/// How a client command receives events.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Server-Sent Events: GET /stream
    #[default]
    Sse,
    /// WebSocket: GET /ws
    Ws,
}

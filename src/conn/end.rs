//! Why a stream ended.

use std::io;

/// Why a stream ended. The names are those of logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// The client closed the connection, or its sending side.
    Closed,
    /// The cursor fell out of its ring, and the client did not choose to skip.
    Lagged,
    /// Bytes were pending, and the client accepted none for the write timeout; or it did not reply to a ping.
    Stalled,
    /// The server shut down.
    Drained,
    /// The client sent too many bytes on its stream, or broke the protocol of its WebSocket.
    Misused,
    /// An operator disconnected the client.
    Disconnected,
    /// The client's token expired.
    TokenExpired,
    /// The access rules were replaced and do not allow the stream.
    Revoked,
}

impl EndReason {
    pub(crate) const ALL: [Self; 8] = [
        Self::Closed,
        Self::Lagged,
        Self::Stalled,
        Self::Drained,
        Self::Misused,
        Self::Disconnected,
        Self::TokenExpired,
        Self::Revoked,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Lagged => "lagged",
            Self::Stalled => "stalled",
            Self::Drained => "drained",
            Self::Misused => "misused",
            Self::Disconnected => "disconnected",
            Self::TokenExpired => "token_expired",
            Self::Revoked => "revoked",
        }
    }

    /// The code of the close frame of a WebSocket (RFC 6455, section 7.4). A message that breaks the protocol has its own.
    pub(super) fn close_code(self) -> u16 {
        match self {
            Self::Closed => 1000,
            Self::Drained => 1001,
            Self::Misused | Self::TokenExpired | Self::Revoked => 1008,
            Self::Lagged => 4000,
            Self::Stalled => 4001,
            Self::Disconnected => 4002,
        }
    }

    /// The end of a stream whose socket failed. The kernel reports a timeout if the peer acknowledged nothing for the write
    /// timeout.
    pub(super) fn of_socket(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut { Self::Stalled } else { Self::Closed }
    }

    /// Whether the client is at fault. Such ends are logged as warnings.
    pub(crate) fn is_clients_fault(self) -> bool {
        matches!(self, Self::Lagged | Self::Stalled | Self::Misused)
    }
}

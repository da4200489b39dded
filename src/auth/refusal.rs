//! Why a request was turned away.

use std::time::Duration;

/// Why a request may not do what it asks for. The texts go to the client: they name settings and topics, and no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Credentials are missing or no good: 401.
    #[error("{0}")]
    Unauthenticated(String),
    /// Whoever asks is known, or need not be, and may not do this: 403.
    #[error("{0}")]
    Forbidden(String),
    /// It cannot be decided now: 503, to be tried again after this time.
    #[error("{0}")]
    Unavailable(String, Duration),
}

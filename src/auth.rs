//! Authentication and authorization.
//!
//! **Contract.** Every request that subscribes, publishes, reads metrics or uses the admin endpoints passes [`Access`] once.
//! The result is a [`Grant`] that covers the request, or a [`Refusal`] with the reason and the remedy. A stream keeps its
//! grant, and ends when the grant expires or is revoked.
//!
//! **How.** An [`Authorize`] turns an [`AuthRequest`] into a grant or a refusal, or leaves it to the next one. API keys
//! ([`ApiKeys`]), tokens (`Tokens`) and an HTTP service (`Service`) implement it, and so may an application. A request
//! without credentials gets the anonymous grant of [`Access`].
//!
//! **Invariants.** A request with an invalid key or token is refused, and never treated as anonymous. Without configured
//! credentials every key and token is invalid, except that an HTTP service may accept those of subscriptions. `Authorization`
//! schemes other than `Bearer` are ignored, because a proxy in front may use them. A subscription filter must be covered by one
//! granted pattern as a whole, or be the topic of the grant's user. Errors, log lines and `Debug` output contain no secrets.

mod access;
mod api_keys;
mod authorize;
#[cfg(feature = "auth")]
mod crypto;
#[cfg(feature = "auth")]
mod fetch;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod grant;
mod host;
#[cfg(feature = "auth")]
mod jwks;
#[cfg(feature = "auth")]
mod key_set;
mod known;
mod locality;
#[cfg(any(feature = "auth", feature = "cli"))]
mod options;
mod patterns;
#[cfg(feature = "auth")]
mod pkix;
mod request;
#[cfg(feature = "auth")]
mod service;
mod tag;
#[cfg(feature = "auth")]
mod tokens;
#[cfg(any(feature = "auth", feature = "cli"))]
mod url;

use std::time::Duration;

pub use access::Access;
pub use api_keys::{ApiKey, ApiKeys, InvalidDigest, KeyDigest, random_key};
pub use authorize::Authorize;
pub use grant::Grant;
pub(crate) use host::Host;
#[cfg(feature = "auth")]
pub use jwks::Jwks;
#[cfg(feature = "auth")]
pub use key_set::{KeyError, KeySet, SigningKey};
pub(crate) use known::{KnownHeaders, Rare};
pub use locality::LoopbackTrust;
#[cfg(any(feature = "auth", feature = "cli"))]
pub use options::{ServiceOptions, TokenRules};
pub use patterns::{InvalidPatterns, Patterns};
pub use request::{Action, AuthRequest};
#[cfg(feature = "auth")]
pub use service::Service;
pub use tag::{InvalidTag, Tag};
#[cfg(feature = "auth")]
pub use tokens::{Claims, Permissions, SignError, Tokens};
#[cfg(any(feature = "auth", feature = "cli"))]
pub use url::{InvalidUrl, Url};

pub use crate::peer::{Peer, PeerAddress};

/// Why a request is refused. The text is sent to the client: it may name settings and topics, and must hold no secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Credentials are required, and the request has none: status 401.
    #[error("{0}")]
    Unauthenticated(String),
    /// The credentials of the request are invalid, or no longer valid: status 401.
    #[error("{0}")]
    InvalidCredentials(String),
    /// The credentials, or the lack of them, do not allow this: status 403.
    #[error("{0}")]
    Forbidden(String),
    /// The decision is not possible now, because a database or service is unavailable: status 503.
    #[error("{detail}")]
    Unavailable {
        /// What the client gets to read.
        detail: String,
        /// The time after which the client should try again.
        retry_after: Duration,
    },
}

impl Refusal {
    pub(crate) fn expired() -> Self {
        Self::InvalidCredentials("the token has expired (exp)".into())
    }
}

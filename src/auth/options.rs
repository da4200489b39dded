//! Options of tokens and of the authorization service, as plain values.

use std::time::Duration;

/// Rules for the claims of a token, besides its expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// One of these must be in the claim `aud`. If empty, a token must not have an audience.
    pub audience: Vec<String>,
    /// The claim `iss` must be one of these. If empty, any issuer is accepted.
    pub issuer: Vec<String>,
    /// The tolerated clock difference: tokens are valid this long before `nbf` and after `exp`.
    pub leeway: Duration,
}

impl Default for TokenRules {
    fn default() -> Self {
        Self { audience: Vec::new(), issuer: Vec::new(), leeway: Duration::from_secs(10) }
    }
}

/// Bounds on the requests to a [`Service`](super::Service).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceOptions {
    /// The longest time for one decision, including the wait for a free slot.
    pub time_limit: Duration,
    /// The largest number of concurrent requests, at least 1.
    pub concurrency: usize,
    /// How long an allowed subscription stays cached. Zero disables the cache. Refusals are never cached.
    pub cache: Duration,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self { time_limit: Duration::from_secs(2), concurrency: 64, cache: Duration::from_secs(10) }
    }
}

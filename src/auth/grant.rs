//! The permissions of a request or stream.

use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::patterns::Patterns;

/// The permissions of a request or stream. The default allows nothing.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Grant {
    /// Topics that it may subscribe to.
    pub subscribe: Patterns,
    /// Topics that it may publish to.
    pub publish: Patterns,
    /// Whether it may use the admin endpoints.
    pub admin: bool,
    /// The user, as `/clients` shows it.
    pub subject: Option<Arc<str>>,
    /// When the grant expires. Its streams end then.
    pub expires: Option<SystemTime>,
    pub(crate) credential: Credential,
}

/// What a grant is based on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Credential {
    /// An application's own [`Authorize`](super::Authorize).
    #[default]
    Foreign,
    /// No credentials.
    Anonymous { is_local: bool },
    /// An API key, by its digest.
    ApiKey([u8; 32]),
    /// A token, by the digest of the key that verified it.
    #[cfg_attr(not(feature = "auth"), allow(dead_code))]
    Token { key: [u8; 32], audience: Vec<String>, issuer: Option<String> },
}

impl Grant {
    pub(crate) fn anonymous(is_local: bool) -> Self {
        Self { credential: Credential::Anonymous { is_local }, ..Self::default() }
    }

    /// Whether the grant is the anonymous one, without additions by an authorization service.
    pub(crate) fn is_anonymous(&self) -> bool {
        matches!(self.credential, Credential::Anonymous { .. }) && self.subject.is_none() && self.expires.is_none()
    }

    /// The key of rate limits: an API key, or the subject of one key's tokens. `None` without credentials.
    pub(crate) fn identity(&self) -> Option<[u8; 32]> {
        let subject = self.subject.as_deref();
        let digest = |key: &[u8]| Sha256::new().chain_update(key).chain_update(subject.unwrap_or("")).finalize().into();
        match &self.credential {
            Credential::ApiKey(key) => Some(*key),
            Credential::Token { key, .. } => Some(digest(key)),
            Credential::Foreign => subject.map(|_| digest(b"")),
            Credential::Anonymous { .. } => None,
        }
    }

    pub(crate) fn has_expired(&self) -> bool {
        self.expires.is_some_and(|end| end <= SystemTime::now())
    }
}

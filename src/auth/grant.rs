//! What somebody may do.

use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::patterns::Patterns;

/// What somebody may do.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    /// Topics whose events they may have.
    pub subscribe: Patterns,
    /// Topics that they may publish to.
    pub publish: Patterns,
    /// Whether they may see and do what operators see and do.
    pub admin: bool,
    /// Who they are, for `/clients`; none for somebody.
    pub subject: Option<Arc<str>>,
    /// When this ends, and their streams with it.
    pub expires: Option<SystemTime>,
    pub(crate) credential: Credential,
}

/// What a grant rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Credential {
    /// What an application's own [`Authorize`](super::Authorize) knows of.
    #[default]
    Foreign,
    /// None: it is what the rules open to whoever shows nothing.
    Nothing { is_local: bool },
    /// An API key, by its digest.
    Key([u8; 32]),
    /// A token, by the digest of the key that verified it, and what it said of itself.
    #[cfg_attr(not(feature = "auth"), allow(dead_code))]
    Token { key: [u8; 32], audience: Vec<String>, issuer: Option<String> },
}

impl Grant {
    /// Whether it is what anybody has who shows nothing.
    pub(crate) fn is_anonymous(&self) -> bool {
        matches!(self.credential, Credential::Nothing { .. }) && self.subject.is_none() && self.expires.is_none()
    }

    /// Whom it was given to, as far as limits tell them apart: an API key, or the subject of one key's tokens. None for
    /// whoever showed nothing.
    pub(crate) fn identity(&self) -> Option<[u8; 32]> {
        let subject = self.subject.as_deref();
        let digest = |key: &[u8]| Sha256::new().chain_update(key).chain_update(subject.unwrap_or("")).finalize().into();
        match &self.credential {
            Credential::Key(key) => Some(*key),
            Credential::Token { key, .. } => Some(digest(key)),
            Credential::Foreign => subject.map(|_| digest(b"")),
            Credential::Nothing { .. } => None,
        }
    }

    /// Whether its end has come.
    pub(crate) fn has_expired(&self) -> bool {
        self.expires.is_some_and(|end| end <= SystemTime::now())
    }

    /// What whoever shows nothing has of itself: nothing.
    pub(crate) fn anonymous(is_local: bool) -> Self {
        Self { credential: Credential::Nothing { is_local }, ..Self::default() }
    }
}

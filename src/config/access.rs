//! The settings of authentication and authorization, as plain values.

use std::fmt;
#[cfg(feature = "auth")]
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

#[cfg(feature = "auth")]
use fanline::auth::KeySet;
use fanline::auth::{ApiKey, LoopbackTrust, Patterns, ServiceOptions, TokenRules, Url};

use super::kind::Invalid;

/// Credentials and grants. The files that it names have not been read yet.
#[derive(Clone, Debug, Default)]
pub struct AccessSettings {
    /// Secrets that verify tokens.
    pub secrets: Vec<Secret>,
    /// PEM files with public keys that verify tokens.
    pub public_keys: Vec<PathBuf>,
    /// The JSON Web Key Set that verifies tokens.
    pub jwks: Option<KeySetPlace>,
    /// The claims that tokens must have.
    pub tokens: TokenRules,
    pub keys: Vec<ApiKey>,
    /// Topics that need no credentials to subscribe, if set.
    pub anonymous_subscribe: Option<Patterns>,
    /// Topics that need no credentials to publish, if set.
    pub anonymous_publish: Option<Patterns>,
    /// Whether metrics need no credentials.
    pub anonymous_metrics: bool,
    /// Which processes of this machine need no credentials while none are configured.
    pub loopback_trust: LoopbackTrust,
    /// The service that authorizes each subscription.
    pub authorize_url: Option<Url>,
    /// How that service is called.
    pub authorize: ServiceOptions,
}

impl AccessSettings {
    /// Returns whether any setting verifies tokens.
    pub fn has_tokens(&self) -> bool {
        !self.secrets.is_empty() || !self.public_keys.is_empty() || self.jwks.is_some()
    }

    fn has_credentials(&self) -> bool {
        self.has_tokens() || !self.keys.is_empty()
    }

    /// Returns the settings whose removal since `before` would admit unauthenticated clients, if there are any.
    pub fn opened_since(&self, before: &Self) -> Option<&'static str> {
        if self.has_credentials() {
            return None;
        }
        if before.has_credentials() {
            return Some("[[keys]], jwt_secret, jwt_public_key and jwks");
        }
        if before.authorize_url.is_some() && self.authorize_url.is_none() {
            return Some("authorize_url");
        }
        if before.loopback_trust == LoopbackTrust::None && self.loopback_trust != LoopbackTrust::None {
            return Some("loopback_trust");
        }
        (before.anonymous_subscribe.is_some() && self.anonymous_subscribe.is_none()).then_some("anonymous_subscribe")
    }
}

/// A secret, or the file that holds it. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    Given(String),
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given(…)"),
            Self::File(path) => write!(f, "File({path:?})"),
        }
    }
}

impl FromStr for Secret {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.strip_prefix('@') {
            Some("") => Err("must have the path of a file after @".into()),
            Some(path) => Ok(Self::File(path.into())),
            None => {
                #[cfg(feature = "auth")]
                KeySet::secret(text.as_bytes()).map_err(Invalid::because)?;
                Ok(Self::Given(text.to_owned()))
            }
        }
    }
}

#[cfg(feature = "auth")]
impl Secret {
    /// Returns the secret's bytes, without the line end of a file.
    ///
    /// # Errors
    /// When the file cannot be read; the error names it.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::Given(text) => Ok(text.clone().into_bytes()),
            Self::File(path) => {
                let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
                Ok(std::fs::read(path).map_err(named)?.trim_ascii_end().to_vec())
            }
        }
    }
}

/// Where a key set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySetPlace {
    File(PathBuf),
    Url(Url),
}

impl FromStr for KeySetPlace {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.contains("://") {
            return text.trim().parse().map(Self::Url).map_err(Invalid::because);
        }
        // A mistyped URL must not become a path: errors show paths, and a query may hold a secret.
        if text.contains('?') {
            return Err("must be the path of a file, or a URL that begins with http:// or https://".into());
        }
        Ok(Self::File(text.into()))
    }
}

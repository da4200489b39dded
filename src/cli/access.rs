//! Builds the access rules of a server from its settings: reads key files, and fetches key sets.

use std::fmt::Display;
use std::path::Path;

use fanline::auth::{Access, ApiKeys, Jwks, KeySet, Service, Tokens};

use crate::config::{AccessSettings, KeySetPlace};

/// Access rules, and the key set that is fetched from a URL.
pub struct Rules {
    pub access: Access,
    /// The key set at a URL, if there is one.
    jwks: Option<Jwks>,
}

/// A setting whose file or key set cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {reason}")]
pub struct InvalidRules {
    setting: &'static str,
    reason: String,
}

impl InvalidRules {
    fn new(setting: &'static str, reason: impl Display) -> Self {
        Self { setting, reason: reason.to_string() }
    }
}

impl Rules {
    /// Builds the rules of a server that starts. A key set at a URL is fetched in the background.
    ///
    /// # Errors
    /// When a file cannot be read or used; the error names its setting.
    pub fn read(settings: &AccessSettings) -> Result<Self, InvalidRules> {
        let rules = Self::with(settings, None)?;
        if let Some(jwks) = rules.jwks.clone() {
            tokio::spawn(async move { jwks.refresh().await });
        }
        Ok(rules)
    }

    /// Builds the rules that replace these. A key set at a URL is fetched first; if that fails, known keys are kept.
    ///
    /// # Errors
    /// When a file cannot be read or used, or a new key set cannot be fetched. The server keeps these rules then.
    pub async fn renewed(&self, settings: &AccessSettings) -> Result<Self, InvalidRules> {
        let rules = Self::with(settings, self.jwks.as_ref())?;
        match &rules.jwks {
            Some(jwks) if !jwks.refresh().await => {
                Err(InvalidRules::new("jwks", format!("cannot fetch keys from {}", jwks.url())))
            }
            _ => Ok(rules),
        }
    }

    /// Waits until a fetch has removed a key: streams opened with it must end.
    pub async fn key_withdrawn(&self) {
        match &self.jwks {
            Some(jwks) => jwks.key_revoked().await,
            None => std::future::pending().await,
        }
    }

    /// Builds the rules. `known` is the key set of the rules before, whose keys are reused for the same URL.
    fn with(settings: &AccessSettings, known: Option<&Jwks>) -> Result<Self, InvalidRules> {
        let mut access =
            Access::new().anonymous_metrics(settings.anonymous_metrics).loopback_trust(settings.loopback_trust);
        if let Some(patterns) = &settings.anonymous_subscribe {
            access = access.anonymous_subscribe(patterns.clone());
        }
        if let Some(patterns) = &settings.anonymous_publish {
            access = access.anonymous_publish(patterns.clone());
        }
        if !settings.keys.is_empty() {
            access = access.accept(ApiKeys::new(settings.keys.iter().cloned()));
        }
        let mut jwks = None;
        if settings.has_tokens() {
            let mut tokens = Tokens::new(read_keys(settings)?, settings.tokens.clone());
            if let Some(KeySetPlace::Url(url)) = &settings.jwks {
                let at_url = known.filter(|jwks| jwks.url() == url).cloned().unwrap_or_else(|| Jwks::at(url.clone()));
                tokens = tokens.with_jwks(at_url.clone());
                jwks = Some(at_url);
            }
            access = access.accept(tokens);
        }
        if let Some(url) = &settings.authorize_url {
            access = access.ask_for_each_subscription(Service::new(url.clone(), settings.authorize));
        }
        Ok(Self { access, jwks })
    }
}

/// Reads the keys that are on this machine.
fn read_keys(settings: &AccessSettings) -> Result<KeySet, InvalidRules> {
    let mut keys = KeySet::default();
    for secret in &settings.secrets {
        let invalid = |error: &dyn Display| InvalidRules::new("jwt_secret", error);
        let bytes = secret.read().map_err(|error| invalid(&error))?;
        keys = keys.and(KeySet::secret(&bytes).map_err(|error| invalid(&format!("{secret:?}: {error}")))?);
    }
    let read = |setting, path: &Path, parse: fn(&[u8]) -> Result<KeySet, _>| {
        let invalid = |error: &dyn Display| InvalidRules::new(setting, format!("{}: {error}", path.display()));
        parse(&std::fs::read(path).map_err(|error| invalid(&error))?).map_err(|error| invalid(&error))
    };
    for path in &settings.public_keys {
        keys = keys.and(read("jwt_public_key", path, KeySet::public_pem)?);
    }
    if let Some(KeySetPlace::File(path)) = &settings.jwks {
        keys = keys.and(read("jwks", path, KeySet::jwks)?);
    }
    Ok(keys)
}

//! The part of the access rules that needs the feature `auth`: tokens, and the authorization service.

use std::fmt::Display;
use std::future::pending;
use std::path::Path;

use fanline::auth::{Access, Jwks, KeySet, Service, Tokens};

use super::InvalidRules;
use crate::config::{AccessSettings, KeySetPlace};

/// The key set that is fetched from a URL, if there is one.
pub struct Fetched(Option<Jwks>);

impl Fetched {
    /// Begins to fetch the key set.
    pub fn refresh_in_background(&self) {
        if let Some(jwks) = self.0.clone() {
            tokio::spawn(async move { jwks.refresh().await });
        }
    }

    /// Fetches the key set.
    pub async fn refresh(&self) -> Result<(), InvalidRules> {
        match &self.0 {
            Some(jwks) if !jwks.refresh().await => {
                Err(InvalidRules::new("jwks", format!("cannot fetch keys from {}", jwks.url())))
            }
            _ => Ok(()),
        }
    }

    /// Waits until a fetch has removed a key.
    pub async fn key_withdrawn(&self) {
        match &self.0 {
            Some(jwks) => jwks.key_revoked().await,
            None => pending().await,
        }
    }
}

/// Adds the tokens and the service of `settings`. The keys of `known` are reused for the same URL.
///
/// # Errors
/// When a file cannot be read or used.
pub fn add(
    mut access: Access,
    settings: &AccessSettings,
    known: Option<&Fetched>,
) -> Result<(Access, Fetched), InvalidRules> {
    let mut fetched = None;
    if settings.has_tokens() {
        let mut tokens = Tokens::new(read_keys(settings)?, settings.tokens.clone());
        if let Some(KeySetPlace::Url(url)) = &settings.jwks {
            let known = known.and_then(|known| known.0.as_ref()).filter(|jwks| jwks.url() == url);
            let at_url = known.cloned().unwrap_or_else(|| Jwks::at(url.clone()));
            tokens = tokens.with_jwks(at_url.clone());
            fetched = Some(at_url);
        }
        access = access.accept(tokens);
    }
    if let Some(url) = &settings.authorize_url {
        access = access.ask_for_each_subscription(Service::new(url.clone(), settings.authorize));
    }
    Ok((access, Fetched(fetched)))
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

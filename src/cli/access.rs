//! From settings to rules: what files hold, and where keys come from.

use std::path::Path;

use fanline::auth::{Access, ApiKeys, Jwks, KeySet, Service, ServiceOptions, TokenRules, Tokens};

use crate::config::{AccessSettings, KeySetPlace};

/// The rules of a server, and the key set whose keys are fetched.
pub struct Rules {
    /// Who may do what.
    pub access: Access,
    /// The key set at a URL, if there is one.
    jwks: Option<Jwks>,
}

impl Rules {
    /// The rules that `settings` say, for a server that starts: keys at a URL are fetched meanwhile.
    ///
    /// # Errors
    /// A sentence that names the setting and the file.
    pub fn read(settings: &AccessSettings) -> Result<Self, String> {
        let rules = Self::with(settings, None)?;
        if let Some(jwks) = rules.jwks.clone() {
            tokio::spawn(async move { jwks.refresh().await });
        }
        Ok(rules)
    }

    /// The rules that `settings` say now, for a server that goes by these: keys at a URL are fetched before the answer,
    /// and keys that are known are kept where that fails.
    ///
    /// # Errors
    /// A sentence that names the setting, and the file or the URL. It is better to go on with the rules of before.
    pub async fn renewed(&self, settings: &AccessSettings) -> Result<Self, String> {
        let rules = Self::with(settings, self.jwks.as_ref())?;
        if let Some(jwks) = &rules.jwks
            && !jwks.refresh().await
        {
            return Err(format!("jwks: there are no keys to be had at {}", jwks.url()));
        }
        Ok(rules)
    }

    /// Completes when a fetch has taken back a key: streams that were opened with it are to end.
    pub async fn key_withdrawn(&self) {
        match &self.jwks {
            Some(jwks) => jwks.key_withdrawn().await,
            None => std::future::pending().await,
        }
    }

    fn with(settings: &AccessSettings, known: Option<&Jwks>) -> Result<Self, String> {
        let mut access = Access::new().anonymous_metrics(settings.anonymous_metrics);
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
            let rules = TokenRules {
                audience: settings.audience.clone(),
                issuer: settings.issuer.clone(),
                leeway: settings.leeway,
            };
            let mut tokens = Tokens::new(keys(settings)?, rules);
            if let Some(KeySetPlace::Url(url)) = &settings.jwks {
                let place = known.filter(|jwks| jwks.url() == url).cloned().unwrap_or_else(|| Jwks::at(url.clone()));
                tokens = tokens.with_jwks(place.clone());
                jwks = Some(place);
            }
            access = access.accept(tokens);
        }
        if let Some(url) = &settings.authorize_url {
            let options = ServiceOptions {
                time_limit: settings.authorize_timeout,
                concurrency: settings.authorize_concurrency,
                cache: settings.authorize_cache,
            };
            access = access.ask_for_each_subscription(Service::new(url.clone(), options));
        }
        Ok(Self { access, jwks })
    }
}

/// The keys that this machine has.
fn keys(settings: &AccessSettings) -> Result<KeySet, String> {
    let mut keys = KeySet::default();
    for secret in &settings.secrets {
        let bytes = secret.read().map_err(|error| format!("jwt_secret: {error}"))?;
        keys = keys.and(KeySet::secret(&bytes).map_err(|error| format!("jwt_secret: {secret:?}: {error}"))?);
    }
    let read = |setting: &str, path: &Path| {
        std::fs::read(path).map_err(|error| format!("{setting}: {}: {error}", path.display()))
    };
    for path in &settings.public_keys {
        let pem = read("jwt_public_key", path)?;
        let key = KeySet::public_pem(&pem).map_err(|error| format!("jwt_public_key: {}: {error}", path.display()))?;
        keys = keys.and(key);
    }
    if let Some(KeySetPlace::File(path)) = &settings.jwks {
        let set = KeySet::jwks(&read("jwks", path)?);
        keys = keys.and(set.map_err(|error| format!("jwks: {}: {error}", path.display()))?);
    }
    Ok(keys)
}

//! Builds the access rules of a server from its settings: reads key files, and fetches key sets.

#[cfg(not(feature = "auth"))]
mod no_tokens;
#[cfg(feature = "auth")]
mod tokens;

use std::fmt::Display;

use fanline::auth::{Access, ApiKeys};

use crate::config::AccessSettings;
#[cfg(not(feature = "auth"))]
use no_tokens as tokens;
use tokens::Fetched;

/// Access rules, and the key set that is fetched from a URL.
pub struct Rules {
    pub access: Access,
    fetched: Fetched,
}

/// A setting whose file or key set cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {reason}")]
pub struct InvalidRules {
    setting: &'static str,
    reason: String,
}

#[cfg_attr(not(feature = "auth"), expect(dead_code, reason = "only tokens have files and key sets"))]
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
        rules.fetched.refresh_in_background();
        Ok(rules)
    }

    /// Builds the rules that replace these. A key set at a URL is fetched first; if that fails, known keys are kept.
    ///
    /// # Errors
    /// When a file cannot be read or used, or a new key set cannot be fetched. The server keeps these rules then.
    pub async fn renewed(&self, settings: &AccessSettings) -> Result<Self, InvalidRules> {
        let rules = Self::with(settings, Some(&self.fetched))?;
        rules.fetched.refresh().await?;
        Ok(rules)
    }

    /// Waits until a fetch has removed a key: streams opened with it must end.
    pub async fn key_withdrawn(&self) {
        self.fetched.key_withdrawn().await;
    }

    /// Builds the rules. `known` is the key set of the rules before, whose keys are reused for the same URL.
    fn with(settings: &AccessSettings, known: Option<&Fetched>) -> Result<Self, InvalidRules> {
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
        let (access, fetched) = tokens::add(access, settings, known)?;
        Ok(Self { access, fetched })
    }
}

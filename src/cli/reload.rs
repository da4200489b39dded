//! SIGHUP: reads the settings again, and replaces the access rules.
//!
//! Streams whose grant still holds are not affected; the others are closed. Nothing changes if the settings are invalid, or
//! if they would remove all credentials, as a truncated file does. Settings that are not reloadable take effect at the next
//! start. Streams also end when a fetch of the key set removes their key.

use std::io::{self, IsTerminal};

use fanline::server::AccessHandle;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::access::{InvalidRules, Rules};
use crate::config::{self, ConfigError, ServeArgs, Settings};

/// The settings and rules of a running server.
pub struct Reload {
    hangups: Signal,
    /// A server that was started in a terminal ends with it.
    has_terminal: bool,
    args: ServeArgs,
    settings: Settings,
    rules: Rules,
    access: AccessHandle,
}

/// Why SIGHUP changed nothing.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Settings(#[from] ConfigError),
    #[error(transparent)]
    Rules(#[from] InvalidRules),
    #[error(
        "no setting of {0} is left, as in a truncated file, which would admit unauthenticated clients. To do that, restart \
         the server with these settings; to revoke the last key, replace it with another one"
    )]
    Opened(&'static str),
}

impl Reload {
    /// Handles SIGHUP from now on; by default it ends the process.
    ///
    /// # Errors
    /// When the signal cannot be handled.
    pub fn new(args: ServeArgs, settings: Settings, rules: Rules, access: AccessHandle) -> io::Result<Self> {
        let hangups = signal(SignalKind::hangup())?;
        Ok(Self { hangups, has_terminal: io::stdin().is_terminal(), args, settings, rules, access })
    }

    /// Reloads the settings at each SIGHUP, and keeps a fetched key set fresh. Returns when the terminal hung up.
    pub async fn at_each_hangup(mut self) {
        loop {
            tokio::select! {
                Some(()) = self.hangups.recv() => {}
                () = self.rules.key_withdrawn() => {
                    self.access.replace(self.rules.access.clone());
                    continue;
                }
            }
            if self.has_terminal && !io::stdin().is_terminal() {
                return;
            }
            if let Err(reason) = self.reload().await {
                tracing::error!(%reason, "SIGHUP: nothing was changed");
            }
        }
    }

    async fn reload(&mut self) -> Result<(), ReloadError> {
        let settings = config::load(Some(&self.args), std::env::vars_os())?.settings;
        if let Some(removed) = settings.access.opened_since(&self.settings.access) {
            return Err(ReloadError::Opened(removed));
        }
        let rules = self.rules.renewed(&settings.access).await?;
        self.access.replace(rules.access.clone());
        self.rules = rules;
        let changed = config::changed(&self.settings, &settings);
        let later: Vec<_> =
            changed.iter().filter(|setting| !setting.is_reloadable).map(|setting| setting.name).collect();
        if !later.is_empty() {
            tracing::warn!(settings = later.join(", "), "SIGHUP: changed settings that take effect at the next start");
        }
        self.settings.access = settings.access;
        tracing::info!("SIGHUP: the settings were read, and the access rules replaced");
        Ok(())
    }
}

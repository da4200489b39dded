//! SIGHUP: the settings are read again, and the rules of access replaced.
//!
//! Streams whose grant still holds do not notice; the others are closed. Settings that cannot be used change nothing, and
//! neither do those that would let in everybody, as a file does that is cut off. The other settings hold until the next
//! start. Keys of a URL that were taken back there end their streams as well.

use std::io::{self, IsTerminal};

use fanline::server::AccessHandle;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::access::Rules;
use crate::config::{self, ServeArgs, Settings};

/// What a server goes by, and where it came from.
pub struct Reload {
    hangups: Signal,
    /// A server that was started in a terminal ends with it.
    has_terminal: bool,
    args: ServeArgs,
    settings: Settings,
    rules: Rules,
    access: AccessHandle,
}

impl Reload {
    /// Takes SIGHUP from now on, which otherwise ends the process.
    pub fn new(args: ServeArgs, settings: Settings, rules: Rules, access: AccessHandle) -> io::Result<Self> {
        let hangups = signal(SignalKind::hangup())?;
        Ok(Self { hangups, has_terminal: io::stdin().is_terminal(), args, settings, rules, access })
    }

    /// Reads the settings at each SIGHUP, and meanwhile keeps keys of a URL fresh. Completes when it was the terminal that
    /// hung up.
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
            match self.reload().await {
                Ok(()) => {}
                Err(reason) => tracing::error!(reason, "SIGHUP: nothing was changed"),
            }
        }
    }

    async fn reload(&mut self) -> Result<(), String> {
        let settings = config::load(&self.args, std::env::vars_os()).map_err(|error| error.to_string())?.settings;
        if let Some(gone) = settings.access.opens(&self.settings.access) {
            return Err(format!(
                "no setting of {gone} is left, as in a file that is cut off, and then everybody would be let in. If that is \
                 wanted, restart the server with these settings; to take back the last key, put another in its place"
            ));
        }
        let rules = self.rules.renewed(&settings.access).await?;
        self.access.replace(rules.access.clone());
        self.rules = rules;
        self.settings.access = settings.access.clone();
        if settings != self.settings {
            tracing::warn!("SIGHUP: settings other than those of access have changed, and hold from the next start on");
        }
        tracing::info!("SIGHUP: the settings were read, and the rules of access replaced");
        Ok(())
    }
}

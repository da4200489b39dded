//! Settings from environment variables.

use std::ffi::OsString;
use std::path::PathBuf;

use super::catalog;
use super::error::{Problem, nearest};
use super::source::{Layers, Source};

/// The variable that names the settings file.
pub const CONFIG: &str = "FANLINE_CONFIG";

const PREFIX: &str = "FANLINE_";

/// Variables of the other commands, which share a shell with `serve`.
const OF_OTHER_COMMANDS: [&str; 2] = ["FANLINE_URL", "FANLINE_TOKEN"];

/// The variables that concern the server.
#[derive(Debug, Default)]
pub struct Environment {
    config: Option<PathBuf>,
    values: Vec<(&'static str, String, Source)>,
}

impl Environment {
    /// Picks the variables that concern the server. An empty one is as good as none: that is how a compose file passes
    /// on a variable that is not set.
    pub fn read(variables: impl IntoIterator<Item = (OsString, OsString)>, problems: &mut Vec<Problem>) -> Self {
        let mut environment = Self::default();
        for (variable, value) in variables {
            let Some(variable) = variable.to_str() else { continue };
            if value.is_empty() || OF_OTHER_COMMANDS.contains(&variable) {
                continue;
            }
            if variable == CONFIG {
                environment.config = Some(value.into());
                continue;
            }
            let Some((name, source)) = recognise(variable, problems) else { continue };
            match value.into_string() {
                Ok(text) => environment.values.push((name, text, source)),
                Err(_) => problems.push(Problem::NotUnicode(variable.to_owned())),
            }
        }
        environment
    }

    /// The settings file that the environment names.
    pub fn config(&self) -> Option<&PathBuf> {
        self.config.as_ref()
    }

    /// Adds what was given.
    pub fn add_to(self, layers: &mut Layers) {
        for (name, text, source) in self.values {
            layers.add(name, text, source);
        }
    }
}

/// Which setting `variable` sets. A variable that looks like a setting and is none is a problem.
fn recognise(variable: &str, problems: &mut Vec<Problem>) -> Option<(&'static str, Source)> {
    for about in catalog::ALL.iter().map(|definition| definition.about()) {
        if about.variable() == variable {
            return Some((about.name, Source::Variable(variable.to_owned())));
        }
        if let Some(conventional) = about.conventional.filter(|&conventional| conventional == variable) {
            return Some((about.name, Source::Conventional(conventional)));
        }
    }
    if let Some(rest) = variable.strip_prefix(PREFIX) {
        problems.push(Problem::Unknown {
            spelled: variable.to_owned(),
            source: "environment".to_owned(),
            nearest: nearest(rest).map(|name| format!("{PREFIX}{}", name.to_uppercase())),
        });
    }
    None
}

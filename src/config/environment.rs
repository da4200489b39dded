//! Settings from environment variables.

use std::ffi::OsString;
use std::path::PathBuf;

use super::catalog;
use super::error::Problem;
use super::source::{PREFIX, Source, Values};

/// The variable with the path of the settings file.
pub const CONFIG: &str = "FANLINE_CONFIG";

/// Variables of the other commands, which share a shell with `serve`.
const OF_OTHER_COMMANDS: [&str; 2] = ["FANLINE_URL", "FANLINE_TOKEN"];

/// Adds the values of `variables`, and returns the path of the settings file if there is one.
///
/// An empty variable counts as unset: compose files pass unset variables on as empty ones.
pub fn read(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    values: &mut Values,
    problems: &mut Vec<Problem>,
) -> Option<PathBuf> {
    let mut config = None;
    for (variable, value) in variables {
        let Some(variable) = variable.to_str() else { continue };
        if value.is_empty() || OF_OTHER_COMMANDS.contains(&variable) {
            continue;
        }
        if variable == CONFIG {
            config = Some(value.into());
        } else if let Some(setting) = catalog::settings().iter().find(|setting| setting.has_variable(variable)) {
            match value.into_string() {
                Ok(text) => values.add(setting.name, text, Source::Variable(variable.to_owned())),
                Err(_) => problems.push(Problem::NotUnicode(variable.to_owned())),
            }
        } else if let Some(rest) = variable.strip_prefix(PREFIX) {
            problems.push(Problem::Unknown {
                name: variable.to_owned(),
                place: "environment".to_owned(),
                nearest: catalog::nearest(rest).map(|name| format!("{PREFIX}{}", name.to_uppercase())),
            });
        }
    }
    config
}

//! Errors in settings: the source, the rule and the remedy.

use std::fmt;
use std::io;

use super::kind::Invalid;
use super::source::Source;

/// Everything that is wrong with the settings.
#[derive(Debug)]
pub struct ConfigError(pub(super) Vec<Problem>);

impl ConfigError {
    /// The exit code of the process: the one of clap for a wrong command line.
    pub const EXIT_CODE: u8 = 2;
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problems: Vec<_> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// One thing that is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A setting has an invalid value.
    #[error("{name}{} ({place}): {rule}", .text.as_ref().map(|text| format!(" = {text:?}")).unwrap_or_default())]
    Value {
        name: &'static str,
        /// The value; `None` for a secret, or if its TOML type is wrong.
        text: Option<String>,
        place: Source,
        rule: Invalid,
    },
    /// A key or variable is not a setting.
    #[error("{name} ({place}): no such setting; {}", match .nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "`fanline serve --help` lists all settings".to_owned(),
    })]
    Unknown {
        name: String,
        place: String,
        /// The most similar key or variable.
        nearest: Option<String>,
    },
    /// The value of a variable is not Unicode.
    #[error("{0} (environment): its value is not valid UTF-8")]
    NotUnicode(String),
    /// The settings file cannot be read.
    #[error("config = {path:?} ({place}): the file cannot be read: {error}")]
    Unreadable { path: String, place: Source, error: io::Error },
    /// The settings file is not TOML.
    #[error("config = {path:?}: the file is not TOML: {}", .error.trim_end())]
    NotToml {
        path: String,
        /// The parser's error, with line and column.
        error: String,
    },
    /// Two settings exclude each other.
    #[error("{0}")]
    Conflict(String),
}

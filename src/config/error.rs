//! What was wrong with the settings, where, and which value would be right.

use std::fmt;

use super::catalog;
use super::source::Source;

/// Everything that is wrong with the settings.
#[derive(Debug)]
pub struct ConfigError(pub(super) Vec<Problem>);

impl ConfigError {
    /// What the process exits with: the code that clap uses for a wrong command line.
    pub const EXIT_CODE: u8 = 2;
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// One thing that is wrong with the settings.
#[derive(Debug)]
pub enum Problem {
    /// A value that its setting does not take.
    Value {
        /// The setting.
        name: &'static str,
        /// What was given; none for a secret, and where its type alone is at fault.
        text: Option<String>,
        /// By whom.
        source: Source,
        /// Which rule it breaks and what would be right.
        complaint: String,
    },
    /// A key or variable that is no setting.
    Unknown {
        /// How it was spelled.
        spelled: String,
        /// Where.
        source: String,
        /// The setting that was probably meant.
        nearest: Option<String>,
    },
    /// A variable whose value is not Unicode.
    NotUnicode(String),
    /// The settings file cannot be read.
    Unreadable {
        /// Its path.
        path: String,
        /// Who named it.
        source: Source,
        /// What the system says.
        reason: std::io::Error,
    },
    /// The settings file is no TOML.
    NotToml {
        /// Its path.
        path: String,
        /// What the parser says, with the place.
        reason: String,
    },
    /// Two settings that do not go together.
    Conflict(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { name, text: Some(text), source, complaint } => {
                write!(f, "{name} = {text:?} ({source}): {complaint}")
            }
            Self::Value { name, text: None, source, complaint } => write!(f, "{name} ({source}): {complaint}"),
            Self::Unknown { spelled, source, nearest } => {
                write!(f, "{spelled} ({source}): there is no such setting")?;
                match nearest {
                    Some(nearest) => write!(f, "; {nearest} is the nearest"),
                    None => f.write_str("; `fanline serve --help` lists them all"),
                }
            }
            Self::NotUnicode(variable) => write!(f, "{variable} (environment): its value is not valid UTF-8"),
            Self::Unreadable { path, source, reason } => {
                write!(f, "config = {path:?} ({source}): the file cannot be read: {reason}")
            }
            Self::NotToml { path, reason } => {
                write!(f, "config = {path:?}: the file is not TOML: {}", reason.trim_end())
            }
            Self::Conflict(sentence) => f.write_str(sentence),
        }
    }
}

/// The setting whose name is most like `spelled`, if any is much like it.
pub fn nearest(spelled: &str) -> Option<&'static str> {
    let spelled = spelled.to_lowercase().replace('-', "_");
    let likeness = |name: &str| strsim::jaro_winkler(&spelled, name);
    catalog::ALL
        .iter()
        .map(|definition| definition.about().name)
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .filter(|name| likeness(name) > 0.8)
}

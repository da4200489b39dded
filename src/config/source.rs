//! The sources of values, and their precedence.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use fanline::auth::ApiKey;

/// What the names of this program's variables begin with.
pub const PREFIX: &str = "FANLINE_";

/// Where a value came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    #[default]
    Default,
    /// The settings file, with the line of the value.
    File(PathBuf, usize),
    /// An environment variable: `FANLINE_*`, or one that hosting platforms set for any program, such as `PORT`.
    Variable(String),
    /// A flag, by the name of its setting.
    Flag(&'static str),
}

impl Source {
    /// A stronger source replaces the values of a weaker one.
    pub fn strength(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File(..) => 1,
            Self::Variable(name) if !name.starts_with(PREFIX) => 2,
            Self::Variable(_) => 3,
            Self::Flag(_) => 4,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "file {}, line {line}", path.display()),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag --{}", name.replace('_', "-")),
        }
    }
}

/// A value as text, with its source. The items of a list are separated by commas, whatever the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub text: String,
    pub source: Source,
}

/// The given values: of each setting, the one from the strongest source.
#[derive(Debug, Default)]
pub struct Values {
    by_name: BTreeMap<&'static str, Given>,
    /// The API keys, which only the file has, and their source.
    pub keys: (Vec<ApiKey>, Source),
}

impl Values {
    /// Adds a value of the setting `name`, unless one from a stronger source is present.
    pub fn add(&mut self, name: &'static str, text: String, source: Source) {
        if self.source(name).strength() <= source.strength() {
            self.by_name.insert(name, Given { text, source });
        }
    }

    /// Returns the value of the setting `name`, if it was given.
    pub fn get(&self, name: &str) -> Option<&Given> {
        self.by_name.get(name)
    }

    /// Returns the source of the value of the setting `name`.
    pub fn source(&self, name: &str) -> &Source {
        self.get(name).map_or(&Source::Default, |given| &given.source)
    }
}

//! Who gave a value, and who wins.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use fanline::auth::ApiKey;

/// Where a value came from. The later variant wins over the earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody gave it.
    Default,
    /// The settings file, with the line of the value.
    File(PathBuf, usize),
    /// A variable that platforms set for whatever program runs on them, such as `PORT`.
    Conventional(&'static str),
    /// A `FANLINE_*` variable.
    Variable(String),
    /// A flag, by the name of its setting.
    Flag(&'static str),
}

impl Source {
    /// Whether a value of this source is replaced by one of `other`.
    pub fn yields_to(&self, other: &Self) -> bool {
        self.strength() <= other.strength()
    }

    fn strength(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File(..) => 1,
            Self::Conventional(_) => 2,
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
            Self::Conventional(name) => write!(f, "environment {name}"),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {}", flag(name)),
        }
    }
}

/// The flag of the setting `name`.
pub fn flag(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

/// A value as it was given. A list has its items separated by commas, whatever its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// What was given.
    pub text: String,
    /// By whom.
    pub source: Source,
}

/// The given values of all sources, by the name of the setting: of each setting the one that wins.
#[derive(Debug, Default)]
pub struct Layers {
    values: BTreeMap<&'static str, Given>,
    keys: Option<(Vec<ApiKey>, Source)>,
}

impl Layers {
    /// Adds a value, unless a stronger source has given one.
    pub fn add(&mut self, name: &'static str, text: String, source: Source) {
        if self.values.get(name).is_none_or(|present| present.source.yields_to(&source)) {
            self.values.insert(name, Given { text, source });
        }
    }

    /// The value that wins.
    pub fn get(&self, name: &str) -> Option<&Given> {
        self.values.get(name)
    }

    /// Adds API keys, which only the file has.
    pub fn add_keys(&mut self, keys: Vec<ApiKey>, source: Source) {
        self.keys = Some((keys, source));
    }

    /// The API keys.
    pub fn keys(&self) -> Option<&(Vec<ApiKey>, Source)> {
        self.keys.as_ref()
    }
}

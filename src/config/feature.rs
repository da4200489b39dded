//! The features of the crate that some settings and commands need, and what to do without them.

/// A feature of the crate that the program may be built without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    Auth,
    Redis,
}

/// A setting, command or URL needs a feature that this program is built without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "needs the feature {name}, which this program is built without; add `--features full` to the command that builds it, \
     as in `cargo build --release --features full`",
    name = .0.name()
)]
pub struct MissingFeature(Feature);

impl Feature {
    const ALL: [Self; 2] = [Self::Auth, Self::Redis];

    fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Redis => "redis",
        }
    }

    /// Returns whether the program has this feature.
    pub const fn is_enabled(self) -> bool {
        match self {
            Self::Auth => cfg!(feature = "auth"),
            Self::Redis => cfg!(feature = "redis"),
        }
    }

    /// Returns an error if the program is built without this feature.
    pub fn require(self) -> Result<(), MissingFeature> {
        if self.is_enabled() { Ok(()) } else { Err(MissingFeature(self)) }
    }

    /// The remark in `--help`, if the program is built without this feature.
    pub fn remark(self) -> Option<String> {
        self.require().err().map(|_| format!("needs the feature {}, which this program is built without", self.name()))
    }
}

/// The version with the features, for `fanline --version`.
pub fn version() -> String {
    let features: String = Feature::ALL
        .iter()
        .map(|feature| format!(" {}{}", if feature.is_enabled() { '+' } else { '-' }, feature.name()))
        .collect();
    format!("{}\nfeatures:{features}", env!("CARGO_PKG_VERSION"))
}

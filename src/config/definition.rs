//! What a setting is.

use super::kind::{Arity, Kind};
use super::source::flag;

/// A setting, whose values are of one kind.
#[derive(Debug)]
pub struct Setting<K> {
    /// What is common to settings of all kinds.
    pub about: About,
    /// What its values look like.
    pub kind: K,
}

/// What is common to settings of all kinds.
#[derive(Debug)]
pub struct About {
    /// The key in the settings file; flag and variable follow from it.
    pub name: &'static str,
    /// The heading of `--help` that it stands under.
    pub heading: &'static str,
    /// What `--help` calls the value.
    pub value_name: &'static str,
    /// What it does, in a sentence without an end.
    pub help: &'static str,
    /// The value when nobody gives one. Empty where the kind has a value that means "none".
    pub default: &'static str,
    /// A variable without the prefix `FANLINE_` that sets it as well.
    pub conventional: Option<&'static str>,
}

impl About {
    /// A setting that only its own variable sets.
    pub const fn new(
        name: &'static str,
        heading: &'static str,
        value_name: &'static str,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self { name, heading, value_name, help, default, conventional: None }
    }

    /// The same setting, which the conventional `variable` sets as well.
    pub const fn or(self, variable: &'static str) -> Self {
        Self { conventional: Some(variable), ..self }
    }

    /// The variable of this setting.
    pub fn variable(&self) -> String {
        format!("FANLINE_{}", self.name.to_uppercase())
    }
}

/// A setting of whatever kind.
pub trait Definition: Sync {
    /// What is common to settings of all kinds.
    fn about(&self) -> &About;

    /// How many values its flag takes.
    fn arity(&self) -> Arity;

    /// Which values it takes, for `--help`.
    fn allowed(&self) -> String;

    /// The flag, for clap.
    fn arg(&self) -> clap::Arg {
        let about = self.about();
        let arg = clap::Arg::new(about.name)
            .long(flag(about.name)[2..].to_owned())
            .help(self.help())
            .help_heading(about.heading)
            .value_name(about.value_name)
            .allow_negative_numbers(true);
        match self.arity() {
            Arity::One => arg,
            Arity::Many => arg.action(clap::ArgAction::Append),
            Arity::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        }
    }

    /// What `--help` says: the purpose, then range, default and variables.
    fn help(&self) -> String {
        let about = self.about();
        let mut facts = Vec::new();
        if !self.allowed().is_empty() {
            facts.push(self.allowed());
        }
        let default = if about.default.is_empty() { "none" } else { about.default };
        facts.push(format!("default: {default}"));
        let conventional = about.conventional.map(|name| format!(" or {name}")).unwrap_or_default();
        facts.push(format!("env: {}{conventional}", about.variable()));
        format!("{}\n[{}]", about.help, facts.join("; "))
    }
}

impl<K: Kind> Definition for Setting<K> {
    fn about(&self) -> &About {
        &self.about
    }

    fn arity(&self) -> Arity {
        K::ARITY
    }

    fn allowed(&self) -> String {
        self.kind.allowed()
    }
}

//! A setting: one declaration, from which everything else is derived.

use super::feature::Feature;
use super::kind::{Arity, Form, Invalid, Kind};
use super::settings::Settings;
use super::source::PREFIX;

/// A setting of any type.
pub struct Setting {
    /// The key in the settings file. The flag and the variable are derived from it.
    pub name: &'static str,
    /// The heading in `--help` and `--check`.
    pub heading: &'static str,
    /// The purpose, without a full stop.
    pub help: &'static str,
    /// A variable without the prefix `FANLINE_` that also sets it, by convention of hosting platforms.
    pub conventional: Option<&'static str>,
    /// Whether SIGHUP applies a change to a running server.
    pub is_reloadable: bool,
    /// The feature that any value but the default needs.
    pub feature: Option<Feature>,
    /// The form of its values.
    pub form: Form,
    /// Parses a text and stores the value, or returns an error and stores nothing.
    pub set: Set,
    /// Returns the value as the settings file has it, or `None` if the file leaves the setting out.
    pub write: Write,
    /// Returns whether the values in two settings differ.
    pub differs: Differs,
}

// One accessor with `&mut` finds the field in `Settings`, also where it is only read.
type Set = Box<dyn Fn(&mut Settings, &str) -> Result<(), Invalid> + Send + Sync>;
type Write = Box<dyn Fn(&mut Settings) -> Option<toml::Value> + Send + Sync>;
type Differs = Box<dyn Fn(&mut Settings, &mut Settings) -> bool + Send + Sync>;

/// Declares the setting `name`, whose values are of `kind` and are stored in `place`. Its default is the value there in
/// [`Settings::default`].
pub fn setting<T: PartialEq + 'static>(
    name: &'static str,
    kind: Kind<T>,
    place: fn(&mut Settings) -> &mut T,
) -> Setting {
    let Kind { form, parse, write } = kind;
    Setting {
        name,
        heading: "",
        help: "",
        conventional: None,
        is_reloadable: false,
        feature: None,
        form,
        set: Box::new(move |settings, text| parse(text).map(|value| *place(settings) = value)),
        write: Box::new(move |settings| write(place(settings))),
        differs: Box::new(move |one, other| place(one) != place(other)),
    }
}

impl Setting {
    /// Adds the purpose, for `--help` and the documentation.
    pub fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }

    /// Adds a conventional variable.
    pub fn or_variable(self, variable: &'static str) -> Self {
        Self { conventional: Some(variable), ..self }
    }

    /// Sets the heading.
    pub fn under(self, heading: &'static str) -> Self {
        Self { heading, ..self }
    }

    /// Declares that SIGHUP applies changes.
    pub fn reloadable(self) -> Self {
        Self { is_reloadable: true, ..self }
    }

    /// Declares that a value needs a feature of the crate.
    pub fn needs(self, feature: Feature) -> Self {
        Self { feature: Some(feature), ..self }
    }

    /// Returns an error if the value `text` needs a feature that the program is built without. The default needs none, so
    /// that every program accepts what its own `--check` prints.
    pub fn check_feature(&self, text: &str) -> Result<(), Invalid> {
        let Some(Err(missing)) = self.feature.map(Feature::require) else { return Ok(()) };
        let mut settings = Settings::default();
        (self.set)(&mut settings, text)?;
        let is_default = !(self.differs)(&mut settings, &mut Settings::default());
        if is_default { Ok(()) } else { Err(Invalid::because(missing)) }
    }

    /// Returns the setting's variable.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.to_uppercase())
    }

    /// Returns whether `variable` sets this setting.
    pub fn has_variable(&self, variable: &str) -> bool {
        self.conventional == Some(variable) || self.variable() == variable
    }

    /// Returns the default, for `--help` and the documentation.
    pub fn default(&self) -> String {
        match (self.write)(&mut Settings::default()) {
            None => "none".to_owned(),
            Some(toml::Value::String(text)) => text,
            Some(toml::Value::Array(items)) => {
                items.iter().filter_map(|item| item.as_str()).collect::<Vec<_>>().join(",")
            }
            Some(other) => other.to_string(),
        }
    }

    /// Returns the flag for clap. Its value stays text until all sources are merged.
    pub fn arg(&self) -> clap::Arg {
        let arg = clap::Arg::new(self.name)
            .long(self.name.replace('_', "-"))
            .help(format!("{}\n[{}]", self.help, self.facts().join("; ")))
            .help_heading(self.heading)
            .value_name(&self.form.value_name)
            .allow_negative_numbers(true);
        match self.form.arity {
            Arity::One => arg,
            Arity::Many => arg.action(clap::ArgAction::Append),
            Arity::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        }
    }

    /// Returns the allowed values, the default and the variables.
    fn facts(&self) -> Vec<String> {
        let conventional = self.conventional.map(|name| format!(" or {name}")).unwrap_or_default();
        let mut facts = vec![format!("default: {}", self.default()), format!("env: {}{conventional}", self.variable())];
        if !self.form.allowed.is_empty() {
            facts.insert(0, self.form.allowed.clone());
        }
        if self.is_reloadable {
            facts.push("reloaded on SIGHUP".to_owned());
        }
        facts.extend(self.feature.and_then(Feature::remark));
        facts
    }
}

//! Reads merged texts as values, and notes what was wrong and what is in effect.

use fanline::auth::ApiKey;

use super::definition::Setting;
use super::error::{ConfigError, Problem};
use super::kind::Kind;
use super::report::Report;
use super::source::{Layers, Source};

/// Reads settings one after another. It always yields a value: a text that is none is noted and replaced by the
/// default, so that one run finds everything that is wrong.
#[derive(Debug)]
pub struct Reader<'a> {
    layers: &'a Layers,
    problems: Vec<Problem>,
    report: Report,
}

impl<'a> Reader<'a> {
    /// Reads from `layers`; `problems` were found before.
    pub fn new(layers: &'a Layers, problems: Vec<Problem>) -> Self {
        Self { layers, problems, report: Report::default() }
    }

    /// The value of `setting`, reported.
    pub fn get<K: Kind>(&mut self, setting: &Setting<K>) -> K::Value {
        let (value, source) = self.look_up(setting);
        self.report(setting, &value, &source.to_string());
        value
    }

    /// The value of `setting` and who gave it.
    ///
    /// # Panics
    /// When the default of `setting` is none of its values. A test keeps the catalogue from having such a setting.
    pub fn look_up<K: Kind>(&mut self, setting: &Setting<K>) -> (K::Value, Source) {
        let about = &setting.about;
        if let Some(given) = self.layers.get(about.name) {
            match setting.kind.parse(&given.text) {
                Ok(value) => return (value, given.source.clone()),
                Err(complaint) => self.problems.push(Problem::Value {
                    name: about.name,
                    text: (!K::SECRET).then(|| given.text.clone()),
                    source: given.source.clone(),
                    complaint,
                }),
            }
        }
        (setting.kind.parse(about.default).expect("a default is one of the values"), Source::Default)
    }

    /// Puts `value` on the report.
    pub fn report<K: Kind>(&mut self, setting: &Setting<K>, value: &K::Value, source: &str) {
        self.report.add(setting, value, source);
    }

    /// The API keys, reported under `heading` by their names.
    pub fn keys(&mut self, heading: &'static str) -> Vec<ApiKey> {
        let (keys, source) = self.layers.keys().cloned().unwrap_or((Vec::new(), Source::Default));
        self.report.add_keys(heading, &keys, &source.to_string());
        keys
    }

    /// Notes that two settings do not go together.
    pub fn conflict(&mut self, sentence: impl Into<String>) {
        self.problems.push(Problem::Conflict(sentence.into()));
    }

    /// The report, unless anything was wrong.
    pub fn finish(self) -> Result<Report, ConfigError> {
        if self.problems.is_empty() { Ok(self.report) } else { Err(ConfigError(self.problems)) }
    }
}

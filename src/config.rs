//! The settings of `fanline serve`: flags override the environment, that overrides a TOML file, and that the defaults.
//!
//! A setting is one declaration in [`catalog`]:
//!
//! ```ignore
//! setting("max_topics", count(1..=1000, "topics"), |s| &mut s.http.max_topics)
//!     .help("Topics and patterns in one subscription"),
//! ```
//!
//! Its name gives the flag `--max-topics`, the variable `FANLINE_MAX_TOPICS` and the key `max_topics`. Its kind parses,
//! bounds and writes the value. Its place in [`Settings`] is a field of one of the library's options, and the default
//! there is the default of the setting. All else is derived: the parsers of all sources, `--help`, `--check`, "did you
//! mean" in errors, the warning of SIGHUP, and the table in `docs/settings.md`. To add a setting, declare it; if the
//! library has no field for it yet, add the field with its default.
//!
//! Whatever the source, a value is text until its kind parses it: all sources share one parser and one form of error.
//!
//! | file | content |
//! |---|---|
//! | `catalog` | every setting |
//! | `setting` | what a declaration consists of |
//! | `kind`, `values`, `listen` | kinds of values: numbers, sizes, durations; URLs, filters; addresses |
//! | `settings`, `access` | the settings as plain values, with the program's own defaults |
//! | `feature` | the features of the crate that settings need |
//! | `args`, `environment`, `file`, `api_keys` | the sources |
//! | `source` | where a value came from, and the precedence |
//! | `rules` | rules over several settings |
//! | `report` | the output of `--check` |
//! | `template` | the file that `fanline init` writes |
//! | `error` | what is wrong, where, and the remedy |

mod access;
mod api_keys;
mod args;
mod catalog;
mod environment;
mod error;
mod feature;
mod file;
mod kind;
mod listen;
mod report;
mod rules;
mod setting;
mod settings;
mod source;
mod template;
mod values;

#[cfg(test)]
mod tests;

use std::ffi::OsString;

pub use access::AccessSettings;
#[cfg(feature = "auth")]
pub use access::{KeySetPlace, Secret};
pub use args::ServeArgs;
pub use catalog::changed;
pub use error::ConfigError;
pub use feature::{Feature, MissingFeature, version};
#[cfg(feature = "auth")]
pub use kind::Invalid;
pub use kind::parse_span;
pub use listen::Listen;
pub use report::Report;
#[cfg(feature = "redis")]
pub use settings::RedisStart;
pub use settings::{LogFormat, Settings};
pub use template::template;

use error::Problem;
use source::{Given, Source, Values};

/// The settings in effect.
#[derive(Debug)]
pub struct Loaded {
    /// What the server runs with.
    pub settings: Settings,
    /// The output of `--check`.
    pub report: Report,
}

/// Reads all sources and merges them, setting by setting. Other commands than `serve` have no `args`.
///
/// # Errors
/// [`ConfigError`] lists everything that is wrong in any source, not only the first error.
pub fn load(
    args: Option<&ServeArgs>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, ConfigError> {
    let (mut values, mut problems) = (Values::default(), Vec::new());
    if let Some(args) = args {
        args.add_to(&mut values);
    }
    let named = environment::read(environment, &mut values, &mut problems);
    if let Some(path) = args.and_then(ServeArgs::config) {
        file::read(path, Source::Flag("config"), &mut values, &mut problems);
    } else if let Some(path) = named {
        file::read(&path, Source::Variable(environment::CONFIG.to_owned()), &mut values, &mut problems);
    }
    parse(&values, problems)
}

/// Parses the values of all sources; `problems` were found before.
fn parse(values: &Values, mut problems: Vec<Problem>) -> Result<Loaded, ConfigError> {
    let mut settings = Settings::default();
    for setting in catalog::settings() {
        let Some(Given { text, source }) = values.get(setting.name) else { continue };
        if let Err(rule) = setting.check_feature(text).and_then(|()| (setting.set)(&mut settings, text)) {
            let text = (!setting.form.is_secret).then(|| text.clone());
            problems.push(Problem::Value { name: setting.name, text, place: source.clone(), rule });
        }
    }
    settings.access.keys = values.keys.0.clone();
    rules::combine(&mut settings, values);
    problems.extend(rules::check(&settings, values));
    if !problems.is_empty() {
        return Err(ConfigError(problems));
    }
    let report = Report::new(&settings, values);
    Ok(Loaded { settings, report })
}

//! The settings of `fanline serve`: flags over environment over a TOML file over defaults.
//!
//! A setting is defined once, in [`catalog`]: its name gives the flag `--max-topics`, the variable `FANLINE_MAX_TOPICS`
//! and the key `max_topics`; its kind gives the range, the parser, and how `--check` writes it. Whatever the source, a
//! value is text until [`settings`] reads it, so that all sources share one parser and one form of error.
//!
//! | file | noun |
//! |---|---|
//! | `args` | the flags, for clap |
//! | `environment`, `file` | the two other sources |
//! | `source` | a value as it was given, and by whom; which source wins |
//! | `definition` | what a setting is |
//! | `kind`, `address`, `cors`, `duration`, `size`, `word` | what values look like |
//! | `catalog`, `access`, `limits`, `backbone` | every setting there is |
//! | `api_keys` | the tables `[[keys]]` of the file |
//! | `reader`, `settings` | from text to [`Settings`] |
//! | `report` | what `--check` prints |
//! | `error` | what was wrong, where, and which value would be right |

mod access;
mod address;
mod api_keys;
mod args;
mod backbone;
mod catalog;
mod cors;
mod definition;
mod duration;
mod environment;
mod error;
mod file;
mod kind;
mod limits;
mod reader;
mod report;
mod settings;
mod size;
mod source;
mod word;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;

pub use access::{AccessSettings, KeySetPlace, Secret};
pub use args::ServeArgs;
pub use backbone::RedisStart;
pub use catalog::LogFormat;
pub use error::ConfigError;
pub use report::Report;
pub use settings::Settings;

use environment::Environment;
use reader::Reader;
use source::{Layers, Source};

/// The settings in effect, and where each of them came from.
#[derive(Debug)]
pub struct Loaded {
    /// What the server runs with.
    pub settings: Settings,
    /// What `--check` prints.
    pub report: Report,
}

/// Reads all sources and merges them, setting by setting.
///
/// # Errors
/// [`ConfigError`] lists everything that is wrong in any source, not only the first.
pub fn load(
    args: &ServeArgs,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, ConfigError> {
    let mut problems = Vec::new();
    let environment = Environment::read(environment, &mut problems);
    let mut layers = Layers::default();
    if let Some((path, source)) = config_file(args, &environment) {
        file::read(&path, &source, &mut layers, &mut problems);
    }
    environment.add_to(&mut layers);
    args.add_to(&mut layers);

    let mut reader = Reader::new(&layers, problems);
    let settings = Settings::read(&mut reader);
    let report = reader.finish()?;
    Ok(Loaded { settings, report })
}

fn config_file(args: &ServeArgs, environment: &Environment) -> Option<(PathBuf, Source)> {
    match &args.config {
        Some(path) => Some((path.clone(), Source::Flag("config"))),
        None => environment.config().map(|path| (path.clone(), Source::Variable(environment::CONFIG.into()))),
    }
}

//! The command line of `fanline serve`.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::catalog;
use super::environment::CONFIG;
use super::source::{Source, Values};

const CONFIG_FLAG: &str = "config";
const CHECK_FLAG: &str = "check";

/// The flags that were given. They stay text until all sources are merged.
#[derive(Clone, Debug)]
pub struct ServeArgs(ArgMatches);

impl ServeArgs {
    /// The settings file.
    pub fn config(&self) -> Option<&PathBuf> {
        self.0.get_one(CONFIG_FLAG)
    }

    /// Whether to print the settings in effect instead of serving.
    pub fn check(&self) -> bool {
        self.0.get_flag(CHECK_FLAG)
    }

    /// Adds the values of the flags.
    pub fn add_to(&self, values: &mut Values) {
        for name in catalog::settings().iter().map(|setting| setting.name) {
            if let Some(texts) = self.0.get_many::<String>(name) {
                let texts: Vec<_> = texts.map(String::as_str).collect();
                values.add(name, texts.join(","), Source::Flag(name));
            }
        }
    }
}

// Not derived: the catalog declares the flags.
impl clap::Args for ServeArgs {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new(CONFIG_FLAG)
            .long(CONFIG_FLAG)
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help_heading("Settings")
            .help(format!(
                "TOML file; its keys are the flags below with _ instead of -\n[default: none; env: {CONFIG}]"
            ));
        let check = Arg::new(CHECK_FLAG)
            .long(CHECK_FLAG)
            .action(ArgAction::SetTrue)
            .help_heading("Settings")
            .help("Checks the settings, prints those in effect in the format of that file, and exits");
        let after_help =
            "A flag overrides its environment variable, which overrides the file, which overrides the default.";
        let settings = catalog::settings().iter().map(|setting| setting.arg());
        command.arg(config).arg(check).args(settings).after_help(after_help)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(matches.clone()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

//! The flags of `fanline serve`.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::catalog;
use super::environment::CONFIG;
use super::source::{Layers, Source};

const CONFIG_FLAG: &str = "config";
const CHECK_FLAG: &str = "check";

/// What the command line says about settings. It is text until all sources are merged, see the module.
#[derive(Clone, Debug, Default)]
pub struct ServeArgs {
    given: Vec<(&'static str, String)>,
    /// The settings file.
    pub config: Option<PathBuf>,
    /// Whether to print the settings in effect instead of serving.
    pub check: bool,
}

impl ServeArgs {
    /// Adds what was given.
    pub fn add_to(&self, layers: &mut Layers) {
        for (name, text) in &self.given {
            layers.add(name, text.clone(), Source::Flag(name));
        }
    }
}

// By hand, because the flags are the catalogue's: a derived struct would define each setting a second time.
impl clap::Args for ServeArgs {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new(CONFIG_FLAG)
            .long(CONFIG_FLAG)
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help_heading("Settings")
            .help(format!(
                "TOML file of settings; its keys are the flags below with _ for -\n[default: none; env: {CONFIG}]"
            ));
        let check = Arg::new(CHECK_FLAG)
            .long(CHECK_FLAG)
            .action(ArgAction::SetTrue)
            .help_heading("Settings")
            .help("Checks the settings, prints those in effect as such a file, and exits");
        command
            .arg(config)
            .arg(check)
            .args(catalog::ALL.iter().map(|definition| definition.arg()))
            .after_help("A flag wins over its environment variable, that over the file, and that over the default.")
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for name in catalog::ALL.iter().map(|definition| definition.about().name) {
            if let Some(values) = matches.get_many::<String>(name) {
                let values: Vec<_> = values.map(String::as_str).collect();
                self.given.push((name, values.join(",")));
            }
        }
        self.config = matches.get_one(CONFIG_FLAG).cloned().or(self.config.take());
        self.check |= matches.get_flag(CHECK_FLAG);
        Ok(())
    }
}

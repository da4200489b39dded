//! Commands that need a feature that the program is built without.

use std::ffi::OsString;
use std::process::ExitCode;

use super::complain;
use crate::config::{ConfigError, Feature};

/// Any arguments.
#[derive(clap::Args, Debug)]
pub struct Unavailable {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Reports that `command` needs `feature`.
pub fn run(command: &str, feature: Feature) -> ExitCode {
    let missing = feature.require().expect_err("the command is available");
    complain(&format!("{command}: {missing}"), ConfigError::EXIT_CODE)
}

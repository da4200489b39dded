//! Shell completions and man pages, generated from the declaration of the command line.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;

/// The flags of `fanline completions`.
#[derive(clap::Args, Debug)]
pub struct CompletionsArgs {
    /// The shell that reads the script
    shell: Shell,
}

/// The flags of `fanline man`.
#[derive(clap::Args, Debug)]
pub struct ManArgs {
    /// The directory for the pages
    directory: PathBuf,
}

/// Prints the completion script of a shell.
pub fn completions(args: &CompletionsArgs) -> io::Result<()> {
    // Written at once: the generator panics if its output is closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "fanline", &mut script);
    io::stdout().write_all(&script)
}

/// Writes a page for each command.
pub fn man(args: &ManArgs) -> io::Result<()> {
    // Without the features, which the long version lists.
    clap_mangen::generate_to(Cli::command().long_version(None), &args.directory)
}

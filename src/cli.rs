//! The command line: one module for each command, with its flags beside its code.

mod access;
#[cfg(target_os = "linux")]
mod bench;
mod client;
mod generated;
mod gunzip;
mod health;
mod hidden;
mod history_file;
mod inherited;
mod init;
mod key;
mod key_pointer;
mod printable;
mod publish;
#[cfg(feature = "redis")]
mod redis;
mod reload;
mod serve;
mod signal;
mod tail;
mod target;
#[cfg(feature = "auth")]
mod token;
mod transport;
#[cfg(not(feature = "auth"))]
mod unavailable;

use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use crate::config::{ServeArgs, version};

/// Fans one stream of events out to thousands of HTTP clients.
#[derive(clap::Parser, Debug)]
#[command(name = "fanline", version, long_version = version(), max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Runs the server
    Serve(ServeArgs),
    /// Writes a settings file in which every setting is explained
    Init(init::InitArgs),
    /// Publishes one event, or each line of standard input, and prints the event ids
    Publish(publish::PublishArgs),
    /// Prints the events of a stream, reconnects with the last event id, and reports gaps
    Tail(tail::TailArgs),
    /// Checks that a server is ready for clients: one line, and exit code 0 or 1
    Health(health::HealthArgs),
    /// Creates an API key: prints its table for the settings file, and the key itself on standard error
    Key(key::KeyArgs),
    /// Creates a token (JWT) for servers with the same secret or the matching public key
    #[cfg(feature = "auth")]
    Token(token::TokenArgs),
    /// Creates a token (JWT); needs the feature auth, which this program is built without
    #[cfg(not(feature = "auth"))]
    Token(unavailable::Unavailable),
    /// Measures a server under load: publish rate, latencies, and whether every stream was complete
    #[cfg(target_os = "linux")]
    Bench(Box<bench::BenchArgs>),
    /// Prints the completion script of a shell
    Completions(generated::CompletionsArgs),
    /// Writes the man pages
    #[command(hide = true)]
    Man(generated::ManArgs),
}

impl Cli {
    /// Runs the command. The exit code is 0 on success, 1 on failure, and 2 for an invalid command line or setting.
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Serve(args) => serve::run(&args),
            Command::Publish(args) => client_exit_code(publish::run(args), publish::Error::exit_code),
            Command::Tail(args) => client_exit_code(tail::run(args), tail::Error::exit_code),
            Command::Health(args) => client_exit_code(health::run(args), |_| 1),
            Command::Init(args) => local_exit_code(init::run(args)),
            Command::Key(args) => local_exit_code(key::run(&args)),
            #[cfg(feature = "auth")]
            Command::Token(args) => local_exit_code(token::run(&args)),
            #[cfg(not(feature = "auth"))]
            Command::Token(_) => unavailable::run("token", crate::config::Feature::Auth),
            #[cfg(target_os = "linux")]
            Command::Bench(args) => bench::run(*args),
            Command::Completions(args) => local_exit_code(generated::completions(&args)),
            Command::Man(args) => local_exit_code(generated::man(&args)),
        }
    }
}

/// Runs a client command on the calling thread: it has one connection and little to compute.
fn client_exit_code<E: std::error::Error>(
    command: impl Future<Output = Result<(), E>>,
    code: impl FnOnce(&E) -> u8,
) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start the runtime: {error}"), 1),
    };
    match runtime.block_on(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error.to_string(), code(&error)),
    }
}

/// Reports the outcome of a command without a server.
fn local_exit_code<E: std::fmt::Display>(outcome: Result<(), E>) -> ExitCode {
    outcome.map_or_else(|error| complain(&error.to_string(), 1), |()| ExitCode::SUCCESS)
}

/// Whether to write colours to `output`: to a terminal, unless NO_COLOR is set (no-color.org).
fn has_colours(output: &impl IsTerminal) -> bool {
    output.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn complain(message: &str, code: u8) -> ExitCode {
    // Standard error may be closed.
    let _ = writeln!(io::stderr(), "fanline: {message}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    pub mod scripted;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn clap_finds_no_contradiction_in_the_command_line() {
        Cli::command().debug_assert();
    }
}

//! The command line: one module for each command, with its flags beside its code.

mod access;
#[cfg(target_os = "linux")]
mod bench;
mod client;
mod hidden;
mod key;
mod printable;
mod publish;
mod reload;
#[cfg(test)]
mod scripted;
mod serve;
mod signal;
mod tail;
mod target;
mod token;

use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::config::ServeArgs;

/// Fans one stream of events out to thousands of HTTP clients.
#[derive(clap::Parser, Debug)]
#[command(name = "fanline", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Runs the server
    Serve(ServeArgs),
    /// Publishes one event, or each line of standard input as an event, and prints the ids
    Publish(publish::PublishArgs),
    /// Follows a stream: reconnects with the last id, and says when events were missed
    Tail(tail::TailArgs),
    /// Makes an API key: prints its table for the settings file, and the key itself on standard error
    Key(key::KeyArgs),
    /// Makes a token (JWT) that a server with the same secret, or the public key, accepts
    Token(token::TokenArgs),
    /// Measures a server: subscribers, a publish rate, latencies, and whether every stream was whole
    #[cfg(target_os = "linux")]
    Bench(Box<bench::BenchArgs>),
}

impl Cli {
    /// Runs the command to its end. The exit code is 0, 1 for what was refused or failed, or 2 for a wrong command line.
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Serve(args) => serve::run(&args),
            Command::Publish(args) => client_exit_code(publish::run(args), publish::Error::exit_code),
            Command::Tail(args) => client_exit_code(tail::run(args), |_| 1),
            Command::Key(args) => local_exit_code(key::run(&args)),
            Command::Token(args) => local_exit_code(token::run(&args)),
            #[cfg(target_os = "linux")]
            Command::Bench(args) => bench::run(*args),
        }
    }
}

/// A client has one connection and little to compute: the calling thread is all the runtime that it needs.
fn client_exit_code<E: std::error::Error>(
    command: impl Future<Output = Result<(), E>>,
    code: impl FnOnce(&E) -> u8,
) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("the runtime does not start: {error}"), 1),
    };
    match runtime.block_on(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error.to_string(), code(&error)),
    }
}

/// A command that asks no server.
fn local_exit_code<E: std::fmt::Display>(outcome: Result<(), E>) -> ExitCode {
    outcome.map_or_else(|error| complain(&error.to_string(), 1), |()| ExitCode::SUCCESS)
}

fn complain(message: &str, code: u8) -> ExitCode {
    // Whoever closed standard error does not want to know.
    let _ = writeln!(io::stderr(), "fanline: {message}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_has_no_contradiction_that_clap_can_find() {
        Cli::command().debug_assert();
    }
}

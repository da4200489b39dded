//! The load generator: one process that holds thousands of SSE clients, publishes on time, and checks every stream.
//!
//! `run` is the order of things; `stream` is the check, against `journal`, the one order that all clients have to see.

mod client;
mod journal;
mod latency;
mod options;
mod probe;
mod publisher;
mod run;
mod stream;
mod stuck;
mod table;
mod verdict;
mod wire;

use std::io::{self, Write as _};
use std::num::NonZeroU64;
use std::process::ExitCode;

use clap::Parser as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::options::Options;
use crate::run::Run;
use crate::verdict::Verdict;

fn main() -> ExitCode {
    match measure(Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let _ = writeln!(io::stderr(), "load: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure(options: Options) -> io::Result<bool> {
    raise_open_files()?;
    // The default lets a timer be 50 µs late, and latency counts from when an event was due.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let mut run = Run::new(options)?;
    run.connect()?;
    if run.options.connect_only {
        run.hold()?;
    } else {
        run.fill_stuck()?;
        run.publish()?;
        run.drain()?;
    }
    let verdict = Verdict::of(&run)?;
    let mut out = io::stdout().lock();
    if run.options.json {
        serde_json::to_writer_pretty(&mut out, &verdict)?;
        writeln!(out)?;
    } else {
        table::write(&mut out, &verdict)?;
    }
    if let Some(refusal) = &run.first_refusal {
        writeln!(io::stderr(), "load: {} publishes failed, the first with {refusal}", run.refused)?;
    }
    Ok(verdict.ok || run.options.allow_loss)
}

fn raise_open_files() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}

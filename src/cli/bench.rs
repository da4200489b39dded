//! `fanline bench`: holds many subscribers, publishes at a rate, checks every stream and measures the cost.
//!
//! It works with any server of SSE over HTTP/1.1, or over HTTP/2 with prior knowledge ([`http2`]), and of [WebSocket](websocket),
//! because it recognizes events by a [marker] in their payload. One thread ([`engine`]) serves all subscribers ([`subscribers`]) and publishers
//! ([`publishers`]). A [`ledger`] of each stream has the numbers received for each topic of each publisher. Blocks that
//! another subscriber received before are compared instead of parsed ([`journal`], [`stream`]).
//!
//! Latency counts from when an event was due ([`schedule`]), so that a server or load generator that falls behind
//! cannot hide it.

mod args;
mod engine;
mod event_stream;
mod html;
mod http;
mod http2;
mod journal;
mod latency;
mod ledger;
mod marker;
mod plan;
mod probe;
mod problems;
mod progress;
mod publisher;
mod publishers;
mod report;
mod schedule;
mod stream;
mod subscriber;
mod subscribers;
mod syntax;
mod text;
mod timeline;
mod topics;
mod warnings;
mod websocket;

use std::io::{self, Write};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::complain;
use super::target::ServerUrl;
pub use args::BenchArgs;
use engine::Engine;
use plan::{Endpoint, Plan};
use report::Report;

/// Open files besides subscribers and publishers.
const OTHER_FILES: usize = 16;

/// Why a run could not be made, or its report not be written.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Plan(#[from] plan::Error),
    #[error("cannot connect to {0}: {1}")]
    Connect(ServerUrl, io::Error),
    #[error("no subscriber could connect: {0}")]
    NoSubscriber(String),
    #[error(
        "{needed} open files are needed, and the limit is {limit} (ulimit -n -H); raise it, or use fewer --clients"
    )]
    OpenFiles { needed: usize, limit: u64 },
    #[error("--pid {0}: {1}")]
    Process(u32, io::Error),
    #[error("cannot wait for sockets: {0}")]
    Epoll(io::Error),
    #[error("after {connected} subscribers: {error}{hint}")]
    Run { connected: usize, error: io::Error, hint: &'static str },
    #[error("cannot write --html {0}: {1}")]
    Page(PathBuf, io::Error),
    #[error("standard output: {0}")]
    Output(io::Error),
}

/// Runs the load and reports. The exit code is 0 when every stream was complete, 1 when not or when the run failed, 2
/// for contradicting flags.
pub fn run(args: BenchArgs) -> ExitCode {
    match measure(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => complain(&error.to_string(), if matches!(error, Error::Plan(_)) { 2 } else { 1 }),
    }
}

fn measure(args: BenchArgs) -> Result<bool, Error> {
    raise_open_files(args.clients.saturating_add(args.publishers).saturating_add(OTHER_FILES))?;
    let plan = Plan::new(args)?;
    if let Some(file) = &plan.args.html {
        html::check(file).map_err(|error| Error::Page(file.clone(), error))?;
    }
    if let Some(pid) = plan.args.pid {
        probe::resident(pid).map_err(|error| Error::Process(pid, error))?;
    }
    // By default a timer may be 50 µs late, which latency would include. A failure is harmless.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let resolve =
        |endpoint: &Endpoint| endpoint.resolve().map_err(|error| Error::Connect(endpoint.server.clone(), error));
    let mut engine = Engine::new(&plan, resolve(&plan.sse)?, resolve(&plan.publish)?).map_err(Error::Epoll)?;
    if let Err(error) = engine.run() {
        let has_no_port = error.raw_os_error() == Some(rustix::io::Errno::ADDRNOTAVAIL.raw_os_error());
        let hint = if has_no_port { "; give more --sources, which have more ports" } else { "" };
        return Err(Error::Run { connected: engine.subscribers.opened, error, hint });
    }
    if plan.args.clients > 0 && engine.subscribers.opened == 0 && !engine.was_interrupted {
        let problems = engine.shared.problems.list();
        let why = problems.first().map_or("no answer in time", |problem| &problem.what);
        return Err(Error::NoSubscriber(why.to_owned()));
    }
    let report = Report::new(&engine);
    write_report(&plan, &report).map_err(Error::Output)?;
    if let Some(file) = &plan.args.html {
        html::write(file, &report).map_err(|error| Error::Page(file.clone(), error))?;
    }
    Ok(report.ok || plan.args.allow_loss)
}

fn write_report(plan: &Plan, report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written = if plan.args.json {
        serde_json::to_writer_pretty(&mut out, report).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        text::write(&mut out, report)
    };
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn raise_open_files(needed: usize) -> Result<(), Error> {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < needed as u64 => Err(Error::OpenFiles { needed, limit }),
        _ => Ok(()),
    }
}

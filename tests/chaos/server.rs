//! A `fanline serve` process that can be stopped and restarted.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::Signal;

use crate::http;
use crate::process::{Process, TIMEOUT, until};

/// The library that replaces the clock, where Debian's package faketime installs it.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// The program under test: `FANLINE_BIN`, or the one that cargo built.
pub fn program() -> PathBuf {
    let built = option_env!("CARGO_BIN_EXE_fanline");
    let program = std::env::var_os("FANLINE_BIN").or(built.map(Into::into));
    program.expect("FANLINE_BIN names the program to test").into()
}

/// Whether the program has this setting. Older releases lack some.
pub fn has_setting(name: &str) -> bool {
    static HELP: OnceLock<String> = OnceLock::new();
    let help = HELP.get_or_init(|| {
        let output = Command::new(program()).args(["serve", "--help"]).env_clear().output();
        String::from_utf8_lossy(&output.expect("the program can be started").stdout).into_owned()
    });
    help.contains(name)
}

pub struct Server {
    args: Vec<String>,
    log: PathBuf,
    starts: u32,
    has_pinned_clock: bool,
    process: Option<Process>,
    pub address: Option<SocketAddr>,
}

impl Server {
    /// Describes a server without starting it. Each start writes its own log, `log` with a number.
    pub fn new(args: Vec<String>, log: PathBuf, has_pinned_clock: bool) -> Self {
        Self { args, log, starts: 0, has_pinned_clock, process: None, address: None }
    }

    /// Starts the server, and waits until it listens.
    pub fn start(&mut self) -> Result<SocketAddr, String> {
        self.starts += 1;
        let log = self.log.with_extension(format!("{}.log", self.starts));
        let mut command = Command::new(program());
        command.env_clear().args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--drain", "200ms"]);
        command.args(["--retry", "100ms"]).args(&self.args);
        if self.has_pinned_clock {
            if !std::path::Path::new(FAKETIME).exists() {
                return Err(format!("install faketime: {FAKETIME} is missing"));
            }
            command.env("LD_PRELOAD", FAKETIME).env("FAKETIME", "@2026-01-01 00:00:00");
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        }
        let mut process = Process::start(&mut command, &log)?;
        let listening = until("the server listens", TIMEOUT, || {
            let output = process.output();
            let address = output
                .split("listening on http://")
                .nth(1)
                .and_then(|rest| rest.split(['"', ' ']).next()?.parse().ok());
            address.map(Ok).or_else(|| process.has_exited().then_some(Err(output)))
        })?;
        let address = listening.map_err(|log| format!("the server did not start: {log}"))?;
        self.process = Some(process);
        self.address = Some(address);
        Ok(address)
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Stops the server with SIGTERM.
    pub fn stop(&mut self) -> Result<(), String> {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::TERM);
            process.wait()?;
        }
        self.address = None;
        Ok(())
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        (self.process, self.address) = (None, None);
    }

    /// Returns the log if the server exited on its own.
    pub fn crash_log(&mut self) -> Option<String> {
        let process = self.process.as_mut()?;
        process.has_exited().then(|| process.output())
    }

    /// Whether `/health/ready` returns 200.
    pub fn is_ready(&self) -> bool {
        let Some(address) = self.address else { return false };
        let request = "GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        http::request(address, request, Duration::from_secs(2)).is_ok_and(|reply| reply.status == 200)
    }
}

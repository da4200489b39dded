//! `fanline serve`.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Http, Process, Response, Stream, TIMEOUT, fanline, wait_until};

/// A running server.
pub struct Server {
    process: Process,
    /// The TCP addresses that it listens on.
    pub addresses: Vec<SocketAddr>,
}

/// `fanline serve ARGS…`, with a JSON log.
pub fn serve(args: &[&str]) -> Command {
    let mut command = fanline(&["serve", "--log-format", "json"]);
    command.args(args);
    command
}

/// The same command with a limit on open files that it cannot raise.
pub fn limit_open_files(files: usize, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.env_clear().stdin(std::process::Stdio::null());
    limited.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")]);
    limited.arg(command.get_program()).args(command.get_args());
    limited
}

impl Server {
    /// Starts `fanline serve ARGS…` on a free port.
    pub fn start(args: &[&str]) -> Self {
        Self::launch(serve(&[&["--listen", "127.0.0.1:0"], args].concat()))
    }

    /// Starts `fanline serve ARGS…` on a port outside of the ephemeral range, which stays free for a restart.
    pub fn start_restartable(args: &[&str]) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        loop {
            let number = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + std::process::id() * 16;
            let address = format!("127.0.0.1:{}", 20_000 + number % 10_000);
            let process = Process::start(serve(&[&["--listen", &address], args].concat()));
            if let Ok(server) = Self::listening(process) {
                return server;
            }
        }
    }

    /// Starts `fanline serve ARGS…` at the address of this server, which has exited.
    pub fn restart(&self, args: &[&str]) -> Self {
        Self::launch(serve(&[&["--listen", &self.address().to_string()], args].concat()))
    }

    /// Starts `command` and waits until it listens.
    pub fn launch(command: Command) -> Self {
        Self::listening(Process::start(command)).unwrap_or_else(|log| panic!("the server did not start:\n{log}"))
    }

    fn listening(process: Process) -> Result<Self, String> {
        let deadline = Instant::now() + TIMEOUT;
        while process.log.count("listening on") == 0 {
            if process.log.count("listen on ") > 0 || Instant::now() > deadline {
                return Err(process.log.lines().join("\n"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        let line = process.log.wait_for("listening on");
        let line: Value = serde_json::from_str(&line).expect("the log is JSON");
        let urls = line["fields"]["message"].as_str().and_then(|message| message.strip_prefix("listening on "));
        let urls = urls.expect("the message lists URLs").split(' ');
        let addresses = urls.filter_map(|url| Some(url.strip_prefix("http://")?.parse().expect("an address")));
        Ok(Self { addresses: addresses.collect(), process })
    }

    /// The first address.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// A connection for requests.
    pub fn http(&self) -> Http {
        Http::connect(self.address())
    }

    /// The response to a request on its own connection.
    pub fn get(&self, path: &str) -> Response {
        self.http().get(path)
    }

    /// Publishes `text` to `topic` on its own connection, and returns its id.
    pub fn publish(&self, topic: &str, text: &str) -> String {
        self.http().publish(topic, text)
    }

    /// Opens `/stream` with `query`, and reads the hello.
    pub fn stream(&self, query: &str) -> Stream {
        Stream::open(self.address(), query, None)
    }

    /// Waits until the server counts `count` streams.
    pub fn wait_for_streams(&self, count: u64) {
        let mut http = self.http();
        wait_until(|| {
            let streams = http.get("/health").json()["connected_clients"].as_u64().expect("a number");
            if streams == count {
                Ok(())
            } else {
                Err(format!("the server counts {streams} streams instead of {count}"))
            }
        });
    }
}

impl Server {
    /// The process, without its server's addresses.
    pub fn into_process(self) -> Process {
        self.process
    }
}

impl Deref for Server {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

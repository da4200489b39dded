//! A `redis-server` for one test.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use rustix::process::Signal;

use crate::process::{Process, TIMEOUT, certificate, wait_until};

pub struct Redis {
    process: Option<Process>,
    pub port: u16,
    directory: PathBuf,
    args: Vec<String>,
    is_tls: bool,
}

impl Redis {
    /// Starts `redis-server` on a free port. What it acknowledges is on disk.
    pub fn start() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts `redis-server ARGS…` on a free port.
    pub fn with(args: &[&str]) -> Self {
        Self::new(&[&["--save", ""], args].concat())
    }

    /// Starts it on a Unix socket, and on its port with TLS and a self-signed certificate.
    pub fn with_tls() -> Self {
        let mut redis = Self::stopped(&[]);
        let socket = redis.directory.join("socket").to_str().expect("a path").to_owned();
        let (key, certificate) = certificate(&redis.directory);
        let port = redis.port.to_string();
        redis.args = ["--save", "", "--unixsocket", &socket, "--tls-port", &port, "--tls-auth-clients", "no"]
            .iter()
            .chain(&["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &certificate])
            .map(|&arg| arg.to_owned())
            .collect();
        redis.is_tls = true;
        redis.restart();
        redis
    }

    /// Starts a Sentinel with a settings file, which it modifies.
    fn with_file(file: &std::path::Path) -> Self {
        Self::new(&[file.to_str().expect("a path"), "--sentinel"])
    }

    fn new(args: &[&str]) -> Self {
        let mut redis = Self::stopped(args);
        redis.restart();
        redis
    }

    fn stopped(args: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("fanline-redis-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory for Redis");
        // The port is free now, and no other process here listens on ephemeral ports.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Self { process: None, port, directory, args, is_tls: false }
    }

    /// Starts it with its previous data.
    pub fn restart(&mut self) {
        let mut command = Command::new("redis-server");
        let port = if self.is_tls { "0".to_owned() } else { self.port.to_string() };
        command.args(&self.args).args(["--port", &port, "--bind", "127.0.0.1"]);
        command.args(["--dir", self.directory.to_str().expect("a path")]).stdin(Stdio::null());
        self.process = Some(Process::start(command));
        // It may listen while it still loads its data.
        wait_until(|| {
            let is_there = TcpStream::connect(("127.0.0.1", self.port)).is_ok() && is_answer(&self.cli(&["PING"]));
            if is_there { Ok(()) } else { Err("redis-server does not answer".to_owned()) }
        });
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("the process runs").signal(signal);
    }

    /// Returns the output of `redis-cli ARGS…`.
    pub fn cli(&self, args: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string()]).args(if self.is_tls { &["--tls", "--insecure"][..] } else { &[] });
        command.args(args).stdin(Stdio::null());
        let (_, stdout, stderr) = Process::run(command);
        stdout + &stderr
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn is_answer(pong: &str) -> bool {
    pong.contains("PONG") || pong.contains("NOAUTH")
}

/// A Sentinel that monitors one Redis with a quorum of one.
pub struct Sentinel(Redis);

impl Sentinel {
    pub fn of(redis: &Redis) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let configuration = redis.directory().join(format!("sentinel-{number}.conf"));
        let port = redis.port();
        let text = format!(
            "sentinel monitor main 127.0.0.1 {port} 1\nsentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 5000\n"
        );
        std::fs::write(&configuration, text).expect("a file for the sentinel");
        let sentinel = Self(Redis::with_file(&configuration));
        let deadline = Instant::now() + TIMEOUT;
        // It must know the replica before it can promote it.
        while !sentinel.0.cli(&["SENTINEL", "REPLICAS", "main"]).contains("slave") {
            assert!(Instant::now() < deadline, "the sentinel finds no replica");
        }
        sentinel
    }

    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// The address of the master.
    pub fn master(&self) -> String {
        self.0.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"])
    }

    /// Starts a planned failover.
    pub fn failover(&self) {
        // It may know the replica before it considers it promotable.
        wait_until(|| {
            let answer = self.0.cli(&["SENTINEL", "FAILOVER", "main"]);
            if answer.starts_with("OK") { Ok(()) } else { Err(answer) }
        });
    }
}

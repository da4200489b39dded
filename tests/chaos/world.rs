//! The processes of one phase: servers, Redis, Sentinels, and proxies between servers and Redis.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{TIMEOUT, until};
use crate::proxy::Proxy;
use crate::random::Random;
use crate::recording::Millis;
use crate::redis::{self, Redis};
use crate::server::{Server, has_setting};
use crate::setup::{Backbone, Setup};
use crate::shared::Shared;

/// The stream's key in Redis, with the default `--redis-key`.
pub const STREAM: &str = "{fanline}:events";

pub struct World {
    pub shared: Arc<Shared>,
    pub servers: Vec<Server>,
    /// The master first.
    pub redis: Vec<Redis>,
    pub sentinels: Vec<Redis>,
    /// One between each server and Redis, unless the servers use Sentinels.
    pub proxies: Vec<Proxy>,
    pub random: Random,
    pub faults: Vec<(Millis, String)>,
    /// No fault begins after this instant.
    pub end: Instant,
}

impl World {
    /// Starts all processes, with their files in `directory`.
    pub fn start(setup: &Setup, directory: &Path, random: Random) -> Result<Self, String> {
        let with_sockets = if has_setting("--unix-mode") { setup.servers } else { 0 };
        let sockets = (0..with_sockets).map(|number| directory.join(format!("server-{number}.sock"))).collect();
        let shared = Shared::new(setup.servers, sockets);
        let end = Instant::now();
        let (servers, redis, sentinels, proxies, faults) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut world = Self { shared, servers, redis, sentinels, proxies, random, faults, end };
        world.start_redis(setup, directory)?;
        for number in 0..setup.servers {
            let mut args = setup.args.clone();
            args.extend(world.backbone_args(setup, number));
            if let Some(socket) = world.shared.sockets.get(number) {
                args.extend(["--listen".to_owned(), format!("unix:{}", socket.display())]);
            }
            if setup.saves_history {
                let file = directory.join(format!("history-{number}"));
                args.extend(["--history-file".to_owned(), file.display().to_string()]);
            }
            let log = directory.join(format!("server-{number}.log"));
            world.servers.push(Server::new(args, log, setup.has_pinned_clock));
            world.start_server(number)?;
        }
        world.wait_until_ready()?;
        Ok(world)
    }

    fn start_redis(&mut self, setup: &Setup, directory: &Path) -> Result<(), String> {
        let args: &[&str] = match setup.backbone {
            Backbone::None => return Ok(()),
            Backbone::Durable => &["--save", "", "--appendonly", "yes", "--appendfsync", "always"],
            Backbone::Volatile | Backbone::Replicated | Backbone::Sentinels(_) => &["--save", "", "--appendonly", "no"],
        };
        let master = Redis::start(directory, "redis-0", args)?;
        let port = master.port;
        self.redis.push(master);
        if let Backbone::Replicated | Backbone::Sentinels(_) = setup.backbone {
            let (host, port_text) = ("127.0.0.1", port.to_string());
            redis::command(port, &["CONFIG", "SET", "repl-diskless-sync-delay", "0"])?;
            let replica = ["--replicaof", host, &port_text, "--repl-diskless-sync-delay", "0"];
            let replica = Redis::start(directory, "redis-1", &[args, &replica].concat())?;
            until("the replica is connected to the master", TIMEOUT, || {
                replica.command(&["INFO", "replication"]).ok().filter(|info| info.contains("master_link_status:up"))
            })?;
            self.redis.push(replica);
        }
        if let Backbone::Sentinels(count) = setup.backbone {
            let quorum = count / 2 + 1;
            for number in 0..count {
                let sentinel = Redis::sentinel(directory, &format!("sentinel-{number}"), port, quorum)?;
                self.sentinels.push(sentinel);
            }
            for sentinel in &self.sentinels {
                until("a Sentinel knows the replica and the other Sentinels", TIMEOUT, || {
                    let info = sentinel.command(&["SENTINEL", "MASTER", "main"]).ok()?;
                    let mut lines = info.lines();
                    let (mut replicas, mut others) = (0, 0);
                    while let Some(line) = lines.next() {
                        match line {
                            "num-slaves" => replicas = lines.next()?.parse().ok()?,
                            "num-other-sentinels" => others = lines.next()?.parse().ok()?,
                            _ => {}
                        }
                    }
                    (replicas >= 1 && others + 1 >= count).then_some(())
                })?;
            }
        }
        Ok(())
    }

    fn backbone_args(&mut self, setup: &Setup, number: usize) -> Vec<String> {
        let url = match setup.backbone {
            Backbone::None => return Vec::new(),
            Backbone::Sentinels(_) => {
                let hosts: Vec<_> =
                    self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
                format!("redis+sentinel://{}/main", hosts.join(","))
            }
            _ => {
                let proxy = Proxy::to(self.redis[0].port).expect("a port for a proxy");
                let url = format!("redis://127.0.0.1:{}/", proxy.port);
                self.proxies.push(proxy);
                url
            }
        };
        let mut args = vec!["--redis".to_owned(), url, "--redis-timeout".to_owned(), "1s".to_owned()];
        args.extend(["--node".to_owned(), format!("node-{number}")]);
        if setup.backbone == Backbone::Durable && has_setting("--redis-lossless") {
            args.push("--redis-lossless=true".to_owned());
        }
        if has_setting("--resume-wait") {
            args.extend(["--resume-wait".to_owned(), "2s".to_owned()]);
        }
        args
    }

    /// Records a fault.
    pub fn fault(&mut self, text: impl Into<String>) {
        self.faults.push((self.shared.now(), text.into()));
    }

    /// Whether there is time left for another fault.
    pub fn has_time(&self) -> bool {
        Instant::now() < self.end
    }

    /// Waits for a random number of milliseconds.
    pub fn wait(&mut self, from: u64, to: u64) {
        std::thread::sleep(Duration::from_millis(self.random.of(from..to)));
    }

    pub fn pick_server(&mut self) -> usize {
        self.random.of(0..self.servers.len() as u64) as usize
    }

    pub fn start_server(&mut self, number: usize) -> Result<(), String> {
        let address = self.servers[number].start()?;
        self.shared.set_address(number, Some(address));
        self.fault(format!("server {number} is started, at {address}"));
        Ok(())
    }

    pub fn stop_server(&mut self, number: usize) -> Result<(), String> {
        self.fault(format!("server {number} gets SIGTERM"));
        self.shared.set_address(number, None);
        self.servers[number].stop()
    }

    pub fn kill_server(&mut self, number: usize) {
        self.fault(format!("server {number} gets SIGKILL"));
        self.shared.set_address(number, None);
        self.servers[number].kill();
    }

    /// Stops or kills a server, and starts it again.
    pub fn restart_server(&mut self, number: usize) -> Result<(), String> {
        if self.random.one_in(2) {
            return self.restart_gracefully(number);
        }
        self.kill_server(number);
        self.wait(0, 200);
        self.start_server(number)
    }

    /// Stops a server, and starts it again.
    pub fn restart_gracefully(&mut self, number: usize) -> Result<(), String> {
        self.stop_server(number)?;
        self.wait(0, 200);
        self.start_server(number)
    }

    pub fn freeze_server(&mut self, number: usize) {
        self.fault(format!("server {number} gets SIGSTOP"));
        self.servers[number].signal(Signal::STOP);
    }

    pub fn thaw_server(&mut self, number: usize) {
        self.fault(format!("server {number} gets SIGCONT"));
        self.servers[number].signal(Signal::CONT);
    }

    pub fn kill_redis(&mut self, number: usize) {
        self.fault(format!("Redis {number} gets SIGKILL"));
        self.redis[number].kill();
    }

    pub fn restart_redis(&mut self, number: usize) -> Result<(), String> {
        self.redis[number].restart()?;
        self.fault(format!("Redis {number} is started"));
        Ok(())
    }

    /// Sends a command to the Redis that was the first master.
    pub fn redis_command(&mut self, command: &[&str]) -> Result<String, String> {
        let outcome = self.redis[0].command(command);
        let reply = outcome.as_ref().unwrap_or_else(|error| error).trim();
        self.faults.push((self.shared.now(), format!("Redis: {} -> {}", command.join(" "), reply)));
        outcome
    }

    /// Returns the port of the current master according to the first Sentinel.
    pub fn master(&self) -> Option<u16> {
        let address = self.sentinels.first()?.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"]).ok()?;
        address.lines().nth(1)?.parse().ok()
    }

    /// Waits until all servers are ready.
    pub fn wait_until_ready(&mut self) -> Result<(), String> {
        for number in 0..self.servers.len() {
            let server = &self.servers[number];
            until(&format!("server {number} is ready"), TIMEOUT, || server.is_ready().then_some(()))?;
        }
        Ok(())
    }

    /// Ends all faults, and waits until all servers are ready.
    pub fn heal(&mut self) -> Result<(), String> {
        self.fault("all faults end");
        self.proxies.iter().for_each(Proxy::heal);
        for number in 0..self.servers.len() {
            self.servers[number].signal(Signal::CONT);
            if let Some(log) = self.servers[number].crash_log() {
                return Err(format!("server {number} exited on its own: {log}"));
            }
            if self.servers[number].address.is_none() {
                self.start_server(number)?;
            }
        }
        self.wait_until_ready()
    }
}

/// Creates a directory for the files of a phase.
pub fn directory(name: &str) -> Result<PathBuf, String> {
    let directory = std::env::temp_dir().join(format!("fanline-chaos-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    Ok(directory)
}

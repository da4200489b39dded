//! A `redis-server` process: a master, a replica, or a Sentinel.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{Process, TIMEOUT, until};

pub struct Redis {
    process: Option<Process>,
    pub port: u16,
    directory: PathBuf,
    args: Vec<String>,
    starts: u32,
}

impl Redis {
    /// Starts `redis-server ARGS…` on a free port, with its files in `directory`.
    pub fn start(directory: &Path, name: &str, args: &[&str]) -> Result<Self, String> {
        let directory = directory.join(name);
        std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.map_err(|error| error.to_string())?.port();
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let mut redis = Self { process: None, port, directory, args, starts: 0 };
        redis.restart()?;
        Ok(redis)
    }

    /// Starts a Sentinel that monitors the master `main` on port `master`.
    pub fn sentinel(directory: &Path, name: &str, master: u16, quorum: u32) -> Result<Self, String> {
        let home = directory.join(name);
        std::fs::create_dir_all(&home).map_err(|error| error.to_string())?;
        let file = home.join("sentinel.conf");
        let text = format!(
            "sentinel monitor main 127.0.0.1 {master} {quorum}\nsentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 4000\n"
        );
        std::fs::write(&file, text).map_err(|error| error.to_string())?;
        Self::start(directory, name, &[file.to_str().ok_or("a path")?, "--sentinel"])
    }

    /// Starts the process with the data that is on disk.
    pub fn restart(&mut self) -> Result<(), String> {
        self.starts += 1;
        let mut command = Command::new("redis-server");
        command.args(&self.args).args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.arg("--dir").arg(&self.directory);
        let log = self.directory.join(format!("log.{}", self.starts));
        self.process = Some(Process::start(&mut command, &log)?);
        // It listens before it has loaded its data.
        until("redis-server answers", TIMEOUT, || self.command(&["PING"]).ok().filter(|pong| pong.contains("PONG")))?;
        Ok(())
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Sends a command, and returns the reply as lines.
    pub fn command(&self, words: &[&str]) -> Result<String, String> {
        command(self.port, words)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends one command to the Redis at `port`, and returns the reply as lines.
pub fn command(port: u16, words: &[&str]) -> Result<String, String> {
    let send = || -> std::io::Result<String> {
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        socket.write_all(request.as_bytes())?;
        let (mut text, mut reader) = (String::new(), BufReader::new(socket));
        reply(&mut reader, &mut text)?;
        Ok(text)
    };
    let text = send().map_err(|error| error.to_string())?;
    if text.starts_with('-') { Err(text) } else { Ok(text) }
}

/// Reads one reply (RESP2) as lines.
fn reply(reader: &mut BufReader<TcpStream>, text: &mut String) -> std::io::Result<()> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let count = || line.get(1..).and_then(|count| count.trim().parse::<i64>().ok()).unwrap_or(-1);
    match line.bytes().next() {
        Some(b'*') => (0..count()).try_for_each(|_| reply(reader, text)),
        Some(b'$') if count() >= 0 => {
            let mut bytes = vec![0; count() as usize + 2];
            reader.read_exact(&mut bytes)?;
            text.push_str(&String::from_utf8_lossy(&bytes[..bytes.len() - 2]));
            text.push('\n');
            Ok(())
        }
        Some(_) => {
            text.push_str(&line);
            Ok(())
        }
        None => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

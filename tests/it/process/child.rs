//! Child processes and their output.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::TIMEOUT;

/// `fanline ARGS…` with an empty environment and no standard input.
pub fn fanline(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanline"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

/// A running process. It is killed on drop.
pub struct Process {
    child: Child,
    stdout: Option<Receiver<String>>,
    /// Lines of standard error.
    pub log: Log,
}

impl Process {
    /// Starts `command` and reads its output.
    pub fn start(mut command: Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the process can be started");
        let log = Log::default();
        let (keep, stderr) = (log.clone(), child.stderr.take().expect("piped"));
        thread::spawn(move || {
            each_line(stderr, |line| keep.push(line));
            keep.end();
        });
        let (line, stdout) = (mpsc::channel(), child.stdout.take().expect("piped"));
        thread::spawn(move || each_line(stdout, |text| drop(line.0.send(text))));
        Self { child, stdout: Some(line.1), log }
    }

    /// Runs `command` and returns exit code, standard output and standard error.
    pub fn run(command: Command) -> (Option<i32>, String, String) {
        let mut process = Self::start(command);
        let status = process.wait(TIMEOUT);
        let mut stdout = String::new();
        for line in process.lines().iter() {
            stdout.push_str(&line);
            stdout.push('\n');
        }
        (status.code(), stdout, process.log.whole().join("\n"))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The lines of standard output. They have one reader.
    pub fn lines(&mut self) -> Receiver<String> {
        self.stdout.take().expect("standard output has one reader")
    }

    /// The piped standard input, which ends on drop.
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("standard input is piped")
    }

    /// Writes `input` to standard input and closes it.
    pub fn feed(&mut self, input: &str) {
        // The process may have closed it.
        let _ = self.stdin().write_all(input.as_bytes());
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process has an id");
        kill_process(pid, signal).expect("the process runs");
    }

    /// Waits until the process has exited.
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait().expect("the process is ours") {
                return status;
            }
            assert!(Instant::now() < deadline, "the process did not exit within {timeout:?}; {}", self.log.shown());
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("{}", self.log.shown());
        }
    }
}

fn each_line(input: impl Read, mut take: impl FnMut(String)) {
    let mut input = BufReader::with_capacity(256 << 10, input);
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        take(String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned());
        line.clear();
    }
}

/// The lines of standard error. Clones share them.
#[derive(Clone, Default)]
pub struct Log(Arc<(Mutex<Written>, Condvar)>);

#[derive(Default)]
struct Written {
    lines: Vec<String>,
    is_whole: bool,
}

impl Log {
    fn push(&self, line: String) {
        self.0.0.lock().unwrap().lines.push(line);
        self.0.1.notify_all();
    }

    fn end(&self) {
        self.0.0.lock().unwrap().is_whole = true;
        self.0.1.notify_all();
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }

    /// The number of lines so far that contain `text`.
    pub fn count(&self, text: &str) -> usize {
        self.lines().iter().filter(|line| line.contains(text)).count()
    }

    /// Waits until `count` lines contain `text`, and returns the last of them.
    pub fn wait_for_nth(&self, count: usize, text: &str) -> String {
        let deadline = Instant::now() + TIMEOUT;
        let mut written = self.0.0.lock().unwrap();
        loop {
            if let Some(line) = written.lines.iter().filter(|line| line.contains(text)).nth(count - 1) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if written.is_whole || left.is_zero() {
                let lines = written.lines.join("\n");
                drop(written);
                panic!("the log does not contain {text:?} {count} times:\n{lines}");
            }
            written = self.0.1.wait_timeout(written, left).unwrap().0;
        }
    }

    /// Waits until a line contains `text`, and returns it.
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_for_nth(1, text)
    }

    /// All lines, once the process has closed its standard error.
    pub fn whole(&self) -> Vec<String> {
        let written = self.0.0.lock().unwrap();
        let (written, timeout) = self.0.1.wait_timeout_while(written, TIMEOUT, |written| !written.is_whole).unwrap();
        assert!(!timeout.timed_out(), "standard error is still open");
        written.lines.clone()
    }

    /// The end of the log, for the message of a failed test.
    fn shown(&self) -> String {
        let lines = self.lines();
        let last = &lines[lines.len().saturating_sub(40)..];
        format!("the process logged {} lines, the last ones:\n{}", lines.len(), last.join("\n"))
    }
}

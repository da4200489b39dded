//! `--history-file`: a stopped server leaves its history to the next one.

mod restarts;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::process::{Directory, Process, Server, Stream, TIMEOUT, serve};

/// A server with a history file, which can be stopped and started again.
struct Restartable {
    directory: Directory,
    /// Further arguments.
    args: &'static [&'static str],
    server: Server,
}

impl Restartable {
    fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    fn start_with(name: &str, more: &'static [&'static str]) -> Self {
        let directory = Directory::new(name);
        let server = Server::start_restartable(&[&args(&path_in(&directory)), more].concat());
        Self { directory, args: more, server }
    }

    fn path(&self) -> PathBuf {
        path_in(&self.directory).into()
    }

    fn signal(&mut self, signal: Signal) {
        self.server.signal(signal);
        let code = self.server.wait(TIMEOUT).code();
        assert_eq!(code, (signal == Signal::TERM).then_some(0), "{:?}", self.server.log.lines());
    }

    fn stop(&mut self) {
        self.signal(Signal::TERM);
    }

    fn start_again(&mut self) {
        self.server = self.server.restart(&[&args(&path_in(&self.directory)), self.args].concat());
    }

    /// Resumes after `id`, and returns the first event after the hello.
    fn next_after(&self, id: &str) -> (String, String) {
        let mut stream = Stream::open(self.server.address(), "topics=a", Some(id));
        let event = stream.next();
        (event.name, event.data)
    }
}

fn path_in(directory: &Directory) -> String {
    directory.0.join("history").to_str().unwrap().to_owned()
}

fn args(path: &str) -> [&str; 4] {
    ["--drain", "0s", "--history-file", path]
}

/// Runs a server that does not start. Returns its output.
fn failed_start(path: &str) -> String {
    let (code, _, stderr) = Process::run(serve(&[&["--listen", "127.0.0.1:0"][..], &args(path)].concat()));
    assert_eq!(code, Some(1), "{stderr}");
    stderr
}

#[test]
fn history_continues_after_a_stop() {
    let mut one = Restartable::start("history-continues");
    let first = one.server.publish("a", "1");
    one.server.publish("a", "2");
    assert!(!one.path().exists());
    one.stop();
    assert_eq!(fs::metadata(one.path()).unwrap().permissions().mode() & 0o777, 0o600);

    one.start_again();
    assert!(!one.path().exists(), "it is deleted before the server listens");
    assert_eq!(one.next_after(&first), ("message".to_owned(), "2".to_owned()));
    let (epoch, _) = first.split_once('-').unwrap();
    assert_eq!(one.server.publish("a", "3"), format!("{epoch}-3"));
    let metrics = one.server.get("/metrics/json").json();
    assert_eq!((&metrics["history"]["restored"], &metrics["events"]["published"]), (&2.into(), &1.into()));
    assert!(one.server.get("/metrics").body.contains("\nfanline_history_restored_events 2\n"));

    // Without an event in between, too.
    one.stop();
    one.start_again();
    one.stop();
    one.start_again();
    assert_eq!(one.next_after(&format!("{epoch}-2")), ("message".to_owned(), "3".to_owned()));
}

#[test]
fn crash_begins_a_new_epoch() {
    let mut one = Restartable::start("history-crash");
    let first = one.server.publish("a", "1");
    one.stop();
    one.start_again();
    one.signal(Signal::KILL);
    one.start_again();
    let (name, data) = one.next_after(&first);
    assert!(name == "gap" && data.contains("\"reason\":\"epoch\""), "{name} {data}");
    one.server.log.wait_for("no history file: a new epoch begins");
}

#[test]
fn damaged_file_is_reported_and_ignored() {
    let mut one = Restartable::start("history-damaged");
    let first = one.server.publish("a", "1");
    one.stop();
    let mut file = fs::read(one.path()).unwrap();
    let at = file.iter().rposition(|byte| *byte == b'1').unwrap();
    file[at] ^= 1;
    fs::write(one.path(), file).unwrap();
    one.start_again();
    let line = one.server.log.wait_for("not usable");
    assert!(line.contains("\"ERROR\"") && line.contains("do not match its checksum"), "{line}");
    assert_eq!(one.next_after(&first).0, "gap");
    // The next stop replaces it.
    let second = one.server.publish("a", "2");
    one.stop();
    one.start_again();
    one.server.publish("a", "3");
    assert_eq!(one.next_after(&second), ("message".to_owned(), "3".to_owned()));
}

#[test]
fn place_that_cannot_be_written_fails_the_start() {
    let directory = Directory::new("history-place");
    let missing = format!("{}/missing/history", directory.0.display());
    let error = failed_start(&missing);
    assert!(error.contains(&format!("history_file {missing}: cannot write there: No such file")), "{error}");
    let error = failed_start(directory.0.to_str().unwrap());
    assert!(error.contains("it is a directory: give the path of a file in it"), "{error}");
}

#[test]
fn history_that_cannot_be_saved_is_an_error() {
    let mut one = Restartable::start("history-unsaved");
    // A directory takes the place of the file.
    fs::create_dir(one.path()).unwrap();
    one.server.signal(Signal::TERM);
    assert_eq!(one.server.wait(TIMEOUT).code(), Some(1));
    let log = one.server.log.whole().join("\n");
    assert!(log.contains("cannot write it, so that the next start begins a new epoch"), "{log}");
    assert_eq!(fs::read_dir(&one.directory.0).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn second_server_does_not_take_the_history() {
    let mut one = Restartable::start("history-second");
    let first = one.server.publish("a", "1");
    one.server.publish("a", "2");
    one.stop();
    let path = path_in(&one.directory);
    // Its address is taken.
    let other = Server::start(&[]);
    let address = other.address().to_string();
    let (code, _, stderr) = Process::run(serve(&[&["--listen", &address][..], &args(&path)].concat()));
    assert!(code == Some(1) && stderr.contains("another process listens there"), "{stderr}");
    // Another server is starting with the file.
    let file = File::open(&path).unwrap();
    file.lock().unwrap();
    let error = failed_start(&path);
    assert!(error.contains("another server is starting with it"), "{error}");
    drop(file);
    one.start_again();
    assert_eq!(one.next_after(&first).1, "2");
}

#[test]
#[cfg(feature = "redis")]
fn history_file_and_redis_exclude_each_other() {
    let (code, _, stderr) = Process::run(serve(&["--redis", "redis://127.0.0.1/", "--history-file", "x"]));
    assert!(code == Some(2) && stderr.contains("history_file is for a server without redis"), "{stderr}");
}

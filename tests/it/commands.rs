//! Commands around a server: `init`, `health`, `completions`, `man`.

use std::fs;

use rustix::process::Signal;

use crate::process::{Directory, Process, Server, TIMEOUT, fanline};

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    Process::run(fanline(args))
}

#[test]
fn init_writes_a_settings_file_that_passes_the_check() {
    let directory = Directory::new("init");
    let file = directory.0.join("fanline.toml").display().to_string();
    let (code, stdout, stderr) = run(&["init", &file]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(stdout, format!("created {file}; start the server with: fanline serve --config {file}\n"));
    let (code, checked, stderr) = run(&["serve", "--check", "--config", &file]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(checked, run(&["serve", "--check"]).1);

    let (code, printed, _) = run(&["init", "-"]);
    assert_eq!((code, printed), (Some(0), fs::read_to_string(&file).unwrap()));
}

#[test]
fn init_never_overwrites_a_file() {
    let directory = Directory::new("init-twice");
    let file = directory.write("fanline.toml", "history = 7\n");
    let (code, stdout, stderr) = run(&["init", &file]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert_eq!(stderr, format!("fanline: {file:?} exists: give another path, or remove it first"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "history = 7\n");
}

#[test]
fn health_is_one_line_and_an_exit_code() {
    let mut server = Server::start_restartable(&["--drain", "0s"]);
    let url = server.url();
    assert_eq!(run(&["health", "--url", &url]), (Some(0), format!("{url} is ready\n"), String::new()));
    server.signal(Signal::TERM);
    server.wait(TIMEOUT);
    let (code, stdout, stderr) = run(&["health", "--url", &url]);
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(1), "", 1));
    assert!(stderr.starts_with(&format!("fanline: cannot connect to {url}: ")), "{stderr}");
}

#[test]
#[cfg(feature = "redis")]
fn health_of_a_server_that_is_not_ready_gives_the_reason() {
    let server = Server::start(&["--redis", "redis://127.0.0.1:1"]);
    let url = server.url();
    let (code, stdout, stderr) = run(&["health", "--url", &url]);
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(1), "", 1));
    assert!(stderr.contains(&format!("{url} is not ready: the server answered 503")), "{stderr}");
    assert!(
        stderr.contains("the backbone (redis) is connecting: Redis at 127.0.0.1:1: Connection refused"),
        "{stderr}"
    );
}

#[test]
fn health_without_a_url_asks_the_server_of_the_same_environment() {
    let server = Server::start(&[]);
    let mut command = fanline(&["health"]);
    command.env("FANLINE_LISTEN", format!("0.0.0.0:{}", server.address().port()));
    assert_eq!(Process::run(command), (Some(0), format!("{} is ready\n", server.url()), String::new()));
}

#[test]
fn prefix_moves_the_endpoints_of_the_program() {
    let server = Server::start(&["--prefix", "/live"]);
    assert_eq!((server.get("/live/health/ready").status, server.get("/health/ready").status), (200, 404));
    let mut command = fanline(&["health"]);
    command.env("FANLINE_PORT", server.address().port().to_string()).env("FANLINE_PREFIX", "/live");
    assert_eq!(Process::run(command), (Some(0), format!("{} is ready\n", server.url()), String::new()));
    let url = format!("{}/live", server.url());
    let (code, id, stderr) = run(&["publish", "--url", &url, "--topic", "t", "hello"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{id}");
    let (code, _, stderr) = run(&["serve", "--check", "--prefix", "live/"]);
    assert!(code == Some(2) && stderr.contains("prefix") && stderr.contains("as in /live"), "{code:?} {stderr}");
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, stderr) = run(&["completions", shell]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert!(script.contains("publish") && script.contains("max-topics"), "{shell}");
    }
}

#[test]
fn man_page_of_each_command_is_written() {
    let directory = Directory::new("man");
    let (code, _, stderr) = run(&["man", directory.0.to_str().unwrap()]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for page in ["fanline", "fanline-serve", "fanline-publish", "fanline-tail", "fanline-init", "fanline-health"] {
        let text = fs::read_to_string(directory.0.join(page).with_extension("1")).expect(page);
        assert!(text.contains(".SH SYNOPSIS") && text.contains(".SH OPTIONS"), "{text}");
    }
}

//! Settings: errors name the setting, and `--check` prints the effective values.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;

use crate::process::{Process, Server, Stream, fanline, pseudo_terminal, serve};

#[test]
fn check_prints_effective_settings_without_starting() {
    let mut command = serve(&["--check", "--listen", "127.0.0.1:1"]);
    command.env("FANLINE_HISTORY", "77").env("LOG_LEVEL", "debug");
    let (code, stdout, stderr) = Process::run(command);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for (setting, source) in [
        ("listen = [\"127.0.0.1:1\"]", "flag --listen"),
        ("history = 77", "environment FANLINE_HISTORY"),
        ("log_level = \"debug\"", "environment LOG_LEVEL"),
        ("heartbeat = \"30s\"", "default"),
    ] {
        let line = stdout.lines().find(|line| line.starts_with(setting));
        assert!(line.is_some_and(|line| line.ends_with(&format!("# {source}"))), "{setting}, {source}:\n{stdout}");
    }
}

#[test]
fn check_output_is_an_equivalent_settings_file() {
    let (code, printed, _) = Process::run(serve(&["--check", "--history", "5", "--retry", "1500ms"]));
    assert_eq!(code, Some(0));
    let file = std::env::temp_dir().join(format!("fanline-test-{}.toml", std::process::id()));
    std::fs::write(&file, &printed).unwrap();
    let (code, again, stderr) = Process::run(serve(&["--check", "--config", file.to_str().unwrap()]));
    std::fs::remove_file(&file).unwrap();
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let assignments = |report: &str| {
        let lines = report.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.split("  #").next().unwrap().trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(assignments(&printed), assignments(&again));
}

#[test]
#[cfg(feature = "auth")]
fn settings_of_the_security_page_are_valid() {
    let page = include_str!("../../docs/security.md");
    let toml = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let file = std::env::temp_dir().join(format!("fanline-test-security-{}.toml", std::process::id()));
    std::fs::write(&file, toml).unwrap();
    let (code, printed, stderr) = Process::run(serve(&["--check", "--config", file.to_str().unwrap()]));
    std::fs::remove_file(&file).unwrap();
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(printed.contains("# [[keys]] of \"shop\"") && printed.contains("max_firehose = 100"), "{printed}");
}

#[test]
fn unknown_setting_is_named_with_exit_code_2() {
    let (code, _, stderr) = Process::run(serve(&["--histroy", "5"]));
    assert_eq!((code, stderr.contains("--histroy")), (Some(2), true), "{stderr}");

    let mut command = serve(&[]);
    command.env("FANLINE_HISTROY", "5");
    let (code, _, stderr) = Process::run(command);
    assert_eq!((code, stderr.contains("FANLINE_HISTROY")), (Some(2), true), "{stderr}");

    let file = std::env::temp_dir().join(format!("fanline-test-unknown-{}.toml", std::process::id()));
    std::fs::write(&file, "histroy = 5\n").unwrap();
    let (code, _, stderr) = Process::run(serve(&["--config", file.to_str().unwrap()]));
    std::fs::remove_file(&file).unwrap();
    assert_eq!((code, stderr.contains("histroy")), (Some(2), true), "{stderr}");
}

#[test]
fn value_out_of_range_names_its_setting_with_exit_code_2() {
    for (flag, value) in [("--history", "0"), ("--retry", "1ms"), ("--listen", "nowhere"), ("--topic", "a*")] {
        let (code, _, stderr) = Process::run(serve(&["--check", flag, value]));
        assert!(code == Some(2) && stderr.contains(value) && stderr.contains(&flag[2..]), "{code:?} {stderr}");
    }
    let (code, _, stderr) = Process::run(serve(&["--stdin"]));
    assert!(code == Some(2) && stderr.contains("topic"), "{code:?} {stderr}");
}

#[test]
fn address_in_use_is_named_with_its_remedy_and_exit_code_1() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let (code, _, stderr) = Process::run(serve(&["--listen", &address]));
    assert!(code == Some(1) && stderr.contains(&address), "{code:?} {stderr}");
    assert!(stderr.contains("--port") && stderr.contains("--listen"), "{stderr}");
    // An address for documentation (RFC 5737), which no machine has.
    let (code, _, stderr) = Process::run(serve(&["--listen", "192.0.2.1:0"]));
    assert!(code == Some(1) && stderr.contains("does not have the address"), "{code:?} {stderr}");
}

#[test]
fn server_listens_on_several_addresses() {
    let server = Server::launch(serve(&["--listen", "127.0.0.1:0,127.0.0.2:0"]));
    let mut streams: Vec<_> = server.addresses.iter().map(|&address| Stream::open(address, "", None)).collect();
    assert_eq!(streams.len(), 2);
    let id = server.publish("t", "to all");
    for stream in &mut streams {
        assert_eq!(stream.next().id.as_ref(), Some(&id));
    }
}

#[test]
fn log_has_colours_on_a_terminal_unless_no_color_is_set() {
    for (variable, has_colours) in [(None, true), (Some(""), true), (Some("1"), false)] {
        let (terminal, end_of_server) = pseudo_terminal();
        let mut command = fanline(&["serve", "--listen", "127.0.0.1:0"]);
        command.envs(variable.map(|value| ("NO_COLOR", value))).stderr(end_of_server);
        let mut server = command.spawn().unwrap();
        // The only other end is the server's: reading fails when the server exits.
        drop(command);
        let line = BufReader::new(terminal).lines().map_while(Result::ok).find(|line| line.contains("listening on"));
        server.kill().unwrap();
        server.wait().unwrap();
        assert_eq!(line.unwrap().contains('\u{1b}'), has_colours, "NO_COLOR={variable:?}");
    }
}

//! Keys and tokens appear in no log line, metric, list or error.

use super::stub::Stub;
use crate::process::{Directory, Process, Server, fanline};

const SECRET: &str = "jwt-secret-0123456789abcdef0123456789abcdef";
const WRONG: &str = "wrong-secret-0123456789abcdef0123456789abcdef";
const PASSWORD: &str = "hunter2-of-redis";

fn output(args: &[&str]) -> (String, String) {
    let (code, stdout, stderr) = Process::run(fanline(args));
    assert_eq!(code, Some(0), "{stderr}");
    (stdout, stderr.trim().to_owned())
}

fn token(secret: &str, rest: &[&str]) -> String {
    output(&[&["token", "--secret", secret, "--sub", "anna", "--subscribe", "**"], rest].concat()).0.trim().to_owned()
}

/// Requests that carry `secret` in each possible place.
fn requests(secret: &str) -> Vec<String> {
    // hyper rejects this head.
    let mut requests = vec![format!("GET /stream?access_token={secret}  HTTP/1.1\r\nhost x\r\n\r\n")];
    for target in ["/clients", "/topics", "/metrics", "/metrics/json", "/nowhere", "/publish", "/clients/1"] {
        let target = format!("{target}?access_token={secret}");
        requests.push(format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
    }
    for header in ["authorization: Bearer ", "x-api-key: ", "cookie: fanline_token="] {
        for request in [
            "GET /clients",
            "GET /stream?topics=broken&on_lag=maybe",
            "GET /stream?topics=broken",
            "DELETE /clients/0000000000000000",
            "POST /publish/a*",
        ] {
            let length = if request.starts_with("POST") { "content-length: 0\r\n" } else { "" };
            let head = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{length}{header}{secret}");
            requests.push(format!("{head}\r\n\r\n"));
        }
    }
    requests
}

#[test]
fn secrets_appear_in_no_log_metric_list_or_error() {
    let directory = Directory::new("secrets");
    let (table, key) = output(&["key", "shop", "--publish", "**", "--subscribe", "**", "--admin"]);
    let service = Stub::start(|asked| (if asked.body.contains("broken") { 500 } else { 200 }, String::new()));
    let (may, keys) = (service.url("/may?service-password=1"), service.url("/keys?set-password=1"));
    let settings = format!("jwt_secret = [\"{SECRET}\"]\nauthorize_url = \"{may}\"\njwks = \"{keys}\"\n{table}");
    let config = directory.write("fanline.toml", &settings);
    let server = Server::start(&["--config", &config, "--log-level", "trace"]);
    let (good, wrong) = (token(SECRET, &[]), token(WRONG, &[]));
    let for_another = token(SECRET, &["--audience", "other"]);
    let broken = "not-a-token.at-all.but-secret";
    let shown = [&good, &wrong, &for_another, &key, broken, "an-unknown-key"].map(str::to_owned);
    let mut said = String::new();
    let mut ask = |text: String| {
        let answer = raw(&server, &text);
        said += &answer;
        answer
    };
    for secret in &shown {
        for request in requests(secret) {
            ask(request);
        }
    }
    let stream = server.stream(&format!("topics=a&access_token={good}"));
    let by_key = server.stream(&format!("topics=a&name=shop&access_token={key}"));
    for target in ["/clients", "/topics", "/metrics", "/metrics/prometheus", "/metrics/json", "/health"] {
        let list = ask(format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-api-key: {key}\r\n\r\n"));
        assert!(list.starts_with("HTTP/1.1 200"), "{list}");
        assert_eq!(list.contains("\"user\":\"anna\""), target == "/clients", "{list}");
    }
    drop((stream, by_key));
    server.log.wait_for("client gone");
    server.signal(rustix::process::Signal::HUP);
    server.log.wait_for("SIGHUP");
    let printed = output(&["serve", "--check", "--config", &config]).0;
    let log = server.log.lines().join("\n");
    assert!(
        log.contains("refused") && log.contains("the authorization service failed"),
        "the log reports the rejection"
    );
    let hidden = ["service-password", "set-password", SECRET, WRONG, broken, "an-unknown-key", key.as_str()];
    let signatures = [&good, &wrong, &for_another].map(|token| token.rsplit('.').next().unwrap());
    for secret in hidden.into_iter().chain(signatures) {
        for (place, text) in [("the log", &log), ("an answer", &said), ("--check", &printed)] {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret:?} is in {place}");
        }
    }
}

/// Invalid settings that contain a secret: `PASSWORD`, or the file's token secret.
fn unusable() -> Vec<String> {
    let good = format!("jwt_secret = \"{SECRET}\"\n");
    vec![
        format!("{good}jwt_secret = \"{WRONG}\"\n"),
        format!("jwt_secret = \"{SECRET}\nhistory = 5\n"),
        format!("jwt_secret = {SECRET}\n"),
        format!("jwt_secret = [\"{SECRET}\", {WRONG}\n"),
        format!("jwt_secret = [\"{SECRET}\", 5, \"{WRONG}\"]\n"),
        format!("jwt_secret = [\"{SECRET}\", \"{PASSWORD}\"]\n"),
        format!("{good}redis = \"redis://me:{PASSWORD}@redis:6379\n"),
        format!("{good}redis = \"redis://me:{PASSWORD}@a\"\nredis = \"redis://me:{PASSWORD}@b\"\n"),
        format!("{good}redis = \"redis//me:{PASSWORD}@redis:6379\"\n"),
        format!("{good}jwks = \"login.example/keys?key={PASSWORD}\"\n"),
        format!("{good}jwks = \"https://me:{PASSWORD}@login.example/keys\"\n"),
        format!("{good}authorize_url = \"ftp://login.example/may?key={PASSWORD}\"\n"),
        format!("{good}[[keys]]\nname = \"shop\"\nhash = \"{PASSWORD}\"\n"),
    ]
}

#[test]
fn errors_of_invalid_settings_show_no_secrets() {
    let directory = Directory::new("unusable");
    let config = directory.write("fanline.toml", &format!("jwt_secret = \"{SECRET}\"\n"));
    let server = Server::start(&["--config", &config]);
    for (round, text) in unusable().into_iter().enumerate() {
        directory.write("fanline.toml", &text);
        let mut said = Vec::new();
        for rest in [&["--check"][..], &["--listen", "127.0.0.1:0"]] {
            let (code, stdout, stderr) = Process::run(fanline(&[&["serve", "--config", &config], rest].concat()));
            assert_eq!(code, Some(2), "{text}\n{stdout}{stderr}");
            said.push(stdout + &stderr);
        }
        server.signal(rustix::process::Signal::HUP);
        said.push(server.log.wait_for_nth(round + 1, "SIGHUP: nothing was changed"));
        for said in said {
            assert!(said.contains("fanline.toml") && said.contains("line "), "{text}\n{said}");
            for secret in [SECRET, WRONG, PASSWORD] {
                assert!(!said.contains(secret), "{text}\n{said}");
            }
        }
    }
}

#[test]
fn invalid_redis_url_is_rejected_without_showing_its_password() {
    for rest in ["redis:99999999", "redis:6379/a/b", "[::1", "red is:6379", "redis:6379/0?protocol=nonsense"] {
        let url = format!("redis://me:{PASSWORD}@{rest}");
        let (_, printed, _) = Process::run(fanline(&["serve", "--check", "--redis", &url]));
        let (code, stdout, stderr) = Process::run(fanline(&["serve", "--listen", "127.0.0.1:0", "--redis", &url]));
        assert!(code == Some(1) && stderr.contains("redis"), "{url}: {stderr}");
        assert!(![printed, stdout, stderr.clone()].concat().contains(PASSWORD), "{url}: {stderr}");
    }
}

#[test]
fn invalid_secret_argument_is_rejected_without_showing_it() {
    let both = format!("{PASSWORD},{SECRET}");
    let word = format!("{PASSWORD} {SECRET}");
    for (variable, value, args, what) in [
        ("FANLINE_JWT_SECRET", both.as_str(), &["token", "--subscribe", "a"][..], "at least 32 bytes"),
        ("NONE", "", &["token", "--subscribe", "a", "--secret", both.as_str()], "at least 32 bytes"),
        ("FANLINE_JWT_SECRET", &both, &["serve", "--check"], "at least 32 bytes"),
        ("FANLINE_TOKEN", &word, &["publish", "--topic", "a", "x"], "one word"),
        ("NONE", "", &["tail", "--topics", "a", "--token", &word], "one word"),
    ] {
        let mut command = fanline(args);
        command.env(variable, value);
        let (code, stdout, stderr) = Process::run(command);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}: {stderr}");
        assert!(stderr.contains(what), "{args:?}: {stderr}");
        assert!(!stderr.contains(PASSWORD) && !stderr.contains(SECRET), "{args:?}: {stderr}");
    }
}

/// Everything that the server sends until it closes.
fn raw(server: &Server, request: &str) -> String {
    use std::io::{Read, Write};
    let mut socket = std::net::TcpStream::connect(server.address()).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    // An admitted stream does not end.
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = socket.read(&mut buffer) {
        text.extend_from_slice(&buffer[..length]);
        if text.windows(17).any(|window| window == b"text/event-stream") {
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

//! Keys and tokens are in no log line, metric, list or error.

use super::reload::Directory;
use super::stub::Stub;
use crate::process::{Process, Server, fanline};

const SECRET: &str = "jwt-secret-0123456789abcdef0123456789abcdef";
const WRONG: &str = "wrong-secret-0123456789abcdef0123456789abcdef";

fn output(args: &[&str]) -> (String, String) {
    let (code, stdout, stderr) = Process::run(fanline(args));
    assert_eq!(code, Some(0), "{stderr}");
    (stdout, stderr.trim().to_owned())
}

fn token(secret: &str, rest: &[&str]) -> String {
    output(&[&["token", "--secret", secret, "--sub", "anna", "--subscribe", "**"], rest].concat()).0.trim().to_owned()
}

#[test]
fn secrets_are_in_no_log_line_no_metric_no_list_and_no_error() {
    let directory = Directory::new("secrets");
    let (table, key) = output(&["key", "shop", "--publish", "**", "--subscribe", "**", "--admin"]);
    let service = Stub::start(|asked| (if asked.body.contains("broken") { 500 } else { 200 }, String::new()));
    let config = directory.write(
        "fanline.toml",
        &format!(
            "jwt_secret = [\"{SECRET}\"]\nauthorize_url = \"{}\"\njwks = \"{}\"\n{table}",
            service.url("/may?service-password=1"),
            service.url("/keys?set-password=1"),
        ),
    );
    let server = Server::start(&["--config", &config, "--log-level", "trace"]);
    let (good, wrong) = (token(SECRET, &[]), token(WRONG, &[]));
    let for_another = token(SECRET, &["--audience", "somebody"]);
    let broken = "not-a-token.at-all.but-secret";
    let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    let shown = [&good, &wrong, &for_another, &key, broken, "no-key-of-anybody"].map(str::to_owned);
    let mut said = String::new();
    let mut ask = |text: String| {
        let answer = raw(&server, &text);
        said += &answer;
        answer
    };
    for secret in &shown {
        for target in ["/clients", "/topics", "/metrics", "/metrics/json", "/nowhere", "/publish", "/clients/1"] {
            ask(format!("GET {target}?access_token={secret} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
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
                ask(format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{length}{header}{secret}\r\n\r\n"));
            }
        }
        // A head that hyper refuses.
        ask(format!("GET /stream?access_token={secret}  HTTP/1.1\r\nhost x\r\n\r\n"));
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
    assert!(log.contains("refused") && log.contains("did not decide"), "what was done is in the log");
    let hidden = ["service-password", "set-password", SECRET, WRONG, broken, "no-key-of-anybody", key.as_str()];
    let signatures = [&good, &wrong, &for_another].map(|token| signature(token));
    for secret in hidden.into_iter().chain(signatures.iter().map(String::as_str)) {
        for (place, text) in [("the log", &log), ("an answer", &said), ("--check", &printed)] {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret:?} is in {place}");
        }
    }
}

/// All that the server answers until it closes.
fn raw(server: &Server, request: &str) -> String {
    use std::io::{Read, Write};
    let mut socket = std::net::TcpStream::connect(server.address()).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    // A stream that is let in goes on for ever.
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

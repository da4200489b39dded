//! Log injection: whatever a client sends, an entry stays on one line and contains no control characters.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::process::Signal;
use serde_json::Value;

use super::{escaped, percent};
use crate::process::{Process, Server, TIMEOUT, fanline, serve};

/// Line ends, colours, and their C1 and Unicode equivalents. `forged` must not begin a line.
const TEXTS: &[&str] = &[
    "x\nforged",
    "x\r\nforged",
    "x\rforged",
    "x\u{85}forged",
    "x\u{2028}forged",
    "x\u{1b}[2K\u{1b}[1Aforged",
    "x\u{9b}2Kforged",
    "x\u{7f}\u{8}\u{8}forged",
    "x\0forged",
    "x\u{202e}degrof",
    "x\" forged=\"y",
];

/// Sends everything at once, and reads until the server closes.
fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) {
    let mut socket = TcpStream::connect(address).expect("the server accepts");
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket.write_all(bytes.as_ref()).expect("the request fits in the buffers");
    socket.shutdown(std::net::Shutdown::Write).expect("open");
    // A reset also ends the response.
    let _ = socket.read_to_end(&mut Vec::new());
}

/// Sends each text in every field of a request. The last request logs a known line.
fn provoke(address: SocketAddr) {
    for text in TEXTS {
        let (raw, encoded, in_json) = (text.as_bytes(), percent(text), escaped(text));
        let get = |target: &[u8]| [b"GET /", target, b" HTTP/1.1\r\nhost: test\r\n\r\n"].concat();
        exchange(address, get(raw));
        exchange(address, get(encoded.as_bytes()));
        for query in ["client_name=", "tags=", "topics=", "last_event_id=", "on_lag=", "heartbeat=", ""] {
            exchange(address, get(&[b"stream?", query.as_bytes(), raw].concat()));
            exchange(address, get(format!("stream?{query}{encoded}").as_bytes()));
        }
        for target in ["clients/", "publish/", "topics?after=", "clients?name="] {
            exchange(address, get(format!("{target}{encoded}").as_bytes()));
        }
        let head = "POST /publish HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n";
        for body in [
            format!(r#"{{"topic":{in_json},"data":1}}"#),
            format!(r#"{{"topic":"t","event":{in_json},"data":1}}"#),
            format!(r#"{{"topic":"t","data":1,{in_json}:1}}"#),
            format!(r#"{{"topic":"t","data":1,"{text}":1}}"#),
        ] {
            exchange(address, format!("{head}content-length: {}\r\n\r\n{body}", body.len()));
        }
        for name in ["last-event-id", "content-type", "accept", "authorization", "cookie", "x-forwarded-for", "origin"]
        {
            exchange(
                address,
                [b"POST /stream HTTP/1.1\r\nhost: test\r\n", name.as_bytes(), b": ", raw, b"\r\n\r\n"].concat(),
            );
        }
        exchange(address, [raw, b" / HTTP/1.1\r\nhost: test\r\n\r\n"].concat());
        exchange(address, [b"GET / HTTP/1.1\r\nhost: ", raw, b"\r\n\r\n"].concat());
    }
}

fn log_of(mut process: Process, address: SocketAddr) -> Vec<String> {
    provoke(address);
    process.signal(Signal::TERM);
    assert!(process.wait(TIMEOUT).success());
    process.log.whole()
}

fn contains_control_character(line: &str) -> bool {
    line.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}'))
}

#[test]
fn json_log_has_one_object_per_line_for_any_input() {
    let server = Server::launch(serve(&["--listen", "127.0.0.1:0", "--log-level", "trace", "--drain", "0s"]));
    let address = server.address();
    let lines = log_of(server.into_process(), address);
    let logged = lines.iter().filter(|line| line.contains("forged")).count();
    assert!(logged > 30, "only {logged} lines contain the input");
    for line in &lines {
        assert!(!contains_control_character(line), "{line:?}");
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let target = entry["target"].as_str().expect("an entry has a target");
        assert!(["fanline", "hyper", "mio", "tokio"].iter().any(|name| target.starts_with(name)), "{line}");
        assert!(entry["timestamp"].is_string() && entry["level"].is_string() && entry.get("forged").is_none());
    }
}

#[test]
fn text_log_has_one_entry_per_line_for_any_input() {
    let args = ["serve", "--listen", "127.0.0.1:0", "--log-level", "trace", "--drain", "0s", "--log-format", "pretty"];
    let process = Process::start(fanline(&args));
    let line = process.log.wait_for("listening on http://");
    let (_, address) = line.split_once("listening on http://").unwrap();
    let address = address.split(' ').next().unwrap().parse().expect("an address");
    let lines = log_of(process, address);
    let logged = lines.iter().filter(|line| line.contains("forged")).count();
    assert!(logged > 30, "only {logged} lines contain the input");
    for line in &lines {
        assert!(!contains_control_character(line), "{line:?}");
        let (time, rest) = line.trim_start().split_once(' ').unwrap_or_default();
        assert!(is_timestamp(time), "{line:?}");
        let level = rest.trim_start().split(' ').next().unwrap();
        assert!(["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level), "{line:?}");
    }
}

/// `2026-01-31T23:59:59.123456Z`.
fn is_timestamp(text: &str) -> bool {
    let is_as = |(shown, like): (u8, u8)| if like == b'0' { shown.is_ascii_digit() } else { shown == like };
    let like = "0000-00-00T00:00:00.000000Z";
    text.len() == like.len() && text.bytes().zip(like.bytes()).all(is_as)
}

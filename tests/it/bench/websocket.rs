//! `fanline bench --transport ws`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread;

use super::peer::{Fault, Framing, Peer};
use super::{SHORT, bench, bench_peer, faults, problems};
use crate::process::Server;

/// The head that completes the handshake of `fanline bench`, which always sends the same key, without its blank line.
pub const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

/// A message of less than 126 bytes, or of less than 65,536.
pub fn text(payload: &str) -> Vec<u8> {
    let length = payload.len();
    let header =
        if length < 126 { vec![0x81, length as u8] } else { vec![0x81, 126, (length >> 8) as u8, length as u8] };
    [&header, payload.as_bytes()].concat()
}

/// A short run against a peer with this fault.
fn bench_frames(fault: Fault) -> (Option<i32>, serde_json::Value, String) {
    bench_peer(&Peer::start(Framing::Frames, fault), &[&SHORT[..], &["--transport", "ws"]].concat())
}

#[test]
fn streams_of_fanline_are_whole_over_websocket() {
    let server = Server::start(&[]);
    let args =
        ["--url", &server.url(), "--transport", "ws", "--clients", "20", "--topics", "4", "--topics-per-client", "2"];
    let load = ["--prefill", "40", "--rate", "400", "--warmup", "0", "--duration", "0.5"];
    let earliest = ["--sse-header", "last-event-id: earliest"];
    let (code, report, stderr) = bench(&[&args[..], &load, &earliest].concat());
    assert_eq!((code, faults(&report), stderr.as_str()), (Some(0), vec![], ""), "{report}");
    // Each topic has 10 of the 20 subscribers.
    assert_eq!((&report["connected"], &report["deliveries"]), (&20.into(), &2400.into()), "{report}");
    assert_eq!(report["options"]["sse_url"], format!("{}/ws?topics={{topics}}", server.url()));
    assert_eq!(report["options"]["transport"], "ws");
}

#[test]
fn faults_of_websocket_streams_are_counted() {
    for (fault, found) in [
        (Fault::None, vec![]),
        (Fault::Drop(3), vec![("lost", 1)]),
        (Fault::Repeat(3), vec![("duplicated", 1)]),
        (Fault::Change(7), vec![("lost", 1), ("corrupted", 1)]),
        (Fault::Close(3), vec![("closed", 1)]),
        (Fault::RefuseOthers("429 Too Many Requests"), vec![("refused", 4)]),
    ] {
        let (code, report, _) = bench_frames(fault);
        assert_eq!((code, faults(&report)), (Some(i32::from(!found.is_empty())), found), "{report}");
    }
}

#[test]
fn response_without_a_handshake_is_a_refusal() {
    let (code, _, stderr) = bench_frames(Fault::Page);
    assert!(code == Some(1) && stderr.contains("no handshake of WebSocket but a 200"), "{stderr}");
    let (_, report, _) = bench_frames(Fault::RefuseOthers("429 Too Many Requests"));
    assert!(problems(&report).contains("a subscriber was refused: 429 Too Many Requests: come later!"), "{report}");
}

#[test]
fn websocket_over_http2_is_refused() {
    let (code, _, stderr) = bench(&["--transport", "ws", "--http2"]);
    assert!(code == Some(2) && stderr.contains("--http2 carries no WebSocket"), "{stderr}");
}

#[test]
fn ping_is_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        // The first two connections find the addresses of subscribers and of publishers.
        drop([listener.accept().unwrap(), listener.accept().unwrap()]);
        let (mut socket, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(socket.try_clone().unwrap());
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        write!(socket, "{ACCEPTED}\r\n").unwrap();
        socket.write_all(b"\x89\x02hi").unwrap();
        let mut pong = [0; 8];
        reader.read_exact(&mut pong).unwrap();
        // A close ends the run.
        socket.write_all(b"\x88\x09\x03\xe9goodbye").unwrap();
        [pong[0], pong[1], pong[6] ^ pong[2], pong[7] ^ pong[3]]
    });
    let load = ["--clients", "1", "--rate", "0", "--duration", "600", "--warmup", "0", "--patience", "1"];
    let (code, report, _) = bench(&[&["--url", &url, "--transport", "ws"], &load[..]].concat());
    assert_eq!(&server.join().unwrap(), b"\x8a\x82hi");
    assert_eq!((code, faults(&report)), (Some(1), vec![("closed", 1)]), "{report}");
    assert!(problems(&report).contains("a stream ended: the server closed it with code 1001: goodbye"), "{report}");
}

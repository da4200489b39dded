//! Floods of frames that cost a client little. Each ends its connection or is worked off, within bounded memory, and other
//! connections do not notice.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use futures_util::FutureExt;

use super::Bystander;
use super::raw::{
    ACK, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, PING,
    PREFACE, PRIORITY, Raw, SETTINGS, block, fields, frame, get, reset, settings, window_update,
};
use crate::process::{self, resident_bytes};
use crate::support::{NDJSON, Server, run, until};

/// The most that a flood may add to the server's memory, in a debug build. The floods are many times larger.
const MAX_GROWTH: u64 = 6 << 20;

/// Sends `part` until the server closes the connection, which then still reads for a while. Returns the code of its GOAWAY.
async fn flood(raw: &mut Raw, part: &[u8]) -> Option<u32> {
    while raw.client.try_send(part).await.is_ok() {
        while let Some(frame) = raw.try_frame().now_or_never() {
            let frame = frame?;
            if frame.kind == GOAWAY {
                return Some(frame.code());
            }
        }
    }
    raw.goaway().await
}

#[test]
fn rapid_resets_end_the_connection() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        for path in ["/stream?topics=t", "/health/live", "/openapi.json"] {
            let mut raw = Raw::connect(server.address, &[]).await;
            let mut burst = Vec::new();
            for number in 0..5000 {
                burst.extend(get(2 * number + 1, path));
                burst.extend(reset(2 * number + 1));
            }
            // The server may close before it has read all of it.
            let _ = raw.client.try_send(burst).await;
            assert_eq!(raw.goaway().await, Some(ENHANCE_YOUR_CALM), "{path}");
            drop(raw);
            until(|| server.stats().connections == 1 && server.stats().streams == 1).await;
            bystander.assert_undisturbed(&server).await;
        }
    });
}

/// A client that waits for each response before it resets the stream is not a flood.
#[test]
fn clients_may_leave_streams_at_their_own_pace() {
    run(async {
        let server = Server::start();
        let mut raw = Raw::connect(server.address, &[]).await;
        for number in 0..2000 {
            raw.send(get(2 * number + 1, "/stream?topics=t")).await;
            assert!(raw.frame(HEADERS).await.is_success());
            raw.send(reset(2 * number + 1)).await;
        }
        raw.assert_alive().await;
        until(|| server.stats().streams == 0).await;
    });
}

#[test]
fn continuation_flood_ends_the_connection() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        for part in [&block(&[("x-flood", "x")])[..], &block(&[("x-flood", &"x".repeat(8000))]), b""] {
            let mut raw = Raw::connect(server.address, &[]).await;
            raw.send(frame(HEADERS, END_STREAM, 1, &block(&fields("GET", "/health/live", &[])))).await;
            let code = flood(&mut raw, &frame(CONTINUATION, 0, 1, part).repeat(50)).await;
            assert!(matches!(code, Some(ENHANCE_YOUR_CALM | COMPRESSION_ERROR)), "{} bytes: {code:?}", part.len());
            drop(raw);
            until(|| server.stats().connections == 1).await;
            bystander.assert_undisturbed(&server).await;
        }
    });
}

#[test]
fn head_that_never_ends_counts_against_the_head_timeout() {
    run(async {
        let http = fanline::server::HttpOptions {
            head_timeout: Duration::from_millis(300),
            ..fanline::server::HttpOptions::default()
        };
        let server = Server::with(Server::hub_options(), |builder| builder.http(http));
        let mut bystander = Bystander::connect(&server).await;
        let mut raw = Raw::connect(server.address, &[]).await;
        raw.send(frame(HEADERS, END_STREAM, 1, &block(&fields("GET", "/health/live", &[])))).await;
        raw.goaway().await;
        until(|| server.stats().connections == 1).await;
        bystander.assert_undisturbed(&server).await;
    });
}

/// The client reads the answers, so that both sides continue.
#[test]
fn answered_floods_leave_others_alone() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        for (name, part) in [
            ("PING", frame(PING, 0, 0, b"12345678")),
            ("SETTINGS", settings(&[(4, 1000)])),
            ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 7])),
            ("WINDOW_UPDATE", window_update(0, 1)),
            ("SETTINGS ACK", frame(SETTINGS, ACK, 0, b"")),
            ("unknown", frame(0xfa, 0, 0, b"12345678")),
        ] {
            let mut raw = Raw::connect(server.address, &[]).await;
            for _ in 0..100 {
                if raw.client.try_send(part.repeat(100)).await.is_err() {
                    break;
                }
                bystander.assert_undisturbed(&server).await;
                // The answers.
                raw.client.take();
                if name != "SETTINGS ACK" {
                    raw.assert_alive().await;
                }
            }
            drop(raw);
            until(|| server.stats().connections == 1).await;
        }
    });
}

#[test]
fn empty_data_frames_do_not_keep_an_upload_open() {
    run(async {
        let server = Server::start();
        let mut bystander = Bystander::connect(&server).await;
        let mut raw = Raw::connect(server.address, &[]).await;
        let post = block(&fields("POST", "/publish/t", &[("content-type", "text/plain")]));
        raw.send(frame(HEADERS, END_HEADERS, 1, &post)).await;
        flood(&mut raw, &frame(DATA, 0, 1, b"").repeat(1000)).await;
        drop(raw);
        until(|| server.stats().connections == 1).await;
        bystander.assert_undisturbed(&server).await;
    });
}

/// Writes `part` again and again, until the server has not read for a second or has closed the connection, and at most this
/// often.
fn flood_without_reading(socket: &mut TcpStream, part: &[u8], times: usize) {
    socket.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut written = 0;
    while written < times * part.len() {
        match socket.write(&part[written % part.len()..]) {
            Ok(bytes) => written += bytes,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => break,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn floods_take_bounded_memory_when_no_answer_is_read() {
    let server = process::Server::start(&[]);
    let mut stream = server.stream("topics=t");
    server.publish("t", "warm");
    stream.next();
    let head = frame(HEADERS, END_STREAM, 1, &block(&fields("GET", "/health/live", &[])));
    let upload = frame(HEADERS, END_HEADERS, 1, &block(&fields("POST", "/publish", &[("content-type", NDJSON)])));
    for (name, opening, part) in [
        ("PING", vec![], frame(PING, 0, 0, b"12345678")),
        ("SETTINGS", vec![], settings(&[(4, 1000)])),
        ("CONTINUATION", head, frame(CONTINUATION, 0, 1, &block(&[("x-flood", &"x".repeat(8000))]))),
        ("DATA of one byte", upload, frame(DATA, 0, 1, b" ")),
        ("requests", vec![], (0..200_000).step_by(2).flat_map(|number| get(number + 1, "/openapi.json")).collect()),
    ] {
        let mut socket = TcpStream::connect(server.address()).unwrap();
        let before = resident_bytes(server.pid());
        socket.write_all(&[PREFACE, &settings(&[]), &opening].concat()).unwrap();
        let repeated = part.repeat((64 << 10) / part.len() + 1);
        flood_without_reading(&mut socket, &repeated, (32 << 20) / repeated.len() + 1);
        let grown = resident_bytes(server.pid()).saturating_sub(before);
        assert!(grown < MAX_GROWTH, "{name}: {grown} bytes");
        server.publish("t", "meanwhile");
        assert_eq!(stream.next().data, "meanwhile");
    }
}

#[test]
fn rapid_resets_take_bounded_memory() {
    let server = process::Server::start(&[]);
    let mut stream = server.stream("topics=t");
    server.publish("t", "warm");
    stream.next();
    let before = resident_bytes(server.pid());
    for _ in 0..20 {
        let mut socket = TcpStream::connect(server.address()).unwrap();
        let mut burst = [PREFACE, &settings(&[])].concat();
        for number in 0..20_000 {
            burst.extend(get(2 * number + 1, "/stream?topics=t"));
            burst.extend(reset(2 * number + 1));
        }
        flood_without_reading(&mut socket, &burst, 1);
        server.publish("t", "meanwhile");
        assert_eq!(stream.next().data, "meanwhile");
    }
    let grown = resident_bytes(server.pid()).saturating_sub(before);
    assert!(grown < MAX_GROWTH, "{grown} bytes");
}

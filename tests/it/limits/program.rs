//! Limits as whoever runs the program meets them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use crate::process::{PATIENCE, Process, Server, limit_open_files, request_stream, resident_bytes, serve};

/// The status of the answer to a subscription, and its connection.
fn subscribe(server: &Server) -> (u16, TcpStream) {
    let mut socket = TcpStream::connect(server.address()).expect("the kernel accepts");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(request_stream("", None).as_bytes()).unwrap();
    let mut line = [0; 12];
    socket.read_exact(&mut line).expect("there is an answer");
    (std::str::from_utf8(&line[9..]).unwrap().parse().unwrap(), socket)
}

#[test]
fn with_few_open_files_there_is_room_for_half_as_many_connections_and_accepting_never_pauses() {
    let server = Server::launch(limit_open_files(64, &serve(&["--listen", "127.0.0.1:0", "--shards", "2"])));
    let inside: Vec<_> = (0..32).map(|_| subscribe(&server)).collect();
    assert!(inside.iter().all(|(status, _)| *status == 200));
    for _ in 0..50 {
        assert_eq!(subscribe(&server).0, 503);
    }
    // Those who say nothing take the few places where that is said; the others are closed at once, and all are gone soon.
    let silent: Vec<_> = (0..50).map(|_| TcpStream::connect(server.address()).expect("the kernel accepts")).collect();
    for mut socket in silent {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let end = socket.read(&mut [0]);
        assert!(matches!(&end, Ok(0)) || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }
    let metrics = ask_until_answered(&server, "/metrics/json");
    assert!(metrics.contains("\"max\":32") && metrics.contains("\"accept_pauses\":0"), "{metrics}");
    let ready = ask_until_answered(&server, "/health/ready");
    assert!(ready.contains("503") && ready.contains("all 32 connections are taken"), "{ready}");
}

#[test]
fn a_topic_that_nobody_but_its_subscriber_knows_costs_about_a_kilobyte() {
    const STREAMS: u64 = 200;
    let server = Server::start(&[]);
    let topics = |number| (0..100).map(|n| format!("topic:{number}:{n}")).collect::<Vec<_>>().join(",");
    let _warm = server.stream(&format!("topics={}", topics(STREAMS)));
    let before = resident_bytes(server.pid());
    let streams: Vec<_> = (0..STREAMS).map(|number| server.stream(&format!("topics={}", topics(number)))).collect();
    let each = (resident_bytes(server.pid()) - before) / (STREAMS * 100);
    assert!((256..1536).contains(&each), "{each} bytes");
    drop(streams);
}

/// The answer to a request for `path`, which is asked until there is a place to answer it.
fn ask_until_answered(server: &Server, path: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut socket = TcpStream::connect(server.address()).expect("the kernel accepts");
        let mut answer = String::new();
        let _ =
            socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").as_bytes());
        if socket.read_to_string(&mut answer).is_ok() && !answer.is_empty() {
            return answer;
        }
        assert!(Instant::now() < deadline, "nobody answers");
    }
}

#[test]
fn the_log_has_one_line_for_many_refusals() {
    const LINE: &str = "limits were reached";
    let server = Server::start(&["--max-connections", "1"]);
    let (status, _first) = subscribe(&server);
    assert_eq!(status, 200);
    for _ in 0..20 {
        assert_eq!(subscribe(&server).0, 503);
    }
    let line = server.log.wait_for(LINE);
    assert!(line.contains("\"WARN\"") && line.contains("connections: "), "{line}");
    assert!((1..=2).contains(&server.log.count(LINE)), "{:?}", server.log.lines());
}

#[test]
fn more_connections_than_there_are_open_files_for_is_an_error_that_says_what_to_do() {
    let command = serve(&["--listen", "127.0.0.1:0", "--max-connections", "1000", "--shards", "2"]);
    let (code, _, stderr) = Process::run(limit_open_files(64, &command));
    assert_eq!(code, Some(1), "{stderr}");
    for part in ["max_connections = 1000", "its limit of 64", "room for 32 connections", "ulimit -n"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
}

//! Very many connections that send next to nothing.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::process::{PATIENCE, Server, raise_open_file_limit, resident_bytes, serve};

/// What a connection may cost before its request is whole: hyper's buffer among it.
const MOST_EACH: u64 = 32 << 10;

fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("the process is there").count()
}

/// Opens `clients` connections, each of which sends its request a byte at a time, and far too slowly to end it. Half of
/// them have not sent anything at first.
fn a_crowd_that_dawdles(clients: usize) {
    let args = ["--listen", "127.0.0.1:0,127.0.0.2:0", "--head-timeout", "20s"];
    let server = Server::launch(serve(&args));
    let mut stream = server.stream("topics=news");
    server.publish("news", "before");
    assert_eq!(stream.next().data, "before");
    let (memory, files) = (resident_bytes(server.pid()), open_files(server.pid()));

    let mut crowd: Vec<TcpStream> = (0..clients)
        .map(|number| {
            let address = server.addresses[number % server.addresses.len()];
            let mut socket = TcpStream::connect(address).expect("the kernel accepts");
            if number % 2 == 0 {
                socket.write_all(b"G").expect("one byte fits");
            }
            socket
        })
        .collect();
    for round in *b"ET /str" {
        for socket in &mut crowd {
            // One that was slow for too long by now is closed already.
            let _ = socket.write_all(&[round]);
        }
        let asked = Instant::now();
        server.publish("news", "meanwhile");
        assert_eq!(stream.next().data, "meanwhile");
        assert_eq!(server.get("/health/live").status, 200);
        assert!(asked.elapsed() < Duration::from_secs(10), "others are served meanwhile");
        let each = resident_bytes(server.pid()).saturating_sub(memory) / clients as u64;
        assert!(each <= MOST_EACH, "{each} bytes for each of {clients} connections");
        assert!(open_files(server.pid()) <= files + clients + 8, "a connection is one file");
    }
    let each = resident_bytes(server.pid()).saturating_sub(memory) / clients as u64;
    eprintln!("{clients} connections that dawdle: {each} bytes each");

    // Each is closed in the end, whatever it is told before.
    for socket in &mut crowd {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        match socket.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    drop(crowd);
    let deadline = Instant::now() + PATIENCE;
    while open_files(server.pid()) > files + 8 {
        assert!(Instant::now() < deadline, "{} files are open, and were {files}", open_files(server.pid()));
        std::thread::yield_now();
    }
    server.publish("news", "after");
    assert_eq!(stream.next().data, "after");
}

#[test]
#[ignore = "needs half a minute of waiting; run scripts/test"]
fn five_hundred_connections_that_send_a_byte_now_and_then_cost_little_and_are_closed() {
    raise_open_file_limit(1100);
    a_crowd_that_dawdles(500);
}

#[test]
#[ignore = "needs 11,000 open files and a minute; run scripts/test"]
fn ten_thousand_connections_that_send_a_byte_now_and_then_cost_little_and_are_closed() {
    raise_open_file_limit(10_500);
    a_crowd_that_dawdles(10_000);
}

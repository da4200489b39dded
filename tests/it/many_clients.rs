//! Thousands of connections at once: subscribers, and clients that send their request a byte at a time.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::process::{Crowd, Server, TIMEOUT, listen_drops, reserve_open_files, resident_bytes, serve, wait_until};

/// Connects `clients`, each with a name, two tags and two topics, and publishes to them.
fn check_clients(clients: usize) -> u64 {
    let server = Server::launch(serve(&["--listen", "127.0.0.1:0,127.0.0.2:0"]));
    // The cost of the first client and the first event is not counted.
    server.stream("topics=first");
    server.publish("first", "warm");
    let before = (listen_drops(), resident_bytes(server.pid()));

    let mut crowd = Crowd::new();
    let began = Instant::now();
    for number in 0..clients {
        let address = server.addresses[number % server.addresses.len()];
        let group = number % 100;
        let query = format!("client_name=client-{number}&tags=crowd,group-{group}&topics=news,group:{group}");
        crowd.connect(address, &query);
    }
    let connected = began.elapsed();
    crowd.wait_for_hellos(TIMEOUT);
    let hellos = began.elapsed();
    server.wait_for_streams(clients as u64);
    let each = resident_bytes(server.pid()).saturating_sub(before.1) / clients as u64;

    let id = server.publish("news", "to all");
    let all = crowd.all_receive(TIMEOUT, "the news", |event| event.data == "to all" && event.id.as_ref() == Some(&id));
    for group in 0..100 {
        server.publish(&format!("group:{group}"), "to a group");
    }
    let groups = crowd.all_receive(TIMEOUT, "its group's event", |event| event.data == "to a group");
    assert_eq!(listen_drops(), before.0, "the kernel refused connections");
    assert_eq!(crowd.open(), clients);
    eprintln!(
        "{clients} clients: connected within {connected:?}, hellos within {hellos:?}, {each} bytes each; \
         an event for all took {all:?}, one for each of 100 groups {groups:?}"
    );
    each
}

#[test]
fn five_hundred_clients_connect_and_receive() {
    check_clients(500);
}

#[test]
#[ignore = "needs 20,000 open files and a minute; run scripts/test"]
fn fifteen_thousand_clients_receive_within_1536_bytes_each() {
    let _files = reserve_open_files(15_500);
    let each = check_clients(15_000);
    assert!(each <= 1536, "{each} bytes for each client");
}

#[test]
fn topic_without_events_costs_about_a_kilobyte() {
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

/// The maximum memory of a connection before its request is complete, including hyper's buffer.
const MAX_BYTES_EACH: u64 = 32 << 10;

fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").count()
}

/// Opens `clients` connections. Every other one sends a byte.
fn connect_crowd(server: &Server, clients: usize) -> Vec<TcpStream> {
    let connect = |number| {
        let address = server.addresses[number % server.addresses.len()];
        let mut socket = TcpStream::connect(address).expect("the kernel accepts");
        if number % 2 == 0 {
            socket.write_all(b"G").expect("one byte fits");
        }
        socket
    };
    (0..clients).map(connect).collect()
}

/// Waits until the server has closed each connection, with or without a response.
fn wait_for_ends(crowd: Vec<TcpStream>) {
    for mut socket in crowd {
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        match socket.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
}

/// Opens `clients` connections that send a byte at a time, too slowly to complete a request in time. Half of them send
/// nothing at first.
fn check_dripping_connections(clients: usize) {
    let args = ["--listen", "127.0.0.1:0,127.0.0.2:0", "--head-timeout", "20s"];
    let server = Server::launch(serve(&args));
    let mut stream = server.stream("topics=news");
    server.publish("news", "before");
    assert_eq!(stream.next().data, "before");
    let (memory, files) = (resident_bytes(server.pid()), open_files(server.pid()));

    let mut crowd = connect_crowd(&server, clients);
    for round in *b"ET /str" {
        for socket in &mut crowd {
            // A connection that was too slow is already closed.
            let _ = socket.write_all(&[round]);
        }
        let asked = Instant::now();
        server.publish("news", "meanwhile");
        assert_eq!(stream.next().data, "meanwhile");
        assert_eq!(server.get("/health/live").status, 200);
        assert!(asked.elapsed() < Duration::from_secs(10), "other clients are served in time");
        let each = resident_bytes(server.pid()).saturating_sub(memory) / clients as u64;
        assert!(each <= MAX_BYTES_EACH, "{each} bytes for each of {clients} connections");
        assert!(open_files(server.pid()) <= files + clients + 8, "each connection uses one file");
    }
    let each = resident_bytes(server.pid()).saturating_sub(memory) / clients as u64;
    eprintln!("{clients} dripping connections: {each} bytes each");

    wait_for_ends(crowd);
    let deadline = Instant::now() + TIMEOUT;
    while open_files(server.pid()) > files + 8 {
        assert!(Instant::now() < deadline, "{} files are open, and were {files}", open_files(server.pid()));
        std::thread::yield_now();
    }
    server.publish("news", "after");
    assert_eq!(stream.next().data, "after");
}

#[test]
#[ignore = "needs half a minute of waiting; run scripts/test"]
fn five_hundred_dripping_connections_cost_little_and_time_out() {
    let _files = reserve_open_files(1100);
    check_dripping_connections(500);
}

#[test]
#[ignore = "needs 11,000 open files and a minute; run scripts/test"]
fn ten_thousand_dripping_connections_cost_little_and_time_out() {
    let _files = reserve_open_files(10_500);
    check_dripping_connections(10_000);
}

const HEAD_TIMEOUT: Duration = Duration::from_secs(3);

/// The allowed delay of a close on a busy machine.
const SLACK: Duration = Duration::from_secs(10);

/// One slow connection.
struct Loris {
    socket: TcpStream,
    opened: Instant,
}

impl Loris {
    fn connect(address: SocketAddr) -> Self {
        let opened = Instant::now();
        let mut socket = TcpStream::connect(address).expect("the kernel accepts");
        socket.write_all(b"GET / HTTP/1.1\r\nx-slow: ").expect("the kernel accepts the bytes");
        socket.set_nonblocking(true).unwrap();
        Self { socket, opened }
    }

    /// Sends one more byte. Returns how long the connection has lasted if it is closed.
    fn drip(&mut self) -> Option<Duration> {
        let _ = self.socket.write(b"z");
        match self.socket.read(&mut [0; 64]) {
            Ok(0) => Some(self.opened.elapsed()),
            Ok(_) => panic!("an incomplete request got a response"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Some(self.opened.elapsed()),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Opens `count` slow connections to a server with a hundred streams, and publishes until all of them are closed.
fn check_slow_heads(count: usize) {
    let server = Server::start(&["--head-timeout", "3s"]);
    let mut crowd = Crowd::new();
    for _ in 0..100 {
        crowd.connect(server.address(), "topics=t");
    }
    crowd.wait_for_hellos(TIMEOUT);
    let mut slow: Vec<_> = (0..count).map(|_| Loris::connect(server.address())).collect();
    let (mut lasted, mut published, mut slowest) = (Vec::new(), 0, Duration::ZERO);
    let began = Instant::now();
    while !slow.is_empty() {
        assert!(began.elapsed() < HEAD_TIMEOUT + TIMEOUT, "{} connections are still open", slow.len());
        published += 1;
        let data = format!("event {published}");
        server.publish("t", &data);
        slowest = slowest.max(crowd.all_receive(TIMEOUT, &data, |event| event.data == data));
        slow.retain_mut(|loris| loris.drip().map(|time| lasted.push(time)).is_none());
    }
    assert_eq!(crowd.open(), 100);
    assert!(published > 1, "the streams continued meanwhile");
    let (first, last) = (lasted.iter().min().unwrap(), lasted.iter().max().unwrap());
    assert!(*first >= HEAD_TIMEOUT, "one was closed after {first:?}");
    assert!(*last < HEAD_TIMEOUT + SLACK, "one was closed after {last:?}");
    wait_until(|| {
        let connections = &server.get("/metrics/json").json()["connections"];
        let (timeouts, current) = (&connections["rejected"]["head_timeout"], &connections["current"]);
        if (timeouts, current) == (&count.into(), &101.into()) { Ok(()) } else { Err(connections.to_string()) }
    });
    eprintln!(
        "{count} slow connections lasted {first:?} to {last:?}; {published} events went to 100 streams meanwhile, the \
         slowest in {slowest:?}"
    );
}

#[test]
fn three_hundred_slow_heads_time_out_while_streams_continue() {
    check_slow_heads(300);
}

#[test]
#[ignore = "needs 20,000 open files; run scripts/test"]
fn ten_thousand_slow_heads_time_out_while_streams_continue() {
    let _files = reserve_open_files(10_500);
    check_slow_heads(10_000);
}

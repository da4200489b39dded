//! Thousands of connections that send their head byte by byte and never end it, next to streams that go on.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::process::{Crowd, PATIENCE, Server, raise_open_file_limit};

const HEAD_TIMEOUT: Duration = Duration::from_secs(3);

/// How much later than that a connection may end: this machine has the test, the server and whatever else to run.
const SLACK: Duration = Duration::from_secs(2);

/// One slow connection.
struct Loris {
    socket: TcpStream,
    opened: Instant,
}

impl Loris {
    fn connect(address: SocketAddr) -> Self {
        let opened = Instant::now();
        let mut socket = TcpStream::connect(address).expect("the kernel accepts");
        socket.write_all(b"GET / HTTP/1.1\r\nx-slow: ").expect("it is taken");
        socket.set_nonblocking(true).unwrap();
        Self { socket, opened }
    }

    /// Sends one more byte, and answers how long the connection has lasted if it is closed.
    fn drip(&mut self) -> Option<Duration> {
        let _ = self.socket.write(b"z");
        match self.socket.read(&mut [0; 64]) {
            Ok(0) => Some(self.opened.elapsed()),
            Ok(_) => panic!("half a request was answered"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Some(self.opened.elapsed()),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Opens `count` slow connections at a server with a hundred streams, and publishes until all of them are closed.
fn streams_go_on_beside(count: usize) {
    let server = Server::start(&["--head-timeout", "3s"]);
    let mut crowd = Crowd::new();
    for _ in 0..100 {
        crowd.connect(server.address(), "topics=t");
    }
    crowd.everybody_is_greeted(PATIENCE);
    let mut http = server.http();
    let mut slow: Vec<_> = (0..count).map(|_| Loris::connect(server.address())).collect();
    let (mut lasted, mut published, mut slowest) = (Vec::new(), 0, Duration::ZERO);
    let began = Instant::now();
    while !slow.is_empty() {
        assert!(began.elapsed() < HEAD_TIMEOUT + PATIENCE, "{} connections are still open", slow.len());
        published += 1;
        let data = format!("event {published}");
        http.publish("t", &data);
        slowest = slowest.max(crowd.everybody_gets(PATIENCE, &data, |event| event.data == data));
        slow.retain_mut(|loris| loris.drip().map(|time| lasted.push(time)).is_none());
    }
    assert_eq!(crowd.open(), 100);
    assert!(published > 1, "the streams went on meanwhile");
    let (first, last) = (lasted.iter().min().unwrap(), lasted.iter().max().unwrap());
    assert!(*first >= HEAD_TIMEOUT, "one was closed after {first:?}");
    assert!(*last < HEAD_TIMEOUT + SLACK, "one was closed after {last:?}");
    let metrics = http.get("/metrics/json").json();
    assert_eq!(metrics["connections"]["rejected"]["head_timeout"], count);
    assert_eq!(metrics["connections"]["current"], 101);
    eprintln!(
        "{count} slow connections lasted {first:?} to {last:?}; {published} events went to 100 streams meanwhile, the \
         slowest in {slowest:?}"
    );
}

#[test]
fn three_hundred_slow_heads_are_closed_in_time_while_streams_go_on() {
    streams_go_on_beside(300);
}

#[test]
#[ignore = "needs 20,000 open files; run scripts/test"]
fn ten_thousand_slow_heads_are_closed_in_time_while_streams_go_on() {
    raise_open_file_limit(10_500);
    streams_go_on_beside(10_000);
}

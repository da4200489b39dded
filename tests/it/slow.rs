//! Clients that are too slow, or do not read at all: what it costs them, and nobody else.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::process::{Crowd, End, Event, News, PATIENCE, Server, Stream, resident_bytes};

/// A connection whose kernel takes little that is not read.
fn narrow_socket(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).expect("the server accepts");
    socket.into()
}

/// A client that was greeted, and reads nothing any more.
fn stuck(server: &Server, query: &str) -> Stream {
    let mut stream = Stream::request(narrow_socket(server.address()), query, None);
    assert_eq!(stream.next().name, "system");
    stream
}

/// A payload of `bytes` that says which it is.
fn payload(number: usize, bytes: usize) -> String {
    format!("{number:010}{}", "x".repeat(bytes - 10))
}

fn number(event: &Event) -> usize {
    event.data[..10].parse().expect("it begins with its number")
}

/// The log's lines of clients that were cut off, as name and reason.
fn cut_off(server: &Server) -> Vec<(String, String)> {
    let lines = server.log.lines();
    let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).expect("the log is JSON"));
    let lines = lines.filter(|line| line["fields"]["message"] == "client cut off");
    let field = |line: &Value, name: &str| line["fields"][name].as_str().unwrap_or_default().to_owned();
    lines.map(|line| (field(&line, "name"), field(&line, "reason"))).collect()
}

#[test]
fn a_client_that_lags_is_cut_off_and_its_neighbours_get_everything() {
    let server = Server::start(&["--history", "100", "--send-buffer", "4KiB"]);
    let mut slow = stuck(&server, "topics=t&client_name=slow");
    let mut crowd = Crowd::new();
    for _ in 0..50 {
        crowd.connect(server.address(), "topics=t&client_name=quick");
    }
    crowd.everybody_is_greeted(PATIENCE);
    let mut http = server.http();
    let mut published = 0;
    // The neighbours read along: that they lag as well is not what is tested.
    while cut_off(&server).is_empty() {
        assert!(published < 2000, "nobody was cut off");
        let (first, mut left) = (published, 20 * crowd.open());
        let mut next = vec![first; crowd.open()];
        for _ in 0..20 {
            http.publish("t", &payload(published, 1000));
            published += 1;
        }
        let all = crowd.read(PATIENCE, |client, news| match news {
            News::Event(event) => {
                assert_eq!(number(&event), next[client], "client {client}");
                next[client] += 1;
                left -= 1;
                left == 0
            }
            News::End(end) => panic!("client {client} was cut off: {end:?}"),
        });
        assert!(all, "{left} events did not come");
    }
    assert_eq!(cut_off(&server), [("slow".to_owned(), "lagged".to_owned())]);
    server.wait_for_streams(50);

    // What it has not read is whole up to where it was cut, and it can come back with its last id.
    let (mut last_id, mut next) = (None, 0);
    while let Some(event) = slow.next_or_end() {
        assert_eq!(number(&event), next);
        (last_id, next) = (event.id, next + 1);
    }
    assert_ne!(slow.ended, Some(End::Orderly));
    let mut again = Stream::open(server.address(), "topics=t", last_id.as_deref());
    let gap = again.next();
    assert_eq!((gap.name.as_str(), &gap.json()["reason"]), ("gap", &"evicted".into()));
    let missed = gap.json()["missed"].as_u64().expect("it is counted") as usize;
    assert_eq!(number(&again.next()), next + missed);
    eprintln!("{published} events were published, the slow one had {next} and missed {missed}");
}

#[test]
fn a_client_that_takes_no_byte_for_the_write_timeout_is_cut_off_as_stalled() {
    let server = Server::start(&["--history", "10000", "--write-timeout", "1s", "--send-buffer", "4KiB"]);
    let slow: Vec<_> = (0..3).map(|_| stuck(&server, "topics=t&client_name=slow")).collect();
    let mut quick = server.stream("topics=t&client_name=quick");
    let mut http = server.http();
    let began = Instant::now();
    for published in 0..100 {
        http.publish("t", &payload(published, 10_000));
        assert_eq!(number(&quick.next()), published);
    }
    let filled = began.elapsed();
    server.log.wait_for_nth(3, "client cut off");
    let cut = began.elapsed();
    // A second, the wheel's second, and the second that the wheel may be late.
    assert!(cut >= Duration::from_millis(900) && cut < filled + Duration::from_secs(4), "cut off after {cut:?}");
    server.wait_for_streams(1);
    assert_eq!(cut_off(&server), vec![("slow".to_owned(), "stalled".to_owned()); 3]);
    drop(slow);
    http.publish("t", &payload(100, 10_000));
    assert_eq!(number(&quick.next()), 100);
    eprintln!("stalled clients were cut off after {cut:?}");
}

#[test]
fn a_client_that_reads_slowly_but_reads_is_not_stalled() {
    let server = Server::start(&["--history", "10000", "--write-timeout", "1s", "--send-buffer", "4KiB"]);
    let mut slow = stuck(&server, "topics=t");
    let mut http = server.http();
    for published in 0..30 {
        http.publish("t", &payload(published, 10_000));
    }
    let (began, mut next) = (Instant::now(), 0);
    // 300 kB in four seconds.
    while next < 30 {
        let step = Instant::now();
        let mut left = 7_500;
        while left > 0 && slow.ended.is_none() && step.elapsed() < PATIENCE {
            left -= slow.read(left, PATIENCE).min(left);
            for event in slow.take() {
                assert_eq!(number(&event), next);
                next += 1;
            }
            if next == 30 {
                break;
            }
        }
        assert_eq!(slow.ended, None, "after {next} events and {:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(began.elapsed() > Duration::from_secs(3));
    assert_eq!(cut_off(&server), []);
}

#[test]
fn stuck_clients_cost_no_memory_but_the_kernels() {
    const STUCK: usize = 100;
    const EVENT: usize = 10_000;
    const EVENTS: usize = 2000;
    let server = Server::start(&["--history", "200", "--firehose-history", "200", "--write-timeout", "10m"]);
    let mut http = server.http();
    // First the ring is filled, and every allocation that publishing takes has been made once.
    for published in 0..EVENTS {
        http.publish("t", &payload(published, EVENT));
    }
    // They skip: one that is cut off costs nothing, that would be no test.
    let clients: Vec<_> = (0..STUCK).map(|_| stuck(&server, "topics=t&on_lag=skip")).collect();
    let before = resident_bytes(server.pid());
    for published in 0..EVENTS {
        http.publish("t", &payload(published, EVENT));
    }
    let grown = resident_bytes(server.pid()).saturating_sub(before);
    server.wait_for_streams(STUCK as u64);
    // 20 MB went out to each of 100 clients. Each may hold the one event that it was in the middle of, and a gap that it
    // is to be told of; what else was written to it is in the kernel's send buffer. And 2 MiB for the allocator's mood.
    let bound = (STUCK * (EVENT + 2000) + (2 << 20)) as u64;
    eprintln!(
        "{STUCK} stuck clients, {} MB published: {} KiB more, at most {}",
        EVENTS * EVENT / 1_000_000,
        grown >> 10,
        bound >> 10
    );
    assert!(grown <= bound, "{grown} bytes more, and {bound} are allowed");
    drop(clients);
}

#[test]
fn a_client_that_skips_is_told_what_it_missed_and_goes_on() {
    let server = Server::start(&["--history", "50", "--send-buffer", "4KiB"]);
    let mut slow = stuck(&server, "topics=t&on_lag=skip");
    let mut http = server.http();
    let count = 1000;
    for published in 0..count {
        http.publish("t", &payload(published, 1000));
    }
    let (mut next, mut gaps, mut missed) = (0, 0, 0);
    while next < count {
        let event = slow.next();
        if event.name == "gap" {
            let gap = event.json();
            assert_eq!(gap["reason"], "lagged");
            gaps += 1;
            missed += gap["missed"].as_u64().expect("it is counted");
            next += gap["missed"].as_u64().unwrap() as usize;
        } else {
            assert_eq!(number(&event), next);
            next += 1;
        }
    }
    assert!(gaps > 0 && missed >= 500, "{gaps} gaps, {missed} missed");
    http.publish("t", &payload(count, 1000));
    assert_eq!(number(&slow.next()), count);
    assert_eq!(cut_off(&server), []);
}

//! Clients that read slowly or not at all, and rings that evict events before they are read: first with the library's
//! server, then with the program.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use fanline::hub::HubOptions;
use fanline::server::StreamOptions;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::process::{self, Crowd, End, TIMEOUT, Update, resident_bytes};
use crate::support::{Block, Client, Event, Server, Stream, event, request, run, until};

const HISTORY: u64 = 32;

/// A server with small send buffers and small rings.
fn tiny() -> Server {
    let options = HubOptions { history: HISTORY as usize, firehose_history: HISTORY as usize, ..Server::hub_options() };
    Server::with(options, |builder| builder.send_buffer(4096))
}

async fn subscribe_without_reading(server: &Server, target: &str) -> Client {
    let mut client = Client::connect_narrow(server.address).await;
    client.send(request("GET", target, &[], b"")).await;
    until(|| server.stats().streams == 1).await;
    client
}

/// Publishes far more than kernel and ring can hold, and returns the last sequence.
async fn flood(server: &Server, topic: &str) -> u64 {
    let payload = format!("\"{}\"", "x".repeat(4000));
    let first = server.hub.position().sequence;
    for _ in 0..HISTORY * 10 {
        server.hub.publish(event(topic, &payload)).await.unwrap();
    }
    first + HISTORY * 10
}

fn sequence(event: &Event) -> u64 {
    event.id.as_ref().unwrap()["7-".len()..].parse().unwrap()
}

#[test]
fn lagging_reader_is_cut_off_and_resumes_with_an_exact_gap() {
    run(async {
        for target in ["/stream?topics=t", "/stream", "/stream?topics=t&on_lag=close"] {
            let server = tiny();
            let client = subscribe_without_reading(&server, target).await;
            let last = flood(&server, "t").await;
            until(|| server.stats().streams == 0).await;
            assert_eq!(server.stats().cut_off_lagged, 1);
            // Buffered events still arrive, in order, followed by the end.
            let mut stream = client.into_stream().await;
            stream.hello().await;
            let mut seen = 0;
            while let Some(Block::Event(event)) = stream.try_block().await {
                seen += 1;
                assert_eq!(sequence(&event), seen, "events before the cut are consecutive");
            }
            assert!(seen < last - HISTORY);
            let separator = if target.contains('?') { '&' } else { '?' };
            let mut again = server.follow(&format!("{target}{separator}last_event_id=7-{seen}")).await;
            let (_, gap) = again.gap().await;
            assert_eq!((&gap["reason"], &gap["missed"]), (&"evicted".into(), &(last - HISTORY - seen).into()));
            for n in last - HISTORY + 1..=last {
                again.data_at(n).await;
            }
        }
    });
}

/// It is behind none of them, although few of them wake it.
#[test]
fn reader_of_a_pattern_sleeps_through_other_events() {
    run(async {
        let server = Server::start();
        let mut stream = server.follow("/stream?topics=orders.*").await;
        server.publish("log.1", 0..1000).await;
        assert_eq!(server.get("/clients").await.ok()["clients"][0]["queue_size"], 0);
        server.publish("orders.1", [1]).await;
        stream.data_at(1001).await;
    });
}

#[test]
fn skipping_reader_gets_exact_gaps_and_continues() {
    run(async {
        for target in ["/stream?topics=t&on_lag=skip", "/stream?on_lag=skip"] {
            let server = tiny();
            let client = subscribe_without_reading(&server, target).await;
            let last = flood(&server, "t").await;
            assert_eq!(server.stats().streams, 1);
            let mut stream = client.into_stream().await;
            stream.hello().await;
            let (seen, gaps) = assert_whole(&mut stream, last).await;
            assert!(gaps >= 1, "{gaps}");
            assert_eq!(seen, last);
            assert_eq!(server.stats().gaps, gaps);
            assert_eq!(server.stats().cut_off_lagged, 0);
            server.publish_marker("t").await;
            stream.marker().await;
        }
    });
}

/// Reads up to the event `last`. Checks that every event arrives or is counted in a gap. Returns the last sequence and
/// the number of gaps.
async fn assert_whole(stream: &mut Stream, last: u64) -> (u64, u64) {
    let (mut seen, mut gaps) = (0, 0);
    while seen < last {
        let event = stream.event().await;
        if event.event != "gap" {
            seen += 1;
            assert_eq!(sequence(&event), seen, "after {gaps} gaps");
            continue;
        }
        gaps += 1;
        let data = event.json();
        let missed = data["missed"].as_u64().expect("the count is known");
        assert!(missed > 0);
        assert_eq!(data["reason"], "lagged");
        assert_eq!(data["from"], format!("7-{seen}"));
        seen += missed;
        assert_eq!(data["to"], format!("7-{seen}"));
        assert_eq!(sequence(&event), seen, "the id of a gap is the position after it");
    }
    (seen, gaps)
}

#[test]
fn lagging_reader_does_not_affect_others() {
    run(async {
        let server = tiny();
        let stuck = subscribe_without_reading(&server, "/stream?topics=t").await;
        let mut reader = server.follow("/stream?topics=t").await;
        for n in 1..=HISTORY * 10 {
            server.hub.publish(event("t", &format!("\"{}\"", "x".repeat(4000)))).await.unwrap();
            reader.data_at(n).await;
        }
        until(|| server.stats().cut_off_lagged == 1).await;
        drop(stuck);
    });
}

#[test]
fn busy_topic_does_not_make_readers_of_a_quiet_topic_lag() {
    run(async {
        let server = tiny();
        let client = subscribe_without_reading(&server, "/stream?topics=quiet").await;
        let last = flood(&server, "busy").await;
        server.publish("quiet", [1]).await;
        let mut stream = client.into_stream().await;
        stream.hello().await;
        assert_eq!(stream.data_at(last + 1).await, "{\"n\":1}");
    });
}

/// Most events are read from the topic's ring. After each partial write the cursor of the firehose has to advance
/// although the pattern matched nothing: otherwise a ring of 1,000 overtakes a reader that is 120 events behind.
#[test]
fn reader_of_topic_and_pattern_that_keeps_up_never_lags() {
    const BEHIND: u64 = 120;
    run(async {
        for on_lag in ["close", "skip"] {
            let options = HubOptions { history: 2000, firehose_history: 1000, ..Server::hub_options() };
            let server = Server::with(options, |builder| builder.send_buffer(4096));
            let target = format!("/stream?topics=log,zz:*&on_lag={on_lag}");
            let mut stream = subscribe_without_reading(&server, &target).await.into_stream().await;
            stream.hello().await;
            let payload = format!("\"{}\"", "x".repeat(1000));
            let topic = |sequence: u64| if sequence.is_multiple_of(2000) { "zz:1" } else { "log" };
            for published in 1..=4000 {
                server.hub.publish(event(topic(published), &payload)).await.unwrap();
                if published > BEHIND {
                    stream.data_at(published - BEHIND).await;
                }
            }
            // The server may count a write after the client has received it.
            let queued = async || server.get("/clients").await.ok()["clients"][0]["queue_size"].as_u64().unwrap();
            while !(1..=BEHIND).contains(&queued().await) {}
            assert_eq!((server.stats().gaps, server.stats().cut_off_lagged), (0, 0), "on_lag={on_lag}");
        }
    });
}

/// With the default history, and the default `on_lag`, which would end the stream.
#[test]
fn reader_that_stalls_for_ten_thousand_events_gets_them_all() {
    const EVENTS: u64 = 10_000;
    run(async {
        for target in ["/stream?topics=t", "/stream?format=envelope"] {
            let server = Server::with(Server::hub_options(), |builder| builder.send_buffer(4096));
            let mut client = server.connect().await;
            client.send(request("GET", target, &[], b"")).await;
            until(|| server.stats().streams == 1).await;
            let payload = format!("\"{}\"", "x".repeat(500));
            for _ in 0..EVENTS / 100 {
                server.hub.publish_all(vec![event("t", &payload); 100]).await.unwrap();
            }
            let mut stream = client.into_stream().await;
            stream.hello().await;
            for sequence in 1..=EVENTS {
                stream.data_at(sequence).await;
            }
            assert_eq!((server.stats().gaps, server.stats().cut_off_lagged), (0, 0), "{target}");
        }
    });
}

/// The server has written everything, and only the kernel knows that the client reads nothing.
#[test]
fn blocked_reader_is_stalled_even_if_the_kernel_buffers_everything() {
    run(async {
        let write_timeout = Duration::from_secs(1);
        let server = Server::with(Server::hub_options(), |builder| {
            builder.streams(StreamOptions { write_timeout, ..StreamOptions::default() })
        });
        let client = subscribe_without_reading(&server, "/stream?topics=t").await;
        let mut reader = server.follow("/stream?topics=t").await;
        let began = Instant::now();
        // More than the client's receive buffer holds, and less than the server's send buffer.
        for n in 1..=5 {
            server.hub.publish(event("t", &format!("\"{}\"", "x".repeat(4000)))).await.unwrap();
            reader.data_at(n).await;
        }
        until(|| server.stats().streams == 1).await;
        assert!(began.elapsed() >= write_timeout, "cut off after {:?}", began.elapsed());
        let stats = server.stats();
        assert_eq!((stats.cut_off_stalled, stats.cut_off_lagged, stats.closed_by_peer), (1, 0, 0));
        assert_eq!(stats.delivered, 10, "everything was written to both clients");
        // A client that has read everything is not stalled, however long it is idle.
        server.publish("t", [6]).await;
        reader.data_at(6).await;
        drop(client);
    });
}

/// A connection with a small receive buffer.
fn narrow_socket(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).expect("the server accepts");
    socket.into()
}

/// A client that has read its hello, and reads nothing more.
fn stuck(server: &process::Server, query: &str) -> process::Stream {
    let mut stream = process::Stream::request(narrow_socket(server.address()), query, None);
    assert_eq!(stream.next().name, "system");
    stream
}

/// A payload of `bytes` that begins with its number.
fn payload(number: usize, bytes: usize) -> String {
    format!("{number:010}{}", "x".repeat(bytes - 10))
}

fn number(event: &process::Event) -> usize {
    event.data[..10].parse().expect("a payload begins with its number")
}

/// The names and reasons of clients that were cut off, from the log.
fn cut_off(server: &process::Server) -> Vec<(String, String)> {
    let lines = server.log.lines();
    let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).expect("the log is JSON"));
    let lines = lines.filter(|line| line["fields"]["message"] == "client cut off");
    let field = |line: &Value, name: &str| line["fields"][name].as_str().unwrap_or_default().to_owned();
    lines.map(|line| (field(&line, "name"), field(&line, "reason"))).collect()
}

#[test]
fn lagging_client_is_cut_off_while_others_get_every_event() {
    let server = process::Server::start(&["--history", "100", "--send-buffer", "4KiB"]);
    let mut slow = stuck(&server, "topics=t&client_name=slow");
    let mut crowd = Crowd::new();
    for _ in 0..50 {
        crowd.connect(server.address(), "topics=t&client_name=quick");
    }
    crowd.wait_for_hellos(TIMEOUT);
    let mut http = server.http();
    let mut published = 0;
    // The other clients read after each batch, so that they do not lag.
    while cut_off(&server).is_empty() {
        assert!(published < 2000, "no client was cut off");
        let (first, mut left) = (published, 20 * crowd.open());
        let mut next = vec![first; crowd.open()];
        for _ in 0..20 {
            http.publish("t", &payload(published, 1000));
            published += 1;
        }
        let all = crowd.read(TIMEOUT, |client, update| match update {
            Update::Event(event) => {
                assert_eq!(number(&event), next[client], "client {client}");
                next[client] += 1;
                left -= 1;
                left == 0
            }
            Update::End(end) => panic!("client {client} was cut off: {end:?}"),
        });
        assert!(all, "{left} events did not arrive");
    }
    assert_eq!(cut_off(&server), [("slow".to_owned(), "lagged".to_owned())]);
    server.wait_for_streams(50);

    // The slow client has received whole events up to the cut, and can resume after its last one.
    let (mut last_id, mut next) = (None, 0);
    while let Some(event) = slow.next_or_end() {
        assert_eq!(number(&event), next);
        (last_id, next) = (event.id, next + 1);
    }
    assert_ne!(slow.ended, Some(End::Orderly));
    let mut again = process::Stream::open(server.address(), "topics=t", last_id.as_deref());
    let gap = again.next();
    assert_eq!((gap.name.as_str(), &gap.json()["reason"]), ("gap", &"evicted".into()));
    let missed = gap.json()["missed"].as_u64().expect("the gap has a count") as usize;
    assert_eq!(number(&again.next()), next + missed);
    eprintln!("{published} events were published, the slow one had {next} and missed {missed}");
}

#[test]
fn client_that_reads_nothing_for_the_write_timeout_is_cut_off_as_stalled() {
    let server = process::Server::start(&["--history", "10000", "--write-timeout", "1s", "--send-buffer", "4KiB"]);
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
    // A second, the second of the timer wheel, and a second of delay.
    assert!(cut >= Duration::from_millis(900) && cut < filled + Duration::from_secs(4), "cut off after {cut:?}");
    server.wait_for_streams(1);
    assert_eq!(cut_off(&server), vec![("slow".to_owned(), "stalled".to_owned()); 3]);
    drop(slow);
    http.publish("t", &payload(100, 10_000));
    assert_eq!(number(&quick.next()), 100);
    eprintln!("stalled clients were cut off after {cut:?}");
}

/// A server with a write timeout of 2 s, and a client that has not read 30 events of 10 kB.
fn behind_by_300_kb() -> (process::Server, process::Stream) {
    let server = process::Server::start(&["--history", "10000", "--write-timeout", "2s", "--send-buffer", "4KiB"]);
    let slow = stuck(&server, "topics=t");
    let mut http = server.http();
    for published in 0..30 {
        http.publish("t", &payload(published, 10_000));
    }
    (server, slow)
}

#[test]
fn client_that_reads_slowly_is_not_stalled() {
    let (server, mut slow) = behind_by_300_kb();
    let (began, mut next) = (Instant::now(), 0);
    // 300 kB in four seconds.
    while next < 30 {
        let step = Instant::now();
        let mut left = 7_500;
        while left > 0 && slow.ended.is_none() && step.elapsed() < TIMEOUT {
            left -= slow.read(left, TIMEOUT).min(left);
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

/// `TCP_USER_TIMEOUT` is four write timeouts. It also counts while the client reads, if the window is too small for a packet.
#[test]
#[ignore = "takes 15 s; run scripts/test"]
fn client_that_reads_slowly_outlasts_the_timeout_of_the_kernel() {
    let (server, mut slow) = behind_by_300_kb();
    let (began, mut next) = (Instant::now(), 0);
    let mut check = |slow: &mut process::Stream| {
        for event in slow.take() {
            assert_eq!(number(&event), next);
            next += 1;
        }
        assert_eq!(slow.ended, None, "after {next} events and {:?}", began.elapsed());
        next
    };
    // 75 kB in 15 seconds.
    for step in 1..=150 {
        slow.read(500, TIMEOUT);
        check(&mut slow);
        std::thread::sleep((began + step * Duration::from_millis(100)).saturating_duration_since(Instant::now()));
    }
    while check(&mut slow) < 30 {
        slow.read(10_000, TIMEOUT);
    }
    assert_eq!(cut_off(&server), []);
}

#[test]
fn blocked_clients_use_only_kernel_memory() {
    const STUCK: usize = 100;
    const EVENT: usize = 10_000;
    const EVENTS: usize = 2000;
    let server = process::Server::start(&["--history", "200", "--firehose-history", "200", "--write-timeout", "10m"]);
    let mut http = server.http();
    // First the ring is filled, and every allocation of publishing is made once.
    for published in 0..EVENTS {
        http.publish("t", &payload(published, EVENT));
    }
    // They skip, because a client that is cut off uses no memory.
    let clients: Vec<_> = (0..STUCK).map(|_| stuck(&server, "topics=t&on_lag=skip")).collect();
    let before = resident_bytes(server.pid());
    for published in 0..EVENTS {
        http.publish("t", &payload(published, EVENT));
    }
    let grown = resident_bytes(server.pid()).saturating_sub(before);
    server.wait_for_streams(STUCK as u64);
    // 20 MB were sent to each of 100 clients. Each may hold one partly written event and one gap; the rest is in the
    // kernel's send buffer. The allocator gets 2 MiB.
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
fn skipping_client_gets_missed_counts_and_continues() {
    let server = process::Server::start(&["--history", "50", "--send-buffer", "4KiB"]);
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
            missed += gap["missed"].as_u64().expect("the gap has a count");
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

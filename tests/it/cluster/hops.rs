//! Clients that read on one server and resume on another one.

use rustix::process::Signal;

use super::{Redis, epoch, node, sequence, wait_until_ready};
use crate::process::{Event, Server, Stream};

fn assert_gap(event: &Event, reason: &str) {
    assert_eq!((event.name.as_str(), &event.json()["reason"]), ("gap", &reason.into()), "{event:?}");
}

/// Sends the request to a server that stands still, and lets it go on.
fn resume_on_stopped(server: &Server, query: &str, last_id: &str) -> Stream {
    let socket = std::net::TcpStream::connect(server.address()).unwrap();
    let stream = Stream::request(socket, query, Some(last_id));
    server.signal(Signal::CONT);
    stream
}

/// B stands still while A publishes. The client has read all of it when it comes to B, and is there before B has read
/// anything from Redis.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn an_id_that_redis_has_is_waited_for_on_a_server_that_is_behind() {
    let redis = Redis::start();
    let (a, b) = (node(&redis, &[]), node(&redis, &[]));
    for round in 0..20 {
        b.signal(Signal::STOP);
        let last = (0..20).map(|number| a.publish("t", &format!("{round} {number}"))).next_back().unwrap();
        let mut stream = resume_on_stopped(&b, "topics=t", &last);
        let hello = stream.next();
        assert_eq!((&hello.json()["position"], hello.id.as_ref()), (&last.as_str().into(), Some(&last)), "{hello:?}");
        let next = a.publish("t", "next");
        assert_eq!(stream.next().id, Some(next), "no gap, and nothing twice");
        wait_until_ready(&b);
    }
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn an_id_that_redis_never_gave_is_unknown() {
    let redis = Redis::start();
    let server = node(&redis, &[]);
    let id = server.publish("t", "x");
    let beyond = format!("{}-{}", epoch(&id), sequence(&id) + 1);
    let later_epoch = format!("{}-1", epoch(&id) + 1);
    for unknown in [beyond, later_epoch] {
        let mut stream = Stream::open(server.address(), "topics=t", Some(&unknown));
        assert_gap(&stream.next(), "unknown_id");
        assert_eq!(stream.next().data, "x");
    }
    let mut stream = Stream::open(server.address(), "topics=t", Some(&format!("{}-1", epoch(&id) - 1)));
    assert_gap(&stream.next(), "epoch");
}

/// B has not noticed yet that Redis was flushed when a client of the new epoch comes.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn an_epoch_that_the_server_does_not_know_yet_is_waited_for() {
    let redis = Redis::start();
    let (a, b) = (node(&redis, &[]), node(&redis, &[]));
    let old = a.publish("t", "old");
    b.signal(Signal::STOP);
    let mut reader = a.stream("topics=t");
    redis.cli(&["FLUSHALL"]);
    assert_gap(&reader.next(), "epoch");
    wait_until_ready(&a);
    let new = a.publish("t", "new");
    assert!(epoch(&new) > epoch(&old), "{new} {old}");
    let mut stream = resume_on_stopped(&b, "topics=t", &new);
    assert_eq!(stream.next().json()["position"], new.as_str());
    let next = a.publish("t", "next");
    assert_eq!(stream.next().id, Some(next));
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn clients_that_hop_between_two_servers_get_every_event_once_and_no_gap() {
    const HOPS: usize = 2000;
    let redis = Redis::start();
    let servers = [node(&redis, &[]), node(&redis, &[])];
    let addresses = [servers[0].address(), servers[1].address()];
    std::thread::scope(|scope| {
        for reader in 0..4 {
            scope.spawn(move || {
                let mut publisher = crate::process::Http::connect(addresses[reader % 2]);
                let mut last = publisher.publish("t", "first");
                for hop in 0..HOPS / 4 {
                    let own = publisher.publish("t", &format!("{reader} {hop}"));
                    let mut stream = Stream::open(addresses[(reader + hop) % 2], "topics=t", Some(&last));
                    while last != own {
                        let event = stream.next();
                        let expected = format!("{}-{}", epoch(&last), sequence(&last) + 1);
                        assert_eq!(event.id.as_ref(), Some(&expected), "hop {hop} of {reader}: {event:?}");
                        last = expected;
                    }
                }
            });
        }
    });
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn earliest_names_the_position_before_the_oldest_event_that_redis_has() {
    let redis = Redis::start();
    let server = node(&redis, &["--history", "64", "--firehose-history", "64"]);
    let ids: Vec<String> = (0..200).map(|number| server.publish("t", &number.to_string())).collect();
    redis.cli(&["XTRIM", "{fanline}:events", "MINID", &ids[40]]);
    let socket = std::net::TcpStream::connect(server.address()).unwrap();
    let mut stream = Stream::request(socket, "topics=t&last_event_id=earliest", None);
    let hello = stream.next();
    assert_eq!(hello.json()["position"], ids[39].as_str(), "{hello:?}");
    assert_eq!(hello.id.as_ref(), Some(&ids[39]));
    for (number, id) in (40..).zip(&ids[40..]) {
        let event = stream.next();
        assert_eq!((event.data, event.id.as_ref()), (number.to_string(), Some(id)));
    }
}

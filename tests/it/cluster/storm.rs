//! Three servers and 3,000 clients, undisturbed and while servers and Redis are paused and killed.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::fleet::Report;
use super::{Fleet, Readers, Redis, publish_on_all};
use crate::process::{TIMEOUT, reserve_open_files};

const CLIENTS: usize = 3000;

/// For servers that should not lose a Redis that a busy machine delays.
const PATIENT: [&str; 2] = ["--redis-timeout", "30s"];

/// Starts three servers with [`CLIENTS`] clients, which need open files.
fn start(redis: &Redis, args: &[&str]) -> (Fleet, Readers, impl Drop + use<>) {
    let files = reserve_open_files(CLIENTS as u64 + 500);
    let fleet = Fleet::start(redis, args);
    let readers = Readers::connect(&fleet.addresses(), CLIENTS);
    (fleet, readers, files)
}

/// Publishes at least `events` on all servers, and checks that the readers receive everything.
fn publish_and_check(fleet: &Fleet, readers: &mut Readers, events: usize) -> Report {
    let addresses = fleet.addresses();
    let publishers = publish_on_all(&addresses, Duration::from_millis(10));
    assert!(readers.read_until(&addresses, TIMEOUT, |_| publishers.acknowledged() >= events));
    let report = publishers.stop();
    readers.check(&addresses, &report);
    report
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn clients_of_three_servers_get_their_events_once_in_order() {
    let redis = Redis::start();
    let (fleet, mut readers, _files) = start(&redis, &PATIENT);
    let report = publish_and_check(&fleet, &mut readers, 300);
    assert_eq!(report.rejected.len(), 0, "{:?}", report.rejected);
    assert_eq!(readers.ends, 0, "no client is cut off");
    assert!(readers.received() > 100_000, "{} received", readers.received());
}

/// Redis is paused for five seconds, killed, and restarts from its disk. A server is killed, and its clients and
/// publishers move to others. No acknowledged event is lost, none is duplicated or out of order, and every other
/// publish was reported as failed.
#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn nothing_is_lost_or_duplicated_while_redis_and_a_server_fail() {
    let mut redis = Redis::start();
    let (mut fleet, mut readers, _files) = start(&redis, &["--redis-lossless"]);
    let addresses = fleet.addresses();
    let publishers = publish_on_all(&addresses, Duration::from_millis(60));
    assert!(readers.read_until(&addresses, TIMEOUT, |_| publishers.acknowledged() >= 50));

    redis.signal(Signal::STOP);
    readers.read_for(&addresses, Duration::from_secs(5));
    redis.signal(Signal::CONT);
    readers.read_for(&addresses, Duration::from_secs(2));

    redis.kill();
    readers.read_for(&addresses, Duration::from_millis(500));
    thread::scope(|scope| {
        scope.spawn(|| redis.restart());
        readers.read_for(&addresses, Duration::from_secs(2));
    });

    fleet.nodes[2] = None;
    let left = fleet.addresses();
    readers.read_for(&left, Duration::from_secs(2));
    let report = publishers.stop();
    readers.check(&left, &report);
    assert_eq!(readers.ends, (CLIENTS / 3) as u64, "the clients of the killed server reconnect once");
    assert!(report.rejected.contains_key(&503), "publishes fail while Redis is away: {:?}", report.rejected);
    assert!(report.rejected.keys().all(|status| [0, 503].contains(status)), "{:?}", report.rejected);
}

#[test]
#[ignore = "needs redis-server; run scripts/test"]
fn emptied_redis_sends_every_client_a_gap_and_streams_continue() {
    let redis = Redis::start();
    let (fleet, mut readers, _files) = start(&redis, &PATIENT);
    publish_and_check(&fleet, &mut readers, 100);

    redis.cli(&["FLUSHALL"]);
    readers.wait_for_gaps(&fleet.addresses(), CLIENTS);
    let mut notified: Vec<usize> = readers.gaps.iter().map(|(number, _)| *number).collect();
    notified.sort_unstable();
    assert_eq!(notified, (0..readers.count()).collect::<Vec<_>>(), "every reader gets one gap");
    assert!(readers.gaps.iter().all(|(_, gap)| gap.json()["reason"] == "epoch" && gap.sequence() == 0));
    assert_eq!(readers.ends, 0, "no stream ends");

    readers.reset();
    publish_and_check(&fleet, &mut readers, 100);
}

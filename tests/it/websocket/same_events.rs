//! SSE and WebSocket clients on the same topics receive the same events in the same order, through cuts, resumes and changes
//! of subscriptions. Every delivery is checked against the published log.

mod log;
mod position;
mod reader;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fanline::hub::HubOptions;
use log::Log;
use reader::{Reader, Totals};

use crate::process::{Random, reserve_open_files};
use crate::support::{Server, until};

/// The most events of one request.
const BATCH: u64 = 24;

/// Connects `clients` over each transport, and publishes while they read, disconnect, resume and change their topics.
fn check(clients: usize, events: u64, limit: Duration) {
    let options = HubOptions { history: 100_000, firehose_history: 100_000, ..Server::hub_options() };
    let server = Server::with(options, |builder| builder);
    let log = Arc::new(Log::new(events));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let test = async {
        let progress: Arc<Vec<AtomicU64>> = Arc::new((0..2 * clients).map(|_| AtomicU64::new(0)).collect());
        let readers: Vec<_> = (0..2 * clients)
            .map(|number| Reader::new(number, server.address, log.clone(), progress.clone()))
            .map(|reader| tokio::spawn(reader.read_to_the_end()))
            .collect();
        until(|| server.stats().streams >= clients as u64).await;
        publish(&server, &log, &progress).await;
        let mut totals = Totals::default();
        for reader in readers {
            totals.add(&reader.await.expect("a reader found an error"));
        }
        totals
    };
    let totals = runtime.block_on(async { tokio::time::timeout(limit, test).await.expect("a client waits in vain") });
    eprintln!("{clients} SSE and {clients} WebSocket clients, {events} events: {totals:?}");
    assert!(totals.resumes > clients && totals.changes > clients && totals.replays > 0, "{totals:?}");
}

/// Publishes the log. Half of the clients keep up, so that events meet live, resuming and changing readers.
async fn publish(server: &Server, log: &Log, progress: &[AtomicU64]) {
    let (mut random, mut published) = (Random::new(1), 0);
    while published < log.end() {
        let next = (published + 1 + random.below(BATCH)).min(log.end());
        server.hub.publish_all((published + 1..=next).map(|sequence| log.event(sequence)).collect()).await.unwrap();
        until(|| {
            let near = progress.iter().filter(|at| at.load(Ordering::Relaxed) + BATCH >= published);
            near.count() * 2 >= progress.len()
        })
        .await;
        published = next;
    }
}

#[test]
fn fifty_clients_of_each_transport_receive_the_published_log() {
    check(50, 600, Duration::from_secs(60));
}

#[test]
#[ignore = "needs 5,000 open files and a minute; run scripts/test"]
fn thousand_clients_of_each_transport_receive_the_published_log() {
    let _files = reserve_open_files(4500);
    check(1000, 600, Duration::from_secs(240));
}

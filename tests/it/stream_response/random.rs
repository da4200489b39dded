//! Readers that poll at random, leave at any byte, and come back, against everything that was published.

use std::collections::BTreeMap;

use fanline::hub::{Hub, HubOptions};
use proptest::prelude::*;

use super::bodies::follow;
use crate::support::{Block, Server, event, run};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Publishes this many events.
    Publish(u64),
    /// Reads up to this many blocks.
    Read(u64),
    /// Leaves and comes back with the last id.
    Resume,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![(1..40u64).prop_map(Step::Publish), (1..40u64).prop_map(Step::Read), Just(Step::Resume)]
}

/// What a reader has seen: the sequence up to which every event arrived or was reported missing.
#[derive(Default)]
struct Seen {
    last: u64,
    missed: u64,
}

impl Seen {
    /// Notes a block. Panics if an event is missing without a gap, or comes twice.
    fn note(&mut self, block: Block) {
        let Block::Event(event) = block else { return };
        let sequence = event.id.as_deref().and_then(|id| id.strip_prefix("7-")).map(|n| n.parse::<u64>().unwrap());
        match event.event.as_str() {
            "system" => assert_eq!(sequence, Some(self.last), "the hello has the id that the reader came with"),
            "gap" => {
                let gap = event.json();
                assert_eq!(gap["from"], format!("7-{}", self.last));
                let missed = gap["missed"].as_u64().expect("one topic has an exact count");
                self.last += missed;
                self.missed += missed;
                assert_eq!((sequence, &gap["to"]), (Some(self.last), &format!("7-{}", self.last).into()));
            }
            _ => {
                self.last += 1;
                assert_eq!(sequence, Some(self.last), "after {} missed events", self.missed);
                assert_eq!(event.json()["n"], self.last);
            }
        }
    }
}

async fn check(steps: Vec<Step>, on_lag: &str) {
    let hub = Hub::new(&HubOptions { history: 24, firehose_history: 24, ..Server::hub_options() });
    let (mut seen, mut published) = (Seen::default(), 0);
    let target = |seen: &Seen| format!("/?topics=t&on_lag={on_lag}&last_event_id=7-{}", seen.last);
    let mut stream = follow(&hub, &target(&seen)).await;
    for step in steps.into_iter().chain([Step::Read(u64::MAX)]) {
        match step {
            Step::Publish(count) => {
                for _ in 0..count {
                    published += 1;
                    hub.publish(event("t", &format!("{{\"n\":{published}}}"))).await.unwrap();
                }
            }
            Step::Read(mut blocks) => {
                while blocks > 0 && seen.last < published {
                    blocks -= 1;
                    match stream.try_block().await {
                        Some(block) => seen.note(block),
                        // It lagged.
                        None => stream = follow(&hub, &target(&seen)).await,
                    }
                }
            }
            // What the stream had buffered is lost, as in a network.
            Step::Resume => stream = follow(&hub, &target(&seen)).await,
        }
    }
    assert_eq!(seen.last, published);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_reader_misses_an_event_without_a_gap(steps in proptest::collection::vec(step(), 1..60), skips: bool) {
        run(check(steps, if skips { "skip" } else { "close" }));
    }
}

/// Several slow readers of an application over sockets, on several threads, while events are published.
#[test]
fn readers_of_a_busy_hub_get_every_event_or_a_gap() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        const EVENTS: u64 = 3000;
        let hub = Hub::new(&HubOptions { history: 64, firehose_history: 64, ..Server::hub_options() });
        let application = super::Application::start(hub.clone(), |_| Default::default()).await;
        let mut readers = BTreeMap::new();
        for n in 0..8u64 {
            let target = format!("/?topics=t&on_lag={}", if n % 2 == 0 { "skip" } else { "close" });
            let mut stream = application.follow(&target).await;
            let address = application.address;
            readers.insert(
                n,
                tokio::spawn(async move {
                    let mut seen = Seen::default();
                    while seen.last < EVENTS {
                        match stream.try_block().await {
                            Some(block) => seen.note(block),
                            None => {
                                let mut client = crate::support::Client::connect(address).await;
                                let target = format!("{target}&last_event_id=7-{}", seen.last);
                                client.send(crate::support::request("GET", &target, &[], b"")).await;
                                stream = client.into_stream().await;
                            }
                        }
                        if seen.last % (10 + n) == 0 {
                            tokio::task::yield_now().await;
                        }
                    }
                }),
            );
        }
        for n in 1..=EVENTS {
            hub.publish(event("t", &format!("{{\"n\":{n}}}"))).await.unwrap();
            if n % 50 == 0 {
                tokio::task::yield_now().await;
            }
        }
        for (n, reader) in readers {
            reader.await.unwrap_or_else(|error| panic!("reader {n}: {error}"));
        }
    });
}

//! Three servers with thousands of clients and publishers on each, and the log of publishes that the clients are
//! checked against.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Redis, node, sequence};
use crate::process::{Crowd, Event, Http, Server, TIMEOUT, Update};

pub struct Fleet {
    /// None for a killed server.
    pub nodes: Vec<Option<Server>>,
}

impl Fleet {
    pub fn start(redis: &Redis, args: &[&str]) -> Self {
        Self { nodes: (0..3).map(|_| Some(node(redis, args))).collect() }
    }

    /// The running servers.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().flatten().map(Server::address).collect()
    }
}

/// Topics `t:0` to `t:9`.
pub const TOPICS: u64 = 10;

/// The results of one publisher.
#[derive(Default)]
pub struct Report {
    /// The ids of acknowledged events, with topic and payload.
    pub acknowledged: BTreeMap<u64, String>,
    /// The statuses of failed publishes, or 0 for a broken connection.
    pub rejected: BTreeMap<u16, u64>,
}

/// Publishers, two on each server, until they are stopped.
pub struct Publishers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Report>>,
}

/// Starts two publishers on each server: one of single events, one of arrays.
pub fn publish_on_all(addresses: &[SocketAddr], pause: Duration) -> Publishers {
    let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let mut threads = Vec::new();
    for (number, &address) in addresses.iter().enumerate() {
        for batch in [1, 4] {
            let (stop, acknowledged, name) = (stop.clone(), acknowledged.clone(), format!("p{number}-{batch}"));
            threads.push(thread::spawn(move || publish(address, &name, batch, pause, &acknowledged, &stop)));
        }
    }
    Publishers { stop, acknowledged, threads }
}

impl Publishers {
    /// The number of acknowledged events.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Stops the publishers and merges their results.
    pub fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Report::default();
        for report in self.threads.into_iter().map(|thread| thread.join().expect("a publisher does not fail")) {
            for (sequence, payload) in report.acknowledged {
                assert!(all.acknowledged.insert(sequence, payload).is_none(), "{sequence} was assigned twice");
            }
            for (status, count) in report.rejected {
                *all.rejected.entry(status).or_default() += count;
            }
        }
        all
    }
}

fn publish(
    address: SocketAddr,
    name: &str,
    batch: u64,
    pause: Duration,
    acknowledged: &AtomicUsize,
    stop: &AtomicBool,
) -> Report {
    let mut report = Report::default();
    let mut http = None;
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let payloads: Vec<String> =
            (0..batch).map(|of| format!("t:{} {name} {}", (number + of) % TOPICS, number + of)).collect();
        number += batch;
        let events: Vec<_> = payloads
            .iter()
            .map(|payload| serde_json::json!({"topic": payload.split(' ').next(), "text": payload}))
            .collect();
        let body = serde_json::to_vec(&events).unwrap();
        match post(&mut http, address, &body) {
            Ok((200, first)) => {
                report.acknowledged.extend((first..).zip(payloads));
                acknowledged.fetch_add(batch as usize, Ordering::Relaxed);
            }
            Ok((status, _)) => *report.rejected.entry(status).or_default() += 1,
            // The server was killed, so the outcome is unknown.
            Err(_) => *report.rejected.entry(0).or_default() += 1,
        }
        thread::sleep(pause);
    }
    report
}

/// The status, and the first sequence of an acknowledged publish.
fn post(http: &mut Option<Http>, address: SocketAddr, body: &[u8]) -> io::Result<(u16, u64)> {
    if http.is_none() {
        *http = Some(Http::try_connect(address)?);
    }
    let answer = http.as_mut().expect("connected").try_post("/publish", "application/json", body);
    if answer.is_err() {
        *http = None;
    }
    let answer = answer?;
    let first = answer.json()["first_id"].as_str().map_or(0, sequence);
    Ok((answer.status, first))
}

/// Clients that reconnect to any server with their last event id.
pub struct Readers {
    crowd: Crowd,
    readers: Vec<Reader>,
    /// The reader of each connection.
    connections: HashMap<usize, usize>,
    /// The event of each sequence, as first received.
    log: BTreeMap<u64, String>,
    /// The number of gaps received by all readers.
    pub gaps: Vec<(usize, Event)>,
    pub ends: u64,
}

struct Reader {
    query: &'static str,
    last: String,
    received: Vec<u64>,
}

const QUERIES: [&str; 5] = ["", "topics=t:3", "topics=t:1,t:8", "topics=t:*", "topics=t:0,t:2,t:4"];

fn is_wanted(query: &str, topic: &str) -> bool {
    let filters = query.strip_prefix("topics=").unwrap_or("t:*");
    filters.split(',').any(|filter| filter == "t:*" || filter == topic)
}

impl Readers {
    /// Connects `count` clients, spread over the servers and the queries, and waits for their hellos.
    pub fn connect(addresses: &[SocketAddr], count: usize) -> Self {
        let mut crowd = Crowd::new();
        let mut readers = Vec::with_capacity(count);
        for number in 0..count {
            let query = QUERIES[number / addresses.len() % QUERIES.len()];
            assert_eq!(crowd.connect(addresses[number % addresses.len()], query), number);
            readers.push(Reader { query, last: String::new(), received: Vec::new() });
        }
        let connections = (0..count).map(|number| (number, number)).collect();
        let mut all = Self { crowd, readers, connections, log: BTreeMap::new(), gaps: Vec::new(), ends: 0 };
        all.read_until(addresses, TIMEOUT, |readers| readers.readers.iter().all(|reader| !reader.last.is_empty()));
        all
    }

    /// Reads for `time`. Clients that are cut off reconnect to one of the servers.
    pub fn read_for(&mut self, addresses: &[SocketAddr], time: Duration) {
        let deadline = Instant::now() + time;
        while let left = deadline.saturating_duration_since(Instant::now())
            && !left.is_zero()
        {
            self.read_some(addresses, left);
        }
    }

    pub fn read_until(
        &mut self,
        addresses: &[SocketAddr],
        timeout: Duration,
        is_enough: impl Fn(&Self) -> bool,
    ) -> bool {
        let deadline = Instant::now() + timeout;
        while !is_enough(self) {
            if Instant::now() > deadline {
                return false;
            }
            self.read_some(addresses, Duration::from_millis(20));
        }
        true
    }

    fn read_some(&mut self, addresses: &[SocketAddr], time: Duration) {
        let mut ended = Vec::new();
        let Self { crowd, readers, connections, log, gaps, .. } = self;
        crowd.read(time, |connection, update| {
            let number = connections[&connection];
            let reader = &mut readers[number];
            match update {
                Update::Event(event) if event.name == "gap" => {
                    reader.last = event.id.clone().expect("a gap has an id");
                    gaps.push((number, event));
                }
                Update::Event(event) => {
                    if let Some(id) = &event.id {
                        reader.last.clone_from(id);
                    }
                    if event.is_published() {
                        let sequence = event.sequence();
                        let known = log.entry(sequence).or_insert_with(|| event.data.clone());
                        assert_eq!(*known, event.data, "{sequence} is one event everywhere");
                        reader.received.push(sequence);
                    }
                }
                Update::End(_) => ended.push(number),
            }
            // Clients reconnect without delay.
            !ended.is_empty()
        });
        for number in ended {
            self.ends += 1;
            let reader = &self.readers[number];
            let last = Some(reader.last.as_str()).filter(|last| !last.is_empty());
            let connection = self.crowd.resume(addresses[number % addresses.len()], reader.query, last);
            self.connections.insert(connection, number);
        }
    }

    /// Reads until all readers have every acknowledged event. Checks that each received the events of its topics once
    /// and in the same order.
    pub fn check(&mut self, addresses: &[SocketAddr], report: &Report) {
        let newest = *report.acknowledged.keys().next_back().expect("something was published");
        let has_all = |readers: &Self| {
            let last_of = |query: &str| {
                let wanted = report.acknowledged.iter().rev();
                wanted.filter(|(_, payload)| is_wanted(query, topic(payload))).map(|(&sequence, _)| sequence).next()
            };
            let last: HashMap<&str, Option<u64>> = QUERIES.iter().map(|&query| (query, last_of(query))).collect();
            readers.readers.iter().all(|reader| reader.received.last().copied() >= last[reader.query])
        };
        let is_whole = self.read_until(addresses, TIMEOUT, has_all);
        assert_eq!(self.gaps, [], "a reader received a gap");
        // An unacknowledged event in the stream reaches either all of its readers or none.
        let log: Vec<u64> = self.log.keys().copied().collect();
        assert_eq!(log, (1..=*log.last().unwrap()).collect::<Vec<_>>(), "sequences are consecutive");
        assert!(newest <= *log.last().unwrap());
        for (sequence, payload) in &report.acknowledged {
            assert_eq!(self.log.get(sequence), Some(payload), "{sequence} was acknowledged");
        }
        let mut payloads: Vec<&String> = self.log.values().collect();
        payloads.sort_unstable();
        assert!(payloads.windows(2).all(|pair| pair[0] != pair[1]), "an event was published twice");
        for (number, reader) in self.readers.iter().enumerate() {
            let expected: Vec<u64> = self
                .log
                .iter()
                .filter(|(_, payload)| is_wanted(reader.query, topic(payload)))
                .map(|(&s, _)| s)
                .collect();
            // Events published after the last acknowledged one may still be on their way.
            let both = reader.received.len().min(expected.len());
            assert_eq!(reader.received[..both], expected[..both], "reader {number} of {:?}", reader.query);
            assert!(reader.received.len() <= expected.len());
        }
        let behind = || {
            let readers = self.readers.iter().enumerate();
            let last = readers.map(|(number, reader)| (number, reader.query, reader.received.last().copied()));
            last.filter(|(_, _, last)| last.is_none_or(|last| last < newest)).collect::<Vec<_>>()
        };
        assert!(is_whole, "readers have not received the last event, {newest}: {:?}", behind());
    }

    /// The number of delivered events.
    pub fn received(&self) -> usize {
        self.readers.iter().map(|reader| reader.received.len()).sum()
    }

    /// Discards the received events and continues.
    pub fn reset(&mut self) {
        self.log.clear();
        self.gaps.clear();
        self.readers.iter_mut().for_each(|reader| reader.received.clear());
    }

    pub fn count(&self) -> usize {
        self.readers.len()
    }

    /// Reads until the readers have received `count` gaps in all.
    pub fn wait_for_gaps(&mut self, addresses: &[SocketAddr], count: usize) {
        assert!(self.read_until(addresses, TIMEOUT, |readers| readers.gaps.len() >= count), "{}", self.gaps.len());
    }
}

fn topic(payload: &str) -> &str {
    payload.split(' ').next().expect("a payload begins with its topic")
}

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::log::{Log, TOPICS, name};
use super::position::Position;
use crate::process::Random;
use crate::support::{Block, Client, EPOCH, Stream, WebSocket, request};

/// A client, across all its connections.
pub struct Reader {
    address: SocketAddr,
    log: Arc<Log>,
    random: Random,
    is_websocket: bool,
    position: Position,
    /// Where a topic was left.
    left: BTreeMap<usize, u64>,
    /// The replays that an earlier connection has begun, and this one has not confirmed.
    resuming: BTreeMap<usize, u64>,
    /// The change that was requested and not confirmed.
    requested: Option<Change>,
    number: usize,
    progress: Arc<Vec<AtomicU64>>,
    totals: Totals,
}

/// A change of the subscribed topics.
#[derive(Debug)]
enum Change {
    /// From a sequence, or from now on.
    Subscribe(Vec<usize>, Option<u64>),
    Unsubscribe(Vec<usize>),
}

#[derive(Debug, Default)]
pub struct Totals {
    pub events: usize,
    pub resumes: usize,
    pub changes: usize,
    pub replays: usize,
}

impl Totals {
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.resumes += other.resumes;
        self.changes += other.changes;
        self.replays += other.replays;
    }
}

impl Reader {
    /// A client with an odd number uses WebSocket.
    pub fn new(number: usize, address: SocketAddr, log: Arc<Log>, progress: Arc<Vec<AtomicU64>>) -> Self {
        let mut random = Random::new(number as u64);
        let mut position = Position::default();
        position.begin(pick(&mut random), 0);
        Self {
            address,
            log,
            random,
            is_websocket: number % 2 == 1,
            position,
            left: BTreeMap::new(),
            resuming: BTreeMap::new(),
            requested: None,
            number,
            progress,
            totals: Totals::default(),
        }
    }

    /// Reads until every topic has its last event. Panics if anything is missing, repeated or out of order.
    pub async fn read_to_the_end(mut self) -> Totals {
        loop {
            let events = 20 + self.random.below(200);
            if self.is_websocket {
                self.read_socket(events).await;
            } else {
                self.read_stream(events).await;
            }
            if self.is_complete() {
                return self.totals;
            }
            self.totals.resumes += 1;
        }
    }

    fn is_complete(&self) -> bool {
        self.requested.is_none() && self.resuming.is_empty() && self.position.is_complete(&self.log)
    }

    fn receive(&mut self, id: &str, data: &Value) {
        let sequence = sequence(id);
        assert_eq!(*data, Log::data(sequence), "client {}", self.number);
        self.position.receive(&self.log, sequence);
        self.progress[self.number].store(sequence, Ordering::Relaxed);
        self.totals.events += 1;
    }

    /// The parameters that resume all topics from one position.
    fn resuming_query(&self) -> String {
        let topics: Vec<_> = self.position.topics().map(name).collect();
        if topics.is_empty() {
            return String::new();
        }
        format!("?topics={}&last_event_id={EPOCH}-{}", topics.join(","), self.position.last)
    }

    /// Reads a stream until its client leaves or has everything.
    async fn read_stream(&mut self, events: u64) {
        let mut client = Client::connect(self.address).await;
        client.send(request("GET", &format!("/stream{}", self.resuming_query()), &[], b"")).await;
        let mut stream: Stream = client.into_stream().await;
        stream.hello().await;
        for _ in 0..events {
            if self.is_complete() {
                return;
            }
            let event = loop {
                if let Block::Event(event) = stream.block().await {
                    break event;
                }
            };
            assert_eq!(event.event, "message", "{event:?}");
            self.receive(event.id.as_deref().expect("an event has an id"), &event.json());
        }
    }

    /// Reads a WebSocket until its client leaves or has everything, and changes its topics meanwhile.
    async fn read_socket(&mut self, events: u64) {
        self.resuming.extend(self.position.take_replaying());
        self.requested = None;
        let mut socket = WebSocket::connect(self.address, &format!("/ws{}", self.resuming_query())).await;
        socket.hello().await;
        // The answers are read with the events.
        for (&topic, cursor) in &self.resuming {
            let id = format!("{EPOCH}-{cursor}");
            let message = json!({"type": "subscribe", "topics": [name(topic)], "last_event_id": id, "ref": topic});
            socket.send_json(&message).await;
        }
        let mut received = 0;
        while received < events && !self.is_complete() {
            if self.requested.is_none() && self.random.below(20) == 0 {
                let change = self.change();
                socket.send_json(&change.message()).await;
                self.requested = Some(change);
            }
            let message = socket.message().await;
            match message["type"].as_str() {
                Some("event") => {
                    let id = message["id"].as_str().expect("an event has an id");
                    assert_eq!(message["topic"], name(self.log.topic(sequence(id))));
                    self.receive(id, &message["data"]);
                    received += 1;
                }
                Some("subscribed" | "unsubscribed") => self.confirm(&message),
                _ => panic!("client {}: {message}", self.number),
            }
        }
        if self.is_complete() {
            socket.assert_alive().await;
        }
    }

    fn change(&mut self) -> Change {
        let subscribed: Vec<_> = self.position.topics().collect();
        if subscribed.len() > 2 && self.random.below(2) == 0 {
            let topic = subscribed[self.random.below(subscribed.len() as u64) as usize];
            return Change::Unsubscribe(vec![topic]);
        }
        let topics = pick(&mut self.random);
        let start = match (self.random.below(3), self.left.get(&topics[0])) {
            (0, _) => None,
            // Where it was left, if the others have not been received since then.
            (1, Some(&left)) if topics.len() == 1 => Some(left),
            _ => Some(self.random.below(self.position.last + 1)),
        };
        Change::Subscribe(topics, start)
    }

    /// Applies a change that the server has confirmed.
    fn confirm(&mut self, message: &Value) {
        if let Some(topic) = message["ref"].as_u64() {
            assert_eq!(message["type"], "subscribed", "{message}");
            let topic = topic as usize;
            let cursor = self.resuming.remove(&topic).expect("each replay is resumed once");
            assert_eq!(sequence(message["id"].as_str().expect("a position")), cursor, "{message}");
            return self.position.add(topic, cursor);
        }
        let change =
            self.requested.take().unwrap_or_else(|| panic!("client {} asked for nothing: {message}", self.number));
        self.totals.changes += 1;
        match change {
            Change::Subscribe(topics, start) => {
                assert_eq!(message["type"], "subscribed", "{message}");
                let begins = sequence(message["id"].as_str().expect("a position"));
                let added: Vec<_> = topics.into_iter().filter(|&topic| !self.position.has(topic)).collect();
                if let (Some(start), false) = (start, added.is_empty()) {
                    assert_eq!(begins, start, "{message}");
                    self.totals.replays += 1;
                }
                for topic in added {
                    self.position.add(topic, begins);
                }
            }
            Change::Unsubscribe(topics) => {
                assert_eq!(message["type"], "unsubscribed", "{message}");
                for topic in topics {
                    self.left.extend(self.position.remove(topic).map(|cursor| (topic, cursor)));
                }
            }
        }
    }
}

impl Change {
    fn message(&self) -> Value {
        let (Self::Subscribe(topics, _) | Self::Unsubscribe(topics)) = self;
        let topics: Vec<_> = topics.iter().copied().map(name).collect();
        match self {
            Self::Subscribe(_, Some(start)) => {
                json!({"type": "subscribe", "topics": topics, "last_event_id": format!("{EPOCH}-{start}"), "ref": "change"})
            }
            Self::Subscribe(..) => json!({"type": "subscribe", "topics": topics, "ref": "change"}),
            Self::Unsubscribe(_) => json!({"type": "unsubscribe", "topics": topics, "ref": "change"}),
        }
    }
}

/// One to four topics.
fn pick(random: &mut Random) -> Vec<usize> {
    let mut topics: Vec<usize> = (0..=random.below(4)).map(|_| random.below(TOPICS as u64) as usize).collect();
    topics.sort_unstable();
    topics.dedup();
    topics
}

/// The sequence in an id.
fn sequence(id: &str) -> u64 {
    let sequence = id.strip_prefix(&format!("{EPOCH}-")).and_then(|sequence| sequence.parse().ok());
    sequence.unwrap_or_else(|| panic!("{id:?} is not an id of this server"))
}

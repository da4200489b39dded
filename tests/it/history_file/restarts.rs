//! Restarts under load: thousands of clients, of which none misses an event or gets a gap.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Restartable;
use crate::process::{Crowd, Http, Server, TIMEOUT, Update, reserve_open_files};

const TOPICS: usize = 100;

/// `--retry`, which the server spreads by a fifth in both directions.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_millis(1200);

/// The allowed delay of a hello beside other tests, with a server that is not optimized. Alone, and with a server of
/// `opt-level = 1`, the last of 2,000 clients was back 1.13 s after a start.
const SLACK: Duration = Duration::from_secs(15);

/// How long the events of one round are published before the server is stopped.
const ROUND: Duration = Duration::from_secs(2);

/// Publishes 1000 events a second, ten at a time, while the server is there.
struct Publisher {
    is_over: Arc<AtomicBool>,
    thread: thread::JoinHandle<HashMap<u64, u64>>,
}

impl Publisher {
    fn start(address: SocketAddr) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = is_over.clone();
        let thread = thread::spawn(move || {
            let (mut http, mut acknowledged, mut number, began) = (None, HashMap::new(), 0, Instant::now());
            while !stop.load(Ordering::Relaxed) {
                let due = began + Duration::from_millis(number);
                thread::park_timeout(due.saturating_duration_since(Instant::now()));
                let topic = format!("t{}", number as usize / 10 % TOPICS);
                let events: Vec<_> = (number..number + 10)
                    .map(|number| format!("{{\"topic\":\"{topic}\",\"data\":{number}}}"))
                    .collect();
                number += 10;
                let body = format!("[{}]", events.join(","));
                http = http.or_else(|| Http::try_connect(address).ok());
                let Some(connection) = &mut http else { continue };
                match connection.try_post("/publish", "application/json", body.as_bytes()) {
                    Ok(answer) if answer.status == 200 => {
                        let first = sequence(answer.json()["first_id"].as_str().expect("an id"));
                        acknowledged.extend((0..10).map(|n| (first + n, number - 10 + n)));
                    }
                    _ => http = None,
                }
            }
            acknowledged
        });
        Self { is_over, thread }
    }

    /// The number of each acknowledged event, by its sequence.
    fn stop(self) -> HashMap<u64, u64> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the publisher does not panic")
    }
}

fn sequence(id: &str) -> u64 {
    id.split_once('-').and_then(|(_, sequence)| sequence.parse().ok()).expect("an id")
}

/// A client that reconnects as an `EventSource` does.
struct Follower {
    query: String,
    last_id: Option<String>,
    retry: Duration,
    /// When it connects again; `None` while it is connected.
    due: Option<Instant>,
    is_open: bool,
    /// How often a connection of it has ended.
    ends: usize,
    /// The sequence and number of each event.
    events: Vec<(u64, u64)>,
}

struct Followers {
    address: SocketAddr,
    crowd: Crowd,
    followers: Vec<Follower>,
    /// The follower of each connection of the crowd.
    owners: Vec<usize>,
}

impl Followers {
    fn new(address: SocketAddr, queries: impl Iterator<Item = String>) -> Self {
        let new = |query| Follower {
            query,
            last_id: None,
            retry: RETRY,
            due: Some(Instant::now()),
            is_open: false,
            ends: 0,
            events: Vec::new(),
        };
        Self { address, crowd: Crowd::new(), followers: queries.map(new).collect(), owners: Vec::new() }
    }

    /// Connects those whose time it is, and reads for a moment.
    fn turn(&mut self) {
        let Self { address, crowd, followers, owners } = self;
        for (number, follower) in followers.iter_mut().enumerate() {
            if follower.due.is_none_or(|due| due > Instant::now()) {
                continue;
            }
            let connected = crowd.try_resume(*address, &follower.query, follower.last_id.as_deref());
            follower.due = connected.is_err().then(|| Instant::now() + follower.retry);
            owners.extend(connected.is_ok().then_some(number));
        }
        crowd.read(Duration::from_millis(5), |connection, update| {
            followers[owners[connection]].take(update);
            false
        });
    }

    fn turns(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn();
        }
    }

    /// Turns until `is_true` of each follower, and returns how long it took.
    fn wait_for(&mut self, what: &str, is_true: impl Fn(&Follower) -> bool) -> Duration {
        let began = Instant::now();
        while let left @ 1.. = self.followers.iter().filter(|follower| !is_true(follower)).count() {
            assert!(began.elapsed() < TIMEOUT, "{left} clients are not {what}");
            self.turn();
        }
        began.elapsed()
    }
}

impl Follower {
    fn take(&mut self, update: Update) {
        let Update::Event(event) = update else {
            (self.is_open, self.due) = (false, Some(Instant::now() + self.retry));
            self.ends += 1;
            return;
        };
        assert_ne!(event.name, "gap", "{}: {event:?} after {:?}", self.query, self.last_id);
        self.last_id = event.id.clone().or(self.last_id.take());
        if event.name == "system" && event.data.contains("\"connected\"") {
            let retry = event.json()["retry"].as_u64().expect("the hello has a retry");
            (self.is_open, self.retry) = (true, Duration::from_millis(retry));
        } else if event.name == "message" {
            self.events.push((sequence(&event.id.expect("an event has an id")), event.data.parse().unwrap()));
        }
    }
}

/// Restarts a server five times under load, and checks every event of every client.
fn check_restarts(clients: usize) {
    let mut one = Restartable::start_with("history-restarts", &["--retry", "1s"]);
    let address = one.server.address();
    // Some clients read everything.
    let queries = (0..clients).map(|number| match number % TOPICS {
        0 if number < 5 * TOPICS => String::new(),
        topic => format!("topics=t{topic}"),
    });
    let mut followers = Followers::new(address, queries);
    followers.wait_for("connected", |follower| follower.is_open);
    let publisher = Publisher::start(address);
    let mut slowest = Duration::ZERO;
    for round in 0..5 {
        followers.turns(ROUND);
        one.server.signal(Signal::TERM);
        // The clients read and reconnect meanwhile.
        let (restarted, server) = (Arc::new(Mutex::new(None)), one);
        let result = restarted.clone();
        let restart = thread::spawn(move || {
            let mut one = server;
            assert_eq!(one.server.wait(TIMEOUT).code(), Some(0), "{:?}", one.server.log.lines());
            one.start_again();
            *result.lock().unwrap() = Some(one);
        });
        // The first of them may be back before the last one is gone.
        followers.wait_for("disconnected", |follower| follower.ends > round);
        while restarted.lock().unwrap().is_none() && !restart.is_finished() {
            followers.turn();
        }
        restart.join().expect("the server restarts");
        one = Arc::into_inner(restarted).and_then(|one| one.into_inner().unwrap()).expect("it has restarted");
        let back = followers.wait_for("back", |follower| follower.is_open);
        slowest = slowest.max(back);
        assert!(back <= LONGEST_RETRY + SLACK, "the last client was back {back:?} after the start");
    }
    followers.turns(ROUND);
    let acknowledged = publisher.stop();
    check_events(&mut followers, &acknowledged, &one.server);
    let delivered: usize = followers.followers.iter().map(|follower| follower.events.len()).sum();
    eprintln!(
        "{clients} clients, 5 restarts: {} events acknowledged, {delivered} delivered, none lost, no gap; \
         the last client was back {slowest:?} after a start",
        acknowledged.len()
    );
}

/// Checks that those that read everything have every sequence, that every acknowledged event is among them, and that the
/// others have the events of their topics.
fn check_events(followers: &mut Followers, acknowledged: &HashMap<u64, u64>, server: &Server) {
    let head = sequence(&server.publish("end", "0"));
    followers.wait_for("up to date", |follower| {
        !follower.query.is_empty() || follower.events.last().is_some_and(|(last, _)| *last == head)
    });
    followers.turns(Duration::from_millis(500));
    let all = &followers.followers[0].events;
    assert!(all.iter().map(|(sequence, _)| *sequence).eq(1..=head), "the first client has every sequence");
    for (sequence, number) in acknowledged {
        assert_eq!(all[*sequence as usize - 1], (*sequence, *number), "an acknowledged event");
    }
    for follower in &followers.followers {
        match follower.query.strip_prefix("topics=t") {
            None => assert_eq!(&follower.events, all),
            Some(topic) => {
                let topic: u64 = topic.parse().unwrap();
                let is_its_own =
                    |(sequence, number): &&(u64, u64)| *sequence != head && number / 10 % TOPICS as u64 == topic;
                let expected: Vec<_> = all.iter().filter(is_its_own).copied().collect();
                assert_eq!(follower.events, expected, "{}", follower.query);
            }
        }
    }
}

#[test]
fn clients_get_every_event_over_five_restarts() {
    check_restarts(200);
}

#[test]
#[ignore = "needs 5,000 open files; run scripts/test"]
fn two_thousand_clients_get_every_event_over_five_restarts() {
    let _files = reserve_open_files(5000);
    check_restarts(2000);
}

//! The behavior of a phase's clients: their filters, reading speeds, and disconnects.

use std::ops::Range;
use std::time::Duration;

use crate::id::Id;
use crate::random::Random;
use crate::recording::Start;

/// The mix of clients of a phase.
#[derive(Clone, Debug)]
pub struct Plan {
    pub topics: Vec<String>,
    pub clients: usize,
    /// Percentage of slow readers of any kind.
    pub slow: u64,
    /// Milliseconds until a client reconnects.
    pub pause: Range<u64>,
    /// Duration of a connection in milliseconds.
    pub lasts: Range<u64>,
    /// A client reconnects to another server each time, instead of occasionally.
    pub always_hops: bool,
    /// A client that disconnects starts a new subscription with probability 1 / this.
    pub one_restart_in: u64,
    /// A third of the event streams is over HTTP/2.
    pub has_http2: bool,
    /// A third of the connections is a WebSocket.
    pub has_websocket: bool,
    /// A fifth of the subscriptions reads latest values.
    pub has_latest: bool,
}

/// One subscription across all its connections.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub filters: Vec<String>,
    pub start: Start,
    pub closes_on_lag: bool,
    pub speed: Speed,
    pub is_witness: bool,
    /// Reads latest values: the last event of each topic, because no event has a key here.
    pub is_latest: bool,
    /// The least milliseconds between two writes.
    pub interval: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    Fast,
    /// A small receive buffer, and few bytes per read.
    Slow,
    /// Occasionally stops reading.
    Stops,
    /// A small receive buffer, and always between `low` and `high` events behind: the server always has pending bytes.
    Trailing {
        low: u64,
        high: u64,
    },
}

impl Plan {
    pub fn new(topics: &[&str]) -> Self {
        Self {
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
            clients: 40,
            slow: 30,
            pause: 0..400,
            lasts: 20..3000,
            always_hops: false,
            one_restart_in: 6,
            has_http2: true,
            has_websocket: true,
            has_latest: true,
        }
    }

    /// Picks when the client closes a connection: after a number of bytes, or a duration.
    pub fn cut(&self, random: &mut Random) -> (Option<usize>, Option<Duration>) {
        let lasts = Duration::from_millis(random.of(self.lasts.clone()));
        match random.of(0..8) {
            // Within the hello or the first events.
            0 => (Some(random.of(1..700) as usize), Some(lasts)),
            1..=3 => (Some(random.of(1..60_000) as usize), Some(lasts * 4)),
            _ => (None, Some(lasts)),
        }
    }
}

impl Subscription {
    /// Subscribes to everything, reads fast, and never disconnects.
    pub fn witness() -> Self {
        Self {
            filters: Vec::new(),
            start: Start::Live,
            closes_on_lag: false,
            speed: Speed::Fast,
            is_witness: true,
            is_latest: false,
            interval: None,
        }
    }

    pub fn new(random: &mut Random, plan: &Plan, current: Option<Id>) -> Self {
        let is_latest = plan.has_latest && random.one_in(5);
        let interval = (is_latest && random.one_in(2)).then(|| random.of(10..200));
        let start = match random.of(0..12) {
            0..=1 => Start::Earliest,
            2 if !is_latest => Start::Newest(random.of(0..300) as u32),
            3 => Start::UnknownId(unknown_id(random, current)),
            _ => Start::Live,
        };
        let speed = match random.of(0..3) {
            _ if random.of(0..100) >= plan.slow => Speed::Fast,
            0 => Speed::Slow,
            1 => Speed::Stops,
            _ => Speed::Trailing { low: 30, high: 60 },
        };
        let filters = match speed {
            // A busy topic, and a pattern without events.
            Speed::Trailing { .. } if random.one_in(2) => vec![random.pick(&plan.topics).clone(), "quiet:*".to_owned()],
            _ => filters(random, plan),
        };
        let closes_on_lag = random.one_in(2);
        Self { filters, start, closes_on_lag, speed, is_witness: false, is_latest, interval }
    }

    /// Returns the request for a stream after the id `sent`.
    pub fn request(&self, sent: Option<&str>, as_query: bool, takes_envelopes: bool, accepts_gzip: bool) -> String {
        let mut query = self.query(&self.filters, sent, as_query);
        if takes_envelopes {
            query.push_str("&format=envelope");
        }
        let id = sent.filter(|_| !as_query).map(|sent| format!("Last-Event-ID: {sent}\r\n")).unwrap_or_default();
        let encoding = if accepts_gzip { "Accept-Encoding: gzip\r\n" } else { "" };
        let accept = "Accept: text/event-stream\r\n";
        format!("GET /stream?{query} HTTP/1.1\r\nHost: localhost\r\n{accept}{encoding}{id}\r\n")
    }

    /// Returns the handshake of a WebSocket after the id `sent`, and the message that subscribes. Where the subscription begins
    /// is in one of them: in the message if there is one.
    pub fn handshake(&self, sent: Option<&str>, by_message: bool) -> (String, Option<String>) {
        // A WebSocket without topics has no events.
        let everything = ["**".to_owned()];
        let filters = if self.filters.is_empty() { &everything[..] } else { &self.filters };
        let start = match (sent, &self.start) {
            (Some(sent), _) => Some(sent),
            (None, Start::Earliest) => Some("earliest"),
            _ => None,
        };
        // Only a query asks for the newest events, and only a hello says that an id is unknown.
        let is_id = |start: &str| Id::parse(start).is_some_and(|id| !id.is_zero());
        let is_known = start.is_none_or(|start| start == "earliest" || is_id(start));
        let by_message = by_message && is_known && !matches!(self.start, Start::Newest(_) | Start::UnknownId(_));
        let message = by_message.then(|| {
            let mut message = serde_json::json!({"type": "subscribe", "topics": filters});
            if self.is_latest {
                message["mode"] = "latest".into();
            }
            if let Some(interval) = self.interval {
                message["interval"] = interval.into();
            }
            if let Some(start) = start {
                message["last_event_id"] = start.into();
            }
            message.to_string()
        });
        let query = if by_message { self.on_lag() } else { self.query(filters, sent, true) };
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13";
        let key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==";
        (format!("GET /ws?{query} HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n{key}\r\n\r\n"), message)
    }

    fn on_lag(&self) -> String {
        format!("on_lag={}", if self.closes_on_lag { "close" } else { "skip" })
    }

    fn query(&self, filters: &[String], sent: Option<&str>, with_sent: bool) -> String {
        let mut query = self.on_lag();
        if self.is_latest {
            query.push_str("&mode=latest");
        }
        if let Some(interval) = self.interval {
            query.push_str(&format!("&interval={interval}"));
        }
        if !filters.is_empty() {
            query.push_str(&format!("&topics={}", filters.join(",")));
        }
        match (&self.start, sent) {
            (_, Some(sent)) if with_sent => query.push_str(&format!("&last_event_id={}", sent.replace(' ', "+"))),
            (Start::Earliest, _) => query.push_str("&last_event_id=earliest"),
            (Start::Newest(count), _) => query.push_str(&format!("&history={count}")),
            _ => {}
        }
        query
    }
}

/// Returns an id that the server never issued.
fn unknown_id(random: &mut Random, current: Option<Id>) -> String {
    match (random.of(0..6), current) {
        (0, _) => "garbage".to_owned(),
        (1, _) => "1-".to_owned(),
        (2, _) => "-7".to_owned(),
        (3, _) => "0-0".to_owned(),
        // A sequence in the future.
        (_, Some(current)) => Id::new(current.epoch, current.sequence + (1 << 30) + random.of(0..1000)).to_string(),
        (_, None) => "99999999999999999999999-1".to_owned(),
    }
}

/// Picks no filter, topics, patterns, or both.
fn filters(random: &mut Random, plan: &Plan) -> Vec<String> {
    let mut filters = Vec::new();
    let kind = random.of(0..5);
    if kind >= 1 && kind != 3 {
        for _ in 0..random.of(1..4) {
            filters.push(random.pick(&plan.topics).clone());
        }
    }
    if kind >= 3 {
        for _ in 0..random.of(1..3) {
            let pattern = match random.of(0..6) {
                0 => "zz:*".to_owned(),
                1 => "**".to_owned(),
                2 => "quiet:*".to_owned(),
                _ => format!("{}:*", random.pick(&plan.topics).split(':').next().unwrap_or("a")),
            };
            filters.push(pattern);
        }
    }
    filters.sort();
    filters.dedup();
    filters
}

impl Speed {
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Slow => "slow",
            Self::Stops => "stops",
            Self::Trailing { .. } => "trailing",
        }
    }

    pub fn receive_buffer(self) -> Option<usize> {
        match self {
            Self::Fast => None,
            Self::Stops => Some(8 << 10),
            Self::Slow | Self::Trailing { .. } => Some(2 << 10),
        }
    }

    /// Picks how many bytes to read now, and how long to pause afterwards.
    pub fn turn(self, random: &mut Random) -> (usize, Duration) {
        match self {
            Self::Fast => (usize::MAX, Duration::ZERO),
            Self::Slow => (random.of(64..2048) as usize, Duration::from_millis(random.of(5..30))),
            Self::Stops if random.one_in(60) => (4096, Duration::from_millis(random.of(200..1500))),
            Self::Stops => (16 << 10, Duration::ZERO),
            Self::Trailing { .. } => (2048, Duration::ZERO),
        }
    }
}

//! Publishers: they send single events, arrays and NDJSON to all servers, and record each response.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{self, Reply};
use crate::id::Id;
use crate::random::Random;
use crate::recording::{Answer, Unpublished};
use crate::shared::Shared;

/// The events of a phase's publishers.
#[derive(Clone, Debug)]
pub struct Workload {
    pub topics: Vec<String>,
    /// All events of a topic are identical.
    pub are_repeated: bool,
    /// The most bytes of an event.
    pub bytes: u64,
    /// The most events of a request.
    pub batch: u64,
    /// Time limit for a response.
    pub timeout: Duration,
}

/// The formats of a publish request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Object,
    Text,
    Array,
    Ndjson,
    /// NDJSON whose second half is sent late.
    SlowNdjson,
}

struct Publisher {
    name: String,
    shared: Arc<Shared>,
    workload: Workload,
    random: Random,
    count: u64,
    connection: Option<(usize, u64, TcpStream)>,
}

/// Starts `count` publishers that share the phase's rate. They end with the phase.
pub fn start(shared: &Arc<Shared>, workload: &Workload, random: &mut Random, count: usize) -> Vec<JoinHandle<()>> {
    let spawn = |number| {
        let mut publisher = Publisher {
            name: format!("p{number}"),
            shared: shared.clone(),
            workload: workload.clone(),
            random: random.fork(),
            count: 0,
            connection: None,
        };
        std::thread::spawn(move || publisher.run(count as u64))
    };
    (0..count).map(spawn).collect()
}

impl Publisher {
    fn run(&mut self, publishers: u64) {
        let mut next = Instant::now();
        while !self.shared.has_ended.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now < next {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            // Counted before the check: once publishing has stopped and the count is 0, no request begins.
            self.shared.requests.fetch_add(1, Ordering::SeqCst);
            let is_publishing = self.shared.is_publishing.load(Ordering::SeqCst);
            let events = if is_publishing { self.publish() } else { 0 };
            self.shared.requests.fetch_sub(1, Ordering::SeqCst);
            if !is_publishing {
                std::thread::sleep(Duration::from_millis(1));
            }
            let rate = self.shared.rate.load(Ordering::Relaxed).max(1);
            next = next.max(now.checked_sub(Duration::from_millis(50)).unwrap_or(now));
            next += Duration::from_micros(events * publishers * 1_000_000 / rate);
        }
    }

    /// Sends one request, and returns the number of its events.
    fn publish(&mut self) -> u64 {
        let servers = self.shared.servers.lock().unwrap().len() as u64;
        let server = self.random.of(0..servers) as usize;
        let format = self.random_format();
        let is_single = matches!(format, Format::Object | Format::Text);
        let count = if is_single { 1 } else { self.random.of(1..self.workload.batch + 1) };
        let events: Vec<(String, String)> = (0..count).map(|_| self.event()).collect();
        let (shared, timeout) = (self.shared.clone(), self.workload.timeout);
        let Some(answer) = send(&shared, &mut self.connection, server, format, &events, timeout) else {
            // The server is stopped.
            std::thread::sleep(Duration::from_millis(5));
            return 0;
        };
        self.shared.answers.lock().unwrap().push(answer);
        count
    }

    fn random_format(&mut self) -> Format {
        match self.random.of(0..4) {
            0 => Format::Object,
            1 => Format::Text,
            2 => Format::Array,
            _ if self.random.one_in(8) => Format::SlowNdjson,
            _ => Format::Ndjson,
        }
    }

    fn event(&mut self) -> (String, String) {
        // Some topics are busier than others.
        let most = self.workload.topics.len() as u64;
        let number = self.random.of(0..most).min(self.random.of(0..most));
        let topic = self.workload.topics[number as usize].clone();
        if self.workload.are_repeated {
            return (topic, "always the same".to_owned());
        }
        self.count += 1;
        let length = self.random.of(0..self.workload.bytes) as usize;
        let mut text = format!("{}-{} {}", self.name, self.count, "x".repeat(length));
        if self.random.one_in(8) {
            text.push_str("\nsecond line\n");
        }
        (topic, text)
    }
}

/// Publishes `text` on one server, and returns its id if it is acknowledged.
pub fn publish_one(shared: &Shared, server: usize, topic: &str, text: &str) -> Option<Id> {
    let events = [(topic.to_owned(), text.to_owned())];
    let answer = send(shared, &mut None, server, Format::Object, &events, Duration::from_secs(5))?;
    let id = answer.ids.map(|ids| ids.0);
    shared.answers.lock().unwrap().push(answer);
    id
}

/// Sends a request, and returns the response. Returns `None` if the request cannot have reached a server.
fn send(
    shared: &Shared,
    connection: &mut Option<(usize, u64, TcpStream)>,
    server: usize,
    format: Format,
    events: &[(String, String)],
    timeout: Duration,
) -> Option<Answer> {
    let place = shared.place(server);
    let address = place.address?;
    if connection.as_ref().is_none_or(|(to, generation, _)| (*to, *generation) != (server, place.generation)) {
        *connection = Some((server, place.generation, http::connect(address).ok()?));
    }
    let contents = {
        let mut known = shared.contents.lock().unwrap();
        events.iter().map(|(topic, text)| known.number(topic, text)).collect()
    };
    shared.publish_started(events.len());
    let socket = &mut connection.as_mut().expect("connected above").2;
    let sent = write(socket, format, &request(format, events)).map_err(|error| error.to_string());
    let outcome = sent.and_then(|()| http::receive(socket, timeout));
    let mut answer = Answer {
        at: 0,
        server,
        is_ndjson: matches!(format, Format::Ndjson | Format::SlowNdjson),
        contents,
        published: 0,
        ids: None,
        unpublished: Unpublished::Unknown,
        has_retry_after: false,
        text: String::new(),
    };
    match outcome {
        Ok(reply) => read_reply(&mut answer, &reply),
        Err(error) => answer.text = error,
    }
    if answer.published == 0 {
        // The response may still arrive: the next request needs a new connection.
        *connection = None;
    }
    answer.at = shared.now();
    if let Some((first, last)) = answer.ids {
        shared.note_id(first);
        shared.note_id(last);
    }
    shared.publish_acknowledged(answer.published);
    Some(answer)
}

fn write(socket: &mut TcpStream, format: Format, request: &str) -> std::io::Result<()> {
    let is_slow = format == Format::SlowNdjson;
    let (first, last) = request.split_at(if is_slow { request.len() / 2 } else { request.len() });
    socket.write_all(first.as_bytes())?;
    if is_slow {
        std::thread::sleep(Duration::from_millis(50));
    }
    socket.write_all(last.as_bytes())
}

fn request(format: Format, events: &[(String, String)]) -> String {
    let object = |(topic, text): &(String, String)| json!({"topic": topic, "event": topic, "text": text}).to_string();
    let (topic, text) = &events[0];
    let (path, media, body) = match format {
        Format::Object => ("/publish".to_owned(), "application/json", object(&events[0])),
        Format::Text => (format!("/publish/{topic}?event={topic}"), "text/plain", text.clone()),
        Format::Array => {
            let objects: Vec<_> = events.iter().map(object).collect();
            ("/publish".to_owned(), "application/json", format!("[{}]", objects.join(",")))
        }
        Format::Ndjson | Format::SlowNdjson => {
            let lines: String = events.iter().map(|event| object(event) + "\n").collect();
            ("/publish".to_owned(), "application/x-ndjson", lines)
        }
    };
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn read_reply(answer: &mut Answer, reply: &Reply) {
    let Reply { status, ref body, has_retry_after } = *reply;
    answer.has_retry_after = has_retry_after;
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    let id = |name: &str| value[name].as_str().and_then(Id::parse);
    answer.ids = match (id("id"), id("first_id"), id("last_id")) {
        (Some(id), ..) => Some((id, id)),
        (None, Some(first), Some(last)) => Some((first, last)),
        _ => None,
    };
    let all = if answer.ids.is_some() { answer.contents.len() } else { 0 };
    answer.published = value["published"].as_u64().map_or(all, |published| published as usize);
    let detail = value["detail"].as_str().unwrap_or(body);
    let is_certain = (400..500).contains(&status) || detail.contains("nothing was published");
    answer.unpublished = if is_certain { Unpublished::Never } else { Unpublished::Unknown };
    if status == 200 && answer.published < answer.contents.len() {
        answer.unpublished = Unpublished::Never;
    }
    answer.text = format!("{status} {detail}").chars().take(300).collect();
}

//! The recording of a phase: each client's log, the responses to publishers, and the faults. The checker sees nothing else.

use std::collections::HashMap;
use std::fmt;

use crate::id::Id;

/// Milliseconds since the phase began.
pub type Millis = u32;

/// The recording of one phase.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    pub expectations: Expectations,
    pub contents: Contents,
    pub clients: Vec<Vec<(Millis, Line)>>,
    pub answers: Vec<Answer>,
    pub faults: Vec<(Millis, String)>,
}

/// What the setup of a phase permits.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    /// Allowed gap reasons, besides `unknown_id` for an id that the server never issued.
    pub reasons: Vec<&'static str>,
    /// No acknowledged event is lost, and no event is published twice.
    pub is_lossless: bool,
    /// A reader that is fewer events behind than this never lags.
    pub smallest_ring: u64,
}

/// An index into [`Contents`]: identifies an event's name, which equals its topic here, and its data.
pub type Content = u32;

/// Interned events: contents by number, and numbers by content.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    numbers: HashMap<String, Content>,
    texts: Vec<(String, u16)>,
    topics: Vec<String>,
}

impl Contents {
    /// Returns the number of the event of `topic` with `data`; adds it if it is new.
    pub fn number(&mut self, topic: &str, data: &str) -> Content {
        let text = format!("{topic}\n{data}");
        if let Some(&known) = self.numbers.get(&text) {
            return known;
        }
        let topic_number = self.topics.iter().position(|known| known == topic).unwrap_or_else(|| {
            self.topics.push(topic.to_owned());
            self.topics.len() - 1
        });
        let number = self.texts.len() as Content;
        self.texts.push((text.clone(), topic_number as u16));
        self.numbers.insert(text, number);
        number
    }

    pub fn topic(&self, content: Content) -> &str {
        &self.topics[self.topic_number(content)]
    }

    pub fn topic_number(&self, content: Content) -> usize {
        usize::from(self.texts[content as usize].1)
    }

    pub fn topics(&self) -> &[String] {
        &self.topics
    }

    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Returns the event's text, shortened to fit in a line.
    pub fn summary(&self, content: Content) -> String {
        let text = self.texts[content as usize].0.replace('\n', " ");
        if text.len() > 40 {
            format!("{}… ({} bytes)", text.chars().take(20).collect::<String>(), text.len())
        } else {
            text
        }
    }
}

/// One entry of a client's log: an action of the client, or something that it received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A new subscription begins: earlier lines do not constrain it.
    Begin {
        filters: Vec<String>,
        start: Start,
        closes_on_lag: bool,
        /// Whether it reads latest values.
        is_latest: bool,
        speed: &'static str,
    },
    /// A connection to a server, with the last event id that the client sent.
    Connect {
        server: usize,
        sent: Option<String>,
        transport: Transport,
    },
    /// The response had another status than 200, or was a stream that only refuses the client.
    Refused {
        why: Refusal,
    },
    /// The server's first event.
    Hello {
        id: Option<Id>,
        position: Option<Id>,
    },
    Event {
        id: Id,
        content: Content,
    },
    Gap(Box<Gap>),
    /// The latest values are complete.
    Snapshot {
        id: Id,
    },
    /// Another `system` event.
    System {
        id: Option<Id>,
        text: String,
    },
    /// Data that violates the protocol.
    Malformed(String),
    End(End),
}

/// The way of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// HTTP/2 instead of HTTP/1.1.
    pub is_http2: bool,
    /// A WebSocket instead of an event stream.
    pub is_websocket: bool,
    /// The Unix socket of the server instead of TCP.
    pub is_unix: bool,
    /// A client that accepts gzip.
    pub accepts_gzip: bool,
}

/// How a server refused a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Status(u16),
    /// In band, for this reason.
    InBand(String),
}

/// Where a subscription begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    Live,
    Newest(u32),
    Earliest,
    /// An id that the server never issued.
    UnknownId(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub id: Option<Id>,
    pub reason: String,
    pub from: Option<Id>,
    pub to: Option<Id>,
    pub missed: Option<u64>,
    /// The affected filters; `None` means all of them.
    pub topics: Option<Vec<String>>,
    /// The most events that the client can have been behind when the gap arrived, if known.
    pub behind: Option<u64>,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The client closed it.
    Cut,
    /// The server closed it. `behind` is as in [`Gap`]; `None` if the server was stopped or about to be.
    Closed { behind: Option<u64> },
    /// A socket error.
    Broken(String),
}

/// The response to one publish request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub at: Millis,
    pub server: usize,
    pub is_ndjson: bool,
    /// The events of the request.
    pub contents: Vec<Content>,
    /// How many of them, from the first, were published according to the response.
    pub published: usize,
    /// The ids of the first and the last published event.
    pub ids: Option<(Id, Id)>,
    /// The fate of the other events.
    pub unpublished: Unpublished,
    /// The response asks to send the request again later.
    pub has_retry_after: bool,
    /// The status and the problem detail.
    pub text: String,
}

impl Answer {
    /// Returns the events whose ids follow from the response. For NDJSON these are the first and the last: events of other
    /// publishers may lie between them.
    pub fn placed(&self) -> Vec<(Id, Content)> {
        let Some((first, last)) = self.ids else { return Vec::new() };
        let contents = &self.contents[..self.published.min(self.contents.len())];
        if self.is_ndjson {
            let ends = [(first, contents.first()), (last, contents.last())];
            let count = if contents.len() == 1 { 1 } else { 2 };
            return ends.into_iter().take(count).filter_map(|(id, content)| Some((id, *content?))).collect();
        }
        let ids = (first.sequence..).map(|sequence| Id::new(first.epoch, sequence));
        ids.zip(contents.iter().copied()).collect()
    }
}

/// What is known about events that the response does not report as published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpublished {
    /// They were not published.
    Never,
    /// They may have been published.
    Unknown,
}

struct OrNone<'a, T>(&'a Option<T>);

impl<T: fmt::Display> fmt::Display for OrNone<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("none"),
        }
    }
}

impl Line {
    /// Returns the line in readable form.
    pub fn describe(&self, contents: &Contents) -> String {
        match self {
            Self::Begin { filters, start, closes_on_lag, is_latest, speed } => {
                let on_lag = if *closes_on_lag { "close" } else { "skip" };
                let (topics, mode) = (filters.join(","), if *is_latest { "latest" } else { "events" });
                format!("== subscribes: topics={topics} mode={mode} start={start:?} on_lag={on_lag} reads={speed}")
            }
            Self::Connect { server, sent, transport } => {
                let version = match transport {
                    Transport { is_websocket: true, .. } => "WebSocket",
                    Transport { is_http2: true, .. } => "HTTP/2",
                    _ => "HTTP/1.1",
                };
                let socket = if transport.is_unix { " and its Unix socket" } else { "" };
                let gzip = if transport.accepts_gzip { ", accepts gzip" } else { "" };
                format!("connects to server {server} over {version}{socket}{gzip}, last id {}", OrNone(sent))
            }
            Self::Refused { why } => format!("refused: {why:?}"),
            Self::Hello { id, position } => format!("hello id={} position={}", OrNone(id), OrNone(position)),
            Self::Event { id, content } => format!("event {id} {}", contents.summary(*content)),
            Self::Gap(gap) => format!(
                "gap {} from={} to={} missed={} topics={:?} id={} (behind by at most {})",
                gap.reason,
                OrNone(&gap.from),
                OrNone(&gap.to),
                OrNone(&gap.missed),
                gap.topics,
                OrNone(&gap.id),
                OrNone(&gap.behind)
            ),
            Self::Snapshot { id } => format!("snapshot id={id}"),
            Self::System { id, text } => format!("system {text} id={}", OrNone(id)),
            Self::Malformed(text) => format!("malformed: {text}"),
            Self::End(End::Cut) => "closes the connection".to_owned(),
            Self::End(End::Closed { behind }) => format!("closed by the server (behind by at most {})", OrNone(behind)),
            Self::End(End::Broken(error)) => format!("broken: {error}"),
        }
    }
}

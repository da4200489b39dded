//! What happened: the lines of each client, the answers that publishers got, the faults. The checker reads nothing else.

use std::collections::HashMap;
use std::fmt;

use crate::id::Id;

/// Milliseconds since the phase began.
pub type Millis = u32;

/// One phase.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    pub terms: Terms,
    pub contents: Contents,
    pub clients: Vec<Vec<(Millis, Line)>>,
    pub answers: Vec<Answer>,
    pub faults: Vec<(Millis, String)>,
}

/// What the phase's world allows.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Reasons of gaps that may come, besides `unknown_id` for an id that was made up.
    pub reasons: Vec<&'static str>,
    /// No acknowledged event may be lost, and no event is published twice.
    pub is_lossless: bool,
    /// A reader that is less than so many events behind does not lag.
    pub smallest_ring: u64,
}

/// Which event it is, byte for byte: its name, which is its topic here, and its data.
pub type Content = u32;

/// The texts of events, each once.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    numbers: HashMap<String, Content>,
    texts: Vec<(String, u16)>,
    topics: Vec<String>,
}

impl Contents {
    /// The number of the event of `topic` with `data`.
    pub fn number(&mut self, topic: &str, data: &str) -> Content {
        let text = format!("{topic}\n{data}");
        if let Some(&known) = self.numbers.get(&text) {
            return known;
        }
        let place = self.topics.iter().position(|known| known == topic).unwrap_or_else(|| {
            self.topics.push(topic.to_owned());
            self.topics.len() - 1
        });
        let number = self.texts.len() as Content;
        self.texts.push((text.clone(), place as u16));
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

    /// The event, short enough for a line.
    pub fn shown(&self, content: Content) -> String {
        let text = self.texts[content as usize].0.replace('\n', " ");
        if text.len() > 40 {
            format!("{}… ({} bytes)", text.chars().take(20).collect::<String>(), text.len())
        } else {
            text
        }
    }
}

/// One thing that a client did or was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Another life begins: what came before does not matter any more.
    Begin {
        filters: Vec<String>,
        start: Start,
        closes_on_lag: bool,
        speed: &'static str,
    },
    /// A connection to a server, with the last event id that was sent.
    Connect {
        server: usize,
        sent: Option<String>,
    },
    /// The answer was no stream.
    Refused {
        status: u16,
    },
    /// The stream began.
    Hello {
        id: Option<Id>,
        position: Option<Id>,
    },
    Event {
        id: Id,
        content: Content,
    },
    Gap(Box<Gap>),
    /// Something else that the server says, with its id.
    Said {
        id: Option<Id>,
        text: String,
    },
    /// What no server may send.
    Odd(String),
    End(End),
}

/// What a life begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    Live,
    Newest(u32),
    Earliest,
    /// An id that was never given.
    MadeUp(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub id: Option<Id>,
    pub reason: String,
    pub from: Option<Id>,
    pub to: Option<Id>,
    pub missed: Option<u64>,
    /// The filters that it is about; None is all of them.
    pub topics: Option<Vec<String>>,
    /// How many events the client can have been behind at most when it came; None when that is not known.
    pub behind: Option<u64>,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The client cut it.
    Cut,
    /// The server closed it. `behind` is as in [`Gap`], where the server was neither stopped nor about to be.
    Closed { behind: Option<u64> },
    /// An error of the socket.
    Broken(String),
}

/// What a publisher was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub at: Millis,
    pub server: usize,
    pub is_ndjson: bool,
    /// What was to be published.
    pub contents: Vec<Content>,
    /// The first so many are said to be published.
    pub published: usize,
    /// The ids of the first and the last of those.
    pub ids: Option<(Id, Id)>,
    pub rest: Rest,
    /// The request is to be sent again later.
    pub has_retry_after: bool,
    /// Status and detail.
    pub text: String,
}

impl Answer {
    /// The events whose id the answer says. Of lines only the first and the last: others may come in between.
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

/// What became of those that are not said to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Certainly not published.
    Never,
    /// Perhaps published.
    Unknown,
}

struct Shown<'a, T>(&'a Option<T>);

impl<T: fmt::Display> fmt::Display for Shown<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("none"),
        }
    }
}

impl Line {
    /// The line as a person reads it.
    pub fn shown(&self, contents: &Contents) -> String {
        match self {
            Self::Begin { filters, start, closes_on_lag, speed } => {
                let on_lag = if *closes_on_lag { "close" } else { "skip" };
                format!("== begins: topics={} start={start:?} on_lag={on_lag} reads={speed}", filters.join(","))
            }
            Self::Connect { server, sent } => format!("connects to server {server}, last id {}", Shown(sent)),
            Self::Refused { status } => format!("refused: {status}"),
            Self::Hello { id, position } => format!("hello id={} position={}", Shown(id), Shown(position)),
            Self::Event { id, content } => format!("event {id} {}", contents.shown(*content)),
            Self::Gap(gap) => format!(
                "gap {} from={} to={} missed={} topics={:?} id={} (behind by at most {})",
                gap.reason,
                Shown(&gap.from),
                Shown(&gap.to),
                Shown(&gap.missed),
                gap.topics,
                Shown(&gap.id),
                Shown(&gap.behind)
            ),
            Self::Said { id, text } => format!("system {text} id={}", Shown(id)),
            Self::Odd(text) => format!("odd: {text}"),
            Self::End(End::Cut) => "cuts the connection".to_owned(),
            Self::End(End::Closed { behind }) => format!("closed by the server (behind by at most {})", Shown(behind)),
            Self::End(End::Broken(error)) => format!("broken: {error}"),
        }
    }
}

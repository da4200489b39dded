//! The flags of `fanline tail`, and the request that they make.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use fanline::position::StreamPosition;
use fanline::topic::TopicFilter;

use super::printer::Format;
use crate::cli::target::ServerArgs;

/// More than two heartbeats of a server with default settings.
const IDLE_TIMEOUT: u64 = 90;

/// A server may heed a shorter heartbeat than its bounds allow by its shortest: no reason to give it up.
const SHORTEST_DERIVED_IDLE_TIMEOUT: u64 = 15;

/// The flags of `fanline tail`.
#[derive(clap::Args, Debug)]
pub struct TailArgs {
    #[command(flatten)]
    pub server: ServerArgs,

    /// Topics and patterns, as in a,b:*,metrics.** (all topics if there is none)
    #[arg(long, visible_alias = "topic", value_delimiter = ',', value_name = "TOPIC,…")]
    topics: Vec<TopicFilter>,

    /// The name that the server lists this client under
    #[arg(long)]
    name: Option<String>,

    /// Tags that the server lists this client with
    #[arg(long, value_delimiter = ',', value_name = "TAG,…")]
    tags: Vec<String>,

    /// Begin after this id; `earliest` begins with the oldest event that the server still has
    #[arg(long, value_name = "ID|earliest", conflicts_with = "history")]
    pub from: Option<From>,

    /// Begin with the last N events that the server still has of these topics
    #[arg(long, value_name = "N")]
    history: Option<u64>,

    /// What the server does when this client falls too far behind: close the stream, or skip what it has no more
    #[arg(long, value_name = "close|skip")]
    on_lag: Option<OnLag>,

    /// Ask for a sign of life after so many seconds without an event
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    heartbeat: Option<u64>,

    /// Give a connection up after so many silent seconds [default: 90, or 2.5 times --heartbeat]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    idle_timeout: Option<u64>,

    /// How events are written
    #[arg(long, value_enum, default_value = "data")]
    pub format: Format,

    /// End after N published events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// End with the stream instead of connecting again
    #[arg(long, visible_alias = "no-reconnect")]
    pub once: bool,

    /// Say nothing on standard error but gaps and what ends the command
    #[arg(long, short)]
    pub quiet: bool,
}

/// Where a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Earliest,
    After(StreamPosition),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Self::Earliest),
            id => id.parse().map(Self::After).map_err(|error| format!("{error}, or earliest")),
        }
    }
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::After(position) => position.fmt(f),
        }
    }
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum OnLag {
    Close,
    Skip,
}

impl TailArgs {
    /// The path of the stream with the parameters that the server understands.
    pub fn stream_path(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.topics.is_empty() {
            query.append_pair("topics", &comma_separated(&self.topics));
        }
        if let Some(name) = &self.name {
            query.append_pair("client_name", name);
        }
        if !self.tags.is_empty() {
            query.append_pair("tags", &comma_separated(&self.tags));
        }
        if let Some(history) = self.history {
            query.append_pair("history", &history.to_string());
        }
        match self.on_lag {
            Some(OnLag::Close) => drop(query.append_pair("on_lag", "close")),
            Some(OnLag::Skip) => drop(query.append_pair("on_lag", "skip")),
            None => {}
        }
        if let Some(heartbeat) = self.heartbeat {
            query.append_pair("heartbeat", &heartbeat.to_string());
        }
        match query.finish() {
            none if none.is_empty() => "/stream".to_string(),
            some => format!("/stream?{some}"),
        }
    }

    /// How long a connection may be silent.
    pub fn idle_timeout(&self) -> Duration {
        let derived = self.heartbeat.map(|seconds| (seconds * 5 / 2).max(SHORTEST_DERIVED_IDLE_TIMEOUT));
        Duration::from_secs(self.idle_timeout.or(derived).unwrap_or(IDLE_TIMEOUT))
    }
}

fn comma_separated(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

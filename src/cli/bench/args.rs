//! The flags of `fanline bench`.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{ArgPredicate, RangedU64ValueParser};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};

use super::marker::{self, MAX_PUBLISHERS, MAX_TOPICS};
use crate::cli::target::ServerArgs;
use crate::cli::transport::Transport;
use crate::config::parse_span;

/// Bytes of a payload.
const PAYLOAD: RangeInclusive<u64> = marker::LENGTH as u64..=16 << 20;

/// Streams of an HTTP/2 connection: a client has no more numbers for them.
const MAX_STREAMS: u64 = 1 << 30;

const EXAMPLES: &str = "\
Examples:
  A thousand subscribers, a hundred events a second:
      fanline bench --clients 1000 --rate 100 --pid $(pgrep -n fanline)
  10,000 topics with a subscriber each, of which the first get most events, and a report with plots:
      fanline bench --clients 10000 --topics 10000 --distribution zipf --html report.html
  The same over WebSocket:
      fanline bench --transport ws --clients 1000 --rate 100 --pid $(pgrep -n fanline)
  A dashboard: readers of the latest values of 1,000 keys, which are written at most ten times a second:
      fanline bench --mode latest --interval 100ms --keys 1000 --rate 20000 --publishers 16
  Another server, with its own URLs and event format:
      fanline bench --sse-url 'http://127.0.0.1:9000/sub/{topic}' \\
          --publish-url 'http://127.0.0.1:9000/pub?id={topic}' --content-type text/plain --body '{data}'

Exit code: 0 when every stream was complete, 1 when one was not or the run failed, 2 for a wrong command line.
A warning in the report does not change it: the rate was not reached, or processors were busy.";

/// The flags of `fanline bench`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    #[command(flatten)]
    pub server: ServerArgs,

    /// The URL of subscribers: {url}, {topics} with commas, {topic} the first of them, {client} the subscriber's number
    /// [with --transport ws: {url}/ws?topics={topics}]
    #[arg(
        long,
        visible_alias = "ws-url",
        value_name = "TEMPLATE",
        default_value = "{url}/stream?topics={topics}",
        default_value_if("transport", "ws", "{url}/ws?topics={topics}"),
        help_heading = "Any server"
    )]
    pub sse_url: String,

    /// The URL of publishers: {url}, {topic}, and {key} with --keys
    #[arg(long, value_name = "TEMPLATE", default_value = "{url}/publish", help_heading = "Any server")]
    pub publish_url: String,

    /// The body of a publish request: {data} is the payload (letters, digits and dashes), {topic} its topic, {key} its key
    #[arg(
        long,
        value_name = "TEMPLATE",
        default_value = r#"{"topic":"{topic}","data":"{data}"}"#,
        default_value_if("keys", ArgPredicate::IsPresent, r#"{"topic":"{topic}","key":"{key}","data":"{data}"}"#),
        help_heading = "Any server"
    )]
    pub body: String,

    /// The content type of a publish request
    #[arg(long, value_name = "TYPE", default_value = "application/json", help_heading = "Any server")]
    pub content_type: String,

    /// The method of a publish request
    #[arg(long, default_value = "POST", value_parser = method, help_heading = "Any server")]
    pub method: String,

    /// A header of every request, as in 'x-key: value'; may be repeated
    #[arg(long = "header", short = 'H', value_name = "HEADER", value_parser = header, help_heading = "Any server")]
    pub headers: Vec<String>,

    /// A header of subscribers only
    #[arg(long = "sse-header", value_name = "HEADER", value_parser = header, help_heading = "Any server")]
    pub sse_headers: Vec<String>,

    /// A header of publishers only
    #[arg(long = "publish-header", value_name = "HEADER", value_parser = header, help_heading = "Any server")]
    pub publish_headers: Vec<String>,

    /// Number of subscribers
    #[arg(long, short, value_name = "N", default_value_t = 100, help_heading = "Subscribers")]
    pub clients: usize,

    /// Source addresses of subscribers, in turn [default: on loopback a 127.0.0.x for each 20,000]
    #[arg(long, value_name = "IP,…", value_delimiter = ',', help_heading = "Subscribers")]
    pub sources: Vec<IpAddr>,

    /// How subscribers receive events
    #[arg(long, value_enum, default_value_t, value_name = "sse|ws", help_heading = "Subscribers")]
    pub transport: Transport,

    /// Request gzip; every stream is decoded, and its events are compared as without compression
    #[arg(long, help_heading = "Subscribers")]
    pub compressed: bool,

    /// Subscribe over HTTP/2 with prior knowledge, with up to N streams on a connection; publishers use HTTP/1.1
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "100",
        value_parser = whole(1..=MAX_STREAMS),
        help_heading = "Subscribers"
    )]
    pub http2: Option<usize>,

    /// More streams of the first subscriber's topics, on the first HTTP/2 connections, that are never read
    #[arg(long, value_name = "N", default_value_t = 0, requires = "http2", help_heading = "Subscribers")]
    pub stalled: usize,

    /// What subscribers receive; with `latest`, the newest value of each key or topic must arrive, and none may go backwards
    #[arg(long, value_enum, default_value_t, value_name = "events|latest", help_heading = "Subscribers")]
    pub mode: Mode,

    /// Ask for at most one write of events in this time
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Subscribers")]
    pub interval: Option<Duration>,

    /// Keys of the only topic: each event is the value of a key, which belongs to one publisher
    #[arg(long, value_name = "N", conflicts_with = "topics", value_parser = whole(1..=MAX_TOPICS), help_heading = "Topics")]
    pub keys: Option<usize>,

    /// Number of topics
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole(1..=MAX_TOPICS), help_heading = "Topics")]
    pub topics: usize,

    /// The topic, or the prefix of several: bench-0, bench-1 …
    #[arg(long, value_name = "NAME", default_value = "bench", value_parser = topic, help_heading = "Topics")]
    pub topic: String,

    /// Topics of each subscriber, which are the next K after those of the previous one
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = whole(1..=MAX_TOPICS), help_heading = "Topics")]
    pub topics_per_client: usize,

    /// Which topics events go to
    #[arg(long, value_enum, default_value = "uniform", help_heading = "Topics")]
    pub distribution: Distribution,

    /// Connections that publish one event at a time
    #[arg(long, short, value_name = "N", default_value_t = 4, value_parser = whole(1..=MAX_PUBLISHERS), help_heading = "Publishers")]
    pub publishers: usize,

    /// Events a second in total, however slow the server is; `max` publishes when the previous event is answered
    #[arg(long, short, value_name = "N|max", default_value = "100", help_heading = "Publishers")]
    pub rate: Rate,

    /// Bytes of an event's payload, of which 48 are a marker with its due time
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = whole(PAYLOAD), help_heading = "Publishers")]
    pub payload: usize,

    /// Publish N events before subscribers connect, to be received by replay
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Publishers")]
    pub prefill: u64,

    /// How long to measure
    #[arg(long, short, value_name = "TIME", default_value = "10s", value_parser = time, help_heading = "Run")]
    pub duration: Duration,

    /// How long to publish before measuring
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = time, help_heading = "Run")]
    pub warmup: Duration,

    /// Pause before the first event, for servers that answer before the subscription is active
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = time, help_heading = "Run")]
    pub settle: Duration,

    /// How long subscribers may take to connect, and events in flight to arrive at the end
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time, help_heading = "Run")]
    pub patience: Duration,

    /// The server's process on this machine, for its CPU time and memory
    #[arg(long, help_heading = "Report")]
    pub pid: Option<u32>,

    /// Write the report as JSON to standard output
    #[arg(long, help_heading = "Report")]
    pub json: bool,

    /// Write the report as a page with plots, in one file that needs no network
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub html: Option<PathBuf>,

    /// Show no progress
    #[arg(long, short, help_heading = "Report")]
    pub quiet: bool,

    /// Exit with 0 even when a stream was not complete
    #[arg(long, help_heading = "Report")]
    pub allow_loss: bool,
}

/// What subscribers receive.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Every event
    #[default]
    Events,
    /// The latest values, and their changes
    Latest,
}

impl BenchArgs {
    /// The number of places that events go to: keys, or topics.
    pub fn places(&self) -> usize {
        self.keys.unwrap_or(self.topics)
    }

    /// The number of these of each subscriber.
    pub fn places_per_client(&self) -> usize {
        self.keys.unwrap_or(self.topics_per_client)
    }

    /// The number of publishers that publish to each place. Where only the newest value counts, it is one, so that the newest value
    /// is known.
    pub fn lanes_per_place(&self) -> usize {
        if self.mode == Mode::Latest || self.keys.is_some() { 1 } else { self.publishers }
    }
}

/// Which topics events go to.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// At random, all alike
    Uniform,
    /// At random: topic k has the weight 1/k
    Zipf,
    /// All to the first; the others are quiet
    One,
}

/// When events are published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    PerSecond(f64),
    Max,
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<f64>() {
            _ if text == "max" => Ok(Self::Max),
            Ok(rate) if (0.0..=1e7).contains(&rate) => Ok(Self::PerSecond(rate)),
            _ => Err("expected events a second up to 10000000, or max; 0 publishes nothing"),
        }
    }
}

fn whole(range: RangeInclusive<u64>) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(range)
}

fn time(text: &str) -> Result<Duration, &'static str> {
    parse_span(text)
        .ok()
        .filter(|span| *span <= Duration::from_hours(24))
        .ok_or("expected seconds, or a time with a unit, up to a day: 30, 500ms, 5m")
}

/// Returns the header as a line of a request.
fn header(text: &str) -> Result<String, &'static str> {
    const SYNTAX: &str = "a header is 'Name: value' on one line, as in 'x-key: 1'";
    let (name, value) = text.split_once(':').ok_or(SYNTAX)?;
    let name: HeaderName = name.parse().map_err(|_| SYNTAX)?;
    HeaderValue::try_from(value).map_err(|_| SYNTAX)?;
    if [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, HOST].contains(&name) {
        return Err("content-length, transfer-encoding, connection and host are set by the load generator");
    }
    Ok(format!("{name}: {}\r\n", value.trim()))
}

fn topic(text: &str) -> Result<String, &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~:-".contains(&byte);
    if text.is_empty() || text.len() > 100 || !text.bytes().all(is_plain) {
        return Err("expected 1 to 100 ASCII letters, digits and . _ ~ : - (which no URL, JSON or form escapes)");
    }
    Ok(text.to_owned())
}

fn method(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err("expected a word such as POST or PUT");
    }
    Ok(text.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_a_number_or_max() {
        assert_eq!("max".parse(), Ok(Rate::Max));
        assert_eq!("12.5".parse(), Ok(Rate::PerSecond(12.5)));
        assert_eq!("0".parse(), Ok(Rate::PerSecond(0.0)));
        for wrong in ["", "-1", "fast", "nan", "inf", "1e9"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn time_is_at_most_a_day() {
        assert_eq!(time("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        assert!(time("24h").is_ok() && time("86401").is_err() && time("soon").is_err());
    }

    #[test]
    fn header_is_a_name_and_a_value_on_one_line() {
        assert_eq!(header("X-Key:  1 "), Ok("x-key: 1\r\n".to_owned()));
        for wrong in ["x-key", ": 1", "x y: 1", "x: 1\r\ny: 2", "Content-Length: 3"] {
            assert!(header(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn topic_needs_no_escapes() {
        assert!(topic("a:b-1.c").is_ok());
        for wrong in ["", "a b", "a,b", "a/b", "ü", "a*"] {
            assert!(topic(wrong).is_err(), "{wrong}");
        }
    }
}

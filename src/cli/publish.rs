//! `fanline publish`: one event from the command line, or each line of standard input as an event.
//!
//! Topic, name and JSON are checked here, before there is a connection, by the types that the server checks them with.
//! Standard input goes out as one NDJSON request: a thread reads it and hands the lines on through a short queue, and
//! waits when the server does not keep up.

mod lines;

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, IsTerminal, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use fanline::event::EventName;
use fanline::topic::Topic;
use http_body_util::Full;
use hyper::Request;
use hyper::body::{Body, Frame};
use hyper::header::{ACCEPT, CONTENT_TYPE};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::client::{self, Refusal, Reply};
use super::signal;
use super::target::ServerArgs;
use lines::{EventHead, InputError, Lines, check_json};

/// How long the answer for one event may take. A server that waits for its backbone answers sooner.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads of the input that may wait for the server, so that one can be prepared while another is sent.
const QUEUED_READS: usize = 2;

const EXAMPLES: &str = "\
Examples:
  One event with a text:
      fanline publish --topic chat:7 'hello'
  One event with JSON, sent byte for byte:
      fanline publish --topic cpu --json '{\"value\": 45.2}'
  An event for each line, as soon as it comes:
      tail -f access.log | fanline publish --topic access
  An event with JSON for each line:
      jq -c '.[]' rows.json | fanline publish --topic rows --format ndjson
  Lines such as {\"topic\":\"t\",\"event\":\"e\",\"data\":1}:
      fanline publish --format ndjson < events.ndjson";

/// The flags of `fanline publish`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct PublishArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// The topic to publish to; needed unless the lines of --format ndjson say it
    #[arg(long, short)]
    topic: Option<Topic>,

    /// The event's name, which EventSource calls its type [default: data]
    #[arg(long, short, requires = "topic")]
    event: Option<EventName>,

    /// What a line of standard input is [default: lines]
    #[arg(long, value_enum, conflicts_with = "data")]
    format: Option<Format>,

    /// DATA is one JSON value: it is checked, and sent byte for byte
    #[arg(long, requires = "data")]
    json: bool,

    /// The payload of one event; without it, each line of standard input is an event
    data: Option<String>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Any text, the payload of one event
    Lines,
    /// With --topic any JSON value, the payload of one event; without it an event with "topic" and "data" or "text"
    Ndjson,
}

/// What ends the command other than well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("--topic is needed: the topic to publish to, as in --topic chat:7")]
    NoTopic,
    #[error("DATA is not one JSON value: {0}; without --json it is sent as text")]
    NotJson(String),
    #[error("{0}")]
    Connect(client::Error),
    #[error("{0}; how much of it was published is unknown")]
    Unanswered(client::Error),
    #[error("{0}")]
    Refused(Refusal),
    #[error("{0}; what was read before it has been published")]
    Input(InputError),
    #[error("{0}; nothing was published")]
    InputAtOnce(InputError),
    #[error("no answer from the server for {} s; whether the event was published is unknown", ANSWER_TIMEOUT.as_secs())]
    NoAnswer,
    #[error("the server's answer is not what /publish answers; whether the events were published is unknown: {0}")]
    Answer(String),
    #[error("the request cannot be made: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("no thread to read standard input: {0}")]
    Thread(io::Error),
    #[error("standard output: {0}")]
    Output(io::Error),
}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Self {
        match error {
            client::Error::Connect { .. } => Self::Connect(error),
            client::Error::Exchange(..) => Self::Unanswered(error),
        }
    }
}

impl Error {
    /// 2 for a command line that cannot be right, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoTopic | Self::NotJson(_) => 2,
            _ => 1,
        }
    }
}

/// Publishes what the arguments say, and prints the ids.
///
/// # Errors
/// [`Error`] says what was wrong, and what is known to be published.
pub async fn run(args: PublishArgs) -> Result<(), Error> {
    let published = match &args.data {
        Some(data) => publish_one(&args, data).await?,
        None => {
            let lines = args.lines()?;
            let input = io::stdin();
            if input.is_terminal() {
                let _ = writeln!(io::stderr(), "each line that you type is published; Ctrl-D ends");
            }
            let (published, ended) = publish_lines(&args.server, lines, input, signal::interrupted()).await?;
            if let Some(fault) = ended {
                return match published {
                    Some(published) => print(&published).and(Err(Error::Input(fault))),
                    None => Err(Error::InputAtOnce(fault)),
                };
            }
            published.unwrap_or_default()
        }
    };
    print(&published)
}

fn print(published: &Published) -> Result<(), Error> {
    match writeln!(io::stdout(), "{published}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(()),
    }
}

impl PublishArgs {
    fn head(&self) -> Result<EventHead, Error> {
        let topic = self.topic.as_ref().ok_or(Error::NoTopic)?;
        Ok(EventHead::new(topic, self.event.as_ref()))
    }

    fn lines(&self) -> Result<Lines, Error> {
        match (self.format.unwrap_or(Format::Lines), &self.topic) {
            (Format::Lines, _) => Ok(Lines::Text(self.head()?)),
            (Format::Ndjson, Some(_)) => Ok(Lines::Value(self.head()?)),
            (Format::Ndjson, None) => Ok(Lines::Whole),
        }
    }

    fn one_event(&self, data: &str) -> Result<String, Error> {
        let head = self.head()?;
        if !self.json {
            return Ok(head.with_text(data));
        }
        check_json(data).map_err(Error::NotJson)?;
        Ok(head.with_data(data))
    }
}

fn request<B>(server: &ServerArgs, content_type: &str, body: B) -> Result<Request<B>, Error> {
    let request = server.request("/publish").method("POST").header(CONTENT_TYPE, content_type);
    Ok(request.header(ACCEPT, "application/json").body(body)?)
}

async fn publish_one(args: &PublishArgs, data: &str) -> Result<Published, Error> {
    let body = Full::new(Bytes::from(args.one_event(data)?));
    let request = request(&args.server, "application/json", body)?;
    let exchange = async { answer(client::send(&args.server.url, request).await?).await };
    timeout(ANSWER_TIMEOUT, exchange).await.unwrap_or(Err(Error::NoAnswer))
}

/// Publishes the lines of `input` until it ends, a line is wrong, the server answers or `stop` completes. Gives what the
/// server says it published, if it was asked, and what was wrong with the input.
async fn publish_lines(
    server: &ServerArgs,
    lines: Lines,
    input: impl Read + Send + 'static,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(Option<Published>, Option<InputError>), Error> {
    let (sender, mut events) = mpsc::channel(QUEUED_READS);
    let (ended, mut input_ended) = oneshot::channel();
    // Not a task of the runtime: a read of a terminal or a pipe cannot be cancelled, and the runtime would wait for it.
    let reader = thread::Builder::new().name("stdin".into());
    let reader = reader.spawn(move || {
        let result = lines.read(input, |events| sender.blocking_send(Bytes::from(events)).is_ok());
        // Before `sender` is dropped: who sees the end of the events finds the reason.
        let _ = ended.send(result);
    });
    reader.map_err(Error::Thread)?;

    let mut stop = Box::pin(stop);
    let first = tokio::select! {
        first = events.recv() => first,
        () = &mut stop => None,
    };
    let published = match first {
        None => None,
        first => {
            let request = request(server, "application/x-ndjson", EventBody { first, events, stop })?;
            Some(answer(client::send(&server.url, request).await?).await?)
        }
    };
    let fault = input_ended.try_recv().ok().and_then(Result::err);
    Ok((published, fault))
}

/// A request body that goes on as long as there are events and nothing says stop.
struct EventBody<S> {
    first: Option<Bytes>,
    events: mpsc::Receiver<Bytes>,
    stop: Pin<Box<S>>,
}

impl<S: Future<Output = ()>> Body for EventBody<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        // Asked before the events: an input that never pauses is stopped too.
        if self.stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        self.events.poll_recv(cx).map(|events| events.map(|events| Ok(Frame::data(events))))
    }
}

async fn answer<B>(mut reply: Reply<B>) -> Result<Published, Error>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
{
    if !reply.head.status.is_success() {
        return Err(Error::Refused(reply.refusal().await));
    }
    let body = reply.short_body().await.map_err(|error| Error::Answer(error.to_string()))?;
    serde_json::from_slice(&body).map_err(|error| Error::Answer(error.to_string()))
}

/// What the server says it published: one event, or several with the ids of the first and the last.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
struct Published {
    published: u64,
    id: Option<String>,
    first_id: Option<String>,
    last_id: Option<String>,
}

impl std::fmt::Display for Published {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.id, &self.first_id, &self.last_id, self.published) {
            (Some(id), ..) => f.write_str(id),
            (None, Some(first), Some(last), 1) if first == last => write!(f, "{first} (1 event)"),
            (None, Some(first), Some(last), events) => write!(f, "{first}–{last} ({events} events)"),
            (None, _, _, events) => write!(f, "{events} events"),
        }
    }
}

#[cfg(test)]
mod tests;

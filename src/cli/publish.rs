//! `fanline publish`: one event from the command line, or each line of standard input as an event.
//!
//! Topic, name and JSON are checked before connecting, with the server's own types. Standard input is sent as one
//! NDJSON request: a thread reads it and hands the lines on through a short queue, and waits when the server does not
//! keep up.

mod lines;

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, IsTerminal, Read, Write};
use std::pin::Pin;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use fanline::event::{EventName, Key};
use fanline::topic::Topic;
use futures_util::stream::{self, StreamExt};
use http_body_util::{Full, StreamBody};
use hyper::body::{Body, Frame};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::client::{self, Refusal};
use super::key_pointer::{KeyFault, KeyPointer};
use super::signal;
use super::target::ServerArgs;
pub use lines::JsonError;
use lines::{EventHead, InputError, InputFormat};

/// How long the answer for one event may take. A server that waits for its backbone times out sooner.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads of the input that may wait for the server: one can be prepared while another is sent.
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
  The latest value of each row, by its member id:
      jq -c '.[]' rows.json | fanline publish --topic rows --format ndjson --key-pointer /id
  Lines such as {\"topic\":\"t\",\"event\":\"e\",\"data\":1}:
      fanline publish --format ndjson < events.ndjson";

/// The flags of `fanline publish`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct PublishArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// The topic to publish to; required unless the lines of --format ndjson have one each
    #[arg(long, short)]
    topic: Option<Topic>,

    /// The event's name, which EventSource calls its type; without it, browsers receive the event with `onmessage`
    #[arg(long, short, requires = "topic")]
    event: Option<EventName>,

    /// The key of which the event is the latest value
    #[arg(long, requires = "topic", conflicts_with = "key_pointer")]
    key: Option<Key>,

    /// Where the key is in each payload, a JSON pointer such as /id; with --json or --format ndjson
    #[arg(long, value_name = "POINTER", requires = "topic")]
    key_pointer: Option<KeyPointer>,

    /// Deletes the latest value of --key, or of --topic without a key; DATA is optional
    #[arg(long, requires = "topic", conflicts_with_all = ["format", "key_pointer"])]
    delete: bool,

    /// What a line of standard input is [default: lines]
    #[arg(long, value_enum, conflicts_with = "data")]
    format: Option<Format>,

    /// DATA is one JSON value; it is validated and sent byte for byte
    #[arg(long, requires = "data")]
    json: bool,

    /// Publishes DATA once, however often the command is repeated with this key and the same DATA within the server's
    /// idempotency_window; see `Idempotency-Key` in the documentation
    #[arg(long, value_name = "KEY", requires = "data", value_parser = idempotency_key)]
    idempotency_key: Option<HeaderValue>,

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

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("--topic is required, as in --topic chat:7")]
    NoTopic,
    #[error("DATA is not one JSON value: {0}; without --json it is sent as text")]
    NotJson(JsonError),
    #[error("DATA: {0}")]
    NoKey(KeyFault),
    #[error("--key-pointer is for JSON: use it with --json, or with --topic and --format ndjson")]
    PointerIntoText,
    #[error("{0}")]
    Connect(client::Error),
    #[error("{0}; events may have been published")]
    Unanswered(client::Error),
    #[error("{0}")]
    Refused(Refusal),
    #[error("{0}; the lines before it have been published")]
    Input(InputError),
    #[error("{0}; nothing was published")]
    InputAtOnce(InputError),
    #[error("no answer from the server for {} s; the event may have been published", ANSWER_TIMEOUT.as_secs())]
    NoAnswer,
    #[error("unexpected answer to /publish: {0}; events may have been published")]
    Answer(#[from] client::BodyError),
    #[error("invalid request: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("cannot start the thread for standard input: {0}")]
    Thread(io::Error),
    #[error("standard output: {0}")]
    Output(io::Error),
}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Self {
        match error {
            client::Error::Exchange(..) => Self::Unanswered(error),
            _ => Self::Connect(error),
        }
    }
}

impl Error {
    /// 2 for a wrong command line, 1 for other failures.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoTopic | Self::NotJson(_) | Self::NoKey(_) | Self::PointerIntoText => 2,
            _ => 1,
        }
    }
}

/// Publishes the event of the command line, or those of standard input, and prints the ids.
pub async fn run(args: PublishArgs) -> Result<(), Error> {
    let published = match args.one_event()? {
        Some(event) => publish_one(&args, event).await?,
        None => {
            let format = args.input_format()?;
            let input = io::stdin();
            if input.is_terminal() {
                let _ = writeln!(io::stderr(), "each line you type is published; Ctrl-D ends the input");
            }
            let (published, ended) = publish_lines(&args.server, format, input, signal::interrupted()).await?;
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

fn print(published: &PublishAnswer) -> Result<(), Error> {
    match writeln!(io::stdout(), "{published}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(()),
    }
}

impl PublishArgs {
    fn head(&self) -> Result<EventHead, Error> {
        let topic = self.topic.as_ref().ok_or(Error::NoTopic)?;
        let head = EventHead::new(topic, self.event.as_ref(), self.key.as_ref());
        Ok(if self.delete { head.deleting() } else { head })
    }

    fn input_format(&self) -> Result<InputFormat, Error> {
        match (self.format.unwrap_or(Format::Lines), &self.topic) {
            (Format::Lines, _) if self.key_pointer.is_some() => Err(Error::PointerIntoText),
            (Format::Lines, _) => Ok(InputFormat::Text(self.head()?)),
            (Format::Ndjson, Some(_)) => Ok(InputFormat::Value(self.head()?, self.key_pointer.clone())),
            (Format::Ndjson, None) => Ok(InputFormat::Event),
        }
    }

    /// The event of the command line as JSON, if it has one.
    fn one_event(&self) -> Result<Option<String>, Error> {
        let Some(data) = &self.data else {
            return if self.delete { Ok(Some(self.head()?.without_payload())) } else { Ok(None) };
        };
        let head = self.head()?;
        if !self.json {
            return if self.key_pointer.is_some() {
                Err(Error::PointerIntoText)
            } else {
                Ok(Some(head.with_text(data)))
            };
        }
        let event = head.with_keyed_data(data, self.key_pointer.as_ref());
        event.map(Some).map_err(|fault| match fault {
            KeyFault::NotJson(error) => Error::NotJson(error),
            fault => Error::NoKey(fault),
        })
    }
}

/// The server checks the rest.
fn idempotency_key(text: &str) -> Result<HeaderValue, &'static str> {
    HeaderValue::from_str(text).map_err(|_| "expected 1 to 255 visible ASCII characters")
}

async fn publish_one(args: &PublishArgs, event: String) -> Result<PublishAnswer, Error> {
    let body = Full::new(Bytes::from(event));
    let key = args.idempotency_key.as_ref();
    timeout(ANSWER_TIMEOUT, post(&args.server, "application/json", key, body)).await.unwrap_or(Err(Error::NoAnswer))
}

/// Publishes the lines of `input` until it ends, a line is invalid, the server answers or `stop` completes. Returns the
/// server's answer, if there was anything to publish, and the fault of the input.
async fn publish_lines(
    server: &ServerArgs,
    format: InputFormat,
    input: impl Read + Send + 'static,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(Option<PublishAnswer>, Option<InputError>), Error> {
    let (sender, mut events) = mpsc::channel(QUEUED_READS);
    let (ended, mut input_ended) = oneshot::channel();
    // Not a blocking task: reading a terminal or a pipe cannot be cancelled, and the runtime would wait for it.
    let reader = thread::Builder::new().name("stdin".into());
    let reader = reader.spawn(move || {
        let result = format.read(input, |events| sender.blocking_send(Bytes::from(events)).is_ok());
        // Before `sender` is dropped, so that the reason is there when the events end.
        let _ = ended.send(result);
    });
    reader.map_err(Error::Thread)?;

    // `stop` is polled first, so that an input without pauses can be stopped.
    let frames = stream::poll_fn(move |cx| events.poll_recv(cx)).take_until(Box::pin(stop));
    let mut frames = frames.map(|events| Ok::<_, Infallible>(Frame::data(events))).peekable();
    let published = match Pin::new(&mut frames).peek().await {
        None => None,
        Some(_) => Some(post(server, "application/x-ndjson", None, StreamBody::new(frames)).await?),
    };
    let fault = input_ended.try_recv().ok().and_then(Result::err);
    Ok((published, fault))
}

/// Posts events and reads the ids in the answer.
async fn post<B>(
    server: &ServerArgs,
    content_type: &str,
    key: Option<&HeaderValue>,
    body: B,
) -> Result<PublishAnswer, Error>
where
    B: Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let mut request = server.request("/publish").method("POST").header(CONTENT_TYPE, content_type);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let request = request.header(ACCEPT, "application/json").body(body)?;
    let response = client::send(&server.url, request).await?;
    if !response.status().is_success() {
        return Err(Error::Refused(Refusal::of(response).await));
    }
    Ok(client::short_json(response.into_body()).await?)
}

/// The server's answer: the id of one event, or the ids of the first and the last of several.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
struct PublishAnswer {
    published: u64,
    id: Option<String>,
    first_id: Option<String>,
    last_id: Option<String>,
}

impl std::fmt::Display for PublishAnswer {
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

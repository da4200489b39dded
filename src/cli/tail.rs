//! `fanline tail`: follows a stream like a well-behaved client.
//!
//! It reconnects with the id it last received, waits as long as the server asks ([`pace`]) and reports gaps on standard
//! error ([`printer`]). Events, ids and reconnection follow WHATWG HTML, section 9.2.

mod args;
mod line;
mod pace;
mod printer;
mod table;
mod websocket;

use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use hyper::{Request, StatusCode};
use serde::Deserialize;
use sse_core::{MessageEvent, SseDecoder, SseEvent};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::client::{self, Refusal, content_type};
use super::gunzip::Gunzip;
use super::transport::Transport;
use super::{has_colours, printable, signal};
pub use args::TailArgs;
use pace::Pace;
use printer::{Format, Printer, Style};
use table::Table;
use websocket::{Handshake, Socket};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Bounds the memory for a response that is not an event stream. A server's own limit is far below.
const MAX_EVENT_BYTES: NonZeroUsize = NonZeroUsize::new(64 * 1024 * 1024).unwrap();

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Refused(Refusal),
    #[error("the server answered {status} and points to {location:?}; give that server's address as --url")]
    Redirected { status: StatusCode, location: String },
    #[error("--format sse prints Server-Sent Events; with --transport ws choose data, log or json")]
    SseFormat,
    #[error("no handshake of WebSocket: the server or a proxy before it answered {0}")]
    NotAWebSocket(StatusCode),
    #[error("not an event stream: the server answered with content type {0:?} instead of text/event-stream")]
    NotAStream(String),
    #[error("the stream has the content encoding {0:?}, which was not requested; expected gzip or none")]
    Encoding(String),
    /// A failure that is retried without `--once`.
    #[error("{0}")]
    NotRetried(String),
    #[error("invalid request: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

impl Error {
    /// 2 for contradicting flags, 1 for a failure.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::SseFormat) { 2 } else { 1 }
    }
}

/// Follows the stream until `--count`, a signal or the server ends it.
pub async fn run(args: TailArgs) -> Result<(), Error> {
    if args.transport == Transport::Ws && args.format == Some(Format::Sse) {
        return Err(Error::SseFormat);
    }
    let is_terminal = io::stdout().is_terminal();
    let style = Style {
        format: args.format.unwrap_or(match (is_terminal, args.is_latest()) {
            (true, true) => Format::Table,
            (true, false) => Format::Log,
            (false, _) => Format::Data,
        }),
        is_coloured: has_colours(&io::stdout()),
        is_quiet: args.quiet,
    };
    follow(&args, style, io::stdout(), io::stderr(), signal::interrupted()).await
}

async fn follow(
    args: &TailArgs,
    style: Style,
    events: impl Write,
    notices: impl Write,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let printer = Printer::new(events, notices, style).with_table(Table::new(args.key_pointer.clone()));
    let mut follower = Follower::new(args, style.format, printer);
    let ended = tokio::select! {
        ended = follower.follow() => ended,
        () = stop => Ok(()),
    };
    match ended.and(follower.printer.finish().map_err(Error::Output)) {
        // The reader of the output has closed it, as in `fanline tail | head`.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Why a connection gives no stream.
enum OpenError {
    /// 204: the server wants no further connection (WHATWG HTML, section 9.2.3).
    NoContent,
    Fatal(Error),
    Retry {
        why: String,
        retry_after: Option<Duration>,
    },
}

/// An open stream.
enum Connection {
    EventStream(Incoming, Option<Box<Gunzip>>),
    WebSocket(Box<Socket>),
}

/// Why a stream ended.
enum StreamEnd {
    CountReached,
    /// By the server, for this reason.
    Closed(String),
    /// The server refused it in band.
    Refused(String),
    Broken(String),
}

/// One subscription over as many connections as it takes.
struct Follower<'a, O: Write, N: Write> {
    args: &'a TailArgs,
    /// The path and query of the stream.
    path: String,
    /// Keeps the last id across connections.
    decoder: SseDecoder,
    /// Why the server refuses the current stream, if it does.
    refusal: Option<String>,
    pace: Pace,
    printer: Printer<O, N>,
}

impl<'a, O: Write, N: Write> Follower<'a, O, N> {
    fn new(args: &'a TailArgs, format: Format, printer: Printer<O, N>) -> Self {
        let mut decoder = SseDecoder::with_limit(MAX_EVENT_BYTES);
        decoder.reconnect_with_id(args.from.clone().map(Into::into));
        Self { args, path: args.stream_path(format), decoder, refusal: None, pace: Pace::new(), printer }
    }

    async fn follow(&mut self) -> Result<(), Error> {
        loop {
            let (why, wait) = match self.open().await {
                Ok(connection) => match self.read(connection).await? {
                    StreamEnd::CountReached => return Ok(()),
                    StreamEnd::Closed(_) if self.args.once => return Ok(()),
                    StreamEnd::Closed(why) => (why, self.pace.after_stream()),
                    StreamEnd::Refused(why) => {
                        (format!("the server refused the stream: {why}"), self.pace.after_refusal_in_band())
                    }
                    StreamEnd::Broken(why) => (why, self.pace.after_stream()),
                },
                Err(OpenError::NoContent) => {
                    self.printer.note("the server ended the subscription (204 No Content)");
                    return Ok(());
                }
                Err(OpenError::Fatal(error)) => return Err(error),
                Err(OpenError::Retry { why, retry_after: Some(wait) }) => (why, self.pace.after_refusal(wait)),
                Err(OpenError::Retry { why, retry_after: None }) => (why, self.pace.after_failure()),
            };
            if self.args.once {
                return Err(Error::NotRetried(why));
            }
            self.printer.flush()?;
            self.printer.note(format_args!("disconnected: {why}; next attempt in {:.1} s", wait.as_secs_f64()));
            sleep(wait).await;
        }
    }

    fn request(&self, handshake: &Handshake) -> Result<Request<Empty<Bytes>>, Error> {
        let mut path = self.path.clone();
        let mut last_id = None;
        if let Some(id) = self.decoder.last_event_id() {
            match HeaderValue::from_bytes(id.as_bytes()) {
                Ok(value) => last_id = Some(value),
                // An id may have control characters, which a header may not.
                Err(_) => {
                    path.push(if path.contains('?') { '&' } else { '?' });
                    path.push_str("last_event_id=");
                    path.extend(form_urlencoded::byte_serialize(id.as_bytes()));
                }
            }
        }
        let mut request = self.args.server.request(&path).header(CACHE_CONTROL, "no-store");
        request = match self.args.transport {
            Transport::Sse => request.header(ACCEPT, "text/event-stream").header(ACCEPT_ENCODING, "gzip"),
            Transport::Ws => handshake.request(request),
        };
        if let Some(id) = last_id {
            request = request.header(LAST_EVENT_ID, id);
        }
        Ok(request.body(Empty::new())?)
    }

    async fn open(&mut self) -> Result<Connection, OpenError> {
        let handshake = Handshake::new();
        let request = self.request(&handshake).map_err(OpenError::Fatal)?;
        let patience = self.args.idle_timeout();
        let failed = |why| OpenError::Retry { why, retry_after: None };
        let response = match timeout(patience, client::send(&self.args.server.url, request)).await {
            Ok(response) => response.map_err(|error| failed(error.to_string()))?,
            Err(_) => return Err(failed(format!("no answer for {} s", patience.as_secs()))),
        };
        let headers = response.headers();
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
        let is_websocket = self.args.transport == Transport::Ws;
        match response.status() {
            StatusCode::SWITCHING_PROTOCOLS if is_websocket => {
                handshake.complete(response).await.map(Box::new).map(Connection::WebSocket).map_err(failed)
            }
            status if is_websocket && (status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS) => {
                Err(OpenError::Fatal(Error::NotAWebSocket(status)))
            }
            StatusCode::OK if content_type(headers) == "text/event-stream" => {
                let gunzip = match text(CONTENT_ENCODING) {
                    "" | "identity" => None,
                    "gzip" => Some(Box::new(Gunzip::new())),
                    other => return Err(OpenError::Fatal(Error::Encoding(other.to_owned()))),
                };
                Ok(Connection::EventStream(response.into_body(), gunzip))
            }
            StatusCode::OK => Err(OpenError::Fatal(Error::NotAStream(content_type(headers)))),
            StatusCode::NO_CONTENT => Err(OpenError::NoContent),
            status if status.is_redirection() => {
                Err(OpenError::Fatal(Error::Redirected { status, location: text(LOCATION).to_string() }))
            }
            status => {
                let retry_after = pace::retry_after(text(RETRY_AFTER), SystemTime::now());
                let Ok(refusal) = timeout(patience, Refusal::of(response)).await else {
                    return Err(failed(format!("{status}, and no body for {} s", patience.as_secs())));
                };
                if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
                    Err(OpenError::Retry { why: refusal.to_string(), retry_after })
                } else {
                    Err(OpenError::Fatal(Error::Refused(refusal)))
                }
            }
        }
    }

    /// Prints the events of a stream until it ends or is silent for too long.
    async fn read(&mut self, connection: Connection) -> Result<StreamEnd, Error> {
        self.decoder.reconnect();
        self.refusal = None;
        self.printer.forget_block();
        match connection {
            Connection::EventStream(body, gunzip) => self.read_event_stream(body, gunzip).await,
            Connection::WebSocket(socket) => self.read_websocket(*socket).await,
        }
    }

    async fn read_event_stream(
        &mut self,
        mut body: Incoming,
        mut gunzip: Option<Box<Gunzip>>,
    ) -> Result<StreamEnd, Error> {
        let patience = self.args.idle_timeout();
        loop {
            let frame = tokio::select! {
                biased;
                frame = body.frame() => Ok(frame),
                // The connection's task had its turn and found nothing more to read.
                () = yield_now() => {
                    self.printer.flush()?;
                    timeout(patience, body.frame()).await
                }
            };
            match frame {
                Ok(Some(Ok(frame))) => {
                    let Ok(bytes) = frame.into_data() else { continue };
                    let (bytes, decoded) = match &mut gunzip {
                        Some(gunzip) => gunzip.decode_piece(&bytes),
                        None => (bytes, Ok(())),
                    };
                    if self.print(bytes)? {
                        return Ok(StreamEnd::CountReached);
                    }
                    if let Err(error) = decoded {
                        return Ok(StreamEnd::Broken(format!("the stream is not valid gzip: {error}")));
                    }
                }
                Ok(Some(Err(error))) => {
                    return Ok(StreamEnd::Broken(format!("the stream broke off: {}", client::with_causes(&error))));
                }
                Ok(None) => {
                    let closed = || StreamEnd::Closed("the server ended the stream".to_owned());
                    return Ok(self.refusal.take().map_or_else(closed, StreamEnd::Refused));
                }
                Err(_) => return Ok(StreamEnd::Broken(format!("silent for {} s", patience.as_secs()))),
            }
        }
    }

    async fn read_websocket(&mut self, mut socket: Socket) -> Result<StreamEnd, Error> {
        let patience = self.args.idle_timeout();
        let has_envelope = self.printer.needs_envelope();
        loop {
            let message = tokio::select! {
                biased;
                message = socket.next() => Ok(message),
                () = yield_now() => {
                    self.printer.flush()?;
                    timeout(patience, socket.next()).await
                }
            };
            match message {
                Ok(Some(Ok(Message::Text(text)))) => {
                    if let Some(event) = websocket::event(&text, has_envelope)
                        && self.print_message(&event)?
                    {
                        return Ok(StreamEnd::CountReached);
                    }
                }
                Ok(Some(Ok(Message::Close(frame)))) => {
                    return Ok(StreamEnd::Closed(websocket::close_reason(frame.as_ref())));
                }
                // A ping counts as a sign that the connection is alive.
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => return Ok(StreamEnd::Broken(format!("the connection broke off: {error}"))),
                Ok(None) => return Ok(StreamEnd::Broken("the connection broke off".to_owned())),
                Err(_) => return Ok(StreamEnd::Broken(format!("silent for {} s", patience.as_secs()))),
            }
        }
    }

    /// Prints the event of a message. Returns true when `--count` is reached.
    fn print_message(&mut self, event: &MessageEvent) -> io::Result<bool> {
        if let Some(id) = &event.last_event_id {
            self.decoder.reconnect_with_id(Some(id.clone()));
        }
        if let Some(milliseconds) = websocket::retry(event) {
            self.pace.set_retry(milliseconds);
        }
        self.printer.event(event)?;
        Ok(self.args.count == Some(self.printer.received()))
    }

    /// Prints the events that `bytes` complete. Returns true when `--count` is reached.
    fn print(&mut self, mut bytes: Bytes) -> io::Result<bool> {
        loop {
            let before = if self.printer.wants_raw() { bytes.clone() } else { Bytes::new() };
            let event = self.decoder.next(&mut bytes);
            if self.printer.wants_raw() {
                self.printer.raw(&before[..before.len() - bytes.len()]);
            }
            match event {
                Some(Ok(SseEvent::Message(event))) => {
                    self.printer.event(&event)?;
                    self.refusal = refusal(&event);
                    if self.args.count == Some(self.printer.received()) {
                        return Ok(true);
                    }
                }
                Some(Ok(SseEvent::Retry(milliseconds))) => self.pace.set_retry(milliseconds),
                Some(Err(_)) => self.printer.skipped(MAX_EVENT_BYTES.get())?,
                None => {
                    self.printer.input_used_up()?;
                    return Ok(false);
                }
            }
        }
    }
}

/// Why the server refuses a stream for now, if `event` is such a refusal. The stream ends after it.
fn refusal(event: &MessageEvent) -> Option<String> {
    #[derive(Deserialize)]
    struct Unavailable {
        message: String,
        reason: Option<String>,
        detail: Option<String>,
    }
    if event.event != "system" {
        return None;
    }
    let Unavailable { message, reason, detail } = serde_json::from_str(&event.data).ok()?;
    let why = || detail.or(reason).map_or_else(String::new, |why| printable::escape(&why).into_owned());
    (message == "unavailable").then(why)
}

#[cfg(test)]
mod tests;

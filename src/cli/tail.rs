//! `fanline tail`: follows a stream as a well-behaved client does.
//!
//! It comes back with the last id that it received, waits as long as the server asks ([`pace`]), and says on standard
//! error when there was a gap ([`printer`]). What is an event, an id and a reconnection is as WHATWG HTML, section 9.2,
//! has it.

mod args;
mod pace;
mod printer;

use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{ACCEPT, CACHE_CONTROL, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::{Request, StatusCode};
use sse_core::{SseDecoder, SseEvent};
use tokio::time::{sleep, timeout};

use super::client::{self, Reply};
use super::signal;
pub use args::TailArgs;
use pace::Pace;
use printer::Printer;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// An event may be this long. A server's own limit is far below; this one is for what is no event stream.
const LONGEST_EVENT: NonZeroUsize = NonZeroUsize::new(64 * 1024 * 1024).unwrap();

/// What ends the command other than well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Refused(client::Refusal),
    #[error("the server answered {status} and points to {location:?}; give that server's address as --url")]
    Elsewhere { status: StatusCode, location: String },
    #[error("this is no event stream: the server answered with content type {0:?} instead of text/event-stream")]
    NotAStream(String),
    /// What else would be tried again, with `--once`.
    #[error("{0}")]
    NoSecondAttempt(String),
    #[error("the request cannot be made: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

/// Follows the stream until it is told to stop, by `--count`, a signal or the server.
///
/// # Errors
/// [`Error`] says what no further attempt would change.
pub async fn run(args: TailArgs) -> Result<(), Error> {
    follow(&args, io::stdout(), io::stderr(), signal::interrupted()).await
}

async fn follow(
    args: &TailArgs,
    events: impl Write,
    notices: impl Write,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut follower = Follower::new(args, Printer::new(events, notices, args.format, args.quiet));
    let ended = tokio::select! {
        ended = follower.follow() => ended,
        () = stop => Ok(()),
    };
    match ended.and(follower.printer.finish().map_err(Error::Output)) {
        // Whoever read the output has seen enough, as in `fanline tail | head`.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

type StreamReply = Reply<Empty<Bytes>>;

/// What an attempt to open the stream came to, when it was no stream.
enum Attempt {
    /// 204: the server wants no further attempt (WHATWG HTML, section 9.2.3).
    Enough,
    Hopeless(Error),
    Failed {
        why: String,
        retry_after: Option<Duration>,
    },
}

/// Why the bytes of a stream end.
enum StreamEnd {
    Counted,
    Closed,
    Broken(String),
}

/// One subscription over as many connections as it takes.
struct Follower<'a, O: Write, N: Write> {
    args: &'a TailArgs,
    /// Keeps the last id over all connections.
    decoder: SseDecoder,
    pace: Pace,
    printer: Printer<O, N>,
}

impl<'a, O: Write, N: Write> Follower<'a, O, N> {
    fn new(args: &'a TailArgs, printer: Printer<O, N>) -> Self {
        let mut decoder = SseDecoder::with_limit(LONGEST_EVENT);
        decoder.reconnect_with_id(args.from.map(|from| from.to_string().into()));
        Self { args, decoder, pace: Pace::new(), printer }
    }

    async fn follow(&mut self) -> Result<(), Error> {
        loop {
            let (why, wait) = match self.open().await {
                Ok(reply) => {
                    self.pace.connected();
                    match self.read(reply).await? {
                        StreamEnd::Counted => return Ok(()),
                        StreamEnd::Closed if self.args.once => return Ok(()),
                        StreamEnd::Closed => ("the server ended the stream".to_string(), self.pace.after_stream()),
                        StreamEnd::Broken(why) => (why, self.pace.after_stream()),
                    }
                }
                Err(Attempt::Enough) => {
                    self.printer.note("the server says that there is nothing more to follow (204)");
                    return Ok(());
                }
                Err(Attempt::Hopeless(error)) => return Err(error),
                Err(Attempt::Failed { why, retry_after: Some(wait) }) => (why, self.pace.after_refusal(wait)),
                Err(Attempt::Failed { why, retry_after: None }) => (why, self.pace.after_failure()),
            };
            if self.args.once {
                return Err(Error::NoSecondAttempt(why));
            }
            self.printer.flush()?;
            self.printer.note(format_args!("disconnected: {why}; next attempt in {:.1} s", wait.as_secs_f64()));
            sleep(wait).await;
        }
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, Error> {
        let mut path = self.args.stream_path();
        let mut last_id = None;
        if let Some(id) = self.decoder.last_event_id() {
            match HeaderValue::from_bytes(id.as_bytes()) {
                Ok(value) => last_id = Some(value),
                // An id may hold control characters, which a header may not.
                Err(_) => {
                    path.push(if path.contains('?') { '&' } else { '?' });
                    path.push_str("last_event_id=");
                    path.extend(form_urlencoded::byte_serialize(id.as_bytes()));
                }
            }
        }
        let mut request = self.args.server.request(&path).header(ACCEPT, "text/event-stream");
        request = request.header(CACHE_CONTROL, "no-store");
        if let Some(id) = last_id {
            request = request.header(LAST_EVENT_ID, id);
        }
        Ok(request.body(Empty::new())?)
    }

    async fn open(&mut self) -> Result<StreamReply, Attempt> {
        let request = self.request().map_err(Attempt::Hopeless)?;
        let patience = self.args.idle_timeout();
        let failed = |why| Attempt::Failed { why, retry_after: None };
        let reply = match timeout(patience, client::send(&self.args.server.url, request)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed(format!("no answer for {} s", patience.as_secs()))),
        };
        let headers = &reply.head.headers;
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
        match reply.head.status {
            StatusCode::OK if reply.content_type() == "text/event-stream" => Ok(reply),
            StatusCode::OK => Err(Attempt::Hopeless(Error::NotAStream(reply.content_type()))),
            StatusCode::NO_CONTENT => Err(Attempt::Enough),
            status if status.is_redirection() => {
                Err(Attempt::Hopeless(Error::Elsewhere { status, location: text(LOCATION).to_string() }))
            }
            status => {
                let retry_after = pace::retry_after(text(RETRY_AFTER), SystemTime::now());
                let Ok(refusal) = timeout(patience, reply.refusal()).await else {
                    return Err(failed(format!("{status}, and no body for {} s", patience.as_secs())));
                };
                if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
                    Err(Attempt::Failed { why: refusal.to_string(), retry_after })
                } else {
                    Err(Attempt::Hopeless(Error::Refused(refusal)))
                }
            }
        }
    }

    /// Prints what comes until there is a reason not to.
    async fn read(&mut self, mut reply: StreamReply) -> Result<StreamEnd, Error> {
        self.decoder.reconnect();
        self.printer.forget_block();
        let patience = self.args.idle_timeout();
        loop {
            let at_hand = poll_fn(|cx| Poll::Ready(reply.poll_chunk(cx))).await;
            let chunk = match at_hand {
                Poll::Ready(chunk) => chunk,
                Poll::Pending => {
                    self.printer.flush()?;
                    match timeout(patience, poll_fn(|cx| reply.poll_chunk(cx))).await {
                        Ok(chunk) => chunk,
                        Err(_) => {
                            return Ok(StreamEnd::Broken(format!("silent for {} s", patience.as_secs())));
                        }
                    }
                }
            };
            match chunk {
                Some(Ok(bytes)) => {
                    if self.take(bytes)? {
                        return Ok(StreamEnd::Counted);
                    }
                }
                Some(Err(error)) => {
                    return Ok(StreamEnd::Broken(format!("the stream broke off: {}", client::with_causes(&error))));
                }
                None => return Ok(StreamEnd::Closed),
            }
        }
    }

    /// Prints the events that `bytes` complete. True when that was enough.
    fn take(&mut self, mut bytes: Bytes) -> io::Result<bool> {
        loop {
            let before = if self.printer.wants_raw() { bytes.clone() } else { Bytes::new() };
            let event = self.decoder.next(&mut bytes);
            if self.printer.wants_raw() {
                self.printer.raw(&before[..before.len() - bytes.len()]);
            }
            match event {
                Some(Ok(SseEvent::Message(event))) => {
                    self.printer.event(&event)?;
                    if self.args.count == Some(self.printer.received()) {
                        return Ok(true);
                    }
                }
                Some(Ok(SseEvent::Retry(milliseconds))) => self.pace.set_retry(milliseconds),
                Some(Err(_)) => self.printer.skipped(LONGEST_EVENT.get())?,
                None => {
                    self.printer.input_used_up()?;
                    return Ok(false);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

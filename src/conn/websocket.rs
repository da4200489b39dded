//! A WebSocket (RFC 6455): events and replies to the client, messages from it.
//!
//! **Contract.** Messages are handled one at a time, in order, by [`Messages`]. The reply to a message precedes every event that
//! follows from it. While a reply is awaited, events are delivered and pings answered.
//!
//! **Bounds.** The task reads from the client only while less than [`MAX_REPLIES`] bytes of replies are to be written, and holds at
//! most one message that waits for the reply to the one before. A client that does not read is blocked like any other.
//!
//! **Quiet connections.** When nothing was written for the heartbeat interval, the client gets a ping, and a heartbeat message
//! before it if it asked for them. If nothing arrives from the client within the pong timeout, it is stalled.
//!
//! **End.** Everything that was written before is followed by a close frame with a code ([`EndReason::close_code`]). The socket is
//! closed when the client has closed its side, or after [`CLOSE_TIMEOUT`].

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

use super::control_events::ControlEvent;
use super::end::EndReason;
use super::http1::output::SocketOutput;
use super::linger;
use super::pacer::Pace;
use super::shard::Shard;
use super::stream::{Ended, StreamTask};
use super::transport::{Layout, Transport};
use super::wheel::{NEVER, Second};
use crate::hub::Feed;
use crate::presence;
use crate::wire::Format;
use crate::wire::websocket as wire;
use crate::wire::websocket::reader::{Incoming, MessageLimits, Reader, Violation};

/// The number of bytes of replies at which the client is not read.
const MAX_REPLIES: usize = 16 << 10;

/// The number of bytes of one read.
const READ_BYTES: usize = 16 << 10;

/// The number of reads of one connection before other tasks of its shard run.
const READS_PER_TURN: usize = 8;

/// The longest time until a client that accepts bytes has received the close frame.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest time from the close frame until the client closes its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Handles the messages of one client.
pub(crate) trait Messages: Send + 'static {
    /// Handles a text message. It may change the topics of `feed`.
    fn receive(&mut self, text: &str, feed: &mut Feed) -> Answer;

    /// Handles a binary message, if the [`MessageLimits`] accept any.
    fn receive_binary(&mut self, data: &[u8]) -> Reply {
        Reply::binary(data)
    }
}

/// What a message is answered with.
pub(crate) enum Answer {
    Now(Reply),
    /// The next message is handled after this.
    Later(Pin<Box<dyn Future<Output = Finish> + Send>>),
}

/// The end of an answer that had to wait.
pub(crate) type Finish = Box<dyn FnOnce(&mut Feed) -> Reply + Send>;

/// A message to the client, as a frame.
pub(crate) struct Reply(Bytes);

impl Reply {
    pub(crate) fn json(message: &impl Serialize) -> Self {
        Self::text(&serde_json::to_string(message).expect("a reply is valid JSON"))
    }

    pub(crate) fn text(text: &str) -> Self {
        Self(wire::text(text))
    }

    pub(crate) fn binary(data: &[u8]) -> Self {
        Self(wire::binary(data))
    }
}

/// The transport of one WebSocket.
pub(super) struct WebSocket {
    messages: Box<dyn Messages>,
    limits: MessageLimits,
    /// `None` while nothing of the client is incomplete or waits: most clients rarely send something.
    input: Option<Box<Input>>,
    /// Frames for the client.
    replies: Vec<u8>,
    /// The second of the first ping after which nothing has arrived; [`NEVER`] if there is none.
    pinged: Second,
    takes_heartbeats: bool,
    pace: Pace,
    /// Whether the client is not read until there is room for replies, or until an answer is there.
    is_paused: bool,
}

/// What was read from a client and is not handled yet.
struct Input {
    reader: Reader,
    /// The answer that is awaited.
    answer: Option<Pin<Box<dyn Future<Output = Finish> + Send>>>,
    /// The message that waits for that answer.
    waiting: Option<Incoming>,
    /// What follows it.
    unread: Bytes,
    close: Option<Close>,
}

impl Input {
    fn new(limits: MessageLimits, unread: Bytes) -> Box<Self> {
        Box::new(Self { reader: Reader::new(limits), answer: None, waiting: None, unread, close: None })
    }

    fn is_done(&self) -> bool {
        self.reader.is_between_messages()
            && self.answer.is_none()
            && self.waiting.is_none()
            && self.unread.is_empty()
            && self.close.is_none()
    }

    /// The next thing to handle.
    fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Incoming>, Violation> {
        match self.waiting.take() {
            Some(incoming) => Ok(Some(incoming)),
            None => self.reader.read(bytes),
        }
    }
}

/// What the close frame says, if the reason of the end does not decide it.
struct Close {
    code: Option<u16>,
    reason: String,
}

/// Whether the client can be read further.
enum Reading {
    /// Everything that has arrived was handled.
    Open,
    /// The rest waits.
    Paused,
    /// The stream is to be finished.
    Finished(EndReason),
}

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

impl WebSocket {
    /// The WebSocket of a client that has already sent `early`.
    pub(super) fn new(
        messages: Box<dyn Messages>,
        limits: MessageLimits,
        early: Bytes,
        takes_heartbeats: bool,
    ) -> Self {
        Self {
            messages,
            limits,
            input: (!early.is_empty()).then(|| Input::new(limits, early)),
            replies: Vec::new(),
            pinged: NEVER,
            takes_heartbeats,
            pace: Pace::default(),
            is_paused: false,
        }
    }

    /// Handles what waits, and then `bytes`. What cannot be handled yet waits.
    fn handle(&mut self, bytes: &[u8], feed: &mut Feed, shard: &Shard, cx: &mut Context<'_>) -> Reading {
        let mut input = self.input.take().unwrap_or_else(|| Input::new(self.limits, Bytes::new()));
        let unread = std::mem::take(&mut input.unread);
        debug_assert!(unread.is_empty() || bytes.is_empty(), "nothing is read while something waits");
        let reading = self.handle_next(&mut input, if unread.is_empty() { bytes } else { &unread }, feed, shard, cx);
        if !input.is_done() {
            self.input = Some(input);
        }
        reading
    }

    fn handle_next(
        &mut self,
        input: &mut Input,
        mut bytes: &[u8],
        feed: &mut Feed,
        shard: &Shard,
        cx: &mut Context<'_>,
    ) -> Reading {
        loop {
            if let Some(answer) = &mut input.answer
                && let Poll::Ready(finish) = answer.as_mut().poll(cx)
            {
                input.answer = None;
                self.reply(&finish(feed));
            }
            if self.replies.len() >= MAX_REPLIES || (input.answer.is_some() && input.waiting.is_some()) {
                input.unread = Bytes::copy_from_slice(bytes);
                return Reading::Paused;
            }
            let incoming = match input.next(&mut bytes) {
                Ok(Some(incoming)) => incoming,
                Ok(None) => return Reading::Open,
                Err(violation) => {
                    input.close = Some(Close { code: Some(violation.close_code()), reason: violation.to_string() });
                    return Reading::Finished(EndReason::Misused);
                }
            };
            match incoming {
                Incoming::Ping(payload) => self.replies.extend_from_slice(&wire::pong(&payload)),
                Incoming::Pong => {}
                Incoming::Close(code) => {
                    input.close = Some(Close { code, reason: String::new() });
                    return Reading::Finished(EndReason::Closed);
                }
                message if input.answer.is_some() => input.waiting = Some(message),
                message => {
                    shard.counts().websocket.received.add(1);
                    match self.answer(message, feed) {
                        Answer::Now(reply) => self.reply(&reply),
                        Answer::Later(answer) => input.answer = Some(answer),
                    }
                }
            }
        }
    }

    fn answer(&mut self, message: Incoming, feed: &mut Feed) -> Answer {
        match message {
            Incoming::Text(text) => self.messages.receive(&text, feed),
            Incoming::Binary(data) => Answer::Now(self.messages.receive_binary(&data)),
            _ => unreachable!("control frames are handled by the transport"),
        }
    }

    fn reply(&mut self, Reply(frame): &Reply) {
        self.replies.extend_from_slice(frame);
    }

    /// Checks that the client has replied to a ping in time.
    fn check_pong(&self, shard: &Shard) -> Result<(), EndReason> {
        // The clock has whole seconds: a difference of one may be a millisecond.
        let is_late = self.pinged != NEVER && shard.now() - self.pinged > shard.pong_timeout();
        if is_late { Err(EndReason::Stalled) } else { Ok(()) }
    }

    /// The close frame of a connection that ends for `reason`.
    fn close_frame(&self, reason: EndReason) -> Bytes {
        match self.input.as_ref().and_then(|input| input.close.as_ref()) {
            Some(Close { code, reason }) => wire::close(*code, reason),
            None => wire::close(Some(reason.close_code()), reason.as_str()),
        }
    }
}

/// Boxed, so that the task is no larger than that of a stream without WebSocket: it is allocated in steps of 128 bytes.
impl Transport<SocketOutput> for Box<WebSocket> {
    const KIND: presence::Transport = presence::Transport::WebSocket;

    type Source = Feed;

    fn layout(&self) -> Layout {
        Layout { format: Format::Message, is_framed: true }
    }

    fn encode(&mut self, event: &ControlEvent, _: &mut Feed, shard: &Shard) -> Bytes {
        if *event != ControlEvent::KeepAlive {
            return event.to_message();
        }
        if self.pinged == NEVER {
            self.pinged = shard.now();
        }
        let ping = event.to_message();
        if self.takes_heartbeats { [shard.heartbeat().message, ping].concat().into() } else { ping }
    }

    /// The close frame comes with the end of the task.
    fn finish(&mut self, reason: EndReason, _: &mut Feed, _: &Shard) -> Bytes {
        ControlEvent::farewell(reason).map_or_else(Bytes::new, |farewell| farewell.to_message())
    }

    fn pace(&mut self) -> &mut Pace {
        &mut self.pace
    }

    fn receive(
        &mut self,
        output: &mut SocketOutput,
        feed: &mut Feed,
        shard: &Shard,
        cx: &mut Context<'_>,
    ) -> Result<Option<EndReason>, EndReason> {
        let mut reading = Reading::Open;
        if let Some(input) = &self.input {
            if input.close.is_some() {
                return Ok(None);
            }
            reading = self.handle(&[], feed, shard, cx);
        }
        for _ in 0..READS_PER_TURN {
            if !matches!(reading, Reading::Open) {
                break;
            }
            let read = SCRATCH.with_borrow_mut(|scratch| {
                let read = output.poll_read(cx, |socket| Ok(rustix::io::read(socket, &mut **scratch)?));
                read.map_ok(|bytes| (bytes, self.handle(&scratch[..bytes], feed, shard, cx)))
            });
            match read {
                Poll::Pending => {
                    self.is_paused = false;
                    return self.check_pong(shard).map(|()| None);
                }
                Poll::Ready(Ok((0, _))) => return Err(EndReason::Closed),
                Poll::Ready(Ok((_, next))) => (self.pinged, reading) = (NEVER, next),
                Poll::Ready(Err(error)) => return Err(EndReason::of_socket(&error)),
            }
        }
        // A pong that was not read is not late.
        self.pinged = NEVER;
        self.is_paused = true;
        Ok(if let Reading::Finished(reason) = reading { Some(reason) } else { None })
    }

    fn replies(&mut self) -> Option<Bytes> {
        // Taken whole, so that a quiet connection has no memory for replies.
        (!self.replies.is_empty()).then(|| std::mem::take(&mut self.replies).into())
    }

    fn has_unread_input(&self) -> bool {
        // The answer wakes the task.
        self.is_paused && self.input.as_ref().is_none_or(|input| input.answer.is_none() || input.waiting.is_none())
    }

    fn deadline(&self, shard: &Shard) -> Second {
        if self.pinged == NEVER { Second::MAX } else { self.pinged + shard.pong_timeout() + 1 }
    }
}

/// The future that serves a WebSocket until its socket is closed. Its size is that of an open stream.
pub(super) enum WebSocketTask {
    Open(StreamTask<SocketOutput, Box<WebSocket>>),
    Closing(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Future for WebSocketTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if let Self::Open(stream) = this {
            let reason = ready!(stream.poll_end(cx));
            let nothing = Self::Closing(Box::pin(std::future::ready(())));
            if let Self::Open(stream) = std::mem::replace(this, nothing) {
                *this = Self::Closing(Box::pin(close(stream.into_ended(), reason)));
            }
        }
        let Self::Closing(closing) = this else { return Poll::Pending };
        closing.as_mut().poll(cx)
    }
}

/// Writes the rest of a message that was begun and the close frame, and waits until the client closes its side.
async fn close(ended: Ended<SocketOutput, Box<WebSocket>>, reason: EndReason) {
    let Ended { output, transport, permits: _permits, pending } = ended;
    let close = transport.close_frame(reason);
    let mut socket = output.into_socket();
    let written = async {
        socket.write_all(&pending).await?;
        socket.write_all(&close).await
    };
    if let Ok(Ok(())) = timeout(FAREWELL_TIMEOUT, written).await {
        linger::close(socket, sleep(CLOSE_TIMEOUT)).await;
    }
}

#[cfg(all(test, not(fanline_loom)))]
mod tests;

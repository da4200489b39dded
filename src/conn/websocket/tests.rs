//! Answers that wait, and the bounds of what a client sends.

use std::task::Waker;

use tokio::sync::oneshot;

use super::*;
use crate::conn::{Drain, StreamOptions};
use crate::hub::{Hub, Mode, Start, WakeGroup};
use crate::metrics::Metrics;
use crate::sync::Arc;
use crate::topic::TopicFilter;

const LIMITS: MessageLimits = MessageLimits { max_bytes: 100_000, accepts_binary: false };

/// Replies to `later` when the test says so, and to any other text with the text.
#[derive(Default)]
struct Stub {
    answers: Vec<oneshot::Receiver<()>>,
}

impl Messages for Stub {
    fn receive(&mut self, text: &str, _: &mut Feed) -> Answer {
        if text != "later" {
            return Answer::Now(Reply::text(text));
        }
        let answer = self.answers.pop().expect("an answer of the test");
        Answer::Later(Box::pin(async move {
            let _ = answer.await;
            Box::new(|_: &mut Feed| Reply::text("done")) as Finish
        }))
    }
}

struct Client {
    websocket: Box<WebSocket>,
    feed: Feed,
    shard: Shard,
    answer: Option<oneshot::Sender<()>>,
}

impl Client {
    fn new() -> Self {
        let hub = Hub::default();
        let (answer, answered) = oneshot::channel();
        let messages = Box::new(Stub { answers: vec![answered] });
        let everything = [TopicFilter::everything()];
        let feed =
            Feed::open(&hub, &WakeGroup::inline(), &everything, Mode::Events, Start::Live, usize::MAX).unwrap().0;
        let metrics = Arc::new(Metrics::new(1, EndReason::ALL.len()));
        let shard = Shard::new(0, hub, StreamOptions::default(), metrics, Arc::<Drain>::default());
        let websocket = Box::new(WebSocket::new(messages, LIMITS, Bytes::new(), false));
        Self { websocket, feed, shard, answer: Some(answer) }
    }

    /// Handles `bytes`, and returns whether all of them were.
    fn send(&mut self, bytes: &[u8]) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        match self.websocket.handle(bytes, &mut self.feed, &self.shard, &mut cx) {
            Reading::Open => true,
            Reading::Paused => false,
            Reading::Finished(reason) => panic!("{reason:?}"),
        }
    }

    fn replies(&mut self) -> Bytes {
        self.websocket.replies().unwrap_or_default()
    }

    fn received(&self) -> u64 {
        self.shard.counts().websocket.received.get()
    }
}

/// A frame whose mask is 0.
fn frame(first: u8, payload: &str) -> Vec<u8> {
    let head = [first, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
    [&head, payload.as_bytes()].concat()
}

fn text(payload: &str) -> Vec<u8> {
    frame(0x81, payload)
}

fn ping(payload: &str) -> Vec<u8> {
    frame(0x89, payload)
}

#[test]
fn pings_are_answered_while_a_message_waits_for_its_answer() {
    let mut client = Client::new();
    assert!(client.send(&[text("later"), ping("a")].concat()));
    assert_eq!(client.replies(), wire::pong(b"a"));
    assert!(client.send(&ping("b")));
    assert_eq!(client.replies(), wire::pong(b"b"));
    client.answer.take().unwrap().send(()).unwrap();
    assert!(client.send(&[]));
    assert_eq!(client.replies(), wire::text("done"));
}

#[test]
fn messages_are_answered_one_at_a_time_in_order() {
    let mut client = Client::new();
    assert!(!client.send(&[text("first"), text("later"), text("second"), ping("a"), text("third")].concat()));
    assert_eq!(client.replies(), wire::text("first"));
    assert_eq!(client.received(), 2, "the third message waits");
    assert!(!client.websocket.has_unread_input(), "nothing can be read before the answer");
    assert!(!client.send(&[]));
    client.answer.take().unwrap().send(()).unwrap();
    assert!(client.send(&[]));
    let replies = [wire::text("done"), wire::text("second"), wire::pong(b"a"), wire::text("third")];
    assert_eq!(client.replies(), replies.concat());
}

#[test]
fn client_is_not_read_while_its_replies_are_not_written() {
    let mut client = Client::new();
    let message = text(&"x".repeat(125));
    assert!(!client.send(&message.repeat(1000)));
    let replies = client.replies();
    assert!((MAX_REPLIES..MAX_REPLIES + 200).contains(&replies.len()), "{}", replies.len());
    let mut answered = client.received();
    while !client.send(&[]) {
        assert!(client.replies().len() < MAX_REPLIES + 200 && client.received() > answered);
        answered = client.received();
    }
    assert_eq!(client.received(), 1000);
}

#[test]
fn nothing_is_kept_of_a_message_that_was_handled() {
    let mut client = Client::new();
    let message = text("a message");
    assert!(client.send(&message[..3]));
    assert!(client.websocket.input.is_some());
    assert!(client.send(&message[3..]));
    assert!(client.websocket.input.is_none());
    client.replies();
    assert_eq!(client.websocket.replies.capacity(), 0);
}

#[test]
fn every_end_has_a_close_code() {
    let codes = EndReason::ALL.map(|reason| (reason.as_str(), reason.close_code()));
    let expected = [
        ("closed", 1000),
        ("lagged", 4000),
        ("stalled", 4001),
        ("drained", 1001),
        ("misused", 1008),
        ("disconnected", 4002),
        ("token_expired", 1008),
        ("revoked", 1008),
    ];
    assert_eq!(codes, expected);
}

#[tokio::test(start_paused = true)]
async fn client_that_does_not_reply_to_a_ping_in_time_is_stalled() {
    let Client { mut websocket, mut feed, shard, .. } = Client::new();
    let shard = Arc::new(shard);
    let test = async {
        // Between two ticks of the shard's clock.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(websocket.deadline(&shard), Second::MAX, "nothing is awaited");
        assert_eq!(websocket.encode(&ControlEvent::KeepAlive, &mut feed, &shard), wire::ping());
        assert_eq!(websocket.deadline(&shard), shard.now() + shard.pong_timeout() + 1);
        tokio::time::sleep(shard.options.pong_timeout).await;
        // Another ping does not extend the time.
        websocket.encode(&ControlEvent::KeepAlive, &mut feed, &shard);
        assert_eq!(websocket.check_pong(&shard), Ok(()));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(websocket.check_pong(&shard), Err(EndReason::Stalled));
    };
    tokio::select! {
        () = shard.run() => unreachable!("a shard does not end"),
        () = test => {}
    }
}

#[test]
fn client_that_wants_heartbeats_gets_one_before_each_ping() {
    let mut client = Client::new();
    client.websocket.takes_heartbeats = true;
    let sent = client.websocket.encode(&ControlEvent::KeepAlive, &mut client.feed, &client.shard);
    assert_eq!(sent, [client.shard.heartbeat().message, wire::ping()].concat());
}

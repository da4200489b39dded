//! A server whose WebSockets echo each message, for the cases of the Autobahn test suite.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::conn::reply::WebSocketReply;
use crate::conn::websocket::{Answer, Messages, Reply};
use crate::hub::{Feed, Hub, HubOptions};
use crate::server::{HttpOptions, Server};

/// Larger than the largest message of the suite, 16 MiB.
const MAX_BYTES: usize = 20 << 20;

/// Whether the WebSockets of this process echo their messages.
static IS_ON: AtomicBool = AtomicBool::new(false);

/// Lets a WebSocket echo its messages if this process is the echo server.
pub(super) fn apply(mut reply: WebSocketReply) -> WebSocketReply {
    if IS_ON.load(Ordering::Relaxed) {
        reply.messages = Box::new(Echo);
        reply.limits.accepts_binary = true;
    }
    reply
}

/// Answers each message with itself.
struct Echo;

impl Messages for Echo {
    fn receive(&mut self, text: &str, _: &mut Feed) -> Answer {
        Answer::Now(Reply::text(text))
    }
}

#[test]
#[ignore = "serves until its standard input ends; run scripts/autobahn"]
fn echo_server() {
    IS_ON.store(true, Ordering::Relaxed);
    let options = HttpOptions { max_event_bytes: MAX_BYTES, ..HttpOptions::default() };
    let server = Server::builder(Hub::new(&HubOptions::default())).listen(([127, 0, 0, 1], 0)).http(options);
    let server = server.bind().unwrap();
    eprintln!("echoes on {}", server.local_addresses()[0].tcp().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        drop(ended);
    });
    runtime.block_on(server.run(async { drop(end.await) })).unwrap();
}

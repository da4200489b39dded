//! WebSocket (RFC 6455): the handshake, every rule of the framing in the groups of the Autobahn test suite, and the ends of
//! connections. A `ping` message with a `ref` is the echo of these tests.

mod closing;
mod control_frames;
#[cfg(feature = "auth")]
mod ends;
mod fragmentation;
mod framing;
mod handshake;
mod limits;
mod messages;
mod opcodes;
mod same_events;
mod utf8;

use serde_json::{Value, json};

use crate::support::WebSocket;

/// A `ping` message of exactly `length` bytes, at least 24, and its answer.
fn echo(length: usize) -> (String, Value) {
    let end = format!(",\"ref\":{length}}}");
    let begin = "{\"type\":\"ping\"";
    let message = format!("{begin}{}{end}", " ".repeat(length - begin.len() - end.len()));
    (message, json!({"type": "pong", "ref": length}))
}

impl WebSocket {
    /// Checks that `bytes`, which are not valid, end the connection with this code, and that the server closes the socket.
    async fn assert_refuses(mut self, bytes: impl AsRef<[u8]>, code: u16, what: &str) {
        // The server may close before it has read everything.
        let _ = self.client.try_send(bytes).await;
        self.assert_closed(code, what).await;
    }
}

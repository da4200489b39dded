//! WebSocket (RFC 6455): the handshake, every rule of the framing in the groups of the Autobahn test suite, and the ends of
//! connections. A `ping` message with a `ref` is the echo of these tests.

mod closing;
mod control_frames;
mod ends;
mod fragmentation;
mod framing;
mod handshake;
mod limits;
mod opcodes;
mod same_events;
mod utf8;

use serde_json::{Value, json};

use crate::support::WebSocket;

/// A `ping` message of exactly `length` bytes, and its answer.
fn echo(length: usize) -> (String, Value) {
    const EMPTY: &str = r#"{"type":"ping","ref":""}"#;
    let text = "x".repeat(length - EMPTY.len());
    (format!(r#"{{"type":"ping","ref":"{text}"}}"#), json!({"type": "pong", "ref": text}))
}

impl WebSocket {
    /// Checks that `bytes`, which are not valid, end the connection with this code, and that the server closes the socket.
    async fn assert_refuses(mut self, bytes: impl AsRef<[u8]>, code: u16, what: &str) {
        // The server may close before it has read everything.
        let _ = self.client.try_send(bytes).await;
        self.assert_closed(code, what).await;
    }
}

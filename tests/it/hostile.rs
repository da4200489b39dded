//! Malicious and malformed input over real sockets. The server answers it with a status or closes the connection, keeps
//! serving other clients, and never sends a stream anything that was not published.

mod bodies;
mod cut;
mod fields;
mod framing;
mod log;
mod streams;
mod trailers;

use crate::support::{Client, Response, Server, Stream};

/// A client with an open stream that must not notice any of the attacks.
struct Bystander {
    stream: Stream,
}

impl Bystander {
    async fn connect(server: &Server) -> Self {
        Self { stream: server.follow("/stream").await }
    }

    /// Checks that the stream received these events since the last check and nothing else, and that an ordinary client
    /// is served.
    async fn assert_received(&mut self, server: &Server, what: &str, events: &[(&str, &str)]) {
        for (name, data) in events {
            let event = self.stream.event().await;
            assert_eq!((event.event.as_str(), event.data.as_str()), (*name, *data), "after {what}");
        }
        let mut client = server.connect().await;
        client.get("/health/live").await.ok();
        let answer = publish(&mut client, "/publish/bystander?event=marker", "text/plain", b"all is well").await;
        let id = answer.ok()["id"].clone();
        let event = self.stream.event().await;
        assert_eq!((event.event.as_str(), event.data.as_str()), ("marker", "all is well"), "after {what}");
        assert_eq!(event.id.as_deref(), id.as_str(), "after {what}");
    }

    async fn assert_undisturbed(&mut self, server: &Server, what: &str) {
        self.assert_received(server, what, &[]).await;
    }
}

async fn publish(client: &mut Client, target: &str, content_type: &str, body: &[u8]) -> Response {
    client.send(crate::support::request("POST", target, &[("content-type", content_type)], body)).await;
    client.response().await
}

/// Percent-encodes every byte.
fn percent(text: impl AsRef<[u8]>) -> String {
    text.as_ref().iter().map(|byte| format!("%{byte:02x}")).collect()
}

/// A JSON string of `text` in which every character is escaped.
fn escaped(text: &str) -> String {
    let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    format!("\"{units}\"")
}

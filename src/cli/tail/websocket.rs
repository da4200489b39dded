//! The connection of `fanline tail --transport ws`: its handshake, and its messages as events of a stream.

use std::borrow::Cow;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::http::request::Builder;
use hyper::upgrade::{self, Upgraded};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use sse_core::MessageEvent;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::MAX_EVENT_BYTES;
use crate::cli::client::with_causes;

/// An open connection. It answers pings itself.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The client's part of a handshake (RFC 6455, section 4.1).
pub struct Handshake {
    key: String,
}

impl Handshake {
    pub fn new() -> Self {
        Self { key: generate_key() }
    }

    /// Adds the headers of the handshake.
    pub fn request(&self, request: Builder) -> Builder {
        request
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &self.key)
    }

    /// Takes the connection of a response with status 101. The error says why it is none of WebSocket.
    pub async fn complete(&self, response: Response<Incoming>) -> Result<Socket, String> {
        debug_assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let accept = response.headers().get(SEC_WEBSOCKET_ACCEPT);
        if accept.is_none_or(|accept| accept != derive_accept_key(self.key.as_bytes()).as_str()) {
            return Err("the handshake has a wrong sec-websocket-accept".to_owned());
        }
        let upgraded = upgrade::on(response).await.map_err(|error| with_causes(&error))?;
        let limit = Some(MAX_EVENT_BYTES.get());
        let config = WebSocketConfig::default().max_message_size(limit).max_frame_size(limit);
        Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await)
    }
}

/// A message of the server.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
}

/// The event that a stream would have in place of `message`: with the payload alone as its data, or with the envelope as with
/// `format=envelope`. Returns `None` for other messages.
pub fn event(message: &str, has_envelope: bool) -> Option<MessageEvent> {
    let Message { r#type, id, data, text } = serde_json::from_str(message).ok()?;
    let payload = || data.map_or_else(|| text.unwrap_or_default().into_owned(), |json| json.get().to_owned());
    let (event, data) = match &*r#type {
        "event" if has_envelope => ("message", message.to_owned()),
        "event" => ("message", payload()),
        "system" => ("system", payload()),
        "heartbeat" => ("heartbeat", payload()),
        "gap" => ("gap", payload()),
        _ => return None,
    };
    Some(MessageEvent { event: event.into(), data, last_event_id: id.map(|id| id.into()) })
}

/// The reconnection time in milliseconds that a hello states.
pub fn retry(event: &MessageEvent) -> Option<u32> {
    #[derive(Deserialize)]
    struct Hello {
        retry: u32,
    }
    let hello = (event.event == "system").then(|| serde_json::from_str::<Hello>(&event.data).ok());
    hello.flatten().map(|hello| hello.retry)
}

/// Why the server closes the connection.
pub fn close_reason(frame: Option<&CloseFrame>) -> String {
    match frame {
        Some(CloseFrame { code, reason }) if reason.is_empty() => format!("the server closed the connection: {code}"),
        Some(CloseFrame { code, reason }) => {
            format!("the server closed the connection: {code} {}", reason.escape_debug())
        }
        None => "the server closed the connection".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(message: &str, has_envelope: bool) -> Option<(String, String, Option<String>)> {
        let event = event(message, has_envelope)?;
        Some((event.event.into(), event.data, event.last_event_id.map(|id| id.to_string())))
    }

    #[test]
    fn published_event_is_its_payload_or_its_envelope() {
        let json = r#"{"type":"event","id":"7-1","topic":"t","event":"update","data":{"b": 1.0}}"#;
        let text = r#"{"type":"event","id":"7-2","topic":"t","event":"message","text":"a\nb"}"#;
        let of = |data: &str, id: &str| Some(("message".to_owned(), data.to_owned(), Some(id.to_owned())));
        assert_eq!(data(json, false), of(r#"{"b": 1.0}"#, "7-1"));
        assert_eq!(data(text, false), of("a\nb", "7-2"));
        assert_eq!((data(json, true), data(text, true)), (of(json, "7-1"), of(text, "7-2")));
    }

    #[test]
    fn servers_own_message_is_an_event_with_its_name() {
        let gap = r#"{"type":"gap","id":"7-9","data":{"reason":"lagged"}}"#;
        assert_eq!(data(gap, true), Some(("gap".into(), r#"{"reason":"lagged"}"#.into(), Some("7-9".into()))));
        let heartbeat = r#"{"type":"heartbeat","data":{"clients":1}}"#;
        assert_eq!(data(heartbeat, false), Some(("heartbeat".into(), r#"{"clients":1}"#.into(), None)));
        assert_eq!((data(r#"{"type":"pong"}"#, true), data("?", true)), (None, None));
    }

    #[test]
    fn retry_is_that_of_the_hello() {
        let of = |message: &str| retry(&event(message, false).unwrap());
        assert_eq!(of(r#"{"type":"system","id":"7-0","data":{"message":"connected","retry":200}}"#), Some(200));
        assert_eq!(of(r#"{"type":"system","data":{"message":"token expires","expires_in":9}}"#), None);
        assert_eq!(of(r#"{"type":"event","id":"7-1","data":{"retry":1}}"#), None);
    }
}

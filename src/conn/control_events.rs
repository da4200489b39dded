//! The server's own messages on a stream: hello, gaps, keep-alives, warnings, farewells.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Serialize;

use super::end::EndReason;
use crate::hub::{Gap, Opening, Snapshot};
use crate::position::StreamPosition;
use crate::presence::ClientId;
use crate::topic::TopicFilter;
use crate::wire::chunk::Chunk;
use crate::wire::sse::{self, Block};
use crate::wire::websocket;

/// A message of the server on a stream. Each [transport](super::transport) encodes it in its own way.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ControlEvent {
    /// The first message of a stream. Its id is the position that the stream starts from. If that is not the position that
    /// the client requested, a gap follows, and a client that resumes with this id gets the same gap.
    Hello { client: ClientId, opening: Opening, retry: u64 },
    /// Events that the client will not get.
    Gap(Gap),
    /// The client has the latest values up to the position.
    Snapshot(Snapshot),
    /// Keeps a quiet connection alive. Clients ignore it.
    KeepAlive,
    /// A keep-alive for subscribers of everything or of the topic `heartbeat`, with the number of streams.
    Heartbeat { clients: u64 },
    /// The token expires in this many seconds, and the stream ends then.
    Expires { seconds: u32 },
    /// The server is about to close the stream. The client has everything up to the position.
    Restarting { position: StreamPosition },
    /// The server closes the stream now. Without an id: the client keeps its last one.
    Ended(EndReason),
}

impl ControlEvent {
    /// What tells the client that the server ends the stream for `reason`, if anything does.
    pub(super) fn farewell(reason: EndReason) -> Option<Self> {
        match reason {
            EndReason::Disconnected | EndReason::Revoked | EndReason::TokenExpired => Some(Self::Ended(reason)),
            _ => None,
        }
    }

    /// The message as Server-Sent Events. A keep-alive is a comment.
    pub(super) fn to_sse(&self) -> Chunk {
        self.content().map_or_else(sse::comment, |content| content.to_sse())
    }

    /// The message as a WebSocket message. A keep-alive is a ping.
    pub(super) fn to_message(&self) -> Bytes {
        self.content().map_or_else(websocket::ping, |content| content.to_message())
    }

    /// What every transport sends. A keep-alive has none.
    fn content(&self) -> Option<Content> {
        Some(match self {
            Self::Hello { client, opening, retry } => hello(*client, opening, *retry),
            Self::Gap(gap) => self::gap(gap),
            Self::Snapshot(snapshot) => self::snapshot(snapshot),
            Self::KeepAlive => return None,
            Self::Heartbeat { clients } => heartbeat(*clients),
            Self::Expires { seconds } => system(None, "token expires", Some(*seconds)),
            Self::Restarting { position } => system(Some(*position), "server restarting", None),
            Self::Ended(EndReason::TokenExpired) => system(None, "token expired", None),
            Self::Ended(EndReason::Revoked) => system(None, "access revoked", None),
            Self::Ended(_) => system(None, "disconnected", None),
        })
    }
}

/// The parts of a message, which each transport lays out.
struct Content {
    retry: Option<u64>,
    id: Option<StreamPosition>,
    name: &'static str,
    /// A JSON object.
    data: String,
}

impl Content {
    fn new(id: Option<StreamPosition>, name: &'static str, data: &impl Serialize) -> Self {
        let data = serde_json::to_string(data).expect("texts and numbers are JSON");
        Self { retry: None, id, name, data }
    }

    fn to_sse(&self) -> Chunk {
        Block { retry: self.retry, id: self.id, event: self.name.as_bytes(), data: self.data.as_bytes() }.encode()
    }

    /// `{"type":…,"id":…,"data":…}`, without `id` if there is none. `retry` is part of the data where it matters.
    fn to_message(&self) -> Bytes {
        let id = self.id.map_or_else(String::new, |id| format!(r#""id":"{id}","#));
        websocket::text(&format!(r#"{{"type":"{}",{id}"data":{}}}"#, self.name, self.data))
    }
}

fn hello(client: ClientId, opening: &Opening, retry: u64) -> Content {
    #[derive(Serialize)]
    struct Hello {
        message: &'static str,
        client_id: String,
        position: Option<String>,
        replayed: Option<u64>,
        retry: u64,
    }
    let hello = Hello {
        message: "connected",
        client_id: client.to_string(),
        position: opening.position.as_ref().map(ToString::to_string),
        replayed: opening.replayed,
        retry,
    };
    Content { retry: Some(retry), ..Content::new(Some(opening.id), "system", &hello) }
}

fn gap(gap: &Gap) -> Content {
    #[derive(Serialize)]
    struct Data<'a> {
        reason: &'static str,
        from: Option<String>,
        to: String,
        missed: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        topics: Option<Vec<&'a str>>,
    }
    let data = Data {
        reason: gap.reason.as_str(),
        from: gap.from.as_ref().map(ToString::to_string),
        to: gap.to.to_string(),
        missed: gap.missed,
        topics: gap.topics.as_ref().map(|topics| topics.iter().map(TopicFilter::as_str).collect()),
    };
    Content::new(Some(gap.resume), "gap", &data)
}

fn snapshot(snapshot: &Snapshot) -> Content {
    #[derive(Serialize)]
    struct Data {
        entries: u64,
    }
    Content::new(Some(snapshot.position), "snapshot", &Data { entries: snapshot.entries })
}

fn heartbeat(clients: u64) -> Content {
    #[derive(Serialize)]
    struct Heartbeat {
        timestamp: String,
        clients: u64,
    }
    let timestamp = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    Content::new(None, "heartbeat", &Heartbeat { timestamp, clients })
}

fn system(id: Option<StreamPosition>, message: &'static str, expires_in: Option<u32>) -> Content {
    #[derive(Serialize)]
    struct Message {
        message: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_in: Option<u32>,
    }
    Content::new(id, "system", &Message { message, expires_in })
}

/// The only event of a stream that the server refuses for now. It repeats the client's `last_id`: without an id it would clear
/// that of the client, which would then resume nowhere.
pub(crate) fn unavailable(reason: &str, detail: &str, retry: Duration, last_id: Option<&str>) -> Bytes {
    #[derive(Serialize)]
    struct Unavailable<'a> {
        message: &'static str,
        reason: &'a str,
        detail: &'a str,
        retry: u64,
    }
    let retry = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
    let content = Content::new(None, "system", &Unavailable { message: "unavailable", reason, detail, retry });
    let event = Content { retry: Some(retry), ..content }.to_sse();
    match last_id {
        Some(id) => [b"id: ", id.as_bytes(), b"\n", event.body()].concat().into(),
        None => event.to_body(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::GapReason;
    use crate::position::Epoch;

    #[test]
    fn refusal_states_its_reason_and_when_to_retry_and_repeats_the_last_id() {
        let refusal = |last_id| unavailable("connections", "the server is full", Duration::from_millis(5123), last_id);
        let data = r#"{"message":"unavailable","reason":"connections","detail":"the server is full","retry":5123}"#;
        let event = format!("retry: 5123\nevent: system\ndata: {data}\n\n");
        assert_eq!(refusal(None), event);
        assert_eq!(refusal(Some("7-1")), format!("id: 7-1\n{event}"));
    }

    #[test]
    fn messages_have_the_id_and_data_of_events() {
        let (position, text) = (StreamPosition::new(Epoch(7), 3), r#"{"message":"server restarting"}"#);
        let message = ControlEvent::Restarting { position }.to_message();
        assert_eq!(message, websocket::text(&format!(r#"{{"type":"system","id":"7-3","data":{text}}}"#)));
        let message = ControlEvent::Expires { seconds: 30 }.to_message();
        let json = r#"{"type":"system","data":{"message":"token expires","expires_in":30}}"#;
        assert_eq!(message, websocket::text(json));
        assert_eq!(ControlEvent::KeepAlive.to_message(), websocket::ping());
    }

    #[test]
    fn gap_names_what_is_missing_and_where_the_stream_resumes() {
        let at = |sequence| StreamPosition::new(Epoch(7), sequence);
        let evicted = Gap {
            reason: GapReason::Evicted,
            from: Some(at(1)),
            to: at(5),
            missed: Some(4),
            topics: None,
            resume: at(5),
        };
        let data = r#"{"reason":"evicted","from":"7-1","to":"7-5","missed":4}"#;
        assert_eq!(
            ControlEvent::Gap(evicted.clone()).to_sse().body(),
            format!("id: 7-5\nevent: gap\ndata: {data}\n\n").as_bytes()
        );
        let filters = ["b", "zz:*"].map(|filter| TopicFilter::new(filter).unwrap());
        let some = Gap { topics: Some(filters.to_vec()), resume: at(2), ..evicted };
        let data = r#"{"reason":"evicted","from":"7-1","to":"7-5","missed":4,"topics":["b","zz:*"]}"#;
        assert_eq!(
            ControlEvent::Gap(some).to_sse().body(),
            format!("id: 7-2\nevent: gap\ndata: {data}\n\n").as_bytes()
        );
        let unknown =
            Gap { reason: GapReason::UnknownId, from: None, to: at(0), missed: None, topics: None, resume: at(0) };
        let data = r#"{"reason":"unknown_id","from":null,"to":"7-0","missed":null}"#;
        assert_eq!(
            ControlEvent::Gap(unknown).to_sse().body(),
            format!("id: 7-0\nevent: gap\ndata: {data}\n\n").as_bytes()
        );
    }
}

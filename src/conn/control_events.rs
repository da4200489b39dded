//! What the server itself says on a stream: hello, gaps, heartbeats, farewells.

use std::time::SystemTime;

use serde::Serialize;

use crate::hub::{Gap, Opening};
use crate::metrics::Ending;
use crate::position::StreamPosition;
use crate::presence::ClientId;
use crate::topic::TopicFilter;
use crate::wire::chunk::Chunk;
use crate::wire::sse::Block;

/// The first event of a stream. Its id is the position that the stream starts from. When that is not the position that the
/// client asked for, a gap follows, and the id is such that a client that resumes without it gets it then: an event without
/// an id would clear the id that the client has (WHATWG HTML, section 9.2.6).
pub(crate) fn hello(client: ClientId, opening: &Opening, retry: u64) -> Chunk {
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
    block(Some(retry), Some(opening.id), b"system", &hello)
}

/// Events that the client will not get.
pub(crate) fn gap(gap: &Gap) -> Chunk {
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
    block(None, Some(gap.resume), b"gap", &data)
}

/// A sign of life for subscribers of everything or of the topic `heartbeat`.
pub(crate) fn heartbeat(clients: u64) -> Chunk {
    #[derive(Serialize)]
    struct Heartbeat {
        timestamp: String,
        clients: u64,
    }
    let timestamp = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    block(None, None, b"heartbeat", &Heartbeat { timestamp, clients })
}

/// The server is about to close the stream. It bears the position up to which the client has everything.
pub(crate) fn farewell(position: StreamPosition) -> Chunk {
    block(None, Some(position), b"system", &Message { message: "server restarting" })
}

/// The server closes the stream, now. It bears no id: the client's own last one stays.
pub(crate) fn ended(ending: Ending) -> Chunk {
    let message = match ending {
        Ending::TokenExpired => "token expired",
        Ending::Revoked => "access revoked",
        _ => "disconnected",
    };
    block(None, None, b"system", &Message { message })
}

/// The stream will be closed in this many seconds.
pub(crate) fn expires(seconds: u32) -> Chunk {
    #[derive(Serialize)]
    struct Expires {
        message: &'static str,
        expires_in: u32,
    }
    block(None, None, b"system", &Expires { message: "token expires", expires_in: seconds })
}

#[derive(Serialize)]
struct Message {
    message: &'static str,
}

fn block(retry: Option<u64>, id: Option<StreamPosition>, event: &[u8], data: &impl Serialize) -> Chunk {
    let data = serde_json::to_vec(data).expect("texts and numbers are JSON");
    Block { retry, id, event, data: &data }.encode()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::GapReason;
    use crate::position::Epoch;

    #[test]
    fn a_gap_says_what_is_missing_and_where_the_stream_goes_on() {
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
        assert_eq!(gap(&evicted).body(), format!("id: 7-5\nevent: gap\ndata: {data}\n\n").as_bytes());
        let filters = ["b", "zz:*"].map(|filter| TopicFilter::new(filter).unwrap());
        let some = Gap { topics: Some(filters.to_vec()), resume: at(2), ..evicted };
        let data = r#"{"reason":"evicted","from":"7-1","to":"7-5","missed":4,"topics":["b","zz:*"]}"#;
        assert_eq!(gap(&some).body(), format!("id: 7-2\nevent: gap\ndata: {data}\n\n").as_bytes());
        let unknown =
            Gap { reason: GapReason::UnknownId, from: None, to: at(0), missed: None, topics: None, resume: at(0) };
        let data = r#"{"reason":"unknown_id","from":null,"to":"7-0","missed":null}"#;
        assert_eq!(gap(&unknown).body(), format!("id: 7-0\nevent: gap\ndata: {data}\n\n").as_bytes());
    }
}

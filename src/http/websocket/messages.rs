//! The messages of a client.

use serde_json::json;

use crate::conn::websocket::{Answer, Feed, Messages, Reply};

/// Handles the messages of one client.
pub(super) struct Router;

impl Messages for Router {
    fn receive(&mut self, _: &str, _: &mut Feed) -> Answer {
        let message = "this server takes no messages";
        Answer::Now(Reply::json(&json!({"type": "error", "code": "unknown_type", "message": message})))
    }
}

//! The response to a publication: the number of its events, and their positions.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::hub::Published;
use crate::position::StreamPosition;

/// The receipt of one event, or of several that were published together. The positions are null if there were no events.
pub(super) enum Receipt {
    One { id: Option<StreamPosition>, published: u64 },
    Several { first_id: Option<StreamPosition>, last_id: Option<StreamPosition>, published: u64 },
}

impl Receipt {
    pub(super) fn of_one(published: Option<Published>) -> Self {
        Self::One { id: published.map(|published| published.last), published: 1 }
    }

    pub(super) fn of_several(published: Option<Published>, count: u64) -> Self {
        Self::Several {
            first_id: published.map(|published| published.first),
            last_id: published.map(|published| published.last),
            published: count,
        }
    }

    /// The receipt as JSON. Its shape is fixed and nothing in it needs an escape, and each single publication has one.
    pub(super) fn to_json(&self) -> Bytes {
        // Copied into memory of its exact size, with one allocation.
        let mut json = Json::new();
        let published = match *self {
            Self::One { id, published } => {
                put_position(&mut json, "{\"id\":", id);
                published
            }
            Self::Several { first_id, last_id, published } => {
                put_position(&mut json, "{\"first_id\":", first_id);
                put_position(&mut json, ",\"last_id\":", last_id);
                published
            }
        };
        json.extend_from_slice(b",\"published\":");
        json.extend_from_slice(itoa::Buffer::new().format(published).as_bytes());
        json.push(b'}');
        Bytes::copy_from_slice(&json)
    }
}

/// Room for the receipt of one event.
type Json = SmallVec<[u8; 128]>;

/// Writes a key and its value, a position or null.
fn put_position(json: &mut Json, key: &str, position: Option<StreamPosition>) {
    json.extend_from_slice(key.as_bytes());
    match position {
        Some(StreamPosition { epoch, sequence }) => {
            json.push(b'"');
            json.extend_from_slice(itoa::Buffer::new().format(epoch.0).as_bytes());
            json.push(b'-');
            json.extend_from_slice(itoa::Buffer::new().format(sequence).as_bytes());
            json.push(b'"');
        }
        None => json.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Epoch;

    #[test]
    fn receipt_has_the_positions_of_its_events() {
        let position = |sequence| StreamPosition::new(Epoch(7), sequence);
        let published = Some(Published { first: position(2), last: position(4) });
        for (receipt, json) in [
            (Receipt::of_one(published), r#"{"id":"7-4","published":1}"#),
            (Receipt::of_several(published, 3), r#"{"first_id":"7-2","last_id":"7-4","published":3}"#),
            (Receipt::of_several(None, 0), r#"{"first_id":null,"last_id":null,"published":0}"#),
        ] {
            assert_eq!(receipt.to_json(), json);
            serde_json::from_str::<serde_json::Value>(json).unwrap();
        }
    }
}

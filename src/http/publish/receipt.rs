//! The response to a publication: the number of its events, and their positions.

use bytes::Bytes;

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
        let mut json = Json { bytes: [0; MAX_BYTES], length: 0 };
        let published = match *self {
            Self::One { id, published } => {
                json.put_position(b"{\"id\":", id);
                published
            }
            Self::Several { first_id, last_id, published } => {
                json.put_position(b"{\"first_id\":", first_id);
                json.put_position(b",\"last_id\":", last_id);
                published
            }
        };
        json.put(b",\"published\":");
        json.put(itoa::Buffer::new().format(published).as_bytes());
        json.put(b"}");
        Bytes::copy_from_slice(&json.bytes[..json.length])
    }
}

/// More than the longest receipt: three keys, and five numbers of 20 digits.
const MAX_BYTES: usize = 160;

/// JSON in a buffer of its own, so that a receipt has one allocation of its exact size.
struct Json {
    bytes: [u8; MAX_BYTES],
    length: usize,
}

impl Json {
    fn put(&mut self, text: &[u8]) {
        self.bytes[self.length..][..text.len()].copy_from_slice(text);
        self.length += text.len();
    }

    /// Writes a key and its value, a position or null.
    fn put_position(&mut self, key: &[u8], position: Option<StreamPosition>) {
        self.put(key);
        match position {
            Some(position) => {
                self.put(b"\"");
                self.put(position.text().as_bytes());
                self.put(b"\"");
            }
            None => self.put(b"null"),
        }
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
        let longest = StreamPosition::new(Epoch(u64::MAX), u64::MAX);
        for (receipt, json) in [
            (Receipt::of_one(published), r#"{"id":"7-4","published":1}"#),
            (Receipt::of_several(published, 3), r#"{"first_id":"7-2","last_id":"7-4","published":3}"#),
            (
                Receipt::of_several(Some(Published { first: longest, last: longest }), u64::MAX),
                r#"{"first_id":"18446744073709551615-18446744073709551615","last_id":"18446744073709551615-18446744073709551615","published":18446744073709551615}"#,
            ),
            (Receipt::of_several(None, 0), r#"{"first_id":null,"last_id":null,"published":0}"#),
        ] {
            assert_eq!(receipt.to_json(), json);
            serde_json::from_str::<serde_json::Value>(json).unwrap();
        }
    }
}

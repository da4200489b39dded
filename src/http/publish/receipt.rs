//! The response to a publication: the number of its events, and their positions.

use serde::{Serialize, Serializer};

use crate::hub::Published;
use crate::position::StreamPosition;

/// The receipt of one event, or of several that were published together. The positions are null if there were no events.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Receipt {
    One {
        #[serde(serialize_with = "as_text")]
        id: Option<StreamPosition>,
        published: u64,
    },
    Several {
        #[serde(serialize_with = "as_text")]
        first_id: Option<StreamPosition>,
        #[serde(serialize_with = "as_text")]
        last_id: Option<StreamPosition>,
        published: u64,
    },
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
}

fn as_text<S: Serializer>(position: &Option<StreamPosition>, serializer: S) -> Result<S::Ok, S::Error> {
    match position {
        Some(position) => serializer.collect_str(position),
        None => serializer.serialize_none(),
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
            assert_eq!(serde_json::to_string(&receipt).unwrap(), json);
        }
    }
}

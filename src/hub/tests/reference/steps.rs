//! What happens to the hub and its clients, at random.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::{EPOCH, FILTERS, HubOptions, TOPICS};

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Events for these topics, in one publication or in one each.
    Publish {
        topics: Vec<usize>,
        bytes: usize,
        together: bool,
    },
    Subscribe {
        client: usize,
        filters: Vec<&'static str>,
        start: Beginning,
    },
    /// Reads like a connection: batches that are written in part. Has the frames written of each batch, and what is
    /// published between the batch and its write.
    Write {
        client: usize,
        counts: Vec<(Index, Vec<usize>)>,
    },
    /// Reads like a user of the library, this many deliveries.
    Next {
        client: usize,
        count: usize,
    },
    Reconnect {
        client: usize,
    },
    Sweep,
}

#[derive(Clone, Debug)]
pub(super) enum Beginning {
    Live,
    Earliest,
    Newest(u64),
    After(Index),
    OtherEpoch,
    Future,
    Unknown,
}

pub(super) const CLIENTS: usize = 3;

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let beginning = prop_oneof![
        2 => Just(Beginning::Live),
        2 => Just(Beginning::Earliest),
        2 => (0u64..30).prop_map(Beginning::Newest),
        3 => any::<Index>().prop_map(Beginning::After),
        1 => Just(Beginning::OtherEpoch),
        1 => Just(Beginning::Future),
        1 => Just(Beginning::Unknown),
    ];
    let step = prop_oneof![
        6 => (vec(0..TOPICS.len(), 1..12), 0usize..300, any::<bool>())
            .prop_map(|(topics, bytes, together)| Step::Publish { topics, bytes, together }),
        2 => (0..TOPICS.len(), 1usize..70, any::<bool>())
            .prop_map(|(topic, count, together)| Step::Publish { topics: vec![topic; count], bytes: 10, together }),
        3 => (0..CLIENTS, subsequence(&FILTERS[..], 1..4), beginning)
            .prop_map(|(client, filters, start)| Step::Subscribe { client, filters, start }),
        4 => (0..CLIENTS, vec((any::<Index>(), vec(0..TOPICS.len(), 0..20)), 1..4))
            .prop_map(|(client, counts)| Step::Write { client, counts }),
        2 => (0..CLIENTS, 0usize..30).prop_map(|(client, count)| Step::Next { client, count }),
        2 => (0..CLIENTS).prop_map(|client| Step::Reconnect { client }),
        1 => Just(Step::Sweep),
    ];
    vec(step, 1..60)
}

pub(super) fn options() -> impl Strategy<Value = HubOptions> {
    let bytes = prop_oneof![Just(64 << 20), 1usize << 10..64 << 10];
    (1usize..40, 1usize..80, bytes, 1usize..8, 0u64..4).prop_map(
        |(history, firehose_history, history_bytes, history_topics, ttl)| HubOptions {
            epoch: EPOCH,
            history,
            firehose_history,
            history_bytes,
            history_topics,
            topic_ttl: Duration::from_secs(ttl),
            ..HubOptions::default()
        },
    )
}
